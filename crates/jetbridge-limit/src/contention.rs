//! How much processes get into each other's way at one limiter, and what follows: whether the
//! key is followed, and how many permits are reserved for callers who have not come yet.
//!
//! Pure. A lone process never reserves ahead; one that shares a limiter over a slow connection
//! would otherwise spend a round trip on every few permits, and lose most of them to the others.

use std::time::Duration;

use crate::policy::{Algorithm, Policy};

/// Above this, reserving further ahead makes callers of other processes wait too long.
const LEVEL_MAX: u32 = 4;
/// Writes in a row without a conflict until there seems to be less of it.
const CALM: u32 = 256;
/// Most permits that one write reserves ahead.
const AHEAD_MAX: u32 = 64;
/// Permits ahead for each that the write gives: who has few callers now needs few next.
const AHEAD_PER_GRANT: u32 = 4;
/// The weight of the newest round trip in the average, as a part of the whole.
const WEIGHT: u32 = 8;

/// What this process has met at one limiter.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    level: u32,
    calm: u32,
    round_trip: Duration,
}

impl Contention {
    /// A write lost against another process.
    pub(crate) fn lost(&mut self) {
        self.level = (self.level + 1).min(LEVEL_MAX);
        self.calm = 0;
    }

    /// A write won, and took so long.
    pub(crate) fn won(&mut self, took: Duration) {
        self.round_trip = match self.round_trip {
            Duration::ZERO => took,
            known => known - known / WEIGHT + took / WEIGHT,
        };
        self.calm += 1;
        if self.calm >= CALM {
            self.less();
        }
    }

    /// Permits that were reserved ahead were of no use.
    pub(crate) fn wasted(&mut self) {
        // While there is contention at all the key stays worth following.
        if self.level > 1 {
            self.less();
        }
    }

    fn less(&mut self) {
        self.level = self.level.saturating_sub(1);
        self.calm = 0;
    }

    /// True while other processes are met often enough for the key to be followed.
    pub(crate) fn is_on(&self) -> bool {
        self.level > 0
    }

    /// How long to wait for what another process wrote, before the store is asked.
    pub(crate) fn patience(&self) -> Duration {
        self.round_trip * 2 + Duration::from_millis(2)
    }

    /// How many permits a write that gives `granted` reserves ahead.
    pub(crate) fn ahead(&self, policy: &Policy, granted: usize) -> u32 {
        if policy.algorithm != Algorithm::Gcra || policy.slots.is_some() {
            return 0;
        }
        let span = Duration::from_nanos(policy.span);
        let a_trip = self.round_trip.as_nanos().div_ceil(span.as_nanos().max(1));
        let a_trip = u32::try_from(a_trip).unwrap_or(AHEAD_MAX).min(AHEAD_MAX);
        let granted = u32::try_from(granted).unwrap_or(AHEAD_MAX).min(AHEAD_MAX);
        (a_trip * self.level).min(granted * AHEAD_PER_GRANT).min(AHEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reserved_ahead_without_contention_and_a_round_trips_worth_with_it() {
        let policy = Policy::per_second(1000.0).unwrap();
        let mut contention = Contention::default();
        contention.won(Duration::from_millis(10));
        assert_eq!((contention.ahead(&policy, 8), contention.is_on()), (0, false));
        contention.lost();
        assert_eq!((contention.ahead(&policy, 8), contention.ahead(&policy, 1)), (10, 4));
        for _ in 0..9 {
            contention.lost();
        }
        assert_eq!(contention.ahead(&policy, 100), 40);
        let slots = policy.max_concurrent(3).unwrap();
        assert_eq!(contention.ahead(&slots, 100), 0, "slots are not kept for nobody");
        contention.wasted();
        assert_eq!(contention.ahead(&policy, 100), 30);
        for _ in 0..CALM * 3 {
            contention.won(Duration::from_millis(10));
        }
        assert!(!contention.is_on());
    }
}
