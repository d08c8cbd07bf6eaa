//! What one addition to a counter does for everybody who asks: pure, so that the actor only
//! carries it out.

use tokio::time::Instant;

use crate::clock::{Moment, length};
use crate::message::Request;
use crate::place::Place;
use crate::plan::{Ahead, BATCH_MAX, Fate, Plan};
use crate::state::{State, Taken, Verdict};
use crate::tickets::{Run, TAKEN_MAX};

/// Most permits beyond those that are asked for that are kept for callers who have not come yet.
const AHEAD_MAX: u64 = 1_024;

/// What is known about those who ask before anything is taken: others can only take more.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// For each request in order, when there would be permits for it, if that is too late.
    denied: Vec<Option<u64>>,
    /// Permits that the others ask for.
    pub(crate) wanted: u64,
    /// For one of them it may be too late by the time that it has them.
    pub(crate) unsure: bool,
    /// As in [`Outlook`].
    until: u64,
}

/// What is known of the permits that come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    /// The next one counts from then on, or later.
    pub(crate) next: u64,
    /// Later by at most so much, unless others are in a great hurry.
    pub(crate) slack: u64,
    /// There are none that count later.
    pub(crate) until: u64,
}

/// Sorts `requests` by whether permits will come in time for them.
pub(crate) fn sort<'a>(
    place: &Place,
    now: Moment,
    outlook: Outlook,
    requests: impl Iterator<Item = &'a Request>,
) -> Sorted {
    let mut sorted = Sorted { until: outlook.until, ..Sorted::default() };
    let policy = &place.policy;
    let mut base = outlook.next.max(now.store.saturating_sub(policy.saved_ns()));
    let mut granted = 0;
    for request in requests {
        let (cost, latest) = (u64::from(request.cost), latest(place, now, request));
        if granted == BATCH_MAX || sorted.wanted.saturating_add(cost) > TAKEN_MAX {
            break;
        }
        let behind = (cost - 1).saturating_mul(policy.span);
        let slot = now.store.max(base.saturating_add(behind));
        if slot > latest {
            sorted.denied.push(Some(slot));
            continue;
        }
        let far = now.store.max(base.saturating_add(outlook.slack).saturating_add(behind));
        // Whoever waits may as well try: what comes too late for it is for the next.
        let waits = latest > now.store;
        sorted.unsure |= far > outlook.until || (!waits && far > latest);
        base = base.saturating_add(cost.saturating_mul(policy.span));
        sorted.wanted += cost;
        sorted.denied.push(None);
        granted += 1;
    }
    sorted
}

/// The last nanosecond at which permits are of use to `request`.
fn latest(place: &Place, now: Moment, request: &Request) -> u64 {
    let wait = |until: Instant| length(until.saturating_duration_since(now.instant));
    let wait = request.until.map_or(u64::MAX, wait).min(place.policy.wait_max_ns());
    now.store.saturating_add(wait)
}

/// Hands out `run`, in the order of the requests; whoever is left waits for the next.
pub(crate) fn hand_out<'a>(
    place: &Place,
    now: Moment,
    mut run: Run,
    sorted: &Sorted,
    requests: impl Iterator<Item = &'a Request>,
) -> Plan {
    run.pass(now.store.saturating_sub(place.policy.saved_ns()));
    let mut plan = Plan::default();
    for (request, denied) in requests.zip(&sorted.denied) {
        let cost = u64::from(request.cost);
        let given = || run.slot(cost).filter(|slot| *slot <= sorted.until);
        let found = denied.map_or_else(given, Some);
        let Some(slot) = found.map(|slot| slot.max(now.store)) else { break };
        if denied.is_some() || slot > latest(place, now, request) {
            // What it would have had goes to the next.
            let verdict = Verdict::Denied(slot);
            plan.fates.push(Fate::Denied(place.decision(now.store, &at(run.base), verdict)));
            continue;
        }
        let (decision, taken) = take(place, now, &mut run, request.cost);
        let (ready, expires) = (now.when(slot), now.when(taken.expires(&place.policy)));
        plan.fates.push(Fate::Granted { decision, taken, slots: 0, ready, expires });
    }
    for _ in 0..run.left.min(AHEAD_MAX) {
        if run.base > sorted.until {
            break;
        }
        let (decision, taken) = take(place, now, &mut run, 1);
        let (ready, expires) = (now.when(taken.slot), now.when(taken.expires(&place.policy)));
        plan.ahead.push(Ahead { decision, taken, ready, expires });
    }
    plan
}

/// Takes the next permits of `run`, of which there are as many.
fn take(
    place: &Place,
    now: Moment,
    run: &mut Run,
    cost: u32,
) -> (crate::decision::Decision, Taken) {
    let slot = run.slot(u64::from(cost)).unwrap_or(run.base).max(now.store);
    let after = run.take(u64::from(cost));
    let decision = place.decision(now.store, &at(after), Verdict::Granted(slot));
    (decision, Taken { cost, slot, after, waits: slot > now.store })
}

/// A rate whose next permit counts from `at` on.
fn at(at: u64) -> State {
    State { at, ..State::default() }
}
