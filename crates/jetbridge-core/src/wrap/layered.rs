//! A layer around a backend: every operation goes through it, on the backend and on what the
//! backend hands out. Nothing but forwarding lives here.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;

use self::bus::LayeredBus;
use self::kv::LayeredKv;
use self::object::LayeredObjects;
use super::layer::{Call, Layer};
use crate::backend::{
    Backend, BucketInfo, BucketKind, BucketSpec, Capabilities, Check, ConnectionState, Open,
    StopReport, StoreStatus,
};
use crate::bus::Bus;
use crate::clock::{StoreClock, StoreTime};
use crate::counter::Counters;
use crate::error::Result;
use crate::kv::Kv;
use crate::name::{BucketName, Key};
use crate::object::Objects;

mod bus;
mod kv;
mod object;

/// A backend in a [`Layer`]. Prints as the backend does.
#[derive(Clone, Debug)]
pub struct Layered<L> {
    inner: Arc<dyn Backend>,
    layer: Arc<L>,
}

impl<L: Layer> Layered<L> {
    /// Puts `layer` around `inner`.
    pub fn new(inner: Arc<dyn Backend>, layer: L) -> Self {
        Self { inner, layer: Arc::new(layer) }
    }

    /// The backend inside, to go around the layer.
    pub fn inner(&self) -> &Arc<dyn Backend> {
        &self.inner
    }

    /// The layer.
    pub fn layer(&self) -> &L {
        &self.layer
    }
}

impl<L: Layer> Display for Layered<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Layer> Backend for Layered<L> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>> {
        let call = Call::new("bucket.open").bucket(bucket);
        let inner = self.layer.call(call, || self.inner.kv(bucket, open.clone())).await?;
        Ok(Arc::new(LayeredKv { inner, layer: Arc::clone(&self.layer) }))
    }

    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>> {
        let call = Call::new("bucket.open").bucket(bucket);
        let inner = self.layer.call(call, || self.inner.objects(bucket, open.clone())).await?;
        Ok(Arc::new(LayeredObjects { inner, layer: Arc::clone(&self.layer) }))
    }

    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>> {
        let call = Call::new("bucket.open").bucket(bucket);
        let inner = self.layer.call(call, || self.inner.counters(bucket)).await?;
        Ok(Arc::new(LayeredCounters { inner, layer: Arc::clone(&self.layer) }))
    }

    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(LayeredBus { inner: self.inner.bus(), layer: Arc::clone(&self.layer) })
    }

    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        let call = Call::new("bucket.create").bucket(bucket);
        self.layer.call(call, || self.inner.create_bucket(kind, bucket, spec)).await
    }

    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        let call = Call::new("bucket.update").bucket(bucket);
        self.layer.call(call, || self.inner.update_bucket(kind, bucket, spec)).await
    }

    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>> {
        self.layer.call(Call::new("bucket.list"), || self.inner.buckets(kind)).await
    }

    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo> {
        let call = Call::new("bucket.info").bucket(bucket);
        self.layer.call(call, || self.inner.bucket(kind, bucket)).await
    }

    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool> {
        let call = Call::new("bucket.delete").bucket(bucket);
        self.layer.call(call, || self.inner.delete_bucket(kind, bucket)).await
    }

    fn clock(&self) -> &StoreClock {
        self.inner.clock()
    }

    async fn now(&self) -> Result<StoreTime> {
        self.layer.call(Call::new("store.now"), || self.inner.now()).await
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.inner.connection()
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.layer.call(Call::new("store.status"), || self.inner.status()).await
    }

    async fn diagnose(&self) -> Vec<Check> {
        self.inner.diagnose().await
    }

    async fn close(&self, grace: Duration) -> StopReport {
        self.inner.close(grace).await
    }
}

#[derive(Debug)]
struct LayeredCounters<L> {
    inner: Arc<dyn Counters>,
    layer: Arc<L>,
}

impl<L: Layer> Display for LayeredCounters<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Layer> Counters for LayeredCounters<L> {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    async fn fetch_add(&self, key: &Key, n: i64) -> Result<i64> {
        let call = Call::new("counter.fetch_add").bucket(self.bucket()).name(key);
        self.layer.call(call, || self.inner.fetch_add(key, n)).await
    }

    async fn value(&self, key: &Key) -> Result<Option<i64>> {
        let call = Call::new("counter.value").bucket(self.bucket()).name(key);
        self.layer.call(call, || self.inner.value(key)).await
    }

    async fn remove(&self, key: &Key) -> Result<bool> {
        let call = Call::new("counter.remove").bucket(self.bucket()).name(key);
        self.layer.call(call, || self.inner.remove(key)).await
    }
}
