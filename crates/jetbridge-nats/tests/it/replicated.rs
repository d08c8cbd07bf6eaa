//! A backend that makes everything in three copies, whatever it is asked for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use jetbridge_core::{
    AppendOpts, Appended, Backend, BucketInfo, BucketKind, BucketName, BucketSpec, Bus,
    Capabilities, Check, ConnectionState, Consume, Consumer, ConsumerName, Counters, Kv, Message,
    Objects, Open, Pattern, ReadStream, Result, StopReport, StoreClock, StoreStatus, StoreTime,
    StreamInfo, StreamMessage, StreamName, StreamSpec, Subscribe, Subscription,
};

const COPIES: u8 = 3;

#[derive(Debug)]
pub(crate) struct Replicated(pub(crate) Arc<dyn Backend>);

impl fmt::Display for Replicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {COPIES} copies", self.0)
    }
}

fn copies(spec: &BucketSpec) -> BucketSpec {
    let mut spec = spec.clone();
    spec.replicas = COPIES;
    spec
}

fn open_copies(mut open: Open) -> Open {
    open.create = open.create.as_ref().map(copies);
    open
}

/// What was asked for, as the store says that it is.
fn as_asked(mut info: BucketInfo) -> BucketInfo {
    info.spec.replicas = 1;
    info
}

#[async_trait]
impl Backend for Replicated {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>> {
        self.0.kv(bucket, open_copies(open)).await
    }

    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>> {
        self.0.objects(bucket, open_copies(open)).await
    }

    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>> {
        self.0.counters(bucket).await
    }

    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(ReplicatedBus(self.0.bus()))
    }

    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.0.create_bucket(kind, bucket, &copies(spec)).await.map(as_asked)
    }

    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.0.update_bucket(kind, bucket, &copies(spec)).await.map(as_asked)
    }

    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>> {
        Ok(self.0.buckets(kind).await?.into_iter().map(as_asked).collect())
    }

    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo> {
        self.0.bucket(kind, bucket).await.map(as_asked)
    }

    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool> {
        self.0.delete_bucket(kind, bucket).await
    }

    fn clock(&self) -> &StoreClock {
        self.0.clock()
    }

    async fn now(&self) -> Result<StoreTime> {
        self.0.now().await
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.0.connection()
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.0.status().await
    }

    async fn diagnose(&self) -> Vec<Check> {
        self.0.diagnose().await
    }

    async fn close(&self, grace: Duration) -> StopReport {
        self.0.close(grace).await
    }
}

#[derive(Debug)]
struct ReplicatedBus(Arc<dyn Bus>);

impl fmt::Display for ReplicatedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {COPIES} copies", self.0)
    }
}

fn stream_copies(spec: &StreamSpec) -> StreamSpec {
    let mut spec = spec.clone();
    spec.replicas = COPIES;
    spec
}

fn stream_as_asked(mut info: StreamInfo) -> StreamInfo {
    info.spec.replicas = 1;
    info
}

#[async_trait]
impl Bus for ReplicatedBus {
    async fn publish(&self, message: Message) -> Result<()> {
        self.0.publish(message).await
    }

    async fn flush(&self) -> Result<()> {
        self.0.flush().await
    }

    async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended> {
        self.0.append(message, opts).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message> {
        self.0.request(message, timeout).await
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        self.0.subscribe(subscribe).await
    }

    async fn consume(&self, consume: Consume) -> Result<Consumer> {
        self.0.consume(consume).await
    }

    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool> {
        self.0.delete_consumer(stream, durable).await
    }

    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        self.0.create_stream(&stream_copies(spec)).await.map(stream_as_asked)
    }

    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        self.0.update_stream(&stream_copies(spec)).await.map(stream_as_asked)
    }

    async fn streams(&self) -> Result<Vec<StreamInfo>> {
        Ok(self.0.streams().await?.into_iter().map(stream_as_asked).collect())
    }

    async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        self.0.stream(name).await.map(stream_as_asked)
    }

    async fn delete_stream(&self, name: &StreamName) -> Result<bool> {
        self.0.delete_stream(name).await
    }

    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64> {
        self.0.purge_stream(name, filter).await
    }

    fn read_stream(
        &self,
        name: &StreamName,
        read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        self.0.read_stream(name, read)
    }
}
