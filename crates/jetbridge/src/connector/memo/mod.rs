//! Values under keys: typed, with expiry, counters and one bucket per call.
//!
//! Every method returns a [`Call`]: options are set on it, awaiting it does the work. A call
//! finds its bucket in a cache of open handles, and opens or makes it on the first use; of
//! stores it knows no more than the seam.

mod buckets;
mod call;
mod compete;
mod counters;
mod create;
mod expiry;
mod values;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jetbridge_core::{Backend, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Codecs;

pub use call::Call;
pub use counters::{Increment, IncrementPresent, ItemCount};
pub use create::CreateBucket;
pub use expiry::{Expire, Expiring, Expiry, GetRawWithExpiration, GetWithExpiration};
pub use values::{Delete, Flush, Get, GetRaw, OpenTyped, Replace, Set, SetAbsent};

use buckets::Buckets;
use values::Value;

/// The connector's keys and values; a cheap handle.
///
/// Keys are any text of 1 byte to 1 KiB, prefix included. Absent, deleted and expired keys are
/// `None` or `false`; nothing else is. Every call may fail with
/// [`Unavailable`](crate::ErrorKind::Unavailable) if the store does not answer,
/// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) if the credentials do not cover the
/// bucket, and [`InvalidInput`](crate::ErrorKind::InvalidInput) if a name is none.
#[derive(Clone)]
pub struct Memo(Arc<Inner>);

struct Inner {
    buckets: Buckets,
    default_bucket: String,
    prefix: String,
    codecs: Codecs,
}

impl Memo {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        default_bucket: String,
        prefix: String,
        codecs: Codecs,
    ) -> Self {
        let buckets = Buckets::new(backend);
        Self(Arc::new(Inner { buckets, default_bucket, prefix, codecs }))
    }

    /// Writes `value` under `key`, whatever was there; it stays unless [`ttl`](Call::ttl) is set.
    /// [`if_absent`](Call::if_absent) writes only where nothing is.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jetbridge::connector::Connector;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> jetbridge::Result<()> {
    /// let connector = Connector::new(jetbridge::connect("memory:").await?);
    /// let kv = connector.kv();
    /// kv.set("session:abc", &["cart"]).ttl(Duration::from_secs(1800)).await?;
    /// assert!(!kv.set("session:abc", &["other"]).if_absent().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set<T: Serialize + ?Sized>(&self, key: impl Into<String>, value: &T) -> Call<Set> {
        self.call(Value::typed(&self.0.codecs, value).map(|value| Set::new(key.into(), value)))
    }

    /// As [`Memo::set`], bytes as they are.
    pub fn set_raw(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Call<Set> {
        self.call(Ok(Set::new(key.into(), Value::raw(value.into()))))
    }

    /// The value under `key`; [`Corrupt`](crate::ErrorKind::Corrupt) if it is no `T`.
    pub fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        key: impl Into<String>,
    ) -> Call<Get<T>> {
        self.call(Ok(Get::new(key.into())))
    }

    /// The bytes under `key`, as they are.
    pub fn get_raw(&self, key: impl Into<String>) -> Call<GetRaw> {
        self.call(Ok(GetRaw { key: key.into() }))
    }

    /// As [`Memo::get`], with the time at which the value expires.
    pub fn get_with_expiration<T: DeserializeOwned + Send + 'static>(
        &self,
        key: impl Into<String>,
    ) -> Call<GetWithExpiration<T>> {
        self.call(Ok(GetWithExpiration::new(key.into())))
    }

    /// As [`Memo::get_raw`], with the time at which the value expires.
    pub fn get_raw_with_expiration(&self, key: impl Into<String>) -> Call<GetRawWithExpiration> {
        self.call(Ok(GetRawWithExpiration { key: key.into() }))
    }

    /// Writes `value` under `key` if there is a value, and says whether there was: `false` if and
    /// only if the key is not there. However many compete, none gets a wrong answer; after ten
    /// seconds of competing it is [`Conflict`](crate::ErrorKind::Conflict), with nothing written.
    pub fn replace<T: Serialize + ?Sized>(
        &self,
        key: impl Into<String>,
        value: &T,
    ) -> Call<Replace> {
        self.call(Value::typed(&self.0.codecs, value).map(|value| Replace::new(key.into(), value)))
    }

    /// As [`Memo::replace`], bytes as they are.
    pub fn replace_raw(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Call<Replace> {
        self.call(Ok(Replace::new(key.into(), Value::raw(value.into()))))
    }

    /// Deletes `key` and says whether it was there. An absent key costs the store nothing.
    pub fn delete(&self, key: impl Into<String>) -> Call<Delete> {
        self.call(Ok(Delete { key: key.into() }))
    }

    /// Lets the value under `key` expire: after a duration, at a time, or never. A time that has
    /// passed deletes it. Says whether the key was there.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jetbridge::connector::{Connector, Expiry};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> jetbridge::Result<()> {
    /// # let connector = Connector::new(jetbridge::connect("memory:").await?);
    /// # let kv = connector.kv();
    /// kv.set("session:abc", &1).await?;
    /// assert!(kv.expire("session:abc", Duration::from_secs(60)).await?);
    /// assert!(kv.expire("session:abc", Expiry::Never).await?);
    /// assert!(!kv.expire("session:xyz", Duration::from_secs(60)).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire(&self, key: impl Into<String>, expiry: impl Into<Expiry>) -> Call<Expire> {
        self.call(Ok(Expire { key: key.into(), expiry: expiry.into() }))
    }

    /// Adds `n` to the number under `key` and returns the sum. Exact over processes, lost
    /// acknowledgements and restarts; keeps the key's expiry. An absent key counts as 0, unless
    /// [`if_present`](Call::if_present) is set.
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the value is no number,
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) if the sum is outside `i64`; neither
    /// changes anything.
    ///
    /// ```
    /// # use jetbridge::connector::Connector;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> jetbridge::Result<()> {
    /// # let connector = Connector::new(jetbridge::connect("memory:").await?);
    /// # let kv = connector.kv();
    /// assert_eq!(kv.increment("hits", 5).await?, 5);
    /// assert_eq!(kv.decrement("hits", 2).await?, 3);
    /// assert_eq!(kv.increment("misses", 1).if_present().await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn increment(&self, key: impl Into<String>, n: i64) -> Call<Increment> {
        self.call(Ok(Increment { key: key.into(), delta: n }))
    }

    /// Takes `n` from the number under `key`; otherwise as [`Memo::increment`].
    pub fn decrement(&self, key: impl Into<String>, n: i64) -> Call<Increment> {
        self.call(Increment::less(key.into(), n))
    }

    /// How many keys there are, under the key prefix: exact, in time that grows with them.
    pub fn item_count(&self) -> Call<ItemCount> {
        self.call(Ok(ItemCount))
    }

    /// Removes every key under the key prefix, with its history, and returns how many there were
    /// at most. Who watches the bucket is not told, as in NATS.
    pub fn flush(&self) -> Call<Flush> {
        self.call(Ok(Flush))
    }

    /// Opens a bucket for values of one type: compare and set, listings and watching, where the
    /// other calls do not reach.
    ///
    /// ```
    /// # use jetbridge::connector::Connector;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> jetbridge::Result<()> {
    /// # let connector = Connector::new(jetbridge::connect("memory:").await?);
    /// let ports = connector.kv().typed::<u16>().bucket("ports").await?;
    /// ports.put("http", &8080).await?;
    /// ports.update("http", |port| port.map(|port| port + 1)).await?;
    /// assert_eq!(ports.get("http").await?.map(|entry| entry.value), Some(8081));
    /// # Ok(())
    /// # }
    /// ```
    pub fn typed<T: Send + Sync + 'static>(&self) -> Call<OpenTyped<T>> {
        self.call(Ok(OpenTyped::new()))
    }

    pub(super) fn create_bucket(&self, name: String) -> CreateBucket {
        CreateBucket::new(Arc::clone(self.0.buckets.backend()), name)
    }

    fn call<O>(&self, operation: Result<O>) -> Call<O> {
        Call::new(self.clone(), operation)
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo")
            .field("default_bucket", &self.0.default_bucket)
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}
