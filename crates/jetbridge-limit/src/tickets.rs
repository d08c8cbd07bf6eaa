//! Permits of a rate that the store counts out, for processes that get into each other's way.
//!
//! While a limiter's value has [`Tickets`], nobody writes it. A process adds to a counter beside
//! it instead, and the sum says which permits are its own: no two processes ever compete. Permit
//! number `k` counts from `at + (k - 1) · span` on, as if all had been reserved one after the
//! other. Permits whose time had passed before somebody took them are nobody's, so a limiter that
//! rests saves up its burst and no more.
//!
//! To go back, [`CLOSING`] is added: the sum tells exactly how many permits were taken before,
//! and whoever adds later finds that the tickets have ended. Pure: state, time and sums are
//! arguments.

use serde::{Deserialize, Serialize};

use crate::policy::{Algorithm, Policy};
use crate::state::State;

/// What is added to end tickets: far more than can be taken while they are given.
pub(crate) const CLOSING: i64 = 1 << 38;
/// A counter that is further on is not gone on with: tickets would have ended on it for years.
pub(crate) const FIRST_MAX: i64 = 1 << 62;
/// Most permits that are taken with one addition.
pub(crate) const TAKEN_MAX: u64 = 1 << 32;
/// For how long tickets are given in nanoseconds, until somebody writes the value anew.
const GIVEN_FOR: u64 = 600 * 1_000_000_000;
/// For a rate so slow that fewer than this many permits pass meanwhile, tickets are of no use.
const GIVEN_MIN: u64 = 64;
/// Permits that pass unused are jumped over only for so long, as a part of what can be saved up:
/// several processes may do so at once.
const JUMP_PART: u64 = 8;

/// How permits are counted out. [`State::at`] is the time from which the first one counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Tickets {
    /// What the counter had when they were first given.
    pub(crate) first: i64,
    /// Nanoseconds between two of them.
    pub(crate) span: u64,
    /// Nobody takes any from then on, nor any that count later, in the store's nanoseconds.
    pub(crate) until: u64,
}

/// What the counter says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Count {
    /// So many permits were taken.
    Open(u64),
    /// Tickets have ended. Before, at most so many permits were taken; exactly so many, if this
    /// is the sum of the addition that ended them.
    Ended(u64),
    /// Not a number of these tickets: somebody deleted the counter. At least so many were taken.
    Foreign(u64),
}

impl Tickets {
    pub(crate) fn new(first: i64, policy: &Policy, now: u64) -> Self {
        Self { first, span: policy.span, until: now.saturating_add(GIVEN_FOR) }
    }

    /// True for a rate whose permits can be counted out.
    pub(crate) fn are_for(policy: &Policy) -> bool {
        policy.is_plain_rate() && policy.span <= GIVEN_FOR / GIVEN_MIN
    }

    /// What `sum` says to who knows that `known` permits were taken at least.
    pub(crate) fn count(self, sum: i64, known: u64) -> Count {
        let since = sum.checked_sub(self.first).and_then(|since| u64::try_from(since).ok());
        let closing = CLOSING.unsigned_abs();
        match since {
            Some(since) if since % closing < known => Count::Foreign(known),
            None => Count::Foreign(known),
            Some(taken) if taken < closing => Count::Open(taken),
            Some(taken) => Count::Ended(taken % closing),
        }
    }

    /// The time from which the next permit counts, after `taken` of those that began at `at`.
    pub(crate) fn next(self, at: u64, taken: u64) -> u64 {
        at.saturating_add(taken.saturating_mul(self.span))
    }
}

impl State {
    /// Leaves tickets: the value that is to be written, with what the counter says.
    pub(crate) fn without_tickets(self, policy: &Policy, now: u64, count: Count) -> Self {
        let Some(tickets) = self.tickets else { return self };
        let used_up = Self::exhausted(policy, now);
        if policy.algorithm != Algorithm::Gcra {
            return Self { held: self.held, ..used_up };
        }
        let at = match count {
            Count::Open(taken) | Count::Ended(taken) => tickets.next(self.at, taken),
            Count::Foreign(known) => tickets.next(self.at, known).max(used_up.at),
        };
        Self { at, tickets: None, ..self }
    }
}

/// Permits in a row that were taken with one addition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Run {
    /// The time from which the first of them counts.
    pub(crate) base: u64,
    pub(crate) left: u64,
    pub(crate) span: u64,
}

impl Run {
    /// None, where the next would count from `base` on.
    pub(crate) fn none(base: u64) -> Self {
        Self { base, left: 0, span: 1 }
    }

    /// Forgets those whose time had passed before `earliest`.
    pub(crate) fn pass(&mut self, earliest: u64) {
        let passed = earliest.saturating_sub(self.base).div_ceil(self.span).min(self.left);
        self.base = self.base.saturating_add(passed.saturating_mul(self.span));
        self.left -= passed;
    }

    /// The time from which the last of the next `cost` permits counts.
    pub(crate) fn slot(&self, cost: u64) -> Option<u64> {
        let last = cost.saturating_sub(1).saturating_mul(self.span);
        (cost <= self.left).then(|| self.base.saturating_add(last))
    }

    /// Takes the next `cost` permits; the time from which the one behind them counts.
    pub(crate) fn take(&mut self, cost: u64) -> u64 {
        self.base = self.base.saturating_add(cost.saturating_mul(self.span));
        self.left = self.left.saturating_sub(cost);
        self.base
    }
}

/// How many permits nobody wants any more, if the next one counts from `next` on: with as many
/// added, those behind are of use. `None` if that is so long that several processes which did it
/// at once would make others wait: `round_trip` is what they wait for anyhow.
pub(crate) fn jump(policy: &Policy, now: u64, next: u64, round_trip: u64) -> Option<u64> {
    let passed = now.saturating_sub(policy.saved_ns()).saturating_sub(next);
    let most = (policy.saved_ns() / JUMP_PART).max(round_trip.saturating_mul(2));
    (passed <= most).then(|| passed.div_ceil(policy.span.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_750_000_000_000_000_000;
    const FIRST: i64 = 5;
    const MS: u64 = 1_000_000;

    fn policy() -> Policy {
        Policy::per_second(1000.0).unwrap().burst(10).unwrap()
    }

    #[test]
    fn a_sum_says_what_was_taken_and_whether_it_is_over() {
        let tickets = Tickets::new(FIRST, &policy(), NOW);
        assert_eq!(tickets.count(FIRST, 0), Count::Open(0));
        assert_eq!(tickets.count(FIRST + 7, 7), Count::Open(7));
        assert_eq!(tickets.count(FIRST + 7 + CLOSING, 7), Count::Ended(7));
        assert_eq!(tickets.count(FIRST + 9 + CLOSING * 3, 7), Count::Ended(9), "ended by three");
        for deleted in [0, FIRST - 1, i64::MIN, FIRST + 6, FIRST + 6 + CLOSING] {
            assert_eq!(tickets.count(deleted, 7), Count::Foreign(7));
        }
    }

    #[test]
    fn what_follows_tickets_is_what_they_came_to() {
        let tickets = Some(Tickets::new(FIRST, &policy(), NOW));
        let state = State { at: NOW, tickets, ..State::default() };
        let after = |policy: &Policy, count| state.clone().without_tickets(policy, NOW, count);
        let expected = State { at: NOW + 7 * MS, ..State::default() };
        assert_eq!(after(&policy(), Count::Ended(7)), expected);
        let slower = Policy::per_second(1.0).unwrap();
        assert_eq!(after(&slower, Count::Ended(7)), expected, "by the span they were given with");
        let used_up = State::exhausted(&policy(), NOW);
        assert_eq!(after(&policy(), Count::Foreign(0)), used_up);
        assert_eq!(after(&policy(), Count::Foreign(7)), expected, "what is known was taken");
        let window = Policy::fixed_window(3, std::time::Duration::from_secs(1)).unwrap();
        assert_eq!(after(&window, Count::Ended(7)), State::exhausted(&window, NOW));
    }

    #[test]
    fn permits_that_have_passed_are_nobodys() {
        let mut run = Run { base: NOW, left: 5, span: MS };
        run.pass(NOW);
        assert_eq!(run.left, 5);
        run.pass(NOW + 1);
        assert_eq!((run.base, run.left), (NOW + MS, 4));
        assert_eq!((run.slot(4), run.slot(5)), (Some(NOW + 4 * MS), None));
        assert_eq!((run.take(3), run.left), (NOW + 4 * MS, 1));
        run.pass(NOW + 60 * MS);
        assert_eq!(run.left, 0);
    }

    #[test]
    fn a_short_rest_is_jumped_over_and_a_long_one_is_not() {
        let policy = policy();
        let saved = policy.saved_ns();
        let trip = MS;
        assert_eq!(jump(&policy, NOW, NOW, trip), Some(0));
        assert_eq!(jump(&policy, NOW, NOW - saved, trip), Some(0), "the burst is there");
        assert_eq!(jump(&policy, NOW, NOW - saved - 1, trip), Some(1));
        assert_eq!(jump(&policy, NOW, NOW - saved - 2 * trip, trip), Some(2));
        assert_eq!(jump(&policy, NOW, NOW - saved - 2 * trip - 1, trip), None);
    }
}
