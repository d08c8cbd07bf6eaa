//! One attempt: the state is looked at, what follows is written over exactly that.

use std::sync::Arc;

use jetbridge_core::{Outcome, Result, Revision};
use tokio::time::{Instant, sleep_until};

use super::{Actor, Done};
use crate::clock::Moment;
use crate::place::Seen;
use crate::plan::{Plan, plan};
use crate::standing::BELIEVED;

impl Actor {
    /// Decides about everybody who waits.
    pub(super) async fn attempt(&mut self) -> Result<Done> {
        if let Some(done) = self.attempt_by_ticket().await? {
            return Ok(done);
        }
        self.leave_to_others().await;
        let (seen, now, mut plan) = self.prepare().await?;
        if seen.state.tickets.is_some() {
            self.desk.forget_first();
            self.seen = Some(seen);
            return Ok(Done::Partly);
        }
        self.desk.none_given();
        plan.write |= self.desk.must_write(seen.revision);
        let wanted = plan.granted() > 0 || self.runs_low;
        self.begin_tickets(&mut plan, (&seen, now));
        if plan.write || self.runs_out() {
            self.reserve_ahead(&mut plan, now);
        }
        (self.runs_low, self.returns) = (false, false);
        if !plan.write {
            let done = self.settle(plan, seen.revision, now);
            self.seen = Some(seen);
            return Ok(done);
        }
        let (over, keep) = (seen.revision, seen.keep);
        self.seen = Some(seen);
        let Some(revision) = self.write((over, keep), &plan, now.store).await? else {
            if self.seen.as_ref().is_some_and(|seen| seen.revision != over) {
                return Ok(Done::Outrun);
            }
            // Without a feed nobody tells.
            self.seen = self.seen.take().filter(|_| self.feed.is_live());
            return Ok(Done::Lost);
        };
        self.contention.won();
        self.won_at = Some(Instant::now());
        if plan.state.tickets.is_some() {
            self.desk.forget_first();
        }
        if wanted {
            self.pace.wrote(Instant::now(), self.contention.round_trip());
        }
        self.holding.written(now.instant, plan.slots);
        let known = self.seen.as_ref().and_then(|seen| seen.revision);
        if known.is_none_or(|known| known <= revision) {
            let state = plan.state.clone();
            self.seen = Some(Seen { revision: Some(revision), state, converted: false, keep });
            self.told_at = now.instant;
        }
        Ok(self.settle(plan, Some(revision), now))
    }

    /// Lets other processes go first after a write that won, and takes in what they do.
    async fn leave_to_others(&mut self) {
        let (now, random) = (Instant::now(), jetbridge_core::random::u64());
        // Whoever asks alone, again and again, is not kept waiting.
        let busy = self.waiting.len() > 1;
        let until = now + self.contention.courtesy(self.won_at.filter(|_| busy), now, random);
        while Instant::now() < until {
            tokio::select! {
                () = sleep_until(until) => {}
                change = self.feed.next() => {
                    self.learn(change);
                }
            }
        }
    }

    /// Takes more than is asked for, as far as callers are likely to come for it.
    fn reserve_ahead(&self, plan: &mut Plan, now: Moment) {
        if self.contention.is_on() {
            let granted = u32::try_from(plan.granted()).unwrap_or(u32::MAX);
            let most = self.block(now.instant).saturating_sub(granted);
            plan.reserve_ahead(&self.place, (now, most), self.contention.round_trip());
        } else if self.place.policy.is_plain_rate() {
            plan.reserve_present(&self.place, now, self.pace.block());
        }
        plan.write |= !plan.ahead.is_empty();
    }

    /// What there is to decide on, and the decision.
    async fn prepare(&mut self) -> Result<(Seen, Moment, Plan)> {
        let remembered = self.seen.take();
        let mut fresh = remembered.is_none() || self.feed.covers(self.told_at);
        loop {
            let seen = match &remembered {
                Some(seen) if !fresh || self.feed.covers(self.told_at) => seen.clone(),
                _ => {
                    let sent = Instant::now();
                    let read = self.place.read().await;
                    self.contention.trip(sent.elapsed());
                    self.told_at = sent;
                    read?
                }
            };
            let now = self.place.now().await?;
            self.refuse_uncertain_leases(now);
            let plan = self.plan(&seen, now);
            // Others can only have taken more of a rate, so its denial needs no look at the
            // store until somebody may have reset it; but slots come back, and without a feed
            // only a look can tell.
            let stale = plan.denies() && self.told_at + BELIEVED <= Instant::now();
            if fresh || !(plan.lacks_slots || stale) {
                return Ok((seen, now, plan));
            }
            fresh = true;
        }
    }

    /// Writes what is planned, and takes in what others do meanwhile; `None` if another process
    /// was faster.
    async fn write(
        &mut self,
        over: (Option<Revision>, u64),
        plan: &Plan,
        now: u64,
    ) -> Result<Option<Revision>> {
        let (place, sent) = (Arc::clone(&self.place), Instant::now());
        let written = {
            let mut write = std::pin::pin!(place.write(over, (plan.state.clone(), now)));
            loop {
                tokio::select! {
                    biased;
                    written = &mut write => break written,
                    change = self.feed.next() => {
                        if self.learn(change) && self.is_outrun(over.0, plan) {
                            self.place.tally.conflict();
                            return Ok(None);
                        }
                    }
                };
            }
        };
        self.contention.trip(sent.elapsed());
        if written.as_ref().is_err_and(|error| error.outcome() == Outcome::Unknown) {
            // They may have been put back already: they are rather lost than counted twice.
            self.refunds.clear();
            self.owed.clear();
        }
        written
    }

    /// True if another process has written over what the plan is for: its write has lost, and to
    /// wait until a store that is far away says so would be to lose the next race, too. What looks
    /// like the plan may be it. If it was written after all and others came right behind, what it
    /// took is lost; so this is for writes that put nothing back.
    fn is_outrun(&self, over: Option<Revision>, plan: &Plan) -> bool {
        let takes = self.place.policy.is_plain_rate() && self.contention.is_far();
        let only_takes = takes && self.refunds.is_empty() && self.owed.is_empty();
        let other = |seen: &Seen| seen.revision != over && seen.state != plan.state;
        only_takes && self.seen.as_ref().is_some_and(other)
    }

    fn plan(&mut self, seen: &Seen, now: Moment) -> Plan {
        self.report(seen);
        self.reserved_until = now.when(seen.state.at);
        self.holding.check(seen.state.held.has(&self.holding.id), now.instant);
        let refunds = self.refunds.iter().map(|(taken, _)| *taken);
        let refunds = refunds.chain(self.owed.iter().copied()).collect();
        let requests = self.waiting.iter();
        plan(&self.place, &self.holding, (seen, now), refunds, requests)
    }

    /// Whoever would get a slot whose end nobody can tell is refused; what is held goes back.
    fn refuse_uncertain_leases(&mut self, now: Moment) {
        let Err(error) = self.place.check_lease(now) else { return };
        let error = Arc::new(error);
        for request in self.waiting.drain(..) {
            drop(request.reply.send(Err(Arc::clone(&error))));
        }
    }

    fn report(&mut self, seen: &Seen) {
        if !seen.converted {
            return;
        }
        self.place.tally.mismatch();
        if !self.warned {
            self.warned = true;
            let key = &self.place.key;
            tracing::warn!(%key, "the limiter was used under another policy, and is converted");
        }
    }
}
