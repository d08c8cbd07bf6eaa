//! Waiting between attempts: exponential, jittered, capped. How often is the caller's deadline's
//! business: under contention a count is a lottery.

use std::time::Duration;

/// A sequence of waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
    factor: u32,
}

impl Backoff {
    /// From `first`, doubling, to `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max, factor: 2 }
    }

    /// For writers that lost a race: the winner needs one round trip, so the first wait is short.
    pub const fn contention() -> Self {
        Self::new(Duration::from_micros(200), Duration::from_millis(20))
    }

    /// For a store that does not answer.
    pub const fn outage() -> Self {
        Self::new(Duration::from_millis(20), Duration::from_secs(2))
    }

    /// The next wait: between half of it and all of it, at random.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(0.5 + crate::random::fraction() / 2.0);
        self.next = self.next.saturating_mul(self.factor).min(self.max);
        wait
    }

    /// Sleeps for [`Backoff::next_wait`].
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(8));
        for ceiling in [1, 2, 4, 8, 8, 8] {
            let (wait, ceiling) = (backoff.next_wait(), Duration::from_millis(ceiling));
            assert!(wait <= ceiling && wait >= ceiling / 2, "{wait:?} of {ceiling:?}");
        }
    }
}
