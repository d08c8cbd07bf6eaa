//! Durable consumers, by pulling: as much as the reader asks for, and little more.
//!
//! A delivery's time to be acknowledged runs from when the server sent it, so what waits here
//! unread is on the clock. The batch therefore starts at one and grows only while the reader
//! keeps up. What the server sends ahead of a reader that stops is delivered again later; nothing
//! is lost.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Message as WireMessage, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use jetbridge_core::{
    Acker, Consume, ConsumeStart, Consumer, Delivery, Error, ErrorKind, Result, Settle,
};

use crate::api::Api;
use crate::delivered::Delivered;
use crate::error::{ApiError, code};
use crate::link::{Feed, Link};
use crate::message;
use crate::request::{Call, Outgoing, denied, may_not_ask};
use crate::time::to_nanos;
use crate::waiters::{Phase, State};
use crate::wire::{AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy};

/// Deliveries asked for at once at most.
const BATCH_MAX: usize = 64;
/// A reader that takes a whole batch within this keeps up, and gets twice as many next time.
const KEEPS_UP: Duration = Duration::from_millis(100);
/// How long the server keeps a request for deliveries.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often it says that it still does, if nothing is delivered.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Silence after which a request is taken for lost: two missed heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// Time to wait before asking again when the server refused for now.
const REFUSED_WAIT: Duration = Duration::from_millis(250);

/// Opens the durable that `consume` describes, making it if it is missing.
pub(crate) async fn open(api: &Api, consume: Consume) -> Result<Consumer> {
    ensure(api, &consume).await?;
    let call = api.link().repeatable("bus.consume");
    let inbox = api.link().inbox().sibling();
    let feed = api.link().subscribe(&inbox, None, &call).await?;
    let (stop, stopping) = watch::channel(false);
    let puller = Puller {
        api: api.clone(),
        epoch: api.link().now().epoch,
        request: api.subject(&format!("CONSUMER.MSG.NEXT.{}.{}", consume.stream, consume.durable)),
        consume,
        feed,
        inbox,
        stopping,
        ready: VecDeque::new(),
        outstanding: 0,
        batch: 0,
        asked: Instant::now(),
        heard: Instant::now(),
        drained: false,
    };
    let stream = futures_util::stream::unfold(Some(puller), |puller| async move {
        let mut puller = puller?;
        match puller.next().await {
            Ok(Some(delivery)) => Some((Ok(delivery), Some(puller))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Consumer::new(Box::pin(stream), move || {
        stop.send_replace(true);
    }))
}

/// Makes the durable, or brings one that is there to the settings asked for.
async fn ensure(api: &Api, consume: &Consume) -> Result<()> {
    let call = api.link().repeatable("bus.consume");
    let (stream, durable) = (consume.stream.as_str(), consume.durable.as_str());
    let wanted = config(consume);
    let present = api.consumer(stream, durable, &call).await?;
    if let Some(present) = present {
        if is_as_wanted(&present.config, &wanted) {
            return Ok(());
        }
        check_compatible(consume, &present)?;
        let mut changed = present.config;
        changed.ack_wait = wanted.ack_wait;
        changed.max_deliver = wanted.max_deliver;
        changed.max_ack_pending = wanted.max_ack_pending;
        return made(api.create_consumer(stream, &changed, &call).await?, consume);
    }
    let mut wanted = wanted;
    if consume.start == ConsumeStart::New {
        begin_behind_what_is_there(api, stream, &mut wanted, &call).await?;
    }
    made(api.create_consumer(stream, &wanted, &call).await?, consume)
}

/// Says "from now on" in the words of the stream's leader. In a cluster the durable may come to
/// be on a copy that lags, and would begin with what had been acknowledged before it was made.
async fn begin_behind_what_is_there(
    api: &Api,
    stream: &str,
    wanted: &mut ConsumerConfig,
    call: &Call,
) -> Result<()> {
    if api.link().client().server_info().cluster.is_none() {
        return Ok(());
    }
    match api.stream(stream, call).await {
        Ok(Some(info)) => {
            wanted.deliver_policy = DeliverPolicy::ByStartSequence;
            wanted.opt_start_seq = info.state.last_seq + 1;
            Ok(())
        }
        // Making it will say that the stream is not there.
        Ok(None) => Ok(()),
        // Who may make the durable and not ask about the stream gets what its copy holds as new.
        Err(error) if may_not_ask(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn made(answer: std::result::Result<ConsumerInfo, ApiError>, consume: &Consume) -> Result<()> {
    match answer {
        Ok(_info) => Ok(()),
        Err(refused) if refused.err_code == code::STREAM_NOT_FOUND => {
            Err(Error::new(ErrorKind::NotFound, "bus.consume")
                .because("the stream is not there")
                .with("stream", &consume.stream)
                .hint(format!("make it with `jetbridge stream add {}`", consume.stream)))
        }
        Err(refused) => Err(refused
            .into_error("bus.consume")
            .with("stream", &consume.stream)
            .with("durable", &consume.durable)),
    }
}

fn config(consume: &Consume) -> ConsumerConfig {
    ConsumerConfig {
        durable_name: Some(consume.durable.to_string()),
        deliver_policy: match consume.start {
            ConsumeStart::First => DeliverPolicy::All,
            ConsumeStart::New => DeliverPolicy::New,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: to_nanos(consume.ack_wait),
        max_deliver: consume.deliver_max.map_or(-1, i64::from),
        max_ack_pending: i64::from(consume.in_flight_max),
        filter_subject: consume.filter.as_ref().map(ToString::to_string),
        ..ConsumerConfig::default()
    }
}

fn is_as_wanted(present: &ConsumerConfig, wanted: &ConsumerConfig) -> bool {
    let limits = |config: &ConsumerConfig| {
        (config.ack_wait, config.max_deliver.max(-1), config.max_ack_pending)
    };
    present.ack_policy == wanted.ack_policy
        && present.deliver_subject.is_none()
        && !present.headers_only
        && filters(present) == filters(wanted)
        && limits(present) == limits(wanted)
}

/// No filter, the empty filter and the filter for everything are one. Others may set several.
fn filters(config: &ConsumerConfig) -> String {
    if !config.filter_subjects.is_empty() {
        return config.filter_subjects.join(" ");
    }
    match config.filter_subject.as_deref() {
        None | Some("") => ">".to_owned(),
        Some(filter) => filter.to_owned(),
    }
}

/// A durable that delivers other messages, or by other rules, is not the one that was meant.
fn check_compatible(consume: &Consume, present: &ConsumerInfo) -> Result<()> {
    let wanted = config(consume);
    let other = if present.config.deliver_subject.is_some() {
        "it pushes its deliveries"
    } else if present.config.ack_policy != AckPolicy::Explicit {
        "it does not want each delivery acknowledged"
    } else if present.config.headers_only {
        "it delivers headers without their messages"
    } else if filters(&present.config) != filters(&wanted) {
        "it has another filter"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::AlreadyExists, "bus.consume")
        .because(format!("a durable of that name is there, and {other}"))
        .with("stream", &consume.stream)
        .with("durable", &consume.durable)
        .with("filter", filters(&present.config))
        .hint("pick another name, or delete the durable"))
}

/// The reading end of one durable.
struct Puller {
    api: Api,
    consume: Consume,
    /// The subject that deliveries are asked for on.
    request: String,
    feed: Feed,
    inbox: String,
    stopping: watch::Receiver<bool>,
    ready: VecDeque<WireMessage>,
    /// Deliveries asked for that have not come.
    outstanding: usize,
    batch: usize,
    asked: Instant,
    /// When the server last said anything about the request.
    heard: Instant,
    /// The connection that the request was made on.
    epoch: u64,
    drained: bool,
}

impl Puller {
    async fn next(&mut self) -> Result<Option<Delivery>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return self.delivery(message).map(Some);
            }
            if *self.stopping.borrow() && !self.drained {
                self.feed.drain().await;
                self.drained = true;
            }
            if self.outstanding == 0 && !self.drained {
                self.ask().await?;
            }
            self.wait().await?;
            if self.drained && self.ready.is_empty() && self.outstanding == 0 {
                return Ok(None);
            }
        }
    }

    /// Waits for something to happen: a delivery, a word about the request, silence, the stop.
    async fn wait(&mut self) -> Result<()> {
        let silence = self.heard + SILENCE_MAX;
        let mut states = self.link().state();
        let (epoch, draining) = (self.epoch, self.drained);
        let arrived = tokio::select! {
            biased;
            arrived = self.feed.next() => Some(arrived),
            () = is_set(&mut self.stopping), if !draining => return Ok(()),
            () = is_over(&mut states, epoch), if !draining => None,
            // A server that has the durable would have said something.
            () = tokio::time::sleep_until(silence), if !draining => return self.check_there().await,
        };
        match arrived {
            Some(Some(Ok(message))) => self.take(message).await,
            Some(Some(Err(denial))) => Err(denied("bus.consume", &denial)),
            Some(None) if !draining => Err(closed(&self.consume)),
            // The end of what had arrived when the intake was closed; or the request is lost.
            Some(None) | None => {
                self.outstanding = 0;
                Ok(())
            }
        }
    }

    /// Asks for the next deliveries, unless no server can be reached for now.
    async fn ask(&mut self) -> Result<()> {
        let call = self.link().repeatable("bus.consume");
        // The server forgets requests with the connection they came on.
        self.epoch = match self.link().online("bus.consume", call.deadline).await {
            Ok(epoch) => epoch,
            Err(error) if self.link().now().phase == Phase::Closed => return Err(error),
            Err(_offline) => return Ok(()),
        };
        // The reader has come back for more: that it did so at once is what lets it have more.
        let keeps_up = self.asked.elapsed() < KEEPS_UP;
        self.batch = if keeps_up { (self.batch * 2).clamp(1, BATCH_MAX) } else { 1 };
        let body = json!({
            "batch": self.batch,
            "expires": to_nanos(EXPIRES),
            "idle_heartbeat": to_nanos(HEARTBEAT),
        });
        let out = Outgoing::new(self.request.clone(), body.to_string());
        self.link().tell(out, Some(self.inbox.as_str().into()), call.operation).await?;
        self.outstanding = self.batch;
        self.asked = Instant::now();
        self.heard = self.asked;
        Ok(())
    }

    fn link(&self) -> &Link {
        self.api.link()
    }

    async fn take(&mut self, message: WireMessage) -> Result<()> {
        self.heard = Instant::now();
        let Some(status) = message.status.filter(|status| *status != StatusCode::OK) else {
            self.outstanding = self.outstanding.saturating_sub(1);
            self.ready.push_back(message);
            return Ok(());
        };
        let words = message.description.unwrap_or_default();
        match status.as_u16() {
            // A heartbeat.
            100 => Ok(()),
            // The request has had its time.
            404 | 408 => {
                self.outstanding = 0;
                Ok(())
            }
            409 if is_gone(&words) => Err(gone(&self.consume, &words)),
            // A new leader, the end of a batch by size, or somebody else's turn.
            409 => {
                self.outstanding = 0;
                tokio::time::sleep(REFUSED_WAIT).await;
                Ok(())
            }
            // Nobody answers for the consumer: deleted, or its server is starting.
            503 => self.check_there().await,
            code => {
                let refused = ApiError { code, err_code: 0, description: words };
                Err(refused.into_error("bus.consume"))
            }
        }
    }

    /// Waits a little before asking again, or fails if the durable is no longer there.
    async fn check_there(&mut self) -> Result<()> {
        self.outstanding = 0;
        let call = self.link().repeatable("bus.consume");
        let (stream, durable) = (self.consume.stream.as_str(), self.consume.durable.as_str());
        match self.api.consumer(stream, durable, &call).await {
            Ok(None) => return Err(gone(&self.consume, "the durable was deleted")),
            Ok(Some(_)) => {}
            // Nobody to ask for now, or no right to: the next request will tell.
            Err(error) if self.link().now().phase == Phase::Closed => return Err(error),
            Err(error) if error.kind() == ErrorKind::Unavailable || may_not_ask(&error) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(REFUSED_WAIT).await;
        Ok(())
    }

    fn delivery(&self, message: WireMessage) -> Result<Delivery> {
        let place = message.reply.as_deref().and_then(Delivered::parse);
        let (Some(place), Some(reply)) = (place, message.reply.clone()) else {
            return Err(Error::new(ErrorKind::Internal, "bus.consume")
                .because("a delivery without a place in its stream")
                .with("subject", &message.subject));
        };
        let acker = NatsAcker { link: self.link().clone(), reply: reply.into_string() };
        let mut message = message::from_wire(message)?;
        // It is the server's, to settle the delivery with.
        message.reply = None;
        Ok(Delivery::new(message, place.sequence, place.attempt, place.time, Box::new(acker)))
    }
}

/// Resolves when the consumer is stopped; a sender that is gone has been dropped, which stops too.
async fn is_set(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Resolves when the connection counted `epoch` is over.
async fn is_over(states: &mut watch::Receiver<State>, epoch: u64) {
    drop(states.wait_for(|state| state.epoch != epoch).await);
}

fn is_gone(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("consumer deleted") || words.contains("consumer is push")
}

fn gone(consume: &Consume, words: &str) -> Error {
    Error::new(ErrorKind::NotFound, "bus.consume")
        .because(words.to_owned())
        .with("stream", &consume.stream)
        .with("durable", &consume.durable)
}

fn closed(consume: &Consume) -> Error {
    crate::error::not_sent("bus.consume", "the connection is closed")
        .with("stream", &consume.stream)
        .with("durable", &consume.durable)
}

/// Settles one delivery by its reply subject.
#[derive(Debug)]
struct NatsAcker {
    link: Link,
    reply: String,
}

#[async_trait]
impl Acker for NatsAcker {
    async fn settle(&self, how: Settle) -> Result<()> {
        let body = match how {
            Settle::Ack => Bytes::from_static(b"+ACK"),
            Settle::InProgress => Bytes::from_static(b"+WPI"),
            Settle::Nak(delay) if delay.is_zero() => Bytes::from_static(b"-NAK"),
            Settle::Nak(delay) => Bytes::from(format!("-NAK {{\"delay\":{}}}", to_nanos(delay))),
            Settle::Term => Bytes::from_static(b"+TERM"),
        };
        // Settling twice is settling once.
        let call = self.link.repeatable("bus.settle");
        self.link.request(&Outgoing::new(self.reply.clone(), body), &call).await?;
        Ok(())
    }
}
