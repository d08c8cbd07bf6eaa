//! A backend that breaks one promise, to see that the contract notices.
//!
//! Everything is passed on to the store in memory but for what the flaw spoils.

mod bus;
mod kv;
mod object;

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jetbridge_core::{
    Backend, BucketInfo, BucketKind, BucketName, BucketSpec, Bus, Capabilities, Check,
    ConnectionState, Counters, Kv, MemoryBackend, Objects, Open, Result, StopReport, StoreClock,
    StoreStatus, StoreTime,
};
use jetbridge_testkit::Fixture;

use self::bus::FlawedBus;
use self::kv::FlawedKv;
use self::object::FlawedObjects;

/// Which promise is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flaw {
    /// The conflict does not say what is there.
    HidesThePresentRevision,
    /// A time to live is taken and forgotten.
    IgnoresTtl,
    /// A message id is ignored.
    IgnoresIds,
    /// The length of the longest key is not what it should be: keys differ only by case no more.
    IgnoresCase,
    /// A listing leaves a key out.
    ListsOneTooFew,
    /// Of a failing body the beginning is stored.
    KeepsTornBodies,
    /// A condition on a revision is not checked.
    LosesUpdates,
    /// The last byte of an object is not delivered.
    LosesTheLastByte,
    /// The word of having caught up never comes.
    NeverCatchesUp,
    /// None.
    None,
    /// A task is left behind at the close.
    LeavesATask,
    /// Reads return what was read first.
    ReadsStale,
    /// The word of having caught up comes twice.
    CatchesUpTwice,
    /// A deletion is taken as an empty value.
    WritesForDeleting,
}

#[derive(Debug)]
pub(crate) struct Flawed {
    inner: Arc<dyn Backend>,
    flaw: Flaw,
}

/// A fixture over the store in memory with a flaw.
pub(crate) async fn open(flaw: Flaw) -> Fixture {
    let backend = Arc::new(Flawed { inner: Arc::new(MemoryBackend::new()), flaw });
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

impl Display for Flawed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.flaw, self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Flawed {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>> {
        Ok(Arc::new(FlawedKv::new(self.inner.kv(bucket, open).await?, self.flaw)))
    }

    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>> {
        let inner = self.inner.objects(bucket, open).await?;
        Ok(Arc::new(FlawedObjects { inner, flaw: self.flaw }))
    }

    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>> {
        self.inner.counters(bucket).await
    }

    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(FlawedBus { inner: self.inner.bus(), flaw: self.flaw })
    }

    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.inner.create_bucket(kind, bucket, spec).await
    }

    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.inner.update_bucket(kind, bucket, spec).await
    }

    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>> {
        self.inner.buckets(kind).await
    }

    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo> {
        self.inner.bucket(kind, bucket).await
    }

    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool> {
        self.inner.delete_bucket(kind, bucket).await
    }

    fn clock(&self) -> &StoreClock {
        self.inner.clock()
    }

    async fn now(&self) -> Result<StoreTime> {
        self.inner.now().await
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.inner.connection()
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.inner.status().await
    }

    async fn diagnose(&self) -> Vec<Check> {
        self.inner.diagnose().await
    }

    async fn close(&self, grace: Duration) -> StopReport {
        let report = self.inner.close(grace).await;
        if self.flaw == Flaw::LeavesATask { StopReport::new(1, 0) } else { report }
    }
}
