//! One task for each limiter in use: all its callers share one compare-and-set.
//!
//! While a write is under way, calls queue; the next write serves all of them. So how often
//! processes get into each other's way depends on how many they are, not on their callers.
//!
//! Nothing is given before the write that took it was acknowledged, on top of exactly the state
//! it was computed from. A write whose answer is lost is not counted on: the state is read anew,
//! and permits that it took after all are lost, never given twice. Slots need no such care: the
//! next write says how many this process has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jetbridge_core::{Backoff, Change, Error, Outcome, Result, Revision};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::Moment;
use crate::contention::Contention;
use crate::decision::Decision;
use crate::feed::Feed;
use crate::holding::{Holding, Released};
use crate::message::{Answer, Message, Reply, Request, Reserved, Unused};
use crate::place::{Place, Seen};
use crate::plan::{Ahead, Fate, Plan, plan};
use crate::policy::Algorithm;
use crate::spare::Spare;
use crate::standing::Standing;
use crate::state::Taken;
use crate::turns::Turns;

/// Most calls that one write serves: the caller at the end of it waits for all of them to be
/// computed, which takes well under a millisecond.
const BATCH_MAX: usize = 1_024;

/// Between two attempts at a store that does not answer, at first.
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// How many attempts fall at least into the time that a caller waits: whoever comes when the
/// store answers again must not sleep through it.
const ATTEMPTS: u32 = 4;
/// How often those who wait for a slot look at the store while it does not tell them by itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a task that ends tries to give back what its callers have given back.
const FAREWELLS: u32 = 3;
/// Most refunds that wait for others to be put back first.
const OWED_MAX: usize = 1_024;
/// A permit of a rate may be used so much later than it is good for, beyond two round trips.
/// Whoever would be told later is served anew: so a store that is stuck for a moment does not
/// release at once what was taken in that time.
const LATE_MAX: Duration = Duration::from_millis(10);

/// What came of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Done {
    /// Everybody was told.
    Served,
    /// There are more.
    Partly,
    /// Another process was faster, and what it wrote is not known yet.
    Lost,
    /// Another process was faster, and the feed has told what it wrote.
    Outrun,
}

/// The task of one limiter.
pub(crate) struct Actor {
    place: Arc<Place>,
    home: mpsc::UnboundedSender<Message>,
    standing: Arc<Standing>,
    seen: Option<Seen>,
    waiting: VecDeque<Request>,
    spare: Spare,
    turns: Turns,
    /// Somebody has come since permits were last reserved ahead.
    asked: bool,
    /// Until when all processes have taken permits of a rate.
    reserved_until: Instant,
    /// Until when this process has.
    covered: Instant,
    refunds: Vec<(Taken, oneshot::Sender<()>)>,
    /// Refunds that wait for others to be put back first.
    owed: Vec<Taken>,
    holding: Holding,
    feed: Feed,
    contention: Contention,
    /// When those who wait for a slot should look again.
    look_at: Option<Instant>,
    warned: bool,
}

impl Actor {
    pub(crate) fn new(
        place: Place,
        home: mpsc::UnboundedSender<Message>,
        standing: Arc<Standing>,
    ) -> Self {
        Self {
            holding: Holding::new(place.lease),
            place: Arc::new(place),
            home,
            standing,
            seen: None,
            waiting: VecDeque::new(),
            spare: Spare::default(),
            turns: Turns::default(),
            asked: false,
            reserved_until: Instant::now(),
            covered: Instant::now(),
            refunds: Vec::new(),
            owed: Vec::new(),
            feed: Feed::off(),
            contention: Contention::default(),
            look_at: None,
            warned: false,
        }
    }

    /// True if nobody waits and nobody holds anything.
    pub(crate) fn is_idle(&self) -> bool {
        let nobody_waits = self.waiting.is_empty() && self.turns.until(Instant::now()).is_none();
        nobody_waits && self.holding.slots == 0 && !self.holding.dirty
    }

    /// Waits until there is something to do: a message, or a matter of slots.
    pub(crate) async fn next(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        loop {
            let alarm = self.alarm();
            let at = alarm.unwrap_or_else(Instant::now);
            tokio::select! {
                message = inbox.recv() => {
                    message.into_iter().for_each(|message| self.take_in(message));
                    return;
                }
                change = self.feed.next() => {
                    // While nobody waits, what others do is no reason to wake.
                    if self.learn(change) && !self.waiting.is_empty() {
                        return;
                    }
                }
                () = sleep_until(at), if alarm.is_some() => {
                    // Somebody's lease may have ended, or the feed may be silent.
                    if self.look_at.is_some_and(|at| Instant::now() >= at) && !self.feed.is_on() {
                        self.seen = None;
                    }
                    return;
                }
            }
        }
    }

    /// Serves whoever waits, once.
    pub(crate) async fn serve(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        let mut conflicts = Backoff::contention();
        let mut outage = Backoff::new(RETRY_FIRST, self.place.deadline / ATTEMPTS);
        loop {
            self.take_in_all(inbox);
            self.catch_up();
            if !self.has_work() {
                return self.rest();
            }
            match self.attempt().await {
                Ok(Done::Served) => return self.rest(),
                Ok(Done::Partly) => {}
                Ok(Done::Outrun | Done::Lost) if self.waiting.is_empty() && !self.owes() => {
                    // Nobody needs it yet: those in need go first.
                    self.lost();
                    self.asked = false;
                }
                Ok(Done::Outrun) => self.lost(),
                Ok(Done::Lost) => self.await_news(&mut conflicts).await,
                Err(error) => {
                    self.seen = None;
                    let again = error.outcome() == Outcome::Unknown || error.is_retryable();
                    let error = Arc::new(error);
                    self.holding.failed(&error);
                    if !again {
                        return self.fail(&error);
                    }
                    self.holding.dirty |=
                        error.outcome() == Outcome::Unknown && self.place.policy.slots().is_some();
                    self.give_up_waiting(&error);
                    tracing::debug!(key = %self.place.key, %error, "the limiter tries again");
                    // Callers give up by themselves, each at its own deadline.
                    outage.wait().await;
                }
            }
        }
    }

    /// Ends: what came back is told to the store, who waits is told by the end of the channel.
    pub(crate) async fn farewell(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        inbox.close();
        // A write that was cut off may have put them back: they are rather lost than counted twice.
        self.refunds.clear();
        self.owed.clear();
        self.take_in_all(&mut inbox);
        self.waiting.clear();
        for _ in 0..FAREWELLS {
            if !self.holding.dirty
                || matches!(self.attempt().await, Ok(Done::Served | Done::Partly))
            {
                return;
            }
            self.seen = None;
        }
        tracing::debug!(key = %self.place.key, "slots were not given back: their lease will end");
    }

    fn take_in_all(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        while let Ok(message) = inbox.try_recv() {
            self.take_in(message);
        }
        self.waiting.retain(|request| !request.reply.is_closed());
        self.hand_on();
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Reserve(request) => {
                self.asked = true;
                self.waiting.push_back(request);
            }
            Message::GivenBack(unused) => {
                self.standing.clear();
                self.spare.add(self.turns.move_up(unused, Instant::now()));
            }
            Message::Refund(unused, done) => {
                self.free(&unused);
                self.refunds.push((unused.taken, done));
            }
            Message::Released(released) => self.holding.release(released),
        }
    }

    /// Gives what is there to the first who asks for as much and can wait for it. Permits that
    /// are no good any more are forfeited; the slots of those that nobody takes are free.
    fn hand_on(&mut self) {
        if self.spare.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(unused) = self.spare.expired(now) {
            self.free(&unused);
            self.contention.wasted();
        }
        let mut left = VecDeque::with_capacity(self.waiting.len());
        while let Some(request) = self.waiting.pop_front() {
            match self.spare.take(&request, now) {
                Some(unused) => {
                    self.contention.used();
                    self.offer(request, unused);
                }
                None => left.push_back(request),
            }
        }
        self.waiting = left;
        while let Some(unused) = self.spare.take_slot() {
            self.free(&unused);
        }
    }

    fn free(&mut self, unused: &Unused) {
        if unused.slots > 0 {
            let (slots, lease) = (unused.slots, Arc::clone(&unused.lease));
            self.holding.release(Released { slots, lease, done: None });
        }
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.owes() || self.runs_out()
    }

    /// True if the store must be told something.
    fn owes(&self) -> bool {
        let renewal = self.holding.renew_at().is_some_and(|at| Instant::now() >= at);
        self.holding.dirty || renewal || !self.refunds.is_empty()
    }

    /// True if callers of this process will soon need permits that it has not taken yet.
    fn runs_out(&self) -> bool {
        let now = Instant::now();
        let block = self.block(now) as usize;
        let low = block > 1 && self.spare.len() < block / 2;
        low && self.asked && self.covered < now + self.contention.lead()
    }

    /// How many permits a write takes, for whoever waits and whoever comes.
    fn block(&self, now: Instant) -> u32 {
        let reserved = self.reserved_until.saturating_duration_since(now);
        self.contention.block(&self.place.policy, reserved)
    }

    /// When something is to be done that nobody sends a message about.
    fn alarm(&self) -> Option<Instant> {
        let patience = self.waiting.iter().filter_map(|request| request.until);
        let turns = self.turns.until(Instant::now());
        patience.chain(self.look_at).chain(self.holding.renew_at()).chain(turns).min()
    }

    /// Follows the key as long as somebody waits for a slot, or others write it all the time.
    fn rest(&mut self) {
        if self.waiting.is_empty() {
            self.look_at = None;
        }
        if self.waiting.is_empty() && !self.contention.is_on() {
            self.feed = Feed::off();
        } else if !self.feed.is_on() {
            self.feed.follow(&*self.place.kv, &self.place.key);
        }
    }

    /// Takes in what the feed has brought already.
    fn catch_up(&mut self) {
        while let Some(change) = self.feed.next().now_or_never() {
            self.learn(change);
        }
    }

    fn lost(&mut self) {
        // Slots come back at any time: a look that lags behind would deny them.
        if self.place.policy.slots().is_none() {
            self.contention.lost();
        }
    }

    /// Another process was faster: waits for what it wrote, which the feed brings. Without a feed,
    /// or without news in time, the store is read.
    async fn await_news(&mut self, conflicts: &mut Backoff) {
        self.lost();
        let Some(known) = self.seen.as_ref().map(|seen| seen.revision) else {
            if self.contention.is_on() && !self.feed.is_on() {
                self.feed.follow(&*self.place.kv, &self.place.key);
            }
            return conflicts.wait().await;
        };
        let patience = self.contention.patience();
        let news = async {
            while self.seen.as_ref().is_some_and(|seen| seen.revision == known) {
                let change = self.feed.next().await;
                self.learn(change);
            }
        };
        if timeout(patience, news).await.is_err() {
            self.seen = None;
        }
    }

    /// Takes in what the store tells; false if it is nothing new.
    fn learn(&mut self, change: Option<Change>) -> bool {
        let Some(seen) = &self.seen else { return change.is_some() };
        let known = seen.revision;
        match change {
            None => {
                self.seen = None;
                false
            }
            Some(Change::Put(entry)) if known.is_none_or(|known| known < entry.revision) => {
                // What cannot be read is met again, and reported, by the next read.
                self.seen = self.place.seen(&entry).ok();
                true
            }
            Some(Change::Delete { revision, .. }) if known.is_some_and(|it| it < revision) => {
                self.seen = Some(Seen::default());
                true
            }
            Some(_) => false,
        }
    }

    /// Decides about everybody who waits.
    async fn attempt(&mut self) -> Result<Done> {
        let (seen, now, mut plan) = self.prepare().await?;
        let granted = u32::try_from(plan.granted()).unwrap_or(u32::MAX);
        if plan.write || self.runs_out() {
            let most = self.block(now.instant).saturating_sub(granted);
            plan.reserve_ahead(&self.place, (now, most), self.contention.round_trip());
            plan.write |= !plan.ahead.is_empty();
        }
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
            self.seen = self.seen.take().filter(|_| self.feed.is_on());
            return Ok(Done::Lost);
        };
        self.contention.won();
        self.holding.written(now.instant, plan.slots);
        let known = self.seen.as_ref().and_then(|seen| seen.revision);
        if known.is_none_or(|known| known <= revision) {
            let state = plan.state.clone();
            self.seen = Some(Seen { revision: Some(revision), state, converted: false, keep });
        }
        Ok(self.settle(plan, Some(revision), now))
    }

    /// What there is to decide on, and the decision.
    async fn prepare(&mut self) -> Result<(Seen, Moment, Plan)> {
        let remembered = self.seen.take();
        let mut fresh = remembered.is_none() || self.feed.is_on();
        loop {
            let seen = match &remembered {
                Some(seen) if !fresh || self.feed.is_on() => seen.clone(),
                _ => {
                    let sent = Instant::now();
                    let read = self.place.read().await;
                    self.contention.trip(sent.elapsed());
                    read?
                }
            };
            let now = self.place.now().await?;
            let plan = self.plan(&seen, now);
            // Others can only have taken more of a rate, so its denial needs no look at the
            // store; but slots come back, and without a feed only a look can tell.
            if fresh || !plan.lacks_slots {
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
                    change = self.feed.next() => self.learn(change),
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

    fn plan(&mut self, seen: &Seen, now: Moment) -> Plan {
        self.report(seen);
        self.reserved_until = now.when(seen.state.at);
        self.holding.check(seen.state.held.has(&self.holding.id), now.instant);
        let refunds = self.refunds.iter().map(|(taken, _)| *taken);
        let refunds = refunds.chain(self.owed.iter().copied()).collect();
        let requests = self.waiting.iter().take(BATCH_MAX);
        plan(&self.place, &self.holding, (seen, now), refunds, requests)
    }

    /// Tells everybody what the plan says, after it was written.
    fn settle(&mut self, plan: Plan, written: Option<Revision>, now: Moment) -> Done {
        let token = written.unwrap_or_default();
        self.owed = plan.owed;
        self.owed.retain(|taken| taken.expires(&self.place.policy) > now.store);
        self.owed.truncate(OWED_MAX);
        for (_, done) in self.refunds.drain(..) {
            self.standing.clear();
            if done.send(()).is_err() {
                tracing::trace!("nobody waits for a refund any more");
            }
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
        let told = Instant::now();
        for Ahead { taken, ready, expires, decision } in ahead {
            self.covered = self.covered.max(ready);
            if expires >= told {
                let lease = Arc::clone(&self.holding.lease);
                self.spare.add(Unused { taken, slots: 0, ready, expires, decision, token, lease });
            }
        }
    }

    /// How long after it was good for a permit may still be used by who was told late: with it, no
    /// more than a second burst comes at once.
    fn tolerance(&self) -> Duration {
        let burst = self.place.policy.window().unwrap_or_default();
        burst.max(self.contention.round_trip() * 2 + LATE_MAX)
    }

    fn deny(&self, request: Request, (now, decision): (Instant, Decision)) {
        let may_stand = self.place.policy.slots().is_none();
        if request.cost == 1 && may_stand && self.spare.is_empty() {
            self.standing.set(now, &decision);
        }
        drop(request.reply.send(Ok(Reply::Settled(Answer { decision, reserved: None }))));
    }

    fn offer(&mut self, request: Request, unused: Unused) {
        let (decision, tally) = (unused.decision, Arc::clone(&self.place.tally));
        let reserved = Reserved::new(unused, self.home.clone(), tally);
        self.turns.add(reserved.turn(), Instant::now());
        let answer = Answer { decision, reserved: Some(reserved) };
        // An answer that nobody takes any more is dropped, and its permits come back.
        drop(request.reply.send(Ok(Reply::Settled(answer))));
    }

    /// The store is gone: those who wait for slots of others are told, and do what their
    /// limiter does then. Those who have just come find out by their own deadline.
    fn give_up_waiting(&mut self, error: &Arc<Error>) {
        for request in std::mem::take(&mut self.waiting) {
            if request.queued {
                drop(request.reply.send(Err(Arc::clone(error))));
            } else {
                self.waiting.push_back(request);
            }
        }
    }

    fn fail(&mut self, error: &Arc<Error>) {
        for request in self.waiting.drain(..) {
            drop(request.reply.send(Err(Arc::clone(error))));
        }
        self.refunds.clear();
        self.owed.clear();
        self.holding.snooze();
        self.rest();
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
