//! One bucket of keys on a NATS server.
//!
//! The bytes are those of every NATS client (ADR-8). What this module adds is in headers that
//! others pass over: when a value expires, and which write it was.

mod bucket;
mod draft;
mod janitor;
mod list;
mod many;
mod read;
mod scan;
mod send;
mod watch;
mod write;

use std::fmt::{self, Display};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;

use jetbridge_core::{
    BucketName, Change, Cursor, DeleteOpts, Entry, IncrementOpts, Key, KeyEncoding, Kv, KvShared,
    Page, PutOpts, Read, Result, Revision, Scope, Snapshot, Watch, Written,
};

pub(crate) use self::bucket::Bucket;
pub(crate) use self::draft::value_bytes_max;
use crate::clock;
use crate::keyspace::Names;
use crate::request::Call;

/// A handle on a bucket.
#[derive(Clone, Debug)]
pub(crate) struct NatsKv {
    bucket: Arc<Bucket>,
    names: Arc<Names>,
}

impl NatsKv {
    pub(crate) fn new(bucket: Arc<Bucket>, keys: KeyEncoding) -> Self {
        Self { bucket, names: Arc::new(Names::new(keys)) }
    }

    fn reading(&self, operation: &'static str) -> Call {
        self.bucket.api.link().repeatable(operation)
    }

    fn writing(&self, operation: &'static str) -> Call {
        self.bucket.api.link().once(operation)
    }
}

impl Display for NatsKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket.api.link().location(), self.bucket.name)
    }
}

#[async_trait]
impl Kv for NatsKv {
    fn bucket(&self) -> &BucketName {
        &self.bucket.name
    }

    fn shared(&self) -> &KvShared {
        &self.bucket.shared
    }

    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>> {
        self.read(key, read, &self.reading("kv.get")).await
    }

    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot> {
        self.read_many(keys, read, &self.reading("kv.get_many")).await
    }

    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Result<Written> {
        self.put_value(key, &value, &opts, &self.writing("kv.put")).await
    }

    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>> {
        let deleted = self.delete_value(key, opts, &self.writing("kv.delete")).await;
        deleted.map_err(|error| self.about(error, key))
    }

    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64> {
        let api = self.bucket.api.clone();
        jetbridge_core::increment(self, &move || clock::now(&api), key, delta, opts).await
    }

    async fn purge(&self, scope: Scope) -> Result<u64> {
        self.purge_scope(scope, &self.reading("kv.purge")).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Change>> {
        let changes = self.stored_history(key, &self.reading("kv.history")).await;
        changes.map_err(|error| self.about(error, key))
    }

    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        self.live_keys(scope)
    }

    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page> {
        self.live_page(scope, after, limit, &self.reading("kv.page")).await
    }

    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        self.changes(watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that an allocator hands out from its lists of small blocks, less what the call holds
    /// beside the operation.
    const SMALL: usize = 1024 - size_of::<Call>() - 4 * size_of::<usize>();

    fn size<A, B, C, D, F>(_operation: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn thousands_of_gets_are_small() {
        let get = |kv: &'static NatsKv, key: &'static Key, read, call: &'static Call| {
            kv.read(key, read, call)
        };
        assert!(size(get) <= SMALL, "{}", size(get));
    }

    #[test]
    fn thousands_of_puts_are_small() {
        static VALUE: Bytes = Bytes::new();
        let put = |kv: &'static NatsKv, key: &'static Key, opts, call: &'static Call| {
            kv.put_value(key, &VALUE, opts, call)
        };
        let arguments = size_of::<Bytes>() + size_of::<PutOpts>();
        assert!(size(put) + arguments <= SMALL, "{}", size(put) + arguments);
    }
}
