//! One open bucket, as a guest's handle means it: every operation of the dialects, once.
//!
//! Nothing here knows a dialect or the component model. A key that the store cannot take, a value
//! over a limit, a bucket that is gone: each is a [`Fault`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use jetbridge_core::{
    Change, Cursor, DeleteOpts, Entry, ErrorKind, IncrementOpts, Key, Kv, PutOpts, Read, Result,
    Revision, Scope, Start, Watch,
};

use crate::fault::{Answer, Fault};
use crate::stores::Linked;

/// Keys of one page of a listing: about 1 MiB of the longest ones.
const PAGE_KEYS_MAX: usize = 1000;

/// A bucket that a guest has opened.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    linked: Arc<Linked>,
    kv: Arc<dyn Kv>,
    bytes_max: usize,
}

/// A page of a listing.
pub(crate) struct Keys {
    pub(crate) keys: Vec<String>,
    pub(crate) next: Option<Cursor>,
}

impl Bucket {
    pub(crate) fn new(linked: Arc<Linked>, kv: Arc<dyn Kv>, bytes_max: usize) -> Self {
        Self(Arc::new(Opened { linked, kv, bytes_max }))
    }

    /// The store, if its link is still there.
    pub(crate) fn kv(&self) -> Answer<&dyn Kv> {
        if self.0.linked.is_removed() { Err(Fault::NoSuchStore) } else { Ok(&*self.0.kv) }
    }

    /// The answer for the guest; a bucket that is gone is looked for anew by the next `open`.
    pub(crate) async fn settle<T>(&self, result: Result<T>) -> Answer<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::NotFound
        {
            self.0.linked.forget().await;
        }
        result.map_err(Fault::from)
    }

    pub(crate) async fn entry(&self, key: &Key) -> Answer<Option<Entry>> {
        self.read(key, self.0.linked.link.read).await
    }

    /// The entry that a compare-and-set starts from: always the last one.
    pub(crate) async fn fresh(&self, key: &Key) -> Answer<Option<Entry>> {
        self.read(key, Read::Fresh).await
    }

    async fn read(&self, key: &Key, read: Read) -> Answer<Option<Entry>> {
        let entry = self.kv()?.get(key, read).await;
        let entry = self.settle(entry).await?;
        self.check_bytes(entry.as_ref().map_or(0, |entry| entry.value.len()))?;
        Ok(entry)
    }

    /// How reads of this store are made.
    pub(crate) fn consistency(&self) -> Read {
        self.0.linked.link.read
    }

    /// Refuses an answer of so many bytes if that is over the limit.
    pub(crate) fn check_bytes(&self, bytes: usize) -> Answer<()> {
        let max = self.0.bytes_max;
        if bytes <= max {
            return Ok(());
        }
        Err(Fault::Quota(format!(
            "the result has at least {bytes} bytes, over the limit of {max} bytes for one call"
        )))
    }

    pub(crate) async fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        Ok(self.entry(&Key::parse(key)?).await?.map(|entry| entry.value))
    }

    /// The last entry of `key`, whatever the link says of reads.
    pub(crate) async fn present(&self, key: &str) -> Answer<Option<Entry>> {
        self.fresh(&Key::parse(key)?).await
    }

    pub(crate) async fn exists(&self, key: &str) -> Answer<bool> {
        let entry = self.kv()?.get(&Key::parse(key)?, self.0.linked.link.read).await;
        Ok(self.settle(entry).await?.is_some())
    }

    pub(crate) async fn set(&self, key: &str, value: Bytes) -> Answer<()> {
        self.put(&Key::parse(key)?, value, PutOpts::new()).await
    }

    /// Writes under `ttl_ms` and, if asked, only a key that is not there.
    pub(crate) async fn set_with(
        &self,
        key: &str,
        value: Bytes,
        (ttl_ms, only_new): (Option<u64>, bool),
    ) -> Answer<()> {
        let mut opts = if only_new { PutOpts::create() } else { PutOpts::new() };
        if ttl_ms == Some(0) {
            return Err(Fault::InvalidArgument("a time to live of 0 ms".to_owned()));
        }
        opts.ttl = ttl_ms.map(Duration::from_millis);
        self.put(&Key::parse(key)?, value, opts).await
    }

    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Answer<()> {
        match self.kv()?.put(key, value, opts).await {
            Err(lost) if lost.kind() == ErrorKind::Conflict => Err(Fault::PreconditionFailed),
            written => self.settle(written).await.map(drop),
        }
    }

    /// Deletes with the history, so that no marker stays where the store can do without.
    pub(crate) async fn delete(&self, key: &str) -> Answer<()> {
        self.remove(&Key::parse(key)?).await
    }

    pub(crate) async fn remove(&self, key: &Key) -> Answer<()> {
        let deleted = self.kv()?.delete(key, DeleteOpts::new().with_history()).await;
        self.settle(deleted).await.map(drop)
    }

    pub(crate) async fn list(&self, prefix: Option<String>, after: Option<Cursor>) -> Answer<Keys> {
        let scope = prefix.map_or(Scope::All, |prefix| Scope::prefix(&prefix));
        let page = self.kv()?.page(scope, after, PAGE_KEYS_MAX).await;
        let page = self.settle(page).await?;
        let keys = page.keys.iter().map(|key| key.as_str().to_owned()).collect();
        Ok(Keys { keys, next: page.next })
    }

    /// As [`Bucket::list`], by numbers.
    pub(crate) async fn list_by_number(
        &self,
        after: Option<u64>,
    ) -> Answer<(Vec<String>, Option<u64>)> {
        let after = match after {
            None => None,
            Some(number) => Some(self.0.linked.cursors().cursor(number).ok_or_else(|| {
                Fault::InvalidArgument(format!(
                    "{number} is no cursor of this store, or an old one: begin the listing again"
                ))
            })?),
        };
        let Keys { keys, next } = self.list(None, after).await?;
        Ok((keys, next.map(|next| self.0.linked.cursors().number(next))))
    }

    pub(crate) async fn increment(&self, key: &str, delta: i64, min: Option<i64>) -> Answer<i64> {
        let mut opts = IncrementOpts::new().encoding(self.0.linked.link.encoding);
        opts.min = min;
        let sum = self.kv()?.increment(&Key::parse(key)?, delta, opts).await;
        self.settle(sum).await
    }

    /// As [`Bucket::increment`], where neither the step nor the sum is ever negative. Both are
    /// looked at before anything is written.
    pub(crate) async fn increment_unsigned(&self, key: &str, delta: u64) -> Answer<u64> {
        let delta = i64::try_from(delta).map_err(|_overflow| out_of_range(delta))?;
        let sum = self.increment(key, delta, Some(0)).await?;
        u64::try_from(sum).map_err(|_negative| out_of_range(sum))
    }

    /// Every change from `start` on.
    pub(crate) fn watch(&self, start: Start) -> Answer<BoxStream<'static, Result<Change>>> {
        Ok(self.kv()?.watch(Watch::current(Scope::All).start(start)))
    }
}

fn out_of_range(number: impl std::fmt::Display) -> Fault {
    Fault::Other(format!("{number} is out of the range of counters, 0 to {}", i64::MAX))
}

/// A key's value as it was once seen, and the writes that depend on nobody having changed it.
#[derive(Debug)]
pub struct Cas {
    bucket: Bucket,
    key: Key,
    seen: Option<(Revision, Bytes)>,
}

/// What became of a swap.
pub(crate) enum Swap {
    Done,
    /// Somebody was faster; the handle has seen what they wrote.
    Lost(Cas),
    Failed(Fault),
}

impl Cas {
    pub(crate) async fn new(bucket: Bucket, key: String) -> Answer<Self> {
        let key = Key::parse(key)?;
        let mut cas = Self { bucket, key, seen: None };
        cas.look().await?;
        Ok(cas)
    }

    async fn look(&mut self) -> Answer<()> {
        let entry = self.bucket.fresh(&self.key).await?;
        self.seen = entry.map(|entry| (entry.revision, entry.value));
        Ok(())
    }

    pub(crate) fn current(&self) -> Option<Bytes> {
        self.seen.as_ref().map(|(_, value)| value.clone())
    }

    pub(crate) async fn swap(mut self, value: Bytes) -> Swap {
        let opts = match &self.seen {
            None => PutOpts::create(),
            Some((revision, _)) => PutOpts::over(*revision),
        };
        match self.bucket.put(&self.key, value, opts).await {
            Ok(()) => Swap::Done,
            Err(Fault::PreconditionFailed) => match self.look().await {
                Ok(()) => Swap::Lost(self),
                Err(fault) => Swap::Failed(fault),
            },
            Err(fault) => Swap::Failed(fault),
        }
    }
}
