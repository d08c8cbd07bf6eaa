//! Loops and typed values over a bucket of keys.

use std::collections::HashSet;
use std::future::Future;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{CONTENT_TYPE_HEADER, Codec, decode};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;
use crate::kv::{DeleteOpts, Entry, IncrementOpts, Kv, PutOpts, Read, Revision, Scope, Written};
use crate::name::Key;

/// How long the methods without a deadline of their own compete with other writers.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// What [`KvExt::update_with`] is to do with a key.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to do with a key")]
pub enum Update {
    /// Delete it, if it is there.
    Delete,
    /// Leave it as it is.
    Keep,
    /// Write this.
    Put {
        /// The value.
        value: Bytes,
        /// Expire after this long; `None` keeps for ever.
        ttl: Option<Duration>,
        /// The headers.
        headers: Headers,
    },
}

impl Update {
    /// Write `value`, to stay, without headers.
    pub fn put(value: impl Into<Bytes>) -> Self {
        Self::Put { value: value.into(), ttl: None, headers: Headers::new() }
    }
}

/// Conveniences on every [`Kv`], typed or in a loop.
///
/// A loop that competes with other writers is bounded by a deadline, never by a count; one whose
/// deadline has passed ends with the last [`Conflict`](ErrorKind::Conflict). A lost answer is
/// returned as it is: running the loop on could apply the change twice.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::time::Duration;
/// use jetbridge_core::{
///     Backend, BucketName, BucketSpec, Json, Key, KvExt, MemoryBackend, Open, PutOpts, Update,
/// };
///
/// let store = MemoryBackend::new();
/// let kv = store.kv(&BucketName::parse("b")?, Open::ensure(BucketSpec::default())).await?;
/// let key = Key::parse("visitors")?;
/// kv.put_as(&Json, &key, &vec!["ada"], PutOpts::new()).await?;
/// kv.update_with(&key, Duration::from_secs(5), |present| {
///     let names = present.map_or("[]".into(), |entry| entry.value.clone());
///     Ok(if names == r#"["ada"]"# { Update::put(r#"["ada","bob"]"#) } else { Update::Keep })
/// })
/// .await?;
/// let names: Option<Vec<String>> = kv.get_as(&Json, &key).await?;
/// assert_eq!(names.unwrap(), ["ada", "bob"]);
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
/// ```
#[async_trait]
pub trait KvExt: Kv {
    /// The value under `key`, decoded by `codec`.
    async fn get_as<T>(&self, codec: &impl Codec, key: &Key) -> Result<Option<T>>
    where
        T: DeserializeOwned + Send,
    {
        let Some(entry) = self.get(key, Read::Fresh).await? else { return Ok(None) };
        let value = decode(codec, &entry.value, &entry.headers);
        value.map(Some).map_err(|error| error.with("bucket", self.bucket()).with("key", key))
    }

    /// Writes `value`, encoded by `codec`; else as [`Kv::put`].
    async fn put_as<T>(
        &self,
        codec: &impl Codec,
        key: &Key,
        value: &T,
        mut opts: PutOpts,
    ) -> Result<Written>
    where
        T: Serialize + Sync + ?Sized,
    {
        let value = codec.encode(value).map_err(|error| error.with("key", key))?;
        opts.headers.set(CONTENT_TYPE_HEADER, codec.content_type())?;
        self.put(key, value, opts).await
    }

    /// Changes the value under `key` to what `change` makes of the present one, unless somebody
    /// else writes in between: then `change` is asked again, until `deadline` has passed.
    ///
    /// Returns the revision of the write; `None` if nothing was written. `change` may see an old
    /// value first; what it decides about an old value has no effect.
    async fn update_with<F>(
        &self,
        key: &Key,
        deadline: Duration,
        mut change: F,
    ) -> Result<Option<Revision>>
    where
        F: FnMut(Option<&Entry>) -> Result<Update> + Send,
    {
        let deadline = Instant::now() + deadline;
        let mut backoff = Backoff::contention();
        let mut read = Read::MaybeStale;
        loop {
            let present = self.get(key, read).await?;
            let update = change(present.as_ref())?;
            let settled = match apply(self, key, present.as_ref(), update).await {
                // Only a fresh read can say that there is nothing to do.
                Ok(None) if read == Read::MaybeStale => None,
                Err(lost) if lost.kind() == ErrorKind::Conflict && Instant::now() < deadline => {
                    if read == Read::Fresh {
                        backoff.wait().await;
                    }
                    None
                }
                settled => Some(settled),
            };
            if let Some(settled) = settled {
                return settled;
            }
            read = Read::Fresh;
        }
    }

    /// Writes `value` only if the key is there, however many others write it too; `false` if it
    /// is not. The condition in `opts` is not looked at.
    async fn replace(
        &self,
        key: &Key,
        value: Bytes,
        opts: PutOpts,
        deadline: Duration,
    ) -> Result<bool> {
        let replace = |present: Option<&Entry>| {
            Ok(match present {
                None => Update::Keep,
                Some(_) => Update::Put {
                    value: value.clone(),
                    ttl: opts.ttl,
                    headers: opts.headers.clone(),
                },
            })
        };
        Ok(self.update_with(key, deadline, replace).await?.is_some())
    }

    /// Gives the key this long to live from now on, or for ever; value and headers stay. `false`
    /// if the key is not there.
    async fn expire(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let renew = |present: Option<&Entry>| {
            Ok(present.map_or(Update::Keep, |entry| Update::Put {
                value: entry.value.clone(),
                ttl,
                headers: entry.headers.clone(),
            }))
        };
        Ok(self.update_with(key, DEADLINE_DEFAULT, renew).await?.is_some())
    }

    /// The value under `key` and when it expires, by the store's clock; see also [`Entry::ttl`].
    async fn get_with_expiration(&self, key: &Key) -> Result<Option<(Bytes, Option<SystemTime>)>> {
        Ok(self.get(key, Read::Fresh).await?.map(|entry| (entry.value, entry.expires)))
    }

    /// The value under `key`; if there is none, the one that `make` makes, written under `opts`.
    ///
    /// Of the callers in this process only one makes it, the others wait for it. If another
    /// process was faster its value is the answer. The condition in `opts` is not looked at.
    async fn get_or_insert_with<F, M>(&self, key: &Key, opts: PutOpts, make: M) -> Result<Bytes>
    where
        M: FnOnce() -> F + Send,
        F: Future<Output = Result<Bytes>> + Send,
    {
        if let Some(entry) = self.get(key, Read::Fresh).await? {
            return Ok(entry.value);
        }
        let _flight = self.shared().flights().enter(key).await;
        if let Some(entry) = self.get(key, Read::Fresh).await? {
            return Ok(entry.value);
        }
        let value = make().await?;
        let deadline = Instant::now() + DEADLINE_DEFAULT;
        loop {
            let opts = PutOpts { expect: crate::kv::Expect::Absent, ..opts.clone() };
            match self.put(key, value.clone(), opts).await {
                Ok(_) => return Ok(value),
                Err(lost) if lost.kind() == ErrorKind::Conflict && Instant::now() < deadline => {
                    if let Some(entry) = self.get(key, Read::Fresh).await? {
                        return Ok(entry.value);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds `n` to the decimal number under `key`: [`Kv::increment`] with its defaults.
    async fn increment_by(&self, key: &Key, n: i64) -> Result<i64> {
        self.increment(key, n, IncrementOpts::new()).await
    }

    /// Subtracts `n` from the decimal number under `key`.
    async fn decrement_by(&self, key: &Key, n: i64) -> Result<i64> {
        let minus = n.checked_neg().ok_or_else(|| {
            Error::new(ErrorKind::LimitExceeded, "kv.increment")
                .because("the number has no opposite")
                .with("key", key)
                .with("n", n)
        })?;
        self.increment(key, minus, IncrementOpts::new()).await
    }

    /// How many live keys there are in `scope`. Lists them all.
    async fn count(&self, scope: Scope) -> Result<u64> {
        // A listing may name a key twice that is rewritten meanwhile.
        let distinct: HashSet<Key> = self.keys(scope).try_collect().await?;
        Ok(distinct.len() as u64)
    }

    /// Deletes the live keys in `scope` one by one, and returns how many. Watchers are told of
    /// each; [`Kv::purge`] is faster and tells them nothing.
    async fn clear(&self, scope: Scope) -> Result<u64> {
        let keys: HashSet<Key> = self.keys(scope).try_collect().await?;
        let mut cleared = 0;
        for key in keys {
            let deleted = self.delete(&key, DeleteOpts::new().with_history()).await?;
            cleared += u64::from(deleted.is_some());
        }
        Ok(cleared)
    }
}

impl<K: Kv + ?Sized> KvExt for K {}

/// Does `update` over `present`, and over nothing else.
async fn apply<K: Kv + ?Sized>(
    kv: &K,
    key: &Key,
    present: Option<&Entry>,
    update: Update,
) -> Result<Option<Revision>> {
    match (update, present) {
        (Update::Keep, _) | (Update::Delete, None) => Ok(None),
        (Update::Delete, Some(entry)) => kv.delete(key, DeleteOpts::exactly(entry.revision)).await,
        (Update::Put { value, ttl, headers }, present) => {
            let opts = present.map_or_else(PutOpts::create, |it| PutOpts::over(it.revision));
            let opts = PutOpts { ttl, headers, ..opts };
            kv.put(key, value, opts).await.map(|written| Some(written.revision))
        }
    }
}
