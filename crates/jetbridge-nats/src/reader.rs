//! Reading a stream in order, for as long as somebody wants to.
//!
//! A reader is a push consumer with a name and, where it can be, a single filter: both stand in
//! the subject that makes it, where permissions can see them. It subscribes before the consumer
//! is made, counts what comes, and when a number is missing, heartbeats stay away or the
//! connection was made anew, it makes another consumer behind the last message seen. So it never
//! begins again at the beginning, and ends with an error where it would have to skip something.
//! Its consumer is deleted when it ends or is dropped.
//!
//! Where many readers of this process follow one stream, those that have caught up share one
//! consumer, the [tail](self::tail).

mod lasts;
mod share;
mod spec;
mod stuck;
mod tail;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use jetbridge_core::{Backoff, Error, ErrorKind, Result, random};

use self::lasts::Lasts;
use self::share::Share;
pub(crate) use self::spec::{Begin, Event, Follow, ReaderSpec};
use self::stuck::Stuck;
use self::tail::Tail;
pub(crate) use self::tail::Tails;
use crate::api::{Api, Stored, Which};
use crate::consumers::{Registered, Turn};
use crate::delivered::Delivered;
use crate::error::not_sent;
use crate::link::Feed;
use crate::request::{Call, Outgoing, Pending, denied, may_not_ask};
use crate::time;
use crate::waiters::{Phase, State};
use crate::wire::{AckPolicy, ConsumerConfig, DeliverPolicy};

/// How often an idle consumer says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The server's shortest heartbeat.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// After this long without a word the consumer, or the way to it, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(7);
/// How long a consumer outlives a client that vanished.
const ORPHAN_LIFE: Duration = Duration::from_secs(15);
/// How often the leader is asked whether an end is one. Who writes all the time may be ahead each
/// time; what was there at the beginning has then long been read, unless it was overwritten
/// between any two of the answers, each time before it was delivered.
const LOOKS_MAX: u32 = 64;
/// How long a reader that has begun waits for a consumer where a stream has all that it may.
const FULL_MAX: Duration = Duration::from_secs(60);
/// How many times as much the next consumer delivers where one has delivered what it may.
const WINDOW_GROWTH: u32 = 4;
/// Sequences are counted in 63 bits.
const SEQUENCE_MAX: u64 = i64::MAX as u64;

/// The events of a reader, as a stream that ends behind its first error, and, unless it follows,
/// when it has caught up.
pub(crate) fn events(
    api: Api,
    spec: ReaderSpec,
    follow: Follow,
) -> BoxStream<'static, Result<Event>> {
    let share = if follow == Follow::Yes { Share::of(&api, &spec) } else { None };
    // There may be thousands of them: what is seldom needed is apart, here and in `next`.
    let reader = Some(Box::new(Reader { share, ..Reader::new(api, spec) }));
    futures_util::stream::unfold(reader, move |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Event::CaughtUp) if follow == Follow::No => None,
            Ok(event) => Some((Ok(event), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

#[derive(Debug)]
struct Reader {
    api: Api,
    spec: ReaderSpec,
    state: watch::Receiver<State>,
    consumer: Option<Box<Consumer>>,
    /// The one before, while another is made that is to take its place.
    spare: Option<Box<Consumer>>,
    /// The sequence behind which the next consumer begins; `None` as long as that is where the
    /// specification says.
    position: Option<u64>,
    caught_up: bool,
    /// The last sequence that the leader knew when it was asked: at the beginning, where the
    /// consumer may be on a copy that lags behind it, or at what seemed to be the end. Before that
    /// has come, nothing is caught up.
    target: Option<u64>,
    /// How often it was asked at what seemed to be the end.
    looks: u32,
    /// Since when there has been something to deliver, or nobody to say so.
    behind_since: Option<Instant>,
    /// When the consumer last said something.
    heard: Instant,
    ready: VecDeque<Event>,
    begun: bool,
    stuck: Stuck,
    /// What it has in common with others that follow the same stream.
    share: Option<Share>,
    /// The tail that it reads for.
    leads: Option<Arc<Tail>>,
}

/// One consumer on the server, and what comes from it.
#[derive(Debug)]
struct Consumer {
    feed: Feed,
    epoch: u64,
    next_sequence: u64,
    /// What it had left to deliver when it last said so.
    pending: u64,
    /// Whether it has been idle since, though something was left.
    idle: bool,
    /// What is delivered of the last messages of all subjects, while that is what it delivers.
    lasts: Option<Lasts>,
    /// How many messages it delivers and then no more, for nobody acknowledges them.
    window: Option<u32>,
    /// The last answer to flow control, to hear of it if it is denied.
    flow: Option<Pending>,
    /// Where the tail stood then: what is wanted up to there was delivered when this one has
    /// nothing left.
    joint: Option<u64>,
    registered: Registered,
}

/// Whether a consumer has something to deliver when it is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waiting {
    Nothing,
    Something,
}

/// What happens next to a consumer.
enum Heard {
    Message(Message),
    /// Nothing is there to be heard, which was asked for.
    Nothing,
    /// It is of no more use: make another.
    Broken(&'static str),
    Closed,
    Failed(Error),
}

impl Reader {
    fn new(api: Api, spec: ReaderSpec) -> Self {
        Self {
            state: api.link().state(),
            api,
            spec,
            consumer: None,
            spare: None,
            position: None,
            caught_up: false,
            target: None,
            looks: 0,
            behind_since: Some(Instant::now()),
            heard: Instant::now(),
            ready: VecDeque::new(),
            begun: false,
            stuck: Stuck::default(),
            share: None,
            leads: None,
        }
    }

    async fn next(&mut self) -> Result<Event> {
        loop {
            // Before anything is handed out: nobody may ask for more for a long time.
            let shares = self.comes_to_the_tail();
            if let Some(ready) = self.ready.pop_front() {
                return Ok(ready);
            }
            if shares {
                self.take_shared().await?;
                continue;
            }
            let would_come = self.would_come();
            let Some(consumer) = self.consumer.as_mut() else {
                if Box::pin(self.begin()).await? == Waiting::Nothing {
                    self.is_up_to_date()?;
                }
                continue;
            };
            match consumer.hear(&mut self.state, self.spec.operation, would_come).await {
                Heard::Nothing => self.tries_to_come(),
                Heard::Message(message) => self.take(message).await?,
                Heard::Broken(why) => {
                    tracing::debug!(stream = %self.spec.stream, why, "a reader begins anew");
                    self.behind_since.get_or_insert(self.heard);
                    self.consumer = None;
                    Box::pin(self.is_not_stuck()).await?;
                }
                Heard::Closed => {
                    return Err(not_sent(self.spec.operation, "the connection is closed"));
                }
                Heard::Failed(error) => return Err(error),
            }
        }
    }

    /// Makes a consumer. The first one fails as any request does; a later one is tried until it
    /// works, the connection is closed, or the stream is gone.
    async fn begin(&mut self) -> Result<Waiting> {
        let (mut backoff, since) = (Backoff::outage(), Instant::now());
        loop {
            let turn = self.turn().await;
            if self.begun {
                self.behind_since.get_or_insert(self.heard);
            } else {
                // Until now it was not behind anything.
                self.behind_since = Some(Instant::now());
            }
            let call = self.api.link().repeatable(self.spec.operation);
            match self.make_consumer(turn, &call).await {
                Ok(waiting) => {
                    (self.begun, self.spare) = (true, None);
                    return Ok(waiting);
                }
                Err(_refused) if self.spare.is_some() => {
                    // Nothing was missed: what came meanwhile waits there.
                    (self.consumer, self.behind_since) = (self.spare.take(), None);
                    return Ok(Waiting::Something);
                }
                Err(error) if self.begun && self.may_pass(&error, since.elapsed()) => {
                    if self.state.borrow().phase == Phase::Closed {
                        return Err(error);
                    }
                    self.is_not_too_far_behind()?;
                    backoff.wait().await;
                }
                Err(error) => return Err(error.with("stream", &self.spec.stream)),
            }
        }
    }

    /// True if what a reader meets that has begun may be over soon. That of a stream's consumers
    /// none is free is so where its readers come to share one.
    fn may_pass(&self, error: &Error, since: Duration) -> bool {
        match error.kind() {
            ErrorKind::Unavailable => true,
            ErrorKind::LimitExceeded => self.is_one_of_many() && since < FULL_MAX,
            _ => false,
        }
    }

    async fn make_consumer(&mut self, turn: Option<Turn>, call: &Call) -> Result<Waiting> {
        let epoch = self.api.link().online(call.operation, call.deadline).await?;
        // A tail is that of one stream from its beginning on.
        if self.begun || self.leads.is_some() {
            self.check_still_the_same(call).await?;
        }
        let name = random::name();
        let deliver = self.api.link().inbox().sibling();
        let feed = self.api.link().subscribe_unconfirmed(&deliver, None, call).await?;
        let mut registered = Registered::new(&self.api, &self.spec.stream, &name).in_turn(turn);
        let config = self.config(&name, deliver);
        let created = self.spec.created.as_ref();
        let joint = self.share.as_ref().and_then(|share| share.reached(created));
        let sent = Instant::now();
        let info = match self.api.create_consumer(&self.spec.stream, &config, call).await? {
            Ok(info) => info,
            // An account may bound what is not acknowledged, below the window.
            Err(_refused) if self.spec.window.take().is_some() => {
                return Box::pin(self.make_consumer(None, call)).await;
            }
            Err(refused) => return Err(refused.into_error(call.operation)),
        };
        if let Some(created) = time::parse(&info.created) {
            self.api.link().clock().observe(sent, Instant::now(), created);
        }
        let feed = feed.confirmed(call.operation)?;
        if (!self.caught_up || joint.is_some())
            && info.cluster.is_some_and(|cluster| cluster.name.is_some())
        {
            self.ask_leader(call).await?;
            if self.share.is_none() {
                registered.gives_up_its_turn();
            }
        }
        // More than nothing where the answer to the first request was lost and it was sent again.
        let delivered = info.delivered.consumer_seq;
        if self.spec.from == Begin::Now && self.position.is_none() {
            if delivered > 0 {
                // Where it began is not known any more; now is later as well.
                return Box::pin(self.make_consumer(None, call)).await;
            }
            self.position = Some(info.delivered.stream_seq).max(self.target);
        }
        let of_lasts = config.deliver_policy == DeliverPolicy::LastPerSubject;
        let initial = info.num_pending + delivered;
        let lasts = of_lasts.then(|| Lasts::new(initial));
        self.consumer = Some(Box::new(Consumer {
            feed,
            epoch,
            next_sequence: 1,
            pending: initial,
            idle: false,
            lasts,
            window: self.spec.window,
            flow: None,
            joint,
            registered,
        }));
        Ok(if initial == 0 { Waiting::Nothing } else { Waiting::Something })
    }

    /// Asks the leader for the last sequence of what is read. Where the user may not know it,
    /// nobody says what a copy that lags does not have yet, so nothing is shared.
    async fn ask_leader(&mut self, call: &Call) -> Result<()> {
        let everything = [">".to_owned()];
        let filters =
            if self.spec.filters.is_empty() { &everything } else { &self.spec.filters[..] };
        let mut last = None;
        for filter in filters {
            let which = Which { last_by_subj: Some(filter), ..Which::default() };
            match self.api.message(&self.spec.stream, &which, call).await {
                Ok(stored) => last = last.max(stored.map(|stored| stored.sequence)),
                Err(error) if may_not_ask(&error) => {
                    (self.target, self.share) = (None, None);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.target = last;
        Ok(())
    }

    /// A stream that was deleted and made again has other messages under the same numbers.
    async fn check_still_the_same(&mut self, call: &Call) -> Result<()> {
        match self.api.stream(&self.spec.stream, call).await {
            Ok(Some(info)) => {
                let created = self.spec.created.get_or_insert_with(|| info.created.clone());
                // Who began behind the end is ahead of the stream until it has grown.
                let ahead = self.position.is_some_and(|position| {
                    position > info.state.last_seq && self.spec.from != Begin::After(position)
                });
                if *created == info.created && !ahead {
                    return Ok(());
                }
                Err(Error::new(ErrorKind::NotFound, call.operation)
                    .because("the stream was deleted and made again")
                    .hint("begin anew"))
            }
            Ok(None) => Err(Error::new(ErrorKind::NotFound, call.operation)
                .because("the stream is not there any more")),
            Err(error) if may_not_ask(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn config(&self, name: &str, deliver: String) -> ConsumerConfig {
        let (policy, start) = match (self.position, self.spec.from) {
            (Some(position), _) | (None, Begin::After(position)) => {
                (DeliverPolicy::ByStartSequence, position.min(SEQUENCE_MAX - 1) + 1)
            }
            (None, Begin::Now) => (DeliverPolicy::New, 0),
            (None, Begin::LastPerSubject) => (DeliverPolicy::LastPerSubject, 0),
        };
        let mut config = ConsumerConfig {
            name: Some(name.to_owned()),
            deliver_subject: Some(deliver),
            deliver_policy: policy,
            opt_start_seq: start,
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            flow_control: true,
            idle_heartbeat: time::to_nanos(self.heartbeat()),
            headers_only: self.spec.headers_only,
            inactive_threshold: time::to_nanos(ORPHAN_LIFE),
            num_replicas: 1,
            mem_storage: true,
            ..ConsumerConfig::default()
        };
        if let Some(window) = self.spec.window {
            (config.ack_policy, config.max_ack_pending) = (AckPolicy::All, i64::from(window));
            // It would stop and wait for answers long before the window does.
            config.flow_control = false;
        }
        match self.spec.filters.as_slice() {
            [] => {}
            [one] => config.filter_subject = Some(one.clone()),
            many => config.filter_subjects = many.to_vec(),
        }
        config
    }

    /// How often an idle consumer is to say that nothing happens: often against the time that
    /// the reader may be behind.
    fn heartbeat(&self) -> Duration {
        let often = self.spec.away_max.map_or(HEARTBEAT, |max| max / 4);
        often.clamp(HEARTBEAT_MIN, HEARTBEAT)
    }

    /// Takes what the consumer sent: a message, a heartbeat, or a request for flow control.
    async fn take(&mut self, message: Message) -> Result<()> {
        self.heard = Instant::now();
        let Some(consumer) = self.consumer.as_mut() else { return Ok(()) };
        if message.status.is_some() {
            return Box::pin(self.take_status(message)).await;
        }
        let Some(place) = message.reply.as_deref().and_then(Delivered::parse) else {
            return Ok(());
        };
        if place.number != consumer.next_sequence {
            self.consumer = None;
            return Ok(());
        }
        let is_the_last = consumer.window.is_some_and(|most| consumer.next_sequence >= most.into());
        consumer.next_sequence += 1;
        (consumer.pending, consumer.idle) = (place.pending, false);
        if let Some(lasts) = &mut consumer.lasts {
            lasts.count(place.sequence, self.position);
        }
        let certain = consumer.lasts.as_ref().is_none_or(Lasts::are_complete);
        // A copy that lags may deliver again what another one has delivered.
        if self.position.is_none_or(|position| place.sequence > position) {
            self.position = Some(place.sequence);
            self.ready.push_back(Event::Message(Stored {
                subject: message.subject,
                sequence: place.sequence,
                time: place.time,
                headers: message.headers.unwrap_or_default(),
                payload: message.payload,
            }));
        }
        if place.pending == 0 && certain {
            if !self.caught_up {
                Box::pin(self.ask_for_end()).await?;
            }
            return self.is_up_to_date();
        }
        if place.pending == 0 {
            // What is left, if anything, lies behind this message: a consumer of just that counts
            // right.
            self.consumer = None;
        } else if is_the_last {
            // Who wants more than that is likely to want much more.
            self.consumer = None;
            self.spec.window = self.spec.window.and_then(|most| most.checked_mul(WINDOW_GROWTH));
        }
        self.behind_since.get_or_insert(self.heard);
        self.is_not_too_far_behind()
    }

    async fn take_status(&mut self, message: Message) -> Result<()> {
        let Some(consumer) = self.consumer.as_mut() else { return Ok(()) };
        if message.status != Some(StatusCode::IDLE_HEARTBEAT) {
            // What else there is says that the consumer has ended.
            self.consumer = None;
            return Ok(());
        }
        let field = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str().to_owned());
        let stalled = field("Nats-Consumer-Stalled");
        if let Some(to) = message.reply.as_deref().or(stalled.as_deref()) {
            let out = Outgoing::new(to.to_owned(), Bytes::new());
            let call = self.api.link().repeatable(self.spec.operation);
            consumer.flow = self.api.link().tell_watched(&out, &call).await?;
            return Ok(());
        }
        let last = field("Nats-Last-Consumer").and_then(|text| text.parse::<u64>().ok());
        if last.is_some_and(|last| last >= consumer.next_sequence) {
            self.consumer = None;
            return Ok(());
        }
        if consumer.pending > 0 {
            // It is idle because the server is busy, or what was left has been removed: another
            // consumer says which, if it stays so.
            if std::mem::replace(&mut consumer.idle, true) {
                self.consumer = None;
            }
            return Ok(());
        }
        // Nothing is left to deliver. What the leader had at the beginning may have been removed
        // before it came here.
        if self.wants_target() && self.target > self.reached() {
            let call = self.api.link().repeatable(self.spec.operation);
            match self.ask_leader(&call).await {
                // The next heartbeat asks again.
                Err(error) if self.caught_up && error.kind() == ErrorKind::Unavailable => {}
                asked => asked?,
            }
        }
        self.is_up_to_date()
    }

    /// Nothing is left, says the consumer. A server takes off at once what an overwriting removes,
    /// and adds what took its place a little later: what is left may be a key's only message.
    async fn ask_for_end(&mut self) -> Result<()> {
        let is_there = self.target <= self.reached();
        if self.spec.asks_for_end && is_there && self.looks < LOOKS_MAX {
            self.looks += 1;
            let call = self.api.link().repeatable(self.spec.operation);
            self.ask_leader(&call).await?;
        }
        Ok(())
    }

    fn is_up_to_date(&mut self) -> Result<()> {
        self.is_not_too_far_behind()?;
        self.behind_since = None;
        if let Some(tail) = &self.leads {
            tail.is_up_to_date();
        }
        self.say_caught_up();
        Ok(())
    }

    /// The sequence up to which everything has been delivered, or was not wanted.
    fn reached(&self) -> Option<u64> {
        match self.spec.from {
            Begin::After(sequence) => self.position.max(Some(sequence)),
            Begin::LastPerSubject | Begin::Now => self.position,
        }
    }

    fn say_caught_up(&mut self) {
        if !self.caught_up && self.target <= self.reached() {
            self.caught_up = true;
            self.ready.push_back(Event::CaughtUp);
            // From here on nothing is initial any more, even if nothing was there.
            self.position = Some(self.reached().unwrap_or_default());
        }
    }

    fn is_not_too_far_behind(&self) -> Result<()> {
        let behind = self.behind_since.map(|since| since.elapsed()).unwrap_or_default();
        match self.spec.away_max {
            Some(max) if behind > max => {
                Err(Error::new(ErrorKind::Unavailable, self.spec.operation)
                    .because("the reader was behind for longer than deletions are remembered")
                    .with("stream", &self.spec.stream)
                    .with("behind_s", behind.as_secs())
                    .hint("begin anew, from the present state"))
            }
            _ => Ok(()),
        }
    }
}

impl Consumer {
    /// The next word from it; `or_nothing` asks for that only which is there already.
    async fn hear(
        &mut self,
        state: &mut watch::Receiver<State>,
        operation: &'static str,
        or_nothing: bool,
    ) -> Heard {
        let flow = async {
            match &mut self.flow {
                Some(pending) => pending.denied().await,
                None => std::future::pending().await,
            }
        };
        let epoch = self.epoch;
        let lost = async {
            let gone = |state: &State| state.epoch != epoch || state.phase != Phase::Online;
            match state.wait_for(gone).await {
                Ok(state) if state.phase != Phase::Closed => Heard::Broken("the connection is new"),
                _ => Heard::Closed,
            }
        };
        // A task that has used up its turn is told that nothing is there though something may be; it
        // is woken at once.
        let nothing =
            poll_fn(|_| if has_budget_remaining() { Poll::Ready(()) } else { Poll::Pending });
        tokio::select! {
            biased;
            denial = flow => Heard::Failed(denied(operation, &denial)),
            message = tokio::time::timeout(SILENCE_MAX, self.feed.next()) => match message {
                Ok(Some(Ok(message))) => Heard::Message(message),
                Ok(Some(Err(denial))) => Heard::Failed(denied(operation, &denial)),
                Ok(None) => Heard::Closed,
                Err(_elapsed) => Heard::Broken("heartbeats stay away"),
            },
            heard = lost => heard,
            () = nothing, if or_nothing => Heard::Nothing,
        }
    }
}
