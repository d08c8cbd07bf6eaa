//! Denials that stand until their time: nobody asks the store, nor this process's task, what is
//! known already. A limiter under attack answers from here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::decision::{Decision, Source};

/// For how long a denial is believed: somebody may have reset the limiter.
pub(crate) const BELIEVED: Duration = Duration::from_secs(10);

/// The last denial of a single permit, if it still stands.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<Option<Denial>>);

#[derive(Clone, Copy, Debug)]
struct Denial {
    limit: u32,
    retry_at: Instant,
    reset_at: Instant,
    believed_until: Instant,
}

impl Standing {
    /// A single permit was denied at `now`, by what the store told at `told`.
    pub(crate) fn set(&self, (now, told): (Instant, Instant), decision: &Decision) {
        let denial = Denial {
            limit: decision.limit,
            retry_at: now + decision.retry_after,
            reset_at: now + decision.reset_after,
            believed_until: (told + BELIEVED).min(now + decision.retry_after),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(denial);
    }

    /// Something came back.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The denial of a caller who comes at `now` and would wait until then.
    pub(crate) fn denial(&self, now: Instant, until: Instant) -> Option<Decision> {
        let denial = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let stands = now < denial.believed_until && until < denial.retry_at;
        stands.then(|| Decision {
            allowed: false,
            limit: denial.limit,
            remaining: 0,
            retry_after: denial.retry_at.saturating_duration_since(now),
            reset_after: denial.reset_at.saturating_duration_since(now),
            source: Source::Store,
        })
    }
}
