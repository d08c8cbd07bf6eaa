//! A layer around a bucket of keys.

use std::fmt::{self, Display};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;

use crate::counter::KvShared;
use crate::error::Result;
use crate::kv::{
    Change, Cursor, DeleteOpts, Entry, IncrementOpts, Kv, Page, PutOpts, Read, Revision, Scope,
    Snapshot, Watch, Written,
};
use crate::name::{BucketName, Key};
use crate::wrap::layer::{Call, Layer};

#[derive(Debug)]
pub(super) struct LayeredKv<L> {
    pub(super) inner: Arc<dyn Kv>,
    pub(super) layer: Arc<L>,
}

impl<L: Layer> LayeredKv<L> {
    fn call(&self, operation: &'static str) -> Call<'_> {
        Call::new(operation).bucket(self.inner.bucket())
    }
}

impl<L: Layer> Display for LayeredKv<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Layer> Kv for LayeredKv<L> {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    fn shared(&self) -> &KvShared {
        self.inner.shared()
    }

    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>> {
        let call = self.call("kv.get").name(key);
        self.layer.call(call, || self.inner.get(key, read)).await
    }

    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot> {
        let call = self.call("kv.get_many");
        self.layer.call(call, || self.inner.get_many(keys, read)).await
    }

    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Result<Written> {
        let call = self.call("kv.put").name(key);
        self.layer.call(call, || self.inner.put(key, value.clone(), opts.clone())).await
    }

    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>> {
        let call = self.call("kv.delete").name(key);
        self.layer.call(call, || self.inner.delete(key, opts)).await
    }

    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64> {
        let call = self.call("kv.increment").name(key);
        self.layer.call(call, || self.inner.increment(key, delta, opts)).await
    }

    async fn purge(&self, scope: Scope) -> Result<u64> {
        let call = self.call("kv.purge");
        self.layer.call(call, || self.inner.purge(scope.clone())).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Change>> {
        let call = self.call("kv.history").name(key);
        self.layer.call(call, || self.inner.history(key)).await
    }

    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        self.layer.listing(self.call("kv.keys"), self.inner.keys(scope))
    }

    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page> {
        let call = self.call("kv.page");
        self.layer.call(call, || self.inner.page(scope.clone(), after.clone(), limit)).await
    }

    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        self.layer.watch(self.call("kv.watch"), self.inner.watch(watch))
    }
}
