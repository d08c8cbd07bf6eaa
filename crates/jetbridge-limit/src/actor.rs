//! One task for each limiter in use: all its callers share one compare-and-set.
//!
//! While a write is under way, calls queue; the next write serves all of them. So how often
//! processes get into each other's way depends on how many they are, not on their callers.
//!
//! Nothing is given before the write that took it was acknowledged, on top of exactly the state
//! it was computed from. A write whose answer is lost is not counted on: the state is read anew,
//! and permits that it took after all are lost, never given twice. Slots need no such care: the
//! next write says how many this process has.

mod attempt;
mod news;
mod tickets;
mod told;

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use jetbridge_core::{Backoff, Outcome};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use self::tickets::Desk;
use crate::contention::Contention;
use crate::feed::Feed;
use crate::front::Front;
use crate::holding::{Holding, Released};
use crate::message::{Message, Request, Unused};
use crate::pace::Pace;
use crate::place::{Place, Seen};
use crate::state::Taken;
use crate::stock::Shelf;
use crate::turns::Turns;

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
    front: Arc<Front>,
    seen: Option<Seen>,
    /// When the store last told what is seen.
    told_at: Instant,
    waiting: VecDeque<Request>,
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
    desk: Desk,
    /// When a write of this process last went through.
    won_at: Option<Instant>,
    pace: Pace,
    /// Callers take from the stock, and it runs low.
    runs_low: bool,
    /// When permits in stock are put back, and how many callers had taken by then.
    idle: Option<(Instant, u64)>,
    /// Permits in stock were taken out, to be put back.
    returns: bool,
    /// When those who wait for a slot should look again.
    look_at: Option<Instant>,
    warned: bool,
}

impl Actor {
    pub(crate) fn new(
        place: Place,
        home: mpsc::UnboundedSender<Message>,
        front: Arc<Front>,
    ) -> Self {
        Self {
            holding: Holding::new(place.lease),
            place: Arc::new(place),
            home,
            front,
            seen: None,
            told_at: Instant::now(),
            waiting: VecDeque::new(),
            turns: Turns::default(),
            asked: false,
            reserved_until: Instant::now(),
            covered: Instant::now(),
            refunds: Vec::new(),
            owed: Vec::new(),
            feed: Feed::off(),
            contention: Contention::default(),
            desk: Desk::new(),
            won_at: None,
            pace: Pace::default(),
            runs_low: false,
            idle: None,
            returns: false,
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
        // Whoever comes at the same time is served by the same write.
        tokio::task::yield_now().await;
        loop {
            self.take_in_all(inbox);
            self.put_back();
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
                    (self.asked, self.runs_low, self.returns) = (false, false, false);
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
            if !self.holding.dirty {
                return;
            }
            // Whoever has found tickets has only then what it needs to go on.
            if !matches!(self.attempt().await, Ok(Done::Served | Done::Partly)) {
                self.seen = None;
            }
        }
        if !self.holding.dirty {
            return;
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
                self.front.standing.clear();
                let unused = self.turns.move_up(unused, Instant::now());
                self.shelf().spare.add(unused);
            }
            Message::Refund(unused, done) if self.tickets().is_some() && unused.slots == 0 => {
                // What is counted out cannot be put back: the next caller gets it.
                self.take_in(Message::GivenBack(unused));
                told::refunded(done);
            }
            Message::Refund(unused, done) => {
                self.free(&unused);
                self.refunds.push((unused.taken, done));
            }
            Message::Released(released) => self.holding.release(released),
            Message::FirstTicket(asked, first) => self.prepared(asked, first),
            Message::RunsLow => (self.asked, self.runs_low) = (true, true),
        }
    }

    /// Gives what is there to the first who asks for as much and can wait for it. Permits that
    /// are no good any more are forfeited; the slots of those that nobody takes are free.
    fn hand_on(&mut self) {
        let now = Instant::now();
        let (mut gone, mut given) = (Vec::new(), Vec::new());
        let front = Arc::clone(&self.front);
        let mut shelf = front.stock.shelf();
        self.contention.used(shelf.just_taken());
        if shelf.spare.is_empty() {
            return;
        }
        while let Some(unused) = shelf.spare.expired(now) {
            self.contention.wasted();
            gone.push(unused);
        }
        let mut left = VecDeque::with_capacity(self.waiting.len());
        while let Some(request) = self.waiting.pop_front() {
            match shelf.spare.take(&request, now) {
                Some(unused) => given.push((request, unused)),
                None => left.push_back(request),
            }
        }
        self.waiting = left;
        gone.extend(std::iter::from_fn(|| shelf.spare.take_slot()));
        drop(shelf);
        for (request, unused) in given {
            self.contention.used(1);
            self.offer(request, unused);
        }
        gone.iter().for_each(|unused| self.free(unused));
    }

    /// Takes out of the stock what nobody has wanted for a while, to put it back where it came from.
    fn put_back(&mut self) {
        let Some((_, taken)) = self.idle.take_if(|(at, _)| Instant::now() >= *at) else { return };
        let mut shelf = self.front.stock.shelf();
        while shelf.spare.expired(Instant::now()).is_some() {}
        let apart = !self.contention.is_on() && self.tickets().is_none();
        if shelf.taken() == taken && apart {
            let unused = shelf.spare.drain().map(|unused| unused.taken);
            let before = self.owed.len();
            self.owed.extend(unused);
            self.returns = self.owed.len() > before;
            self.pace.rested();
        } else if !shelf.spare.is_empty() {
            let (later, taken) = (Pace::idle(self.contention.round_trip()), shelf.taken());
            self.idle = Some((Instant::now() + later, taken));
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.front.stock.shelf()
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
        self.holding.dirty || renewal || !self.refunds.is_empty() || self.returns
    }

    /// True if callers of this process will soon need permits that it has not taken yet.
    fn runs_out(&self) -> bool {
        let now = Instant::now();
        if !self.contention.is_on() || self.tickets().is_some() {
            return self.runs_low && self.pace.block() > 0;
        }
        let block = self.block(now) as usize;
        let low = block > 1 && self.shelf().spare.len() < block / 2;
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
        let alarms = patience.chain(self.look_at).chain(self.holding.renew_at()).chain(turns);
        alarms.chain(self.idle.map(|(at, _)| at)).min()
    }
}
