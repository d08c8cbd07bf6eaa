//! Spares callers the wait for a store that is known not to answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many calls in a row without an answer, and the store is taken to be gone. Calls that were
/// under way together when it failed are one.
const FAILURES_MAX: u32 = 5;
/// How often one call is let through to see whether it is back.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// A circuit breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<Circuit>);

#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    /// When the last of them was.
    failed_at: Option<Instant>,
    /// While open: when the next call is let through.
    probe_at: Option<Instant>,
}

impl Breaker {
    /// Whether a call may ask the store. While open, every now and then one may; if its caller
    /// goes away, the next one follows all the same.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut circuit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(probe_at) = circuit.probe_at else { return true };
        if now < probe_at {
            return false;
        }
        circuit.probe_at = Some(now + PROBE_EVERY);
        true
    }

    /// As in [`Metrics::circuit_breaker_state`](crate::Metrics).
    pub(crate) fn state(&self, now: Instant) -> u8 {
        let circuit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match circuit.probe_at {
            None => 0,
            Some(probe_at) if now >= probe_at => 1,
            Some(_) => 2,
        }
    }

    pub(crate) fn answered(&self) {
        let mut circuit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if circuit.failures > 0 {
            *circuit = Circuit::default();
        }
    }

    /// A call that began at `begun` has no answer at `now`.
    pub(crate) fn failed(&self, begun: Instant, now: Instant) {
        let mut circuit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if circuit.failed_at.is_some_and(|at| begun < at) {
            return;
        }
        circuit.failed_at = Some(now);
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures == FAILURES_MAX {
            circuit.probe_at = Some(now + PROBE_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_under_way_together_fail_once() {
        let (breaker, begun) = (Breaker::default(), Instant::now());
        for call in 1..=FAILURES_MAX * 10 {
            breaker.failed(begun, begun + PROBE_EVERY / 1000 * call);
        }
        assert_eq!(breaker.state(begun), 0);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_look() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES_MAX {
            breaker.failed(now, now);
        }
        breaker.answered();
        breaker.failed(now, now);
        assert!(breaker.admits(now));
        for _ in 1..FAILURES_MAX {
            breaker.failed(now, now);
        }
        assert!(!breaker.admits(now));
        assert_eq!((breaker.state(now), breaker.state(now + PROBE_EVERY)), (2, 1));
        let later = now + PROBE_EVERY;
        assert_eq!((breaker.admits(later), breaker.admits(later)), (true, false));
        breaker.answered();
        assert!(breaker.admits(now) && breaker.state(now) == 0);
    }
}
