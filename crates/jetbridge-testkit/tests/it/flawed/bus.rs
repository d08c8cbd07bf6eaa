//! A bus with a flaw.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jetbridge_core::{
    AppendOpts, Appended, Bus, Consume, Consumer, ConsumerName, Message, Pattern, ReadStream,
    Result, StreamInfo, StreamMessage, StreamName, StreamSpec, Subscribe, Subscription,
};

use super::Flaw;

#[derive(Debug)]
pub(super) struct FlawedBus {
    pub(super) inner: Arc<dyn Bus>,
    pub(super) flaw: Flaw,
}

impl Display for FlawedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Bus for FlawedBus {
    async fn publish(&self, message: Message) -> Result<()> {
        self.inner.publish(message).await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn append(&self, message: Message, mut opts: AppendOpts) -> Result<Appended> {
        if self.flaw == Flaw::IgnoresIds {
            opts.id = None;
        }
        self.inner.append(message, opts).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message> {
        self.inner.request(message, timeout).await
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        self.inner.subscribe(subscribe).await
    }

    async fn consume(&self, consume: Consume) -> Result<Consumer> {
        self.inner.consume(consume).await
    }

    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool> {
        self.inner.delete_consumer(stream, durable).await
    }

    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        self.inner.create_stream(spec).await
    }

    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        self.inner.update_stream(spec).await
    }

    async fn streams(&self) -> Result<Vec<StreamInfo>> {
        self.inner.streams().await
    }

    async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        self.inner.stream(name).await
    }

    async fn delete_stream(&self, name: &StreamName) -> Result<bool> {
        self.inner.delete_stream(name).await
    }

    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64> {
        self.inner.purge_stream(name, filter).await
    }

    fn read_stream(
        &self,
        name: &StreamName,
        read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        self.inner.read_stream(name, read)
    }
}
