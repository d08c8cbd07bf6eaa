//! How much processes get into each other's way at one limiter, and what follows: whether the
//! key is followed, and how many permits are reserved for callers who have not come yet.
//!
//! Pure. A write needs the one before it, so a key is written once in a round trip, whoever
//! writes it. A lone process never reserves ahead; of several, each takes with one write what the
//! whole rate gives until the next: less would leave the rest of the rate to nobody, however many
//! write.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::length;
use crate::policy::Policy;

/// Writes in a row without a conflict until there seems to be none any more.
const CALM: u32 = 256;
/// Writes that lose until processes are at it so much that permits are better counted out; of a
/// store that is far away, the first is enough.
const HEAVY: u32 = 2;
/// Most permits that one write takes for callers who have not come yet.
const BLOCK_MAX: u64 = 1_024;
/// A store that answers sooner than this is asked again at once. Of one that is further away, who
/// has just won would win the next race as well: its answer comes a little sooner than the news of
/// it comes to the others, who would never win, and of whom it would never hear.
const FAR_AWAY: Duration = Duration::from_millis(1);
/// So it waits for up to this part of a round trip.
const COURTESY: u32 = 2;
/// A block is so many quarters of what the rate gives in a round trip: with conflicts, a key is
/// not quite written once in each.
const BLOCK_QUARTERS: u64 = 5;
/// Blocks are so many times larger while less than a round trip is reserved: the time of permits
/// then passes before the write that takes them is through.
const SHORT: u64 = 2;
/// Nothing is reserved ahead beyond so many round trips from now, all processes together: callers
/// would only wait for longer.
const FAR: u32 = 6;
/// A block is taken so many round trips before the last one is used up: with other processes at
/// it, a few attempts are lost.
const LEAD: u32 = 3;
/// The weight of the newest round trip in the average, as a part of the whole.
const WEIGHT: u32 = 8;
/// All permits that were reserved ahead were used.
const USED: u32 = 1 << 12;
/// The weight of one permit in how many are used, as a part of the whole.
const USED_WEIGHT: u32 = 64;

/// What this process has met at one limiter.
#[derive(Debug)]
pub(crate) struct Contention {
    /// Writes until it is believed to be over.
    left: u32,
    /// Writes that lost since it began.
    lost: u32,
    round_trip: Duration,
    /// How much a round trip differs from that, on average.
    deviation: Duration,
    /// How many of the permits that were reserved ahead are used, as a part of [`USED`].
    used: u32,
}

impl Default for Contention {
    fn default() -> Self {
        let (round_trip, deviation) = (Duration::ZERO, Duration::ZERO);
        Self { left: 0, lost: 0, round_trip, deviation, used: USED }
    }
}

impl Contention {
    /// A write lost against another process.
    pub(crate) fn lost(&mut self) {
        self.lost = if self.is_on() { self.lost.saturating_add(1) } else { 1 };
        self.left = CALM;
    }

    /// A write won.
    pub(crate) fn won(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Nobody else is met any more.
    pub(crate) fn over(&mut self) {
        self.left = 0;
    }

    /// The store answered after so long, whatever it said.
    pub(crate) fn trip(&mut self, took: Duration) {
        if self.round_trip.is_zero() {
            self.round_trip = took;
        }
        let differs = took.abs_diff(self.round_trip);
        self.round_trip = self.round_trip - self.round_trip / WEIGHT + took / WEIGHT;
        self.deviation = self.deviation - self.deviation / WEIGHT + differs / WEIGHT;
    }

    /// So many permits that were reserved ahead found somebody.
    pub(crate) fn used(&mut self, many: u64) {
        // After a few times the weight nothing is left of what was before.
        for _ in 0..many.min(u64::from(USED_WEIGHT) * 8) {
            self.used += (USED - self.used) / USED_WEIGHT;
        }
    }

    /// A permit that was reserved ahead was of no use.
    pub(crate) fn wasted(&mut self) {
        self.used -= self.used / USED_WEIGHT;
    }

    /// True while other processes are met often enough for the key to be followed.
    pub(crate) fn is_on(&self) -> bool {
        self.left > 0
    }

    /// True while they are met so often that it is better not to compete.
    pub(crate) fn is_heavy(&self) -> bool {
        let lost = if self.is_far() { 1 } else { HEAVY };
        self.is_on() && self.lost >= lost
    }

    /// True if a round trip takes long.
    pub(crate) fn is_far(&self) -> bool {
        self.round_trip >= FAR_AWAY
    }

    /// How long the store takes to answer, nearly always.
    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip + self.deviation * 2
    }

    /// How long whoever wrote at `won_at` leaves the next race to others at `now`, where `random` is
    /// any number.
    pub(crate) fn courtesy(&self, won_at: Option<Instant>, now: Instant, random: u64) -> Duration {
        let just_won = won_at.is_some_and(|at| now < at + self.round_trip / COURTESY);
        if !just_won || !self.is_far() {
            return Duration::ZERO;
        }
        Duration::from_nanos(random % length(self.round_trip / COURTESY).max(1))
    }

    /// How long to wait for what another process wrote, before the store is asked.
    pub(crate) fn patience(&self) -> Duration {
        self.round_trip() * 2 + Duration::from_millis(2)
    }

    /// How long before the permits in reserve are used up the next are taken.
    pub(crate) fn lead(&self) -> Duration {
        self.round_trip * LEAD
    }

    /// How many permits one write takes, for those who wait and those who have not come yet, while
    /// permits are `reserved` for so long from now.
    pub(crate) fn block(&self, policy: &Policy, reserved: Duration) -> u32 {
        if !self.is_on() || !policy.is_plain_rate() {
            return 0;
        }
        let room = (self.round_trip * FAR).saturating_sub(reserved);
        let room = length(room) / policy.span.max(1);
        let short = reserved < self.round_trip();
        let quarters = BLOCK_QUARTERS * if short { SHORT } else { 1 };
        let block = length(self.round_trip).saturating_mul(quarters) / 4;
        let block = block.div_ceil(policy.span.max(1)).min(BLOCK_MAX);
        let used = (block * u64::from(self.used) / u64::from(USED)).max(1);
        u32::try_from(used.min(room)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(10);

    #[test]
    fn nothing_is_reserved_ahead_without_contention_and_a_round_trips_worth_with_it() {
        let policy = Policy::per_second(1000.0).unwrap();
        let mut contention = Contention::default();
        contention.trip(TRIP);
        assert_eq!((contention.block(&policy, TRIP), contention.is_on()), (0, false));
        contention.lost();
        assert_eq!(contention.block(&policy, TRIP), 13);
        let slots = policy.max_concurrent(3).unwrap();
        assert_eq!(contention.block(&slots, Duration::ZERO), 0, "slots are not kept for nobody");
        for _ in 0..CALM {
            contention.won();
        }
        assert!(!contention.is_on());
    }

    #[test]
    fn who_has_no_use_for_a_block_takes_less() {
        let policy = Policy::per_second(1000.0).unwrap();
        let mut contention = Contention::default();
        contention.trip(TRIP);
        contention.lost();
        for _ in 0..USED_WEIGHT * 10 {
            contention.wasted();
        }
        assert_eq!(contention.block(&policy, TRIP), 1);
        contention.used(u64::from(USED_WEIGHT) * 10);
        assert!(contention.block(&policy, TRIP) >= 12);
    }
}
