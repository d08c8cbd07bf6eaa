//! What callers are told, after the store has it.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Error, Revision};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Actor, Done, LATE_MAX, LOOK_EVERY, OWED_MAX};
use crate::clock::Moment;
use crate::decision::Decision;
use crate::message::{Answer, Reply, Request, Reserved, Unused};
use crate::pace::Pace;
use crate::plan::{Ahead, Fate, Plan};
use crate::policy::Algorithm;

impl Actor {
    /// Tells everybody what the plan says, after it was written.
    pub(super) fn settle(&mut self, plan: Plan, written: Option<Revision>, now: Moment) -> Done {
        let token = written.unwrap_or_default();
        self.owed = plan.owed;
        self.owed.retain(|taken| taken.expires(&self.place.policy) > now.store);
        self.owed.truncate(OWED_MAX);
        for (_, done) in self.refunds.drain(..) {
            self.front.standing.clear();
            refunded(done);
        }
        self.asked &= plan.ahead.is_empty();
        self.keep(plan.ahead, token);
        let (told, tolerance) = (Instant::now(), self.tolerance());
        let rate = self.place.policy.algorithm == Algorithm::Gcra;
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut done = Done::Served;
        for fate in plan.fates {
            let Some(request) = waiting.pop_front() else { break };
            match fate {
                Fate::Granted { slots: 0, expires, .. } if rate && expires + tolerance < told => {
                    done = Done::Partly;
                    self.waiting.push_back(request);
                }
                Fate::Granted { decision, taken, slots, ready, expires } => {
                    let lease = Arc::clone(&self.holding.lease);
                    self.covered = self.covered.max(ready);
                    let unused = Unused { taken, slots, ready, expires, decision, token, lease };
                    self.offer(request, unused);
                }
                Fate::Denied(decision) => self.deny(request, (now.instant, decision)),
                Fate::Waits => self.waiting.extend(request.queued()),
            }
        }
        if !waiting.is_empty() {
            done = Done::Partly;
            self.waiting.append(&mut waiting);
        }
        self.look_at = (!self.waiting.is_empty()).then(|| {
            let look = Instant::now() + LOOK_EVERY;
            plan.next_end.map_or(look, |end| look.min(end))
        });
        done
    }

    /// Keeps what was reserved ahead and is still good: it says nothing about how many callers come
    /// if the write took too long.
    fn keep(&mut self, ahead: Vec<Ahead>, token: Revision) {
        if ahead.is_empty() {
            return;
        }
        let told = Instant::now();
        self.covered = ahead.iter().map(|it| it.ready).fold(self.covered, Instant::max);
        let lease = &self.holding.lease;
        let good = ahead.into_iter().filter(|it| it.expires >= told);
        let permits = good.map(|Ahead { taken, ready, expires, decision }| {
            let lease = Arc::clone(lease);
            Unused { taken, slots: 0, ready, expires, decision, token, lease }
        });
        let mut shelf = self.front.stock.shelf();
        shelf.fill(permits);
        let idle = Pace::idle(self.contention.round_trip());
        self.idle.get_or_insert((told + idle, shelf.taken()));
    }

    /// How long after it was good for a permit may still be used by who was told late: with it, no
    /// more than a second burst comes at once, or what the rate gives in two round trips and a bit.
    fn tolerance(&self) -> Duration {
        let burst = self.place.policy.window().unwrap_or_default();
        burst.max(self.contention.round_trip() * 2 + LATE_MAX)
    }

    fn deny(&self, request: Request, (now, decision): (Instant, Decision)) {
        let may_stand = self.place.policy.slots().is_none();
        if request.cost == 1 && may_stand && self.shelf().spare.is_empty() {
            // A feed tells of a reset at once.
            let told = if self.feed.covers(self.told_at) { now } else { self.told_at };
            self.front.standing.set((now, told), &decision);
        }
        drop(request.reply.send(Ok(Reply::Settled(Answer { decision, reserved: None }))));
    }

    pub(super) fn offer(&mut self, request: Request, unused: Unused) {
        let (decision, tally) = (unused.decision, Arc::clone(&self.place.tally));
        let reserved = Reserved::new(unused, self.home.clone(), tally);
        self.turns.add(reserved.turn(), Instant::now());
        let answer = Answer { decision, reserved: Some(reserved) };
        // An answer that nobody takes any more is dropped, and its permits come back.
        drop(request.reply.send(Ok(Reply::Settled(answer))));
    }

    /// The store is gone: those who wait for slots of others are told, and do what their
    /// limiter does then. Those who have just come find out by their own deadline.
    pub(super) fn give_up_waiting(&mut self, error: &Arc<Error>) {
        for request in std::mem::take(&mut self.waiting) {
            if request.queued {
                drop(request.reply.send(Err(Arc::clone(error))));
            } else {
                self.waiting.push_back(request);
            }
        }
    }

    pub(super) fn fail(&mut self, error: &Arc<Error>) {
        for request in self.waiting.drain(..) {
            drop(request.reply.send(Err(Arc::clone(error))));
        }
        self.refunds.clear();
        self.owed.clear();
        self.holding.snooze();
        self.rest();
    }
}

/// Tells who put permits back that they are no longer charged to it.
pub(super) fn refunded(done: oneshot::Sender<()>) {
    if done.send(()).is_err() {
        tracing::trace!("nobody waits for a refund any more");
    }
}
