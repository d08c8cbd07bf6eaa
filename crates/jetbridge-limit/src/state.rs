//! What a limiter remembers, and what follows from it: pure arithmetic on integers.
//!
//! A permit is *reserved*: the state moves on at once, and the answer names the nanosecond from
//! which the permit counts. So nobody polls, and those who wait are served in order. State and
//! time are arguments; this module knows no clock and no store.

use serde::{Deserialize, Serialize};

use crate::holders::Holders;
use crate::policy::{Algorithm, Policy};
use crate::tickets::Tickets;

/// What a limiter remembers. Times are nanoseconds since 1970 by the store's clock. The default
/// is a limiter that nobody used yet.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct State {
    /// `gcra`: the next free slot. `fixed`: the start of the last window used. `sliding`: the
    /// last permit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) at: u64,
    /// Permits given in the window of `at`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) taken: u64,
    /// `sliding`: permits given in the window before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) before: u64,
    /// `log`: the permits that still count, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) log: Vec<u64>,
    /// Who has calls under way.
    #[serde(default, skip_serializing_if = "Holders::is_empty")]
    pub(crate) held: Holders,
    /// `gcra`: permits from `at` on are counted out beside the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tickets: Option<Tickets>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether there is a permit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// From this nanosecond on.
    Granted(u64),
    /// There would be from this nanosecond on; nothing was taken.
    Denied(u64),
}

impl State {
    /// A limiter that has given everything it had at `at`.
    pub(crate) fn exhausted(policy: &Policy, at: u64) -> Self {
        let limit = u64::from(policy.limit);
        let mut state = Self::default();
        match policy.algorithm {
            Algorithm::Gcra => state.at = at.saturating_add(policy.span),
            Algorithm::Fixed => (state.at, state.taken) = (start(at, policy.span), limit),
            Algorithm::Sliding => (state.at, state.taken) = (at, limit),
            Algorithm::Log => state.log = vec![at; policy.limit as usize],
            Algorithm::Slots => {}
        }
        state
    }

    /// Takes `cost` permits if they are there within `wait` of `now`. `cost` is between 1 and
    /// the policy's limit.
    pub(crate) fn reserve(&mut self, policy: &Policy, now: u64, ask: Ask) -> Verdict {
        self.forget_the_future(policy, now);
        let slot = self.slot(policy, now, ask.cost);
        if slot > now.saturating_add(ask.wait.min(policy.wait_max_ns())) {
            return Verdict::Denied(slot);
        }
        self.take(policy, now, slot, ask.cost);
        Verdict::Granted(slot)
    }

    /// Takes one permit of a rate for somebody who will come at `arrival`, which is not before
    /// `now`; its slot, or `None` if that is too far ahead.
    pub(crate) fn reserve_ahead(&mut self, policy: &Policy, now: u64, arrival: u64) -> Option<u64> {
        self.forget_the_future(policy, now);
        let base = self.base(policy, arrival);
        if base > now.saturating_add(policy.wait_max_ns()) {
            return None;
        }
        self.at = base.saturating_add(policy.span);
        Some(base.max(now))
    }

    /// A state further ahead than anybody reserves was written before the store's clock was set
    /// back: to keep it would block everybody until the old time comes again.
    fn forget_the_future(&mut self, policy: &Policy, now: u64) {
        let last = self.log.last().copied().unwrap_or(self.at);
        if last > now.saturating_add(policy.horizon_ns()) {
            *self = Self { held: std::mem::take(&mut self.held), ..Self::default() };
            if policy.algorithm == Algorithm::Gcra {
                self.at = now;
            }
        }
    }

    /// When the last of `cost` permits would be there.
    fn slot(&self, policy: &Policy, now: u64, cost: u32) -> u64 {
        let (span, limit, cost) = (policy.span, u64::from(policy.limit), u64::from(cost));
        match policy.algorithm {
            Algorithm::Slots => now,
            Algorithm::Gcra => {
                let behind = (cost - 1).saturating_mul(span);
                now.max(self.base(policy, now).saturating_add(behind))
            }
            Algorithm::Fixed => {
                let window = start(now, span).max(self.at);
                let taken = if window == self.at { self.taken } else { 0 };
                let full = taken.saturating_add(cost) > limit;
                now.max(if full { window.saturating_add(span) } else { window })
            }
            Algorithm::Sliding => self.sliding_slot(policy, now.max(self.at), cost),
            Algorithm::Log => {
                let after = now.max(self.log.last().copied().unwrap_or_default());
                // `limit - cost` permits may still count beside the new ones.
                let beside = usize::try_from(limit - cost).unwrap_or(usize::MAX);
                let Some(index) = self.log.len().checked_sub(beside.saturating_add(1)) else {
                    return after;
                };
                after.max(self.log[index].saturating_add(span))
            }
        }
    }

    /// The first slot of the next permit: an idle limiter has saved up its burst and no more.
    fn base(&self, policy: &Policy, now: u64) -> u64 {
        self.at.max(now.saturating_sub(policy.saved_ns()))
    }

    fn sliding_slot(&self, policy: &Policy, from: u64, cost: u64) -> u64 {
        let (span, limit) = (policy.span, u64::from(policy.limit));
        let mut window = start(from, span);
        loop {
            let (before, taken) = self.counts(span, window);
            if taken.saturating_add(cost) <= limit {
                let room = u128::from(limit - taken - cost) * u128::from(span);
                // Nanoseconds of the window before that may still be in view.
                let view = room.checked_div(u128::from(before)).unwrap_or(u128::from(span));
                let view = u64::try_from(view).unwrap_or(u64::MAX).min(span);
                if view > 0 {
                    return from.max(window.saturating_add(span - view));
                }
            }
            // In the third window from here both counts are zero, so this ends.
            window = window.saturating_add(span);
        }
    }

    /// Permits in the window before `window` and in `window`, which is not before `at`'s.
    fn counts(&self, span: u64, window: u64) -> (u64, u64) {
        match window.saturating_sub(start(self.at, span)) {
            0 => (self.before, self.taken),
            ahead if ahead == span => (self.taken, 0),
            _ => (0, 0),
        }
    }

    fn take(&mut self, policy: &Policy, now: u64, slot: u64, cost: u32) {
        let span = policy.span;
        match policy.algorithm {
            Algorithm::Slots => {}
            Algorithm::Gcra => {
                let taken = u64::from(cost).saturating_mul(span);
                self.at = self.base(policy, now).saturating_add(taken);
            }
            Algorithm::Fixed => {
                let window = start(slot, span);
                let taken = if window == self.at { self.taken } else { 0 };
                (self.at, self.taken) = (window, taken.saturating_add(u64::from(cost)));
            }
            Algorithm::Sliding => {
                let (before, taken) = self.counts(span, start(slot, span));
                let taken = taken.saturating_add(u64::from(cost));
                (self.at, self.before, self.taken) = (slot, before, taken);
            }
            Algorithm::Log => {
                self.log.retain(|given| given.saturating_add(span) > slot);
                self.log.extend(std::iter::repeat_n(slot, cost as usize));
            }
        }
    }

    /// How many permits could be taken at `now` without waiting.
    pub(crate) fn remaining(&self, policy: &Policy, now: u64) -> u32 {
        let (span, limit) = (policy.span, u64::from(policy.limit));
        let left = match policy.algorithm {
            Algorithm::Slots => limit,
            Algorithm::Gcra => now
                .checked_sub(self.base(policy, now))
                .map_or(0, |saved| limit.min(saved / span + 1)),
            Algorithm::Fixed if self.at > now => 0,
            Algorithm::Fixed if self.at == start(now, span) => limit.saturating_sub(self.taken),
            Algorithm::Fixed => limit,
            Algorithm::Sliding if self.at > now => 0,
            Algorithm::Sliding => {
                let window = start(now, span);
                let (before, taken) = self.counts(span, window);
                let left = window.saturating_add(span).saturating_sub(now);
                let view = u128::from(before) * u128::from(left);
                let weight = u64::try_from(view.div_ceil(u128::from(span))).unwrap_or(u64::MAX);
                limit.saturating_sub(taken.saturating_add(weight))
            }
            Algorithm::Log if self.log.last().is_some_and(|given| *given > now) => 0,
            Algorithm::Log => {
                let count =
                    self.log.iter().filter(|given| given.saturating_add(span) > now).count();
                limit.saturating_sub(count as u64)
            }
        };
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        left.min(self.room(policy, now).unwrap_or(u32::MAX))
    }

    /// Slots that are free at `now`; `None` if the policy has none.
    pub(crate) fn room(&self, policy: &Policy, now: u64) -> Option<u32> {
        policy.slots.map(|slots| slots.saturating_sub(self.held.in_use(now)))
    }

    /// Takes back what was taken; `false` if that cannot be (yet). A rate can only do so while
    /// everything that was taken since is back: else the permits of others would be given twice.
    pub(crate) fn refund(&mut self, policy: &Policy, taken: Taken) -> bool {
        let (span, cost) = (policy.span, u64::from(taken.cost));
        match policy.algorithm {
            Algorithm::Gcra if self.at == taken.after => {
                self.at = self.at.saturating_sub(cost.saturating_mul(span));
            }
            Algorithm::Gcra => return false,
            Algorithm::Fixed if self.at == start(taken.slot, span) => {
                self.taken = self.taken.saturating_sub(cost);
            }
            Algorithm::Sliding => match start(self.at, span).checked_sub(start(taken.slot, span)) {
                Some(0) => self.taken = self.taken.saturating_sub(cost),
                Some(ahead) if ahead == span => self.before = self.before.saturating_sub(cost),
                _ => {}
            },
            // What was in view before its slot is forgotten, and would be given again.
            Algorithm::Log if taken.waits => {}
            Algorithm::Log => {
                let mut left = taken.cost;
                self.log.retain(|given| {
                    let back = *given == taken.slot && left > 0;
                    left -= u32::from(back);
                    !back
                });
            }
            Algorithm::Fixed | Algorithm::Slots => {}
        }
        true
    }

    /// When the whole limit is there again, if nobody takes anything.
    pub(crate) fn full_at(&self, policy: &Policy) -> u64 {
        let span = policy.span;
        match policy.algorithm {
            Algorithm::Slots => 0,
            Algorithm::Gcra => self.at.saturating_add(policy.saved_ns()),
            // What a later window has given back leaves the one before it unknown until then.
            Algorithm::Fixed if self.taken == 0 => self.at,
            Algorithm::Fixed => self.at.saturating_add(span),
            Algorithm::Sliding if self.taken | self.before == 0 => self.at,
            Algorithm::Sliding => start(self.at, span).saturating_add(span.saturating_mul(2)),
            Algorithm::Log => self.log.last().map_or(0, |given| given.saturating_add(span)),
        }
    }
}

/// What is asked of a limiter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Permits.
    pub(crate) cost: u32,
    /// Nanoseconds that the caller would wait for them.
    pub(crate) wait: u64,
}

/// What a reservation took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) cost: u32,
    /// From when the permits count.
    pub(crate) slot: u64,
    /// [`State::at`] right afterwards.
    pub(crate) after: u64,
    /// Whether the slot was still to come when it was taken.
    pub(crate) waits: bool,
}

impl Taken {
    /// The last nanosecond at which the permits are good: used until then, those of a rate add to
    /// nothing but what could have been saved up.
    ///
    /// Why that is exact: each permit has a base of its own, the time at which the rate yields
    /// it, and no two bases are nearer than the span. It is used between its base and the end of
    /// what can be saved, `(limit - 1) · span` later. So in a time from `a` to `b` only bases
    /// after `a - (limit - 1) · span` count, which are at most `rate · (b - a) + limit`.
    pub(crate) fn expires(&self, policy: &Policy) -> u64 {
        match policy.algorithm {
            Algorithm::Gcra => {
                let taken = u64::from(self.cost).saturating_mul(policy.span);
                self.after.saturating_sub(taken).saturating_add(policy.saved_ns()).max(self.slot)
            }
            Algorithm::Fixed => start(self.slot, policy.span).saturating_add(policy.span - 1),
            Algorithm::Log | Algorithm::Sliding | Algorithm::Slots => self.slot,
        }
    }
}

/// The start of the window that `at` lies in.
fn start(at: u64, span: u64) -> u64 {
    at - at % span
}
