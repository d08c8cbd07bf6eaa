//! A layer around a bus.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;

use crate::bus::{AppendOpts, Appended, Bus, Consume, Consumer, Message, Subscribe, Subscription};
use crate::error::Result;
use crate::name::{ConsumerName, Pattern, StreamName};
use crate::stream::{ReadStream, StreamInfo, StreamMessage, StreamSpec};
use crate::wrap::layer::{Call, Layer};

#[derive(Debug)]
pub(super) struct LayeredBus<L> {
    pub(super) inner: Arc<dyn Bus>,
    pub(super) layer: Arc<L>,
}

impl<L: Layer> Display for LayeredBus<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Layer> Bus for LayeredBus<L> {
    async fn publish(&self, message: Message) -> Result<()> {
        let call = Call::new("bus.publish").name(&message.subject);
        self.layer.call(call, || self.inner.publish(message.clone())).await
    }

    async fn flush(&self) -> Result<()> {
        self.layer.call(Call::new("bus.flush"), || self.inner.flush()).await
    }

    async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended> {
        let call = Call::new("bus.append").name(&message.subject);
        self.layer.call(call, || self.inner.append(message.clone(), opts.clone())).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message> {
        // Nobody listening is an answer, and it is promised at once.
        let call = Call::new("bus.request").name(&message.subject).once().waits();
        self.layer.call(call, || self.inner.request(message.clone(), timeout)).await
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let call = Call::new("bus.subscribe").name(&subscribe.pattern);
        self.layer.call(call, || self.inner.subscribe(subscribe.clone())).await
    }

    async fn consume(&self, consume: Consume) -> Result<Consumer> {
        let call = Call::new("bus.consume").bucket(&consume.stream).name(&consume.durable);
        self.layer.call(call, || self.inner.consume(consume.clone())).await
    }

    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool> {
        let call = Call::new("bus.delete_consumer").bucket(stream).name(durable);
        self.layer.call(call, || self.inner.delete_consumer(stream, durable)).await
    }

    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        let call = Call::new("stream.create").bucket(&spec.name);
        self.layer.call(call, || self.inner.create_stream(spec)).await
    }

    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        let call = Call::new("stream.update").bucket(&spec.name);
        self.layer.call(call, || self.inner.update_stream(spec)).await
    }

    async fn streams(&self) -> Result<Vec<StreamInfo>> {
        self.layer.call(Call::new("stream.list"), || self.inner.streams()).await
    }

    async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        let call = Call::new("stream.info").bucket(name);
        self.layer.call(call, || self.inner.stream(name)).await
    }

    async fn delete_stream(&self, name: &StreamName) -> Result<bool> {
        let call = Call::new("stream.delete").bucket(name);
        self.layer.call(call, || self.inner.delete_stream(name)).await
    }

    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64> {
        let call = Call::new("stream.purge").bucket(name);
        self.layer.call(call, || self.inner.purge_stream(name, filter)).await
    }

    fn read_stream(
        &self,
        name: &StreamName,
        read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        let call = Call::new("stream.read").bucket(name);
        if read.follow {
            return self.layer.watch(call, self.inner.read_stream(name, read));
        }
        self.layer.listing(call, self.inner.read_stream(name, read))
    }
}
