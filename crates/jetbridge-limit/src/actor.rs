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
use jetbridge_core::{Backoff, Change, Error, Outcome, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::Moment;
use crate::contention::Contention;
use crate::feed::Feed;
use crate::holding::{Holding, Released};
use crate::message::{Answer, Message, Reply, Request, Reserved, Unused};
use crate::place::{Place, Seen};
use crate::plan::{Fate, Plan, plan};
use crate::standing::Standing;
use crate::state::Taken;

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

/// The task of one limiter.
pub(crate) struct Actor {
    place: Place,
    home: mpsc::UnboundedSender<Message>,
    standing: Arc<Standing>,
    seen: Option<Seen>,
    waiting: VecDeque<Request>,
    given_back: Vec<Unused>,
    refunds: Vec<(Taken, oneshot::Sender<()>)>,
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
            place,
            home,
            standing,
            seen: None,
            waiting: VecDeque::new(),
            given_back: Vec::new(),
            refunds: Vec::new(),
            feed: Feed::off(),
            contention: Contention::default(),
            look_at: None,
            warned: false,
        }
    }

    /// True if nobody waits and nobody holds anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.holding.slots == 0 && !self.holding.dirty
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
                Ok(true) => return self.rest(),
                Ok(false) => self.await_news(&mut conflicts).await,
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
        self.take_in_all(&mut inbox);
        self.waiting.clear();
        for _ in 0..FAREWELLS {
            if !self.holding.dirty || matches!(self.attempt().await, Ok(true)) {
                return;
            }
            self.seen = None;
        }
        tracing::debug!(key = %self.place.key, "slots were not given back: their lease will end");
    }

    fn take_in_all(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        while self.waiting.len() < BATCH_MAX {
            let Ok(message) = inbox.try_recv() else { break };
            self.take_in(message);
        }
        self.waiting.retain(|request| !request.reply.is_closed());
        self.hand_on();
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Reserve(request) => self.waiting.push_back(request),
            Message::GivenBack(unused) => self.given_back.push(unused),
            Message::Refund(unused, done) => {
                self.free(&unused);
                self.refunds.push((unused.taken, done));
            }
            Message::Released(released) => self.holding.release(released),
        }
    }

    /// Gives what came back to the first who asks for as much and can wait for it. Permits whose
    /// time has passed are forfeited: used later, they could add to a full burst. Their slots
    /// are free.
    fn hand_on(&mut self) {
        let now = Instant::now();
        for unused in std::mem::take(&mut self.given_back) {
            self.standing.clear();
            let fits = |request: &Request| {
                request.cost == unused.taken.cost
                    && request.until.is_none_or(|at| at >= unused.ready)
            };
            let is_due = unused.ready >= now;
            match self.waiting.iter().position(fits).filter(|_| is_due) {
                Some(index) => {
                    let Some(request) = self.waiting.remove(index) else { continue };
                    self.offer(request, unused);
                }
                None if unused.slots > 0 => self.free(&unused),
                None if is_due => self.given_back.push(unused),
                None => self.contention.wasted(),
            }
        }
    }

    fn free(&mut self, unused: &Unused) {
        if unused.slots > 0 {
            let (slots, lease) = (unused.slots, Arc::clone(&unused.lease));
            self.holding.release(Released { slots, lease, done: None });
        }
    }

    fn has_work(&self) -> bool {
        let renewal = self.holding.renew_at().is_some_and(|at| Instant::now() >= at);
        let refunds = !self.refunds.is_empty();
        !self.waiting.is_empty() || self.holding.dirty || renewal || refunds
    }

    /// When something is to be done that nobody sends a message about.
    fn alarm(&self) -> Option<Instant> {
        let patience = self.waiting.iter().filter_map(|request| request.until);
        patience.chain(self.look_at).chain(self.holding.renew_at()).min()
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

    /// Another process was faster: waits for what it wrote, which the feed brings. Without a feed,
    /// or without news in time, the store is read.
    async fn await_news(&mut self, conflicts: &mut Backoff) {
        // Slots come back at any time: a look that lags behind would deny them.
        if self.place.policy.slots().is_none() {
            self.contention.lost();
        }
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

    /// Decides about everybody who waits; `false` if another process was faster.
    async fn attempt(&mut self) -> Result<bool> {
        let remembered = self.seen.take();
        let mut fresh = remembered.is_none() || self.feed.is_on();
        let (mut seen, now, mut plan) = loop {
            let seen = match &remembered {
                Some(seen) if !fresh || self.feed.is_on() => seen.clone(),
                _ => self.place.read().await?,
            };
            let now = self.place.now().await?;
            let plan = self.plan(&seen, now);
            // Others can only have taken more of a rate, so its denial needs no look at the
            // store; but slots come back, and without a feed only a look can tell.
            if fresh || !plan.lacks_slots {
                break (seen, now, plan);
            }
            fresh = true;
        };
        if plan.write {
            plan.reserve_ahead(
                &self.place,
                now,
                self.contention.ahead(&self.place.policy, plan.granted()),
            );
            let sent = Instant::now();
            let written = self.place.write(seen.revision, plan.state.clone()).await;
            if written.as_ref().is_err_and(|error| error.outcome() == Outcome::Unknown) {
                // They may have been put back already: they are rather lost than counted twice.
                self.refunds.clear();
            }
            let Some(revision) = written? else {
                // Nothing was written, so what was seen is still true; the feed brings the rest.
                self.seen = self.feed.is_on().then_some(seen);
                return Ok(false);
            };
            self.contention.won(sent.elapsed());
            self.holding.written(now.instant, plan.slots);
            seen = Seen { revision: Some(revision), state: plan.state.clone(), converted: false };
        }
        self.settle(plan, &seen, now.instant);
        self.seen = Some(seen);
        Ok(true)
    }

    fn plan(&mut self, seen: &Seen, now: Moment) -> Plan {
        self.report(seen);
        self.holding.check(seen.state.held.has(&self.holding.id), now.instant);
        let refunds = self.refunds.iter().map(|(taken, _)| *taken);
        plan(&self.place, &self.holding, (seen, now), refunds, self.waiting.iter())
    }

    fn settle(&mut self, plan: Plan, seen: &Seen, now: Instant) {
        let token = seen.revision.unwrap_or_default();
        for (_, done) in self.refunds.drain(..) {
            self.standing.clear();
            if done.send(()).is_err() {
                tracing::trace!("nobody waits for a refund any more");
            }
        }
        self.given_back.extend(plan.ahead.into_iter().map(|ahead| {
            let (taken, ready, decision) = (ahead.taken, ahead.ready, ahead.decision);
            let lease = Arc::clone(&self.holding.lease);
            Unused { taken, slots: 0, ready, decision, token, lease }
        }));
        let mut queue = VecDeque::new();
        for (request, fate) in std::mem::take(&mut self.waiting).into_iter().zip(plan.fates) {
            match fate {
                Fate::Granted { decision, taken, slots, ready } => {
                    let lease = Arc::clone(&self.holding.lease);
                    let unused = Unused { taken, slots, ready, decision, token, lease };
                    self.offer(request, unused);
                }
                Fate::Denied(decision) => {
                    let may_stand = self.place.policy.slots().is_none();
                    if request.cost == 1 && may_stand && self.given_back.is_empty() {
                        self.standing.set(now, &decision);
                    }
                    let answer = Answer { decision, reserved: None };
                    drop(request.reply.send(Ok(Reply::Settled(answer))));
                }
                Fate::Waits => queue.extend(queued(request)),
            }
        }
        self.waiting = queue;
        self.look_at = (!self.waiting.is_empty()).then(|| {
            let look = Instant::now() + LOOK_EVERY;
            plan.next_end.map_or(look, |end| look.min(end))
        });
    }

    fn offer(&self, request: Request, unused: Unused) {
        let (decision, tally) = (unused.decision, Arc::clone(&self.place.tally));
        let reserved = Some(Reserved::new(unused, self.home.clone(), tally));
        // An answer that nobody takes any more is dropped, and its permits come back.
        drop(request.reply.send(Ok(Reply::Settled(Answer { decision, reserved }))));
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

/// The request, after its caller was told that it waits; `None` if the caller has gone.
fn queued(request: Request) -> Option<Request> {
    if request.queued {
        return Some(request);
    }
    let (reply, offered) = oneshot::channel();
    let told = request.reply.send(Ok(Reply::Queued(offered)));
    told.is_ok().then_some(Request { reply, queued: true, ..request })
}
