//! What a caller is told.

use std::ops::Deref;
use std::time::Duration;

use crate::permit::Permit;

/// What a call of a limiter came to: its decision, as which it reads, and the slot, if the
/// limiter has any and the call was allowed. Dropping it gives the slot back.
#[must_use = "dropped at once, it gives its slot back; and a denial should not pass unseen"]
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers take it apart")]
pub struct Admission {
    /// The answer.
    pub decision: Decision,
    /// The slot of a limiter with [`Policy::max_concurrent`](crate::Policy::max_concurrent).
    pub permit: Option<Permit>,
}

impl Deref for Admission {
    type Target = Decision;

    fn deref(&self) -> &Decision {
        &self.decision
    }
}

/// The answer of a limiter: yes or no, and what follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether the permits were given.
    pub allowed: bool,
    /// The most permits that one call can get.
    pub limit: u32,
    /// Permits that are there at once after this decision.
    pub remaining: u32,
    /// After how long the same call would be allowed; zero if this one is.
    pub retry_after: Duration,
    /// After how long the whole limit is there again, if nobody takes anything.
    pub reset_after: Duration,
    /// Who decided.
    pub source: Source,
}

/// Who decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// The store: the decision counts for every process.
    Store,
    /// Nobody: the store did not answer, and [`OnError::Open`] lets everybody through.
    Open,
    /// This process alone, by its share: the store did not answer.
    Local,
}

impl Source {
    /// `store`, `open` or `local`, as in HTTP and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Open => "open",
            Self::Local => "local",
        }
    }
}

/// What happens while the store does not answer. Everything else that fails, such as a missing
/// bucket or permission, is an error whatever this says: waiting does not end it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum OnError {
    /// Everybody is let through.
    #[default]
    Open,
    /// The call fails with [`Unavailable`](jetbridge_core::ErrorKind::Unavailable): an error is
    /// no denial.
    Closed,
    /// This process gives its share of the policy on its own.
    Local {
        /// The part, above 0 and at most 1: one divided by the number of processes keeps the
        /// limit.
        share: f64,
    },
}
