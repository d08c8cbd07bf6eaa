//! When values expire: reading it, and changing it.

use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jetbridge_core::{Entry, Read, Result, Update};
use serde::de::DeserializeOwned;

use super::call::{Operation, Target};
use super::compete;
use super::values;

/// When a value is to expire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth way to say when")]
pub enum Expiry {
    /// After this long.
    After(Duration),
    /// At this time, by the store's clock.
    At(SystemTime),
    /// Not at all.
    Never,
}

impl From<Duration> for Expiry {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

impl From<SystemTime> for Expiry {
    fn from(time: SystemTime) -> Self {
        Self::At(time)
    }
}

/// A value and when it expires.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a value and its expiry, to be taken apart")]
pub struct Expiring<T> {
    /// The value.
    pub value: T,
    /// When it expires, by the store's clock; `None` if it stays.
    pub expires: Option<SystemTime>,
}

/// See [`Memo::get_with_expiration`](super::Memo::get_with_expiration).
#[derive(Debug)]
pub struct GetWithExpiration<T> {
    key: String,
    value: PhantomData<fn() -> T>,
}

impl<T> GetWithExpiration<T> {
    pub(super) fn new(key: String) -> Self {
        Self { key, value: PhantomData }
    }
}

impl<T: DeserializeOwned + Send + 'static> Operation for GetWithExpiration<T> {
    type Output = Option<Expiring<T>>;

    async fn run(&self, target: &Target<'_>) -> Result<Self::Output> {
        let key = target.key(&self.key)?;
        let Some(entry) = target.kv().get(&key, Read::Fresh).await? else { return Ok(None) };
        let value = values::read(target.codecs, &entry.headers, &entry.value)
            .map_err(|error| error.with("key", &key))?;
        Ok(Some(Expiring { value, expires: entry.expires }))
    }
}

/// See [`Memo::get_raw_with_expiration`](super::Memo::get_raw_with_expiration).
#[derive(Debug)]
pub struct GetRawWithExpiration {
    pub(super) key: String,
}

impl Operation for GetRawWithExpiration {
    type Output = Option<Expiring<Bytes>>;

    async fn run(&self, target: &Target<'_>) -> Result<Self::Output> {
        let entry = target.kv().get(&target.key(&self.key)?, Read::Fresh).await?;
        Ok(entry.map(|entry| Expiring { value: entry.value, expires: entry.expires }))
    }
}

/// See [`Memo::expire`](super::Memo::expire).
#[derive(Debug)]
pub struct Expire {
    pub(super) key: String,
    pub(super) expiry: Expiry,
}

impl Operation for Expire {
    type Output = bool;

    async fn run(&self, target: &Target<'_>) -> Result<bool> {
        let now = target.backend().now().await?.now;
        let key = target.key(&self.key)?;
        let changed =
            compete::change(target, &key, |entry| Ok((reschedule(entry, self.expiry, now), ())));
        Ok(changed.await?.is_some())
    }
}

/// The same value with another expiry; none at all if that lies in the past.
fn reschedule(entry: &Entry, expiry: Expiry, now: SystemTime) -> Update {
    let ttl = match expiry {
        Expiry::Never => None,
        Expiry::After(duration) => Some(duration),
        Expiry::At(time) => Some(time.duration_since(now).unwrap_or(Duration::ZERO)),
    };
    if ttl == Some(Duration::ZERO) {
        return Update::Delete;
    }
    Update::Put { value: entry.value.clone(), ttl, headers: entry.headers.clone() }
}
