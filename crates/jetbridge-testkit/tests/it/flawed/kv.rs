//! A bucket of keys with a flaw.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use jetbridge_core::{
    BucketName, Change, Cursor, DeleteOpts, Entry, Error, ErrorKind, Expect, IncrementOpts, Key,
    Kv, KvShared, Page, PutOpts, Read, Result, Revision, Scope, Snapshot, Watch, Written,
};

use super::Flaw;

#[derive(Debug)]
pub(super) struct FlawedKv {
    inner: Arc<dyn Kv>,
    flaw: Flaw,
    first_reads: Mutex<HashMap<Key, Option<Entry>>>,
}

impl FlawedKv {
    pub(super) fn new(inner: Arc<dyn Kv>, flaw: Flaw) -> Self {
        Self { inner, flaw, first_reads: Mutex::default() }
    }

    fn stored(&self, key: &Key) -> Key {
        if self.flaw != Flaw::IgnoresCase {
            return key.clone();
        }
        Key::parse(key.as_str().to_lowercase()).unwrap_or_else(|_longer| key.clone())
    }
}

impl Display for FlawedKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Kv for FlawedKv {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    fn shared(&self) -> &KvShared {
        self.inner.shared()
    }

    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>> {
        let entry = self.inner.get(&self.stored(key), read).await?;
        if self.flaw != Flaw::ReadsStale || entry.is_none() {
            return Ok(entry);
        }
        let mut first_reads = self.first_reads.lock().unwrap();
        Ok(first_reads.entry(key.clone()).or_insert(entry).clone())
    }

    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot> {
        self.inner.get_many(keys, read).await
    }

    async fn put(&self, key: &Key, value: Bytes, mut opts: PutOpts) -> Result<Written> {
        match self.flaw {
            Flaw::IgnoresTtl => opts.ttl = None,
            Flaw::LosesUpdates if matches!(opts.expect, Expect::Exactly(_)) => {
                opts.expect = Expect::Any;
            }
            _ => {}
        }
        self.inner.put(&self.stored(key), value, opts).await.map_err(|error| {
            let hide = self.flaw == Flaw::HidesThePresentRevision;
            if hide && error.kind() == ErrorKind::Conflict {
                Error::new(ErrorKind::Conflict, "kv.put")
            } else {
                error
            }
        })
    }

    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>> {
        if self.flaw == Flaw::WritesForDeleting {
            let put = PutOpts::new().expect(opts.expect);
            return Ok(Some(self.inner.put(key, Bytes::new(), put).await?.revision));
        }
        self.inner.delete(key, opts).await
    }

    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64> {
        self.inner.increment(key, delta, opts).await
    }

    async fn purge(&self, scope: Scope) -> Result<u64> {
        self.inner.purge(scope).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Change>> {
        self.inner.history(key).await
    }

    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        let skipped = usize::from(self.flaw == Flaw::ListsOneTooFew);
        self.inner.keys(scope).skip(skipped).boxed()
    }

    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page> {
        let mut page = self.inner.page(scope, after, limit).await?;
        if self.flaw == Flaw::ListsOneTooFew {
            page.keys.pop();
        }
        Ok(page)
    }

    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        let flaw = self.flaw;
        let told = self.inner.watch(watch).flat_map(move |change| {
            let told = match (&change, flaw) {
                (Ok(Change::CaughtUp), Flaw::NeverCatchesUp) => vec![],
                (Ok(Change::CaughtUp), Flaw::CatchesUpTwice) => vec![Ok(Change::CaughtUp), change],
                _ => vec![change],
            };
            stream::iter(told)
        });
        told.boxed()
    }
}
