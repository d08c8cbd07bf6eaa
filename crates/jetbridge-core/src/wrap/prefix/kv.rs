//! Keys under a prefix.

use std::fmt::{self, Display};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{NamePrefix, failed, is_wanted};
use crate::counter::{Counters, KvShared};
use crate::error::Result;
use crate::kv::{
    Change, Cursor, DeleteOpts, Entry, IncrementOpts, Kv, Page, PutOpts, Read, Revision, Scope,
    Snapshot, Watch, Written,
};
use crate::name::{BucketName, Key};

#[derive(Debug)]
pub(super) struct PrefixedKv {
    inner: Arc<dyn Kv>,
    prefix: NamePrefix,
}

impl PrefixedKv {
    pub(super) fn new(inner: Arc<dyn Kv>, prefix: NamePrefix) -> Self {
        Self { inner, prefix }
    }
}

impl NamePrefix {
    /// The key without the prefix; `None` if it is not under it.
    fn bare_key(&self, key: &Key) -> Option<Result<Key>> {
        self.strip(key.as_str()).map(Key::parse)
    }

    /// The change of the key without the prefix; `None` if it is not under it.
    fn bare(&self, change: Change) -> Option<Result<Change>> {
        let Some(key) = change.key() else { return Some(Ok(change)) };
        let bare = self.bare_key(key)?;
        Some(bare.map(|key| match change {
            Change::Put(entry) => Change::Put(Entry { key, ..entry }),
            Change::Delete { revision, at, .. } => Change::Delete { key, revision, at },
            Change::CaughtUp => Change::CaughtUp,
        }))
    }
}

impl Display for PrefixedKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Kv for PrefixedKv {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    fn shared(&self) -> &KvShared {
        self.inner.shared()
    }

    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>> {
        let found = self.inner.get(&self.prefix.key(key)?, read).await?;
        Ok(found.map(|entry| Entry { key: key.clone(), ..entry }))
    }

    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot> {
        let prefixed: Vec<Key> =
            keys.iter().map(|key| self.prefix.key(key)).collect::<Result<_>>()?;
        let snapshot = self.inner.get_many(&prefixed, read).await?;
        let entries = snapshot.entries.into_iter().zip(keys);
        let bare = entries.map(|(it, key)| Some(Entry { key: key.clone(), ..it? }));
        Ok(Snapshot::new(bare.collect(), snapshot.revision))
    }

    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Result<Written> {
        self.inner.put(&self.prefix.key(key)?, value, opts).await
    }

    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>> {
        self.inner.delete(&self.prefix.key(key)?, opts).await
    }

    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64> {
        self.inner.increment(&self.prefix.key(key)?, delta, opts).await
    }

    async fn purge(&self, scope: Scope) -> Result<u64> {
        if !matches!(scope, Scope::Matching(_)) {
            return self.inner.purge(self.prefix.scope(scope)?.0).await;
        }
        let keys: Vec<Key> = self.keys(scope).try_collect().await?;
        let keys = keys.iter().map(|key| self.prefix.key(key)).collect::<Result<_>>()?;
        self.inner.purge(Scope::Many(keys)).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Change>> {
        let changes = self.inner.history(&self.prefix.key(key)?).await?;
        changes.into_iter().filter_map(|change| self.prefix.bare(change)).collect()
    }

    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        let (scope, aside) = match self.prefix.scope(scope) {
            Ok(narrowed) => narrowed,
            Err(error) => return failed(error),
        };
        let prefix = self.prefix.clone();
        let bare = self.inner.keys(scope).map(move |key| prefix.bare_key(&key?).transpose());
        let wanted = bare.map(Result::transpose).filter_map(std::future::ready);
        let wanted = wanted
            .try_filter(move |key| std::future::ready(is_wanted(aside.as_ref(), key.as_str())));
        wanted.boxed()
    }

    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page> {
        let (scope, aside) = self.prefix.scope(scope)?;
        let page = self.inner.page(scope, after, limit).await?;
        let bare = page.keys.iter().filter_map(|key| self.prefix.bare_key(key));
        let mut keys: Vec<Key> = bare.collect::<Result<_>>()?;
        keys.retain(|key| is_wanted(aside.as_ref(), key.as_str()));
        Ok(Page::new(keys, page.next))
    }

    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        let (scope, aside) = match self.prefix.scope(watch.scope) {
            Ok(narrowed) => narrowed,
            Err(error) => return failed(error),
        };
        let prefix = self.prefix.clone();
        let changes = self.inner.watch(Watch { scope, ..watch });
        let bare = changes.map(move |change| prefix.bare(change?).transpose());
        let wanted = bare.map(Result::transpose).filter_map(std::future::ready);
        let wanted = wanted.try_filter(move |change| {
            let key = change.key();
            std::future::ready(key.is_none_or(|key| is_wanted(aside.as_ref(), key.as_str())))
        });
        wanted.boxed()
    }
}

/// Counters under a prefix.
#[derive(Debug)]
pub(super) struct PrefixedCounters {
    inner: Arc<dyn Counters>,
    prefix: NamePrefix,
}

impl PrefixedCounters {
    pub(super) fn new(inner: Arc<dyn Counters>, prefix: NamePrefix) -> Self {
        Self { inner, prefix }
    }
}

impl Display for PrefixedCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Counters for PrefixedCounters {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    async fn fetch_add(&self, key: &Key, n: i64) -> Result<i64> {
        self.inner.fetch_add(&self.prefix.key(key)?, n).await
    }

    async fn value(&self, key: &Key) -> Result<Option<i64>> {
        self.inner.value(&self.prefix.key(key)?).await
    }

    async fn remove(&self, key: &Key) -> Result<bool> {
        self.inner.remove(&self.prefix.key(key)?).await
    }
}
