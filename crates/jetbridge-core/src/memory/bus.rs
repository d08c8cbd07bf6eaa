//! Subjects to messages, in memory.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use super::log::{Log, absent, differences, normalised};
use super::reader::{Reader, check};
use super::subscriber::Subscribers;
use super::{Store, VALUE_BYTES_MAX, over_limit};
use crate::bus::{
    AppendOpts, Appended, Bus, Consume, Consumer, Message, Received, Subscribe, Subscription,
};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ConsumerName, Pattern, StreamName, Subject};
use crate::stream::{ReadStream, Retention, StreamInfo, StreamMessage, StreamSpec};

/// Who listens, and what is kept.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    subscribers: Subscribers,
    streams: BTreeMap<StreamName, Log>,
}

/// The bus of one store.
#[derive(Clone, Debug)]
pub(super) struct MemoryBus(pub(super) Arc<Store>);

impl Store {
    pub(super) fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `act` on a stream as it is now, and wakes its readers.
    pub(super) fn with_stream<T>(
        &self,
        name: &StreamName,
        operation: &'static str,
        act: impl FnOnce(&mut Log, SystemTime) -> Result<T>,
    ) -> Result<T> {
        let now = self.time(operation)?;
        let mut traffic = self.traffic();
        let log = traffic.streams.get_mut(name).ok_or_else(|| absent(name, operation))?;
        log.trim(now);
        act(log, now)
    }
}

impl MemoryBus {
    /// Hands `message` to the listeners and to the stream that keeps its subject, if any.
    fn send(
        &self,
        operation: &'static str,
        message: Message,
        opts: &AppendOpts,
    ) -> Result<Option<Result<Appended>>> {
        let now = self.0.time(operation)?;
        check_size(operation, &message)?;
        let mut traffic = self.0.traffic();
        traffic.subscribers.deliver(&message);
        let Some(log) = traffic.streams.values_mut().find(|log| log.keeps(&message.subject)) else {
            return Ok(None);
        };
        if let Some(wanted) = opts.stream.as_ref().filter(|wanted| **wanted != log.spec.name) {
            return Err(Error::new(ErrorKind::Conflict, operation)
                .because("another stream keeps the subject")
                .with("subject", &message.subject)
                .with("expected", wanted)
                .with("stream", &log.spec.name));
        }
        log.trim(now);
        let appended = log.append(message, opts, now);
        log.changed.notify_waiters();
        Ok(Some(appended))
    }
}

impl Display for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory:")
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, message: Message) -> Result<()> {
        // At most once: what a stream says to a message that nobody waits for is lost.
        self.send("bus.publish", message, &AppendOpts::new()).map(|_unheard| ())
    }

    async fn flush(&self) -> Result<()> {
        // A publish returns after the message was delivered.
        self.0.time("bus.flush").map(|_now| ())
    }

    async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended> {
        let subject = message.subject.clone();
        self.send("bus.append", message, &opts)?.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::NotFound, "bus.append")
                .because("no stream keeps this subject")
                .with("subject", &subject)
                .hint(format!("create one with `jetbridge stream add NAME --subjects {subject}`")))
        })
    }

    async fn request(&self, mut message: Message, timeout: Duration) -> Result<Message> {
        self.0.time("bus.request")?;
        check_size("bus.request", &message)?;
        let subject = message.subject.clone();
        let inbox = Subject::parse(format!("_INBOX.{}", crate::random::name()))?;
        let mut answers = self.subscribe(Subscribe::to(inbox.clone().into()).capacity(1)).await?;
        message.reply = Some(inbox);
        if self.0.traffic().subscribers.deliver(&message) == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "bus.request")
                .because("nobody listens on the subject")
                .with("subject", &subject));
        }
        let unanswered = || {
            Error::new(ErrorKind::Unavailable, "bus.request")
                .because("no answer in time")
                .with("subject", &subject)
                .with("timeout_ms", timeout.as_millis())
                .outcome_unknown()
        };
        match tokio::time::timeout(timeout, answers.next()).await {
            Ok(Some(Ok(Received::Message(answer)))) => Ok(answer),
            Ok(Some(Err(error))) => Err(error),
            Ok(Some(Ok(Received::Dropped(_))) | None) | Err(_) => Err(unanswered()),
        }
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        self.0.time("bus.subscribe")?;
        let (number, subscriber) = self.0.traffic().subscribers.add(subscribe);
        let store = Arc::clone(&self.0);
        let stop = move || store.traffic().subscribers.remove(number);
        Ok(Subscription::new(subscriber.stream(&self.0), stop))
    }

    async fn consume(&self, consume: Consume) -> Result<Consumer> {
        check(&consume)?;
        let changed = self.0.with_stream(&consume.stream, "bus.consume", |log, _now| {
            log.join(&consume).map(|()| Arc::clone(&log.changed))
        })?;
        let reader = Reader::new(Arc::clone(&self.0), consume.stream, changed);
        Ok(reader.consume(consume.durable))
    }

    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool> {
        self.0.with_stream(stream, "bus.delete_consumer", |log, _now| {
            let left = log.leave(durable);
            log.changed.notify_waiters();
            Ok(left)
        })
    }

    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        let now = self.0.time("stream.create")?;
        let spec = normalised(spec, "stream.create")?;
        let mut traffic = self.0.traffic();
        if let Some(log) = traffic.streams.get(&spec.name) {
            let differences = differences(&spec, &log.spec);
            if differences.is_empty() {
                return Ok(log.info());
            }
            return Err(Error::new(ErrorKind::AlreadyExists, "stream.create")
                .because("it is there with other settings")
                .with("stream", &spec.name)
                .with("differs", differences.join(",")));
        }
        traffic.check_subjects(&spec, "stream.create")?;
        let log = Log::new(spec, now);
        let info = log.info();
        traffic.streams.insert(info.spec.name.clone(), log);
        Ok(info)
    }

    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        let now = self.0.time("stream.update")?;
        let spec = normalised(spec, "stream.update")?;
        let mut traffic = self.0.traffic();
        traffic.check_subjects(&spec, "stream.update")?;
        let found = traffic.streams.get_mut(&spec.name);
        let log = found.ok_or_else(|| absent(&spec.name, "stream.update"))?;
        let queue = Retention::WorkQueue;
        if spec.retention != log.spec.retention
            && (spec.retention == queue || log.spec.retention == queue)
        {
            return Err(Error::new(ErrorKind::InvalidInput, "stream.update")
                .because("a stream cannot become a work queue, nor cease to be one")
                .with("stream", &spec.name));
        }
        log.set_spec(spec, now);
        Ok(log.info())
    }

    async fn streams(&self) -> Result<Vec<StreamInfo>> {
        let now = self.0.time("stream.list")?;
        let mut traffic = self.0.traffic();
        let infos = traffic.streams.values_mut().map(|log| {
            log.trim(now);
            log.info()
        });
        Ok(infos.collect())
    }

    async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        self.0.with_stream(name, "stream.info", |log, _now| Ok(log.info()))
    }

    async fn delete_stream(&self, name: &StreamName) -> Result<bool> {
        self.0.time("stream.delete")?;
        let Some(log) = self.0.traffic().streams.remove(name) else { return Ok(false) };
        log.changed.notify_waiters();
        Ok(true)
    }

    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64> {
        self.0.with_stream(name, "stream.purge", |log, _now| Ok(log.purge(filter)))
    }

    fn read_stream(
        &self,
        name: &StreamName,
        read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        let begun = self.0.with_stream(name, "stream.read", |log, _now| {
            let end = if read.follow { u64::MAX } else { log.last() };
            Ok((Arc::clone(&log.changed), end))
        });
        let (changed, end) = match begun {
            Ok(begun) => begun,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        Reader::new(Arc::clone(&self.0), name.clone(), changed).read(read, end)
    }
}

impl Traffic {
    fn check_subjects(&self, spec: &StreamSpec, operation: &'static str) -> Result<()> {
        let mut others = self.streams.values().filter(|log| log.spec.name != spec.name);
        match others.find(|log| log.overlaps(spec)) {
            None => Ok(()),
            Some(other) => Err(Error::new(ErrorKind::InvalidInput, operation)
                .because("another stream keeps some of these subjects")
                .with("stream", &spec.name)
                .with("other", &other.spec.name)),
        }
    }
}

fn check_size(operation: &'static str, message: &Message) -> Result<()> {
    let bytes = (message.payload.len() + message.headers.wire_bytes()) as u64;
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(over_limit(operation, "message", bytes, VALUE_BYTES_MAX).with("subject", &message.subject))
}
