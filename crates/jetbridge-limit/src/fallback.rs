//! What one process gives on its own while the store does not answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::length;
use crate::decision::{Decision, Source};
use crate::place::decision;
use crate::policy::{Policy, SPAN_MAX};
use crate::state::{Ask, State, Verdict};

/// The name of this process among the holders of [`Local`].
const SELF: &str = "";
/// Slots are counted here, and need no lease.
const NO_LEASE: Duration = Duration::from_secs(60);

/// The share of one process, all keys of a limiter counted together.
#[derive(Debug)]
pub(crate) struct Local {
    state: Mutex<State>,
    in_use: Mutex<u32>,
    /// Where the time of this process begins.
    opened: Instant,
}

/// Slots that were given without the store.
#[derive(Debug)]
pub(crate) struct Alone {
    local: Arc<Local>,
    slots: u32,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut in_use = self.local.in_use();
        *in_use = in_use.saturating_sub(self.slots);
    }
}

impl Local {
    pub(crate) fn new() -> Arc<Self> {
        let (state, in_use) = (Mutex::default(), Mutex::default());
        Arc::new(Self { state, in_use, opened: Instant::now() })
    }

    /// Takes `cost` from what `policy`, a share, gives; with it the time to wait for, and the
    /// slots.
    pub(crate) fn decide(
        self: &Arc<Self>,
        policy: &Policy,
        cost: u32,
        until: Option<Instant>,
    ) -> (Decision, Instant, Option<Alone>) {
        let (now, instant) = (self.uptime(), Instant::now());
        let wait = until.map_or(u64::MAX, |until| length(until.saturating_duration_since(instant)));
        // A cost that the whole limit has, but this share has not, takes all of the share.
        let cost = cost.min(policy.limit());
        let slots = policy.slots_of(cost);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut in_use = self.in_use();
        state.held.set(SELF, *in_use, now.saturating_add(length(NO_LEASE)));
        let room = state.room(policy, now).is_none_or(|room| room >= slots);
        let verdict = match room {
            true => state.reserve(policy, now, Ask { cost, wait }),
            false => Verdict::Denied(now),
        };
        let (Verdict::Granted(at) | Verdict::Denied(at)) = verdict;
        let mut alone = None;
        if matches!(verdict, Verdict::Granted(_)) && slots > 0 {
            *in_use += slots;
            state.held.set(SELF, *in_use, now.saturating_add(length(NO_LEASE)));
            alone = Some(Alone { local: Arc::clone(self), slots });
        }
        let decision = Decision { source: Source::Local, ..decision(policy, now, &state, verdict) };
        (decision, instant + Duration::from_nanos(at.saturating_sub(now)), alone)
    }

    /// What [`Local::decide`] would say of one permit now; nothing is taken.
    pub(crate) fn look(&self, policy: &Policy) -> Decision {
        let now = self.uptime();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        state.held.set(SELF, *self.in_use(), now.saturating_add(length(NO_LEASE)));
        let before = state.clone();
        let verdict = match state.room(policy, now) {
            Some(0) => Verdict::Denied(now),
            Some(_) | None => state.reserve(policy, now, Ask { cost: 1, wait: 0 }),
        };
        Decision { source: Source::Local, ..decision(policy, now, &before, verdict) }
    }

    /// Nanoseconds of the monotonic clock, from a year after zero: the arithmetic looks back by
    /// up to a policy's memory.
    fn uptime(&self) -> u64 {
        length(self.opened.elapsed()).saturating_add(SPAN_MAX)
    }

    fn in_use(&self) -> MutexGuard<'_, u32> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
