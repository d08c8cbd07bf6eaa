//! One open bucket, as a guest's handle means it: every operation of the dialects, once.
//!
//! Nothing here knows a dialect or the component model. A key that the store cannot take, a value
//! over a limit, a bucket that is gone: each is a [`Fault`].

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jetbridge_core::{
    Change, CounterEncoding, Counters, Cursor, DeleteOpts, Entry, Error, ErrorKind, IncrementOpts,
    Key, Kv, PutOpts, Read, Result, Revision, Scope, Start, Watch,
};

use crate::budget::Held;
use crate::ctx::Guest;
use crate::cursors::Cursors;
use crate::fault::{Answer, Fault};
use crate::stores::{Backing, Linked};

/// Keys of one page of a listing: about 1 MiB of the longest ones.
const PAGE_KEYS_MAX: usize = 1000;

/// A bucket that a guest has opened.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    linked: Arc<Linked>,
    backing: Backing,
    guest: Guest,
}

/// A page of a listing.
pub(crate) struct Keys {
    pub(crate) keys: Vec<String>,
    pub(crate) next: Option<Cursor>,
}

impl Bucket {
    pub(crate) fn new(linked: Arc<Linked>, backing: Backing, guest: Guest) -> Self {
        Self(Arc::new(Opened { linked, backing, guest }))
    }

    /// The store, if its link is still there.
    fn backing(&self) -> Answer<&Backing> {
        if self.0.linked.is_removed() { Err(Fault::NoSuchStore) } else { Ok(&self.0.backing) }
    }

    /// The store of keys and values.
    pub(crate) fn kv(&self) -> Answer<&dyn Kv> {
        match self.backing()? {
            Backing::Keys(kv) => Ok(&**kv),
            Backing::Counters(_) => Err(Fault::Other(
                "this store holds counters: it takes increment, get, get-many, exists and \
                 deletions"
                    .to_owned(),
            )),
        }
    }

    /// The counters, if the store holds nothing else.
    pub(crate) fn counters(&self) -> Answer<Option<&dyn Counters>> {
        Ok(match self.backing()? {
            Backing::Keys(_) => None,
            Backing::Counters(counters) => Some(&**counters),
        })
    }

    /// What the counter `key` says, as the text that a key would hold.
    pub(crate) async fn counter(
        &self,
        counters: &dyn Counters,
        key: &Key,
    ) -> Answer<Option<Bytes>> {
        let number = counters.value(key).await;
        let number = self.settle(number).await?;
        Ok(number.map(|number| CounterEncoding::Decimal.encode(number)))
    }

    /// The answer for the guest; a bucket that is gone is looked for anew by the next `open`.
    pub(crate) async fn settle<T>(&self, result: Result<T>) -> Answer<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::NotFound
        {
            self.0.linked.forget();
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
        let max = self.bytes_max();
        if bytes <= max {
            return Ok(());
        }
        Err(Fault::Quota(format!(
            "the result has at least {bytes} bytes, over the limit of {max} bytes for one call"
        )))
    }

    /// Bytes of one answer at most.
    pub(crate) fn bytes_max(&self) -> usize {
        self.0.guest.budget.bytes_max()
    }

    pub(crate) async fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        let key = Key::parse(key)?;
        if let Some(counters) = self.counters()? {
            return self.counter(counters, &key).await;
        }
        Ok(self.entry(&key).await?.map(|entry| entry.value))
    }

    /// The last entry of `key`, whatever the link says of reads.
    pub(crate) async fn present(&self, key: &str) -> Answer<Option<Entry>> {
        self.fresh(&Key::parse(key)?).await
    }

    pub(crate) async fn exists(&self, key: &str) -> Answer<bool> {
        let key = Key::parse(key)?;
        if let Some(counters) = self.counters()? {
            return Ok(self.counter(counters, &key).await?.is_some());
        }
        let entry = self.kv()?.get(&key, self.0.linked.link.read).await;
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
        if let Some(counters) = self.counters()? {
            let removed = counters.remove(key).await;
            return self.settle(removed).await.map(drop);
        }
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
            Some(number) => Some(self.cursors().cursor(self.0.linked.id, number).ok_or_else(|| {
                Fault::InvalidArgument(format!(
                    "{number} is no cursor of this store, or an old one: begin the listing again"
                ))
            })?),
        };
        let Keys { keys, next } = self.list(None, after).await?;
        Ok((keys, next.map(|next| self.cursors().number(self.0.linked.id, next))))
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.0.guest.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn increment(&self, key: &str, delta: i64, min: Option<i64>) -> Answer<i64> {
        let mut opts = IncrementOpts::new().encoding(self.0.linked.link.encoding);
        opts.min = min;
        let key = Key::parse(key)?;
        let sum = match self.counters()? {
            None => self.kv()?.increment(&key, delta, opts).await,
            Some(counters) => add(counters, &key, delta, min).await,
        };
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
        let changes = self.kv()?.watch(Watch::current(Scope::All).start(start));
        let removal = self.0.linked.removal();
        let linked = Arc::clone(&self.0.linked);
        let removed = stream::iter([()]).filter_map(move |()| {
            let gone = linked.is_removed().then(|| {
                Err(Error::new(ErrorKind::NotFound, "wasi.watch")
                    .because("the link was taken away"))
            });
            std::future::ready(gone)
        });
        Ok(changes.take_until(removal).chain(removed).boxed())
    }
}

/// Adds to a counter that the store adds up; a sum below `min` is taken back.
async fn add(counters: &dyn Counters, key: &Key, delta: i64, min: Option<i64>) -> Result<i64> {
    let sum = counters.fetch_add(key, delta).await?;
    if min.is_none_or(|min| sum >= min) {
        return Ok(sum);
    }
    counters.fetch_add(key, -delta).await?;
    Err(Error::new(ErrorKind::LimitExceeded, "kv.increment")
        .because("the sum is out of range")
        .with("key", key)
        .with("value", sum)
        .with("delta", delta))
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
    /// What the value takes of the host's memory for as long as the handle lives.
    held: Option<Held>,
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
        let mut cas = Self { bucket, key, seen: None, held: None };
        cas.look().await?;
        Ok(cas)
    }

    async fn look(&mut self) -> Answer<()> {
        let entry = self.bucket.fresh(&self.key).await?;
        self.held = None;
        let bytes = entry.as_ref().map_or(0, |entry| entry.value.len());
        self.held = Some(self.bucket.0.guest.budget.hold(bytes)?);
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
