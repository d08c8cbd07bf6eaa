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
pub(crate) const CLOSING: i64 = 1 << 42;
/// Tickets of a value that expires begin above this, somewhere at random: its counter is deleted
/// with it, begins at zero again, and is known by that.
pub(crate) const FIRST_MIN: i64 = CLOSING;
/// The most times that [`CLOSING`] is added to a counter to bring it there: so whoever does that to
/// a counter with tickets has ended them, as if it had meant to.
pub(crate) const JUMPS_MAX: u64 = 1 << 12;
/// A counter that is further on is not gone on with.
pub(crate) const FIRST_MAX: i64 = 1 << 61;
/// Most permits that are taken with one addition.
pub(crate) const TAKEN_MAX: u64 = 1 << 32;
/// For how long tickets are given in nanoseconds, until somebody writes the value anew; and those
/// of a value that expires, which must stay for as long.
const GIVEN_FOR: u64 = 600 * 1_000_000_000;
const GIVEN_FOR_OF_A_KEY: u64 = 60 * 1_000_000_000;
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
    /// Not a number of these tickets: somebody deleted the counter.
    Foreign,
}

impl Tickets {
    pub(crate) fn new(first: i64, policy: &Policy, (now, expires): (u64, bool)) -> Self {
        let given_for = if expires { GIVEN_FOR_OF_A_KEY } else { GIVEN_FOR };
        Self { first, span: policy.span, until: now.saturating_add(given_for) }
    }

    pub(crate) fn count(self, sum: i64) -> Count {
        let since = sum.checked_sub(self.first).and_then(|since| u64::try_from(since).ok());
        match since {
            None => Count::Foreign,
            Some(taken) if taken < CLOSING.unsigned_abs() => Count::Open(taken),
            Some(taken) => Count::Ended(taken % CLOSING.unsigned_abs()),
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
        let rate = policy.algorithm == Algorithm::Gcra;
        match count {
            Count::Open(taken) | Count::Ended(taken) if rate => {
                Self { at: tickets.next(self.at, taken), tickets: None, ..self }
            }
            Count::Open(_) | Count::Ended(_) | Count::Foreign => {
                Self { held: self.held, ..Self::exhausted(policy, now) }
            }
        }
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
    const MS: u64 = 1_000_000;

    fn policy() -> Policy {
        Policy::per_second(1000.0).unwrap().burst(10).unwrap()
    }

    #[test]
    fn a_sum_says_what_was_taken_and_whether_it_is_over() {
        let tickets = Tickets::new(FIRST_MIN, &policy(), (NOW, false));
        assert_eq!(tickets.count(FIRST_MIN), Count::Open(0));
        assert_eq!(tickets.count(FIRST_MIN + 7), Count::Open(7));
        assert_eq!(tickets.count(FIRST_MIN + 7 + CLOSING), Count::Ended(7));
        assert_eq!(tickets.count(FIRST_MIN + 9 + CLOSING * 3), Count::Ended(9), "ended by three");
        for foreign in [0, 1, FIRST_MIN - 1, i64::MIN] {
            assert_eq!(tickets.count(foreign), Count::Foreign);
        }
    }

    #[test]
    fn what_follows_tickets_is_what_they_came_to() {
        let tickets = Some(Tickets::new(FIRST_MIN, &policy(), (NOW, false)));
        let state = State { at: NOW, tickets, ..State::default() };
        let after = |policy: &Policy, count| state.clone().without_tickets(policy, NOW, count);
        let expected = State { at: NOW + 7 * MS, ..State::default() };
        assert_eq!(after(&policy(), Count::Ended(7)), expected);
        let slower = Policy::per_second(1.0).unwrap();
        assert_eq!(after(&slower, Count::Ended(7)), expected, "by the span they were given with");
        let used_up = State::exhausted(&policy(), NOW);
        assert_eq!(after(&policy(), Count::Foreign), used_up);
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
