//! The seam's bus: plain messages through the hub, kept ones through the streams.
//!
//! As in NATS, what is published on a subject that a stream keeps is kept, by whichever call it
//! was published, and what is appended reaches those who subscribe.

use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{
    AppendOpts, Appended, Bus, Consume, Consumer, ConsumerName, Error, ErrorKind, Message, Pattern,
    ReadStream, Result, StreamInfo, StreamMessage, StreamName, StreamSpec, Subject, Subscribe,
    Subscription,
};

use crate::hub::{Hub, INBOX_PREFIX};
use crate::stream::catalog::Catalog;
use crate::stream::{Log, StreamContext};

/// Where the streams are, in the store's directory.
const STREAMS_DIRECTORY: &str = "streams";

/// How long an append waits for its way to those who subscribe: the log is what it promises.
const LISTENERS_WAIT: Duration = Duration::from_secs(1);

/// The bus of a directory. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LocalBus {
    location: Arc<str>,
    hub: Hub,
    streams: Catalog,
}

impl LocalBus {
    /// The bus of the processes that share `directory`. For a thread that may block.
    pub(crate) fn open(directory: &Path, context: StreamContext) -> Result<Self> {
        let hub = context.hub.clone();
        let streams = Catalog::open(directory.join(STREAMS_DIRECTORY), context)?;
        let location = format!("local:{}", directory.display()).into();
        Ok(Self { location, hub, streams })
    }

    /// Closes the streams' databases; the hub is its owner's.
    pub(crate) async fn close(&self) {
        self.streams.close().await;
    }

    /// The stream that keeps `subject`. Answers to requests are nobody's to keep.
    async fn keeper(&self, subject: &Subject) -> Result<Option<Log>> {
        if subject.as_str().starts_with(INBOX_PREFIX) {
            return Ok(None);
        }
        Ok(self.streams.known().await?.keeper(subject).cloned())
    }
}

impl Display for LocalBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, message: Message) -> Result<()> {
        let keeper = self.keeper(&message.subject).await?;
        self.hub.publish(&message).await?;
        let Some(log) = keeper else { return Ok(()) };
        match log.append(message, AppendOpts::new()).await {
            Ok(_) => Ok(()),
            // At most once: a stream that does not want it has nobody to tell.
            Err(error) if is_refusal(error.kind()) => {
                tracing::debug!(%error, "a stream did not keep what was published");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn flush(&self) -> Result<()> {
        self.hub.flush().await
    }

    async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended> {
        let known = self.streams.known().await?;
        let subject = &message.subject;
        let log = known.keeper(subject).ok_or_else(|| known.no_keeper(subject))?.clone();
        if let Some(wanted) = opts.stream.as_ref().filter(|wanted| *wanted != log.name()) {
            return Err(Error::new(ErrorKind::Conflict, "bus.append")
                .because("another stream keeps the subject")
                .with("subject", &message.subject)
                .with("expected", wanted)
                .with("stream", log.name()));
        }
        match tokio::time::timeout(LISTENERS_WAIT, self.hub.publish(&message)).await {
            Ok(published) => published?,
            Err(_elapsed) => tracing::warn!(
                subject = %message.subject,
                "an appended message did not reach those who subscribe: the process that passes \
                 messages on does not keep up"
            ),
        }
        log.append(message, opts).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message> {
        self.hub.request(message, timeout).await
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        self.hub.subscribe(subscribe).await
    }

    async fn consume(&self, consume: Consume) -> Result<Consumer> {
        self.streams.find(&consume.stream, "bus.consume").await?.consume(consume).await
    }

    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool> {
        self.streams.find(stream, "bus.delete_consumer").await?.delete_consumer(durable).await
    }

    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        self.streams.create(spec).await
    }

    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        self.streams.update(spec).await
    }

    async fn streams(&self) -> Result<Vec<StreamInfo>> {
        let mut infos = Vec::new();
        for log in self.streams.known().await?.all() {
            match log.info().await {
                Ok(info) => infos.push(info),
                // Deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(infos)
    }

    async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        self.streams.find(name, "stream.info").await?.info().await
    }

    async fn delete_stream(&self, name: &StreamName) -> Result<bool> {
        self.streams.delete(name).await
    }

    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64> {
        self.streams.find(name, "stream.purge").await?.purge(filter.cloned()).await
    }

    fn read_stream(
        &self,
        name: &StreamName,
        read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        let (streams, name) = (self.streams.clone(), name.clone());
        let opened =
            async move { streams.find(&name, "stream.read").await.map(|log| log.read(read)) };
        stream::once(opened).try_flatten().boxed()
    }
}

fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::LimitExceeded | ErrorKind::NotFound)
}

#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
