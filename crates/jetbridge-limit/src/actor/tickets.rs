//! Attempts at a limiter whose permits are counted out: one addition serves everybody who waits,
//! and no other process gets in its way.
//!
//! Tickets are for callers who wait. Whoever would be denied rather than wait, and may or may not
//! find a permit, could only learn it by taking one; a call of several limiters may have to put
//! its permit back. For these the limiter leaves tickets, and takes them up again later.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result, Revision};
use tokio::time::Instant;

use super::{Actor, Done, FAREWELLS};
use crate::booth::REFUSED_FOR;
use crate::clock::{Moment, length};
use crate::deal::{Outlook, Sorted, hand_out, sort};
use crate::message::Message;
use crate::place::Seen;
use crate::plan::Plan;
use crate::standing::BELIEVED;
use crate::tickets::{CLOSING, Count, FIRST_MAX, Run, TAKEN_MAX, Tickets, jump};

/// Additions in a row between which nobody else added anything: then nobody contends any more.
const CALM: u32 = 256;
/// How long tickets are done without after they ended.
const RESTS_FOR: Duration = Duration::from_secs(10);
/// Whoever would wait at least so long is no reason to do without tickets.
const PATIENT: Duration = Duration::from_secs(1);
/// What is known of a counter is old after two round trips and this.
const OLD: Duration = Duration::from_millis(1);
/// What a counter had is good to begin from for so long: had others given tickets meanwhile and
/// ended them, what they gave would count a second time.
const FIRST_FOR: Duration = Duration::from_secs(1);

/// What this process knows of its limiter's tickets.
#[derive(Debug)]
pub(super) struct Desk {
    /// Which tickets, and how many of them were taken at least.
    known: Option<(i64, u64)>,
    told_at: Instant,
    /// Additions since somebody else's.
    alone: u32,
    /// How many others took between the last two additions.
    others: u64,
    /// Tickets that were found to have ended.
    ended: Option<i64>,
    /// The value that was left as if tickets had ended, until that is written.
    left: Option<Revision>,
    /// What the counter had, and when, for whoever begins.
    first: Option<(i64, Instant)>,
    /// Since when that is being found out.
    asked: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            known: None,
            told_at: Instant::now(),
            alone: 0,
            others: 0,
            ended: None,
            left: None,
            first: None,
            asked: None,
            rests_until: None,
        }
    }

    /// How many permits of these were taken, at least.
    fn taken(&self, tickets: Tickets) -> u64 {
        let known = self.known.filter(|(first, _)| *first == tickets.first);
        known.map_or(0, |(_, taken)| taken)
    }

    /// At `at` so many were taken, the last of them by this process.
    fn told(&mut self, tickets: Tickets, (taken, own): (u64, u64), at: Instant) {
        let before = self.taken(tickets);
        let others = taken.saturating_sub(before.saturating_add(own));
        if others > 0 {
            self.alone = 0;
        } else if own > 0 {
            self.alone = self.alone.saturating_add(1);
        }
        if own > 0 {
            self.others = others;
        }
        self.known = Some((tickets.first, before.max(taken)));
        self.told_at = at;
    }

    fn rest(&mut self, time: Duration) {
        self.rests_until = Instant::now().checked_add(time);
        self.forget_first();
    }

    /// Tickets are given, or were: where they could begin from is of the past.
    pub(super) fn forget_first(&mut self) {
        (self.first, self.asked) = (None, None);
    }

    /// The value has no tickets: if it had any, they have ended for a reason.
    pub(super) fn none_given(&mut self) {
        if self.known.take().is_some() | self.ended.take().is_some() {
            self.rest(RESTS_FOR);
        }
    }

    /// True if tickets ended in memory only.
    pub(super) fn must_write(&self, seen: Option<Revision>) -> bool {
        self.left.is_some() && self.left == seen
    }
}

/// Tickets that can be taken now, and who wants them.
struct Counter {
    tickets: Tickets,
    at: u64,
    now: Moment,
    sorted: Sorted,
    /// So many are taken in vain, because their time has passed.
    jump: u64,
}

impl Actor {
    /// The tickets that are given, as far as is known.
    pub(super) fn tickets(&self) -> Option<Tickets> {
        self.seen.as_ref().and_then(|seen| seen.state.tickets)
    }

    /// Decides about everybody who waits by an addition; `None` if there are no tickets (any
    /// more), and the value is to be written.
    pub(super) async fn attempt_by_ticket(&mut self) -> Result<Option<Done>> {
        let Some(tickets) = self.tickets() else { return Ok(None) };
        if self.must_look() {
            self.seen = None;
            return Ok(None);
        }
        let mut now = self.place.now().await?;
        if self.are_over(tickets, now) {
            self.leave_tickets(tickets, now).await?;
            return Ok(None);
        }
        let mut counter = self.look_at(tickets, now);
        let old = self.contention.round_trip() * 2 + OLD;
        if counter.as_ref().is_none_or(|it| it.sorted.unsure || it.jump > 0)
            && self.desk.told_at + old < Instant::now()
        {
            let sent = Instant::now();
            let known = self.desk.taken(tickets);
            match tickets.count(self.place.sum().await?, known) {
                Count::Open(taken) => self.desk.told(tickets, (taken, 0), sent),
                Count::Ended(_) | Count::Foreign(_) => return Ok(Some(self.look_again(tickets))),
            }
            now = self.place.now().await?;
            counter = self.look_at(tickets, now);
        }
        match counter.filter(|it| !it.sorted.unsure) {
            Some(counter) => self.take(counter).await.map(Some),
            None => {
                self.leave_tickets(tickets, now).await?;
                Ok(None)
            }
        }
    }

    /// True if the value may have been deleted, or written, without news of it: as long as it is
    /// not followed, and what came before it was.
    fn must_look(&self) -> bool {
        let behind = self.feed.is_live() && !self.feed.covers(self.told_at);
        behind || !self.feed.is_live() && self.told_at + BELIEVED <= Instant::now()
    }

    /// True if nobody is to take tickets any more, whatever the counter says.
    fn are_over(&self, tickets: Tickets, now: Moment) -> bool {
        let policy = &self.place.policy;
        let next = tickets.next(0, self.desk.taken(tickets));
        let at = self.seen.as_ref().map_or(0, |seen| seen.state.at);
        let converted = self.seen.as_ref().is_some_and(|seen| seen.converted);
        converted
            || !policy.is_plain_rate()
            || tickets.span != policy.span
            || now.store >= tickets.until
            || self.desk.alone >= CALM
            || self.desk.ended == Some(tickets.first)
            || at.saturating_add(next) > now.store.saturating_add(policy.horizon_ns())
            || self.waiting.iter().any(|request| request.may_return)
    }

    /// Who wants a ticket, and how many have passed; `None` if those are too many to jump over.
    fn look_at(&mut self, tickets: Tickets, now: Moment) -> Option<Counter> {
        let (policy, at) = (&self.place.policy, self.seen.as_ref()?.state.at);
        let next = tickets.next(at, self.desk.taken(tickets));
        let round_trip = length(self.contention.round_trip());
        let jump = jump(policy, now.store, next, round_trip)?;
        // Others take some while this process does: as many as before, or as the rate gives.
        let rate = round_trip.saturating_add(policy.span);
        let slack = rate.max(self.desk.others.saturating_mul(policy.span)).saturating_mul(2);
        let outlook = Outlook { next, slack, until: tickets.until };
        let sorted = sort(&self.place, now, outlook, self.waiting.iter());
        Some(Counter { tickets, at, now, sorted, jump })
    }

    /// Adds, and hands out what that took.
    async fn take(&mut self, counter: Counter) -> Result<Done> {
        let Counter { tickets, at, now, sorted, jump } = counter;
        let runs_low = std::mem::take(&mut self.runs_low);
        self.returns = false;
        let next = tickets.next(at, self.desk.taken(tickets) + jump + sorted.wanted);
        let present = now.store.saturating_sub(next) / tickets.span;
        let ahead = u64::from(self.pace.block()).min(present / 2);
        if sorted.wanted == 0 && !(runs_low && ahead > 0) {
            let none = Run::none(tickets.next(at, self.desk.taken(tickets)));
            let plan = hand_out(&self.place, now, none, &sorted, self.waiting.iter());
            return Ok(self.settle(plan, self.revision(), now));
        }
        let own = (sorted.wanted + ahead + jump).min(TAKEN_MAX * 2);
        let least = self.desk.taken(tickets).saturating_add(own);
        let count = match self.add(i64::try_from(own).unwrap_or(i64::MAX)).await {
            Ok(sum) => tickets.count(sum, least),
            Err(error) if is_full(&error) => Count::Foreign(least),
            Err(error) => return Err(error),
        };
        let Count::Open(taken) = count else { return Ok(self.look_again(tickets)) };
        self.desk.told(tickets, (taken, own), now.instant);
        self.pace.wrote(Instant::now(), self.contention.round_trip());
        let base = tickets.next(at, taken.saturating_sub(own));
        let run = Run { base, left: own, span: tickets.span };
        let plan = hand_out(&self.place, now, run, &sorted, self.waiting.iter());
        Ok(self.settle(plan, self.revision(), now))
    }

    fn revision(&self) -> Option<Revision> {
        self.seen.as_ref().and_then(|seen| seen.revision)
    }

    /// Adds to the counter, and takes in what others do meanwhile.
    async fn add(&mut self, n: i64) -> Result<i64> {
        let (place, sent) = (Arc::clone(&self.place), Instant::now());
        let sum = {
            let mut add = std::pin::pin!(place.add(n));
            loop {
                tokio::select! {
                    biased;
                    sum = &mut add => break sum,
                    change = self.feed.next() => self.learn(change),
                };
            }
        };
        self.contention.trip(sent.elapsed());
        sum
    }

    /// Tickets have ended: the value says how it goes on. If it does not, whoever ended them did
    /// not come so far.
    fn look_again(&mut self, tickets: Tickets) -> Done {
        self.desk.ended = Some(tickets.first);
        self.seen = None;
        Done::Partly
    }

    /// Ends tickets: from here on the value is written again.
    async fn leave_tickets(&mut self, tickets: Tickets, now: Moment) -> Result<()> {
        let known = self.desk.taken(tickets);
        let count = match self.place.add(CLOSING).await {
            Ok(sum) => tickets.count(sum, known),
            Err(error) if is_full(&error) => Count::Foreign(known),
            Err(error) => return Err(error),
        };
        let Some(seen) = self.seen.take() else { return Ok(()) };
        let count = match count {
            // It was added to: a smaller sum is none of these tickets.
            Count::Open(_) => Count::Foreign(known),
            count => count,
        };
        if self.desk.alone >= CALM {
            self.contention.over();
        }
        let state = seen.state.without_tickets(&self.place.policy, now.store, count);
        self.desk = Desk { left: seen.revision, ..Desk::new() };
        if now.store < tickets.until {
            self.desk.rest(RESTS_FOR);
        }
        self.told_at = now.instant;
        self.seen = Some(Seen { state, ..seen });
        Ok(())
    }

    /// True if there can be tickets for as long as processes compete.
    fn may_have_tickets(&self) -> bool {
        let rests = self.desk.rests_until.is_some_and(|until| Instant::now() < until);
        !rests && self.place.has_tickets()
    }

    /// Has the next permits counted out, if processes compete and that is possible: whoever
    /// learns of `plan` then goes to the counter.
    pub(super) fn begin_tickets(&mut self, plan: &mut Plan, (seen, now): (&Seen, Moment)) {
        let patient = |until: Option<Instant>| until.is_none_or(|at| at >= now.instant + PATIENT);
        let all_patient = self.waiting.iter().all(|it| patient(it.until) && !it.may_return);
        if !plan.write || !all_patient || seen.converted || !self.may_have_tickets() {
            return;
        }
        let fresh = |(_, asked): &(i64, Instant)| now.instant < *asked + FIRST_FOR;
        self.desk.first = self.desk.first.filter(fresh);
        let Some((first, _)) = self.desk.first else { return self.prepare_tickets() };
        if self.contention.is_heavy() {
            let policy = &self.place.policy;
            plan.state.at = plan.state.at.max(now.store.saturating_sub(policy.saved_ns()));
            plan.state.tickets = Some(Tickets::new(first, policy, now.store));
        }
    }

    /// Finds out where tickets can begin from, while the value is written as before: when the first
    /// race is lost, and of a store that is far away if several callers come at once.
    pub(super) fn prepare_tickets(&mut self) {
        let likely = self.contention.is_on() || self.contention.is_far() && self.waiting.len() > 1;
        let known = self.desk.asked.is_some() || self.desk.first.is_some();
        if !likely || known || !self.may_have_tickets() {
            return;
        }
        let asked = Instant::now();
        self.desk.asked = Some(asked);
        let (place, home) = (Arc::clone(&self.place), self.home.clone());
        self.place.in_background(async move {
            let first = place.sum().await;
            // A task that has ended needs none.
            drop(home.send(Message::FirstTicket(asked, first)));
        });
    }

    /// The counter had `first` when it was `asked`: news, unless tickets were given since.
    pub(super) fn prepared(&mut self, asked: Instant, first: Result<i64>) {
        if self.desk.asked.take_if(|it| *it == asked).is_none() {
            return;
        }
        match first {
            Ok(first) if first <= FIRST_MAX => self.desk.first = Some((first, asked)),
            Ok(_) => self.desk.rest(REFUSED_FOR),
            Err(error) => {
                tracing::debug!(key = %self.place.key, %error, "the limiter does without tickets");
                self.desk.rest(REFUSED_FOR);
            }
        }
    }

    /// Ends tickets that nobody takes any more; the task ends, too.
    pub(crate) async fn retire(&mut self) {
        let Some(tickets) = self.tickets() else { return };
        let known = self.desk.taken(tickets);
        let still = match self.place.sum().await.map(|sum| tickets.count(sum, known)) {
            Ok(Count::Open(taken)) => taken == known,
            Ok(Count::Ended(_) | Count::Foreign(_)) | Err(_) => false,
        };
        if !still {
            return;
        }
        self.desk.alone = CALM;
        for _ in 0..FAREWELLS {
            match self.attempt().await {
                // It had to look at the value first.
                Ok(Done::Partly) => {}
                Ok(_) => return,
                Err(error) => {
                    let key = &self.place.key;
                    return tracing::debug!(%key, %error, "tickets are left as they are");
                }
            }
        }
    }
}

/// True if the counter can take no more.
fn is_full(error: &Error) -> bool {
    error.kind() == ErrorKind::LimitExceeded
}
