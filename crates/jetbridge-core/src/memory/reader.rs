//! Those who read a stream: in order, or as a durable consumer.
//!
//! A reader holds nothing but its place. It asks the stream for the next message under the lock
//! and waits outside of it.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Store;
use super::log::{Log, absent};
use crate::bus::{Acker, Consume, Consumer, Delivery, Settle};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ConsumerName, StreamName};
use crate::stream::{ReadStream, StreamMessage};

/// A reader of one stream. One that was made anew under the same name is another stream.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    store: Arc<Store>,
    stream: StreamName,
    changed: Arc<Notify>,
}

impl Reader {
    pub(super) fn new(store: Arc<Store>, stream: StreamName, changed: Arc<Notify>) -> Self {
        Self { store, stream, changed }
    }

    /// The messages that `read` asks for, none behind sequence `end`.
    pub(super) fn read(
        self,
        read: ReadStream,
        end: u64,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        stream::unfold(Some((self, read)), move |place| async move {
            let (this, mut read) = place?;
            let message = this.next(&mut read, end).await.transpose()?;
            let place = message.is_ok().then_some((this, read));
            Some((message, place))
        })
        .boxed()
    }

    /// The deliveries of a durable consumer.
    pub(super) fn consume(self, durable: ConsumerName) -> Consumer {
        let stop = CancellationToken::new();
        let place = Some((self, durable, stop.clone()));
        let deliveries = stream::unfold(place, |place| async move {
            let (this, durable, stop) = place?;
            let delivery = this.delivery(&durable, &stop).await.transpose()?;
            let place = delivery.is_ok().then_some((this, durable, stop));
            Some((delivery, place))
        });
        Consumer::new(deliveries.boxed(), move || stop.cancel())
    }

    async fn next(&self, read: &mut ReadStream, end: u64) -> Result<Option<StreamMessage>> {
        loop {
            // Taken before the look at the stream, so that no change in between is missed.
            let changed = self.changed.notified();
            let (found, last) = self.with("stream.read", |log, _now| {
                let found = log.next(read.after, end, read.filter.as_ref()).cloned();
                Ok((found, log.last()))
            })?;
            read.after = found.as_ref().map_or(last.max(read.after), |message| message.sequence);
            if found.is_some() || !read.follow {
                return Ok(found);
            }
            self.store.wait(changed, None).await;
        }
    }

    async fn delivery(
        &self,
        name: &ConsumerName,
        stop: &CancellationToken,
    ) -> Result<Option<Delivery>> {
        loop {
            let changed = self.changed.notified();
            if stop.is_cancelled() {
                return Ok(None);
            }
            let (found, due) = self.with("bus.consume", |log, now| {
                let found = log.durable(name);
                let (durable, messages) = found.ok_or_else(|| self.no_consumer(name))?;
                let next = durable.next(messages, now).map(|(it, attempt)| (it.clone(), attempt));
                Ok((next, durable.next_due()))
            })?;
            if let Some((it, attempt)) = found {
                let acker = MemoryAcker {
                    reader: self.clone(),
                    durable: name.clone(),
                    sequence: it.sequence,
                    attempt,
                };
                let acker = Box::new(acker);
                return Ok(Some(Delivery::new(it.message, it.sequence, attempt, it.stored, acker)));
            }
            tokio::select! {
                () = self.store.wait(changed, due) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn with<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut Log, SystemTime) -> Result<T>,
    ) -> Result<T> {
        self.store.with_stream(&self.stream, operation, |log, now| {
            if !Arc::ptr_eq(&log.changed, &self.changed) {
                return Err(absent(&self.stream, operation));
            }
            act(log, now)
        })
    }

    fn no_consumer(&self, name: &ConsumerName) -> Error {
        Error::new(ErrorKind::NotFound, "bus.consume")
            .because("there is no such consumer any more")
            .with("stream", &self.stream)
            .with("durable", name)
    }
}

struct MemoryAcker {
    reader: Reader,
    durable: ConsumerName,
    sequence: u64,
    attempt: u64,
}

#[async_trait]
impl Acker for MemoryAcker {
    async fn settle(&self, how: Settle) -> Result<()> {
        self.reader.with("bus.settle", |log, now| {
            let found = log.durable(&self.durable);
            let (durable, _) = found.ok_or_else(|| self.reader.no_consumer(&self.durable))?;
            if durable.settle(self.sequence, self.attempt, how, now) {
                log.release(self.sequence);
            }
            log.changed.notify_waiters();
            Ok(())
        })
    }
}

/// Refuses what can never deliver.
pub(super) fn check(consume: &Consume) -> Result<()> {
    let zeros = [
        ("ack_wait", consume.ack_wait.is_zero()),
        ("deliver_max", consume.deliver_max == Some(0)),
        ("in_flight_max", consume.in_flight_max == 0),
    ];
    match zeros.into_iter().find(|(_, zero)| *zero) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(ErrorKind::InvalidInput, "bus.consume")
            .because(format!("{name} is zero: nothing would ever be delivered"))
            .with("stream", &consume.stream)
            .with("durable", &consume.durable)),
    }
}
