//! An ordered reader: every message of a stream on one subject pattern, in order, once, and then
//! what comes later; over reconnects, restarts and changes of leaders.
//!
//! It stands on a named consumer with one filter, so that permissions can be given for exactly
//! what is read. The consumer is pulled: what is under way is bounded by what was asked for, so a
//! slow reader loses nothing, and no permission for flow control is needed, without which pushed
//! messages stop after 2 MiB and nothing says why. Whenever the count of deliveries has a gap,
//! the connection was lost or the server is silent, a new consumer goes on behind the last
//! message seen; a reader that has seen nothing begins as it began. The consumer is deleted when
//! the reader is done or dropped.

use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, HeaderValue, Message as WireMessage, StatusCode, Subject};
use bytes::Bytes;
use futures_core::stream::BoxStream;
use serde_json::json;
use tokio::time::Instant;

use jetbridge_core::{Backoff, Error, ErrorKind, Result, random};

use crate::api::Api;
use crate::delivered::Delivered;
use crate::error::{ApiError, code, not_sent};
use crate::link::{Feed, Link};
use crate::request::{Outgoing, denied};
use crate::time::{self, to_nanos};
use crate::waiters::{Phase, State};
use crate::wire::{AckPolicy, ConsumerConfig, DeliverPolicy};

/// How long the server keeps a request for messages.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often it says that it still does, if nothing is delivered.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// As [`HEARTBEAT`], until the reader has caught up: nothing delivered for so long means that
/// what was to come was removed meanwhile, and only a new consumer says so.
const HEARTBEAT_LOADING: Duration = Duration::from_secs(1);
/// Silence after which the consumer is taken for lost: two missed heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// After how long without requests the server removes the consumer of a reader that is gone.
const INACTIVE: Duration = Duration::from_secs(60);
/// The header of a request that ended early: how many messages it did not get.
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// Messages under way at once when they are small.
pub(crate) const BATCH_SMALL: usize = 512;

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct ReaderSpec {
    /// What errors call it.
    pub(crate) operation: &'static str,
    pub(crate) stream: String,
    /// One subject pattern.
    pub(crate) filter: String,
    pub(crate) from: Begin,
    /// Leave payloads out.
    pub(crate) headers_only: bool,
    /// Messages under way at once; times their size, the memory a reader takes.
    pub(crate) batch: usize,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Begin {
    /// Behind this sequence; 0 is the oldest message.
    After(u64),
    /// With the last message of each subject.
    LastPerSubject,
    /// With the next message that comes.
    Now,
}

/// What a reader brings.
#[derive(Debug)]
pub(crate) enum Event {
    Message(ReadMessage),
    /// What was there when the reader began has been brought. Comes exactly once.
    CaughtUp,
}

/// A message as the stream keeps it.
#[derive(Debug)]
pub(crate) struct ReadMessage {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
    pub(crate) sequence: u64,
    pub(crate) time: SystemTime,
}

/// A reader; see the module's head.
#[derive(Debug)]
pub(crate) struct Reader {
    api: Api,
    spec: ReaderSpec,
    consumer: Option<LiveConsumer>,
    /// The newest sequence brought, or the one that a reader of the future begins behind.
    last: Option<u64>,
    caught_up: bool,
}

/// The consumer at work.
#[derive(Debug)]
struct LiveConsumer {
    api: Api,
    stream: String,
    name: String,
    inbox: String,
    feed: Feed,
    /// The connection it was made on.
    epoch: u64,
    /// The number of the next delivery.
    next: u64,
    /// Messages asked for that have not come.
    outstanding: usize,
    heard: Instant,
    /// Nothing waited for it when it was made.
    empty: bool,
}

/// What a wait came to.
enum Waited {
    Message(Box<ReadMessage>, u64),
    Nothing,
    /// The server has nothing to deliver.
    Heartbeat,
    /// The consumer is of no more use.
    Lost,
}

impl Reader {
    /// Makes the consumer; [`NotFound`](ErrorKind::NotFound) if there is no such stream.
    pub(crate) async fn open(api: &Api, spec: ReaderSpec) -> Result<Self> {
        let mut reader =
            Self { api: api.clone(), spec, consumer: None, last: None, caught_up: false };
        reader.consumer = Some(reader.make_consumer().await?);
        Ok(reader)
    }

    /// The next event. After an error the reader is of no more use.
    pub(crate) async fn next(&mut self) -> Result<Event> {
        loop {
            let mut consumer = match self.consumer.take() {
                Some(consumer) => consumer,
                None => self.reopen().await?,
            };
            if consumer.empty && !self.caught_up {
                self.caught_up = true;
                self.consumer = Some(consumer);
                return Ok(Event::CaughtUp);
            }
            match consumer.wait(&self.spec, self.caught_up).await? {
                Waited::Message(message, pending) => {
                    self.last = Some(message.sequence);
                    consumer.empty = pending == 0;
                    self.consumer = Some(consumer);
                    return Ok(Event::Message(*message));
                }
                Waited::Heartbeat if !self.caught_up => drop(consumer),
                Waited::Heartbeat | Waited::Nothing => self.consumer = Some(consumer),
                Waited::Lost => drop(consumer),
            }
        }
    }

    /// The connection's own time limits do not end a reader: it goes on until the connection is
    /// closed or the stream is gone.
    async fn reopen(&mut self) -> Result<LiveConsumer> {
        let mut backoff = Backoff::outage();
        loop {
            match self.make_consumer().await {
                Ok(consumer) => return Ok(consumer),
                Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Err(error) if is_closed(self.api.link()) => return Err(error),
                Err(error) => {
                    tracing::debug!(stream = self.spec.stream, %error, "reading goes on later");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn make_consumer(&mut self) -> Result<LiveConsumer> {
        let operation = self.spec.operation;
        let link = self.api.link();
        let call = link.repeatable(operation);
        let epoch = link.online(operation, call.deadline).await?;
        let inbox = link.inbox().sibling();
        let feed = link.subscribe_unconfirmed(&inbox, None, &call).await?;
        let config = self.config();
        let sent = Instant::now();
        let made = self.api.create_consumer(&self.spec.stream, &config, &call).await?;
        let made = made.map_err(|refused| self.refused(refused))?;
        if let Some(created) = time::parse(&made.created) {
            link.clock().observe(sent, Instant::now(), created);
        }
        if self.spec.from == Begin::Now && self.last.is_none() {
            self.last = Some(made.delivered.stream_seq);
        }
        Ok(LiveConsumer {
            api: self.api.clone(),
            stream: self.spec.stream.clone(),
            name: made.name,
            inbox,
            feed: feed.confirmed(operation)?,
            epoch,
            next: 1,
            outstanding: 0,
            heard: Instant::now(),
            empty: made.num_pending == 0,
        })
    }

    fn config(&self) -> ConsumerConfig {
        let (deliver_policy, start) = match (self.last, self.spec.from) {
            (Some(last), _) => (DeliverPolicy::ByStartSequence, last + 1),
            (None, Begin::After(0)) => (DeliverPolicy::All, 0),
            (None, Begin::After(last)) => (DeliverPolicy::ByStartSequence, last + 1),
            (None, Begin::LastPerSubject) => (DeliverPolicy::LastPerSubject, 0),
            (None, Begin::Now) => (DeliverPolicy::New, 0),
        };
        ConsumerConfig {
            name: Some(format!("jetbridge-{}", random::name())),
            deliver_policy,
            opt_start_seq: start,
            ack_policy: AckPolicy::None,
            filter_subject: Some(self.spec.filter.clone()),
            headers_only: self.spec.headers_only,
            inactive_threshold: to_nanos(INACTIVE),
            num_replicas: 1,
            mem_storage: true,
            ..ConsumerConfig::default()
        }
    }

    fn refused(&self, refused: ApiError) -> Error {
        let not_found = refused.err_code == code::STREAM_NOT_FOUND;
        let error = refused.into_error(self.spec.operation).with("stream", &self.spec.stream);
        if not_found { error.hint("it is not there (any more)") } else { error }
    }
}

impl LiveConsumer {
    /// Waits for a message or a word about what was asked for.
    async fn wait(&mut self, spec: &ReaderSpec, caught_up: bool) -> Result<Waited> {
        if self.outstanding <= spec.batch / 2 {
            self.ask(spec, if caught_up { HEARTBEAT } else { HEARTBEAT_LOADING }).await?;
        }
        let mut states = self.api.link().state();
        let (epoch, silence) = (self.epoch, self.heard + SILENCE_MAX);
        let arrived = tokio::select! {
            biased;
            arrived = self.feed.next() => arrived,
            () = is_over(&mut states, epoch) => return Ok(Waited::Lost),
            () = tokio::time::sleep_until(silence) => return Ok(Waited::Lost),
        };
        self.heard = Instant::now();
        match arrived {
            Some(Ok(message)) => self.take(message, spec),
            Some(Err(denial)) => Err(denied(spec.operation, &denial)),
            None => Err(not_sent(spec.operation, "the connection is closed")),
        }
    }

    async fn ask(&mut self, spec: &ReaderSpec, heartbeat: Duration) -> Result<()> {
        let batch = spec.batch.max(2) - self.outstanding;
        let body = json!({
            "batch": batch,
            "expires": to_nanos(EXPIRES),
            "idle_heartbeat": to_nanos(heartbeat),
        });
        let subject = self.api.subject(&format!("CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name));
        let out = Outgoing::new(subject, body.to_string());
        let link = self.api.link();
        // Offline, this waits no longer than the connection is away: then the epoch is over.
        if link.state().borrow().phase == Phase::Online {
            let call = link.repeatable(spec.operation);
            link.tell_from(&out, self.inbox.clone(), &call).await?;
        }
        self.outstanding += batch;
        Ok(())
    }

    fn take(&mut self, message: WireMessage, spec: &ReaderSpec) -> Result<Waited> {
        if let Some(status) = message.status.filter(|status| *status != StatusCode::OK) {
            return self.take_status(status.as_u16(), &message, spec);
        }
        let place = message.reply.as_deref().and_then(Delivered::parse).ok_or_else(|| {
            Error::new(ErrorKind::Internal, spec.operation)
                .because("a delivery without a place in its stream")
                .with("subject", &message.subject)
        })?;
        if place.number != self.next {
            tracing::debug!(stream = self.stream, "a delivery is missing: reading begins anew");
            return Ok(Waited::Lost);
        }
        self.next += 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        let read = ReadMessage {
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            sequence: place.sequence,
            time: place.time,
        };
        Ok(Waited::Message(Box::new(read), place.pending))
    }

    fn take_status(
        &mut self,
        status: u16,
        message: &WireMessage,
        spec: &ReaderSpec,
    ) -> Result<Waited> {
        match status {
            100 => Ok(Waited::Heartbeat),
            404 | 408 => {
                let pending = message.headers.as_ref().and_then(|map| map.get(PENDING_MESSAGES));
                let pending = pending.map(HeaderValue::as_str).and_then(|text| text.parse().ok());
                self.outstanding = self.outstanding.saturating_sub(pending.unwrap_or(usize::MAX));
                Ok(Waited::Nothing)
            }
            // Deleted, moved, or nobody answers for it: what follows is another consumer.
            409 | 503 => Ok(Waited::Lost),
            code => {
                let description = message.description.clone().unwrap_or_default();
                Err(ApiError { code, err_code: 0, description }.into_error(spec.operation))
            }
        }
    }
}

impl Drop for LiveConsumer {
    fn drop(&mut self) {
        let (api, stream) = (self.api.clone(), std::mem::take(&mut self.stream));
        let name = std::mem::take(&mut self.name);
        if is_closed(self.api.link()) {
            return;
        }
        self.api.link().cleanups().spawn(async move {
            let call = api.link().repeatable("reader.close");
            // If it cannot be deleted now, the server removes it when it has been idle.
            drop(api.delete_consumer(&stream, &name, &call).await);
        });
    }
}

fn is_closed(link: &Link) -> bool {
    link.state().borrow().phase == Phase::Closed
}

/// Resolves when the connection counted `epoch` is over.
async fn is_over(states: &mut tokio::sync::watch::Receiver<State>, epoch: u64) {
    drop(states.wait_for(|state| state.epoch != epoch || state.phase == Phase::Closed).await);
}

/// The events of a reader as a stream that ends behind its first error, and, unless it follows,
/// when it has caught up.
pub(crate) fn events(
    api: Api,
    spec: ReaderSpec,
    follow: Follow,
) -> BoxStream<'static, Result<Event>> {
    enum Step {
        Open(Api, ReaderSpec),
        Read(Box<Reader>),
        Over,
    }
    Box::pin(futures_util::stream::unfold(Step::Open(api, spec), move |step| async move {
        let mut reader = match step {
            Step::Open(api, spec) => match Reader::open(&api, spec).await {
                Ok(reader) => Box::new(reader),
                Err(error) => return Some((Err(error), Step::Over)),
            },
            Step::Read(reader) => reader,
            Step::Over => return None,
        };
        match reader.next().await {
            Ok(Event::CaughtUp) if follow == Follow::No => None,
            Ok(event) => Some((Ok(event), Step::Read(reader))),
            Err(error) => Some((Err(error), Step::Over)),
        }
    }))
}

/// Whether a reader goes on behind what was there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Follow {
    No,
    Yes,
}
