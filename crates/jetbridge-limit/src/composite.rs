//! Several limiters as one: a call passes them together, or is charged to none.

use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::decision::Decision;
use crate::limiter::Limiter;
use crate::message::Reserved;
use crate::permit::Permit;

/// Several limiters as one.
///
/// A denial is charged to none of them. What was taken of the others meanwhile is put back,
/// except that a rate which other processes took from in between forfeits it: a permit is rather
/// lost than given twice.
///
/// A store that does not answer is an error, whatever the limiters do without it on their own.
#[derive(Clone, Debug)]
pub struct Composite {
    limiters: Vec<Limiter>,
    strategy: Strategy,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Strategy {
    All,
    Any,
    MostRestrictive,
}

/// What a call came to, and every slot that it was given.
#[must_use = "dropped at once, it gives its slots back; and a denial should not pass unseen"]
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers take it apart")]
pub struct Admissions {
    /// The answer.
    pub decision: Decision,
    /// The slots.
    pub permits: Vec<Permit>,
}

impl Composite {
    /// All must allow a call; the answer is the first denial, else that of the limiter with the
    /// least left.
    pub fn all(limiters: impl IntoIterator<Item = Limiter>) -> Self {
        Self::new(limiters, Strategy::All)
    }

    /// One must allow a call: the first that does is charged, and the others are not.
    pub fn any(limiters: impl IntoIterator<Item = Limiter>) -> Self {
        Self::new(limiters, Strategy::Any)
    }

    /// As [`Composite::all`], but every limiter is asked, and the answer is that of the one with
    /// the longest wait, then the least left.
    pub fn most_restrictive(limiters: impl IntoIterator<Item = Limiter>) -> Self {
        Self::new(limiters, Strategy::MostRestrictive)
    }

    fn new(limiters: impl IntoIterator<Item = Limiter>, strategy: Strategy) -> Self {
        let mut limiters: Vec<Limiter> = limiters.into_iter().collect();
        // In one order everywhere, so that two calls never wait for each other's slots.
        if strategy != Strategy::Any {
            limiters.sort_by(|a, b| a.id().as_str().cmp(b.id().as_str()));
        }
        Self { limiters, strategy }
    }

    /// Passes if that is possible now.
    pub async fn try_acquire(&self) -> Result<Admissions> {
        self.acquire_n_timeout(1, Duration::ZERO).await
    }

    /// Waits at most `wait`.
    pub async fn acquire_timeout(&self, wait: Duration) -> Result<Admissions> {
        self.acquire_n_timeout(1, wait).await
    }

    /// As [`Composite::acquire_timeout`], for `cost` permits of each.
    /// [`InvalidInput`](ErrorKind::InvalidInput) without limiters, and for a cost that one of
    /// them can never give.
    pub async fn acquire_n_timeout(&self, cost: u32, wait: Duration) -> Result<Admissions> {
        if self.limiters.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "limit.acquire")
                .because("a composite has at least one limiter"));
        }
        let until = Instant::now().checked_add(wait);
        match self.strategy {
            Strategy::Any => self.first(cost, until).await,
            Strategy::All | Strategy::MostRestrictive => self.together(cost, until).await,
        }
    }

    async fn first(&self, cost: u32, until: Option<Instant>) -> Result<Admissions> {
        let mut denial: Option<Decision> = None;
        for limiter in &self.limiters {
            let (decision, reserved) = limiter.reserve(cost, until).await?;
            if decision.allowed {
                return Ok(pass(decision, reserved).await);
            }
            // The soonest says when to come again.
            if denial.is_none_or(|known| decision.retry_after < known.retry_after) {
                denial = Some(decision);
            }
        }
        let none = || Error::new(ErrorKind::Internal, "limit.acquire");
        Ok(Admissions { decision: denial.ok_or_else(none)?, permits: Vec::new() })
    }

    async fn together(&self, cost: u32, until: Option<Instant>) -> Result<Admissions> {
        let (mut decisions, mut taken) = (Vec::new(), Vec::new());
        let mut failed = None;
        for limiter in &self.limiters {
            match limiter.reserve(cost, until).await {
                Ok((decision, reserved)) => {
                    decisions.push(decision);
                    taken.extend(reserved);
                    if !decision.allowed && self.strategy == Strategy::All {
                        break;
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let denied = decisions.iter().any(|decision| !decision.allowed);
        if denied || failed.is_some() {
            for reserved in taken.into_iter().rev() {
                reserved.refund().await;
            }
            if let Some(error) = failed {
                return Err(error);
            }
            let decision = strictest(&decisions)?;
            return Ok(Admissions { decision, permits: Vec::new() });
        }
        let decision = strictest(&decisions)?;
        Ok(pass(decision, taken).await)
    }
}

/// Waits for everything that was taken.
async fn pass(decision: Decision, taken: impl IntoIterator<Item = Reserved>) -> Admissions {
    let waits = taken.into_iter().map(Reserved::wait);
    let permits = futures_util::future::join_all(waits).await;
    Admissions { decision, permits: permits.into_iter().flatten().collect() }
}

/// A denial before a permission, then the longest wait, then the least left.
fn strictest(decisions: &[Decision]) -> Result<Decision> {
    let strictness = |it: &Decision| (!it.allowed, it.retry_after, u32::MAX - it.remaining);
    let strictest = decisions.iter().copied().max_by_key(strictness);
    strictest.ok_or_else(|| Error::new(ErrorKind::Internal, "limit.acquire"))
}
