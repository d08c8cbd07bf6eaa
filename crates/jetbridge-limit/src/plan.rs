//! What one write does for everybody who asks: pure, so that the actor only carries it out.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Moment, length};
use crate::decision::Decision;
use crate::holding::Holding;
use crate::message::Request;
use crate::place::{Place, Seen};
use crate::state::{Ask, State, Taken, Verdict};

/// Most calls that one write serves: the caller at the end of it waits for all of them to be
/// computed, which takes well under a millisecond.
pub(crate) const BATCH_MAX: usize = 1_024;

/// What becomes of one request.
#[derive(Debug)]
pub(crate) enum Fate {
    Granted {
        decision: Decision,
        taken: Taken,
        slots: u32,
        ready: Instant,
        expires: Instant,
    },
    Denied(Decision),
    /// There is no slot yet, and it would wait for one.
    Waits,
}

/// A permit for a caller who has not come yet.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) decision: Decision,
    pub(crate) taken: Taken,
    pub(crate) ready: Instant,
    pub(crate) expires: Instant,
}

/// The next state, and what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) state: State,
    /// One for each request, in order.
    pub(crate) fates: Vec<Fate>,
    /// For the next callers of this process.
    pub(crate) ahead: Vec<Ahead>,
    /// Slots of this process afterwards.
    pub(crate) slots: u32,
    /// When another process's lease ends.
    pub(crate) next_end: Option<Instant>,
    pub(crate) write: bool,
    /// Somebody was not admitted for want of a slot.
    pub(crate) lacks_slots: bool,
    /// Refunds that cannot be put back now, because what was taken later is not back.
    pub(crate) owed: Vec<Taken>,
}

/// Decides about `requests` on top of what was seen; `refunds` are taken back first.
pub(crate) fn plan<'a>(
    place: &Place,
    holding: &Holding,
    (seen, now): (&Seen, Moment),
    mut refunds: Vec<Taken>,
    requests: impl Iterator<Item = &'a Request>,
) -> Plan {
    let mut state = seen.state.clone();
    state.held.expire(now.behind());
    // What was taken last goes back first, or what was taken before cannot.
    refunds.sort_unstable_by_key(|taken| std::cmp::Reverse(taken.after));
    let many = refunds.len();
    refunds.retain(|taken| !state.refund(&place.policy, *taken));
    let mut changed = refunds.len() < many;
    let until = now.store.saturating_add(holding.span_ns());
    state.held.set(&holding.id, holding.slots, until);
    let mut planner = Planner {
        place,
        holding,
        now,
        until,
        slots: holding.slots,
        full: false,
        lacks_slots: false,
    };
    let (mut fates, mut granted) = (Vec::new(), 0);
    for request in requests {
        // Whoever waits or is denied costs next to nothing, and must hear of it.
        if granted == BATCH_MAX {
            break;
        }
        let fate = planner.decide(&mut state, request);
        granted += usize::from(matches!(fate, Fate::Granted { .. }));
        fates.push(fate);
    }
    let (slots, lacks_slots) = (planner.slots, planner.lacks_slots);
    let due = holding.renew_at().is_some_and(|at| now.instant >= at);
    changed |= granted > 0;
    let write = changed || due || holding.dirty;
    let next_end = state.held.next_end(&holding.id).map(|at| now.when(at));
    Plan { state, fates, ahead: Vec::new(), slots, next_end, write, lacks_slots, owed: refunds }
}

impl Plan {
    /// How many requests it grants.
    pub(crate) fn granted(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Granted { .. })).count()
    }

    /// True if somebody is told that there is nothing.
    pub(crate) fn denies(&self) -> bool {
        self.fates.iter().any(|fate| matches!(fate, Fate::Denied(_)))
    }

    /// Takes up to `most` permits more of those that are there now, and at most half of them: for
    /// callers of a process that nobody else gets in the way of.
    pub(crate) fn reserve_present(&mut self, place: &Place, now: Moment, most: u32) {
        let left = self.state.remaining(&place.policy, now.store) / 2;
        self.reserve_ahead(place, (now, most.min(left)), Duration::ZERO);
    }

    /// Takes up to `most` permits more, for callers who come when the write is through, one after
    /// the other at the rate.
    pub(crate) fn reserve_ahead(
        &mut self,
        place: &Place,
        (now, most): (Moment, u32),
        trip: Duration,
    ) {
        let (policy, mut arrival) = (&place.policy, now.store.saturating_add(length(trip)));
        for _ in 0..most {
            let Some(slot) = self.state.reserve_ahead(policy, now.store, arrival) else { return };
            arrival = arrival.saturating_add(policy.span);
            let taken = Taken { cost: 1, slot, after: self.state.at, waits: true };
            let decision = place.decision(now.store, &self.state, Verdict::Granted(slot));
            let (ready, expires) = (now.when(slot), now.when(taken.expires(policy)));
            self.ahead.push(Ahead { decision, taken, ready, expires });
        }
    }
}

struct Planner<'a> {
    place: &'a Place,
    holding: &'a Holding,
    now: Moment,
    until: u64,
    slots: u32,
    /// Somebody waits for a slot: nobody overtakes.
    full: bool,
    lacks_slots: bool,
}

impl Planner<'_> {
    fn decide(&mut self, state: &mut State, request: &Request) -> Fate {
        let (place, now) = (self.place, self.now);
        let slots = place.policy.slots_of(request.cost);
        let room = state.room(&place.policy, now.behind()).unwrap_or(u32::MAX);
        if slots > 0 && (self.full || room < slots) {
            self.lacks_slots = true;
            if request.until.is_some_and(|until| until <= now.instant) {
                return Fate::Denied(place.no_slot(now.store, state));
            }
            self.full = true;
            return Fate::Waits;
        }
        let wait = request
            .until
            .map_or(u64::MAX, |until| length(until.saturating_duration_since(now.instant)));
        let verdict = state.reserve(&place.policy, now.store, Ask { cost: request.cost, wait });
        let Verdict::Granted(slot) = verdict else {
            return Fate::Denied(place.decision(now.store, state, verdict));
        };
        if slots > 0 {
            self.slots += slots;
            state.held.set(&self.holding.id, self.slots, self.until);
        }
        let taken = Taken { cost: request.cost, slot, after: state.at, waits: slot > now.store };
        let decision = place.decision(now.store, state, verdict);
        let (ready, expires) = (now.when(slot), now.when(taken.expires(&place.policy)));
        Fate::Granted { decision, taken, slots, ready, expires }
    }
}
