//! Values of one type in one bucket: reading, compare and set, listing and watching, without
//! bytes and parsed names in between.
//!
//! A thin layer over [`Kv`]: it adds a codec and a key prefix and nothing else, so what the seam
//! promises holds here too.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jetbridge_core::{
    Change, DeleteOpts, Entry, Headers, Key, Kv, KvExt as _, PutOpts, Read, Result, Revision,
    Scope, Update, Watch, Written,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Codecs;

/// How long [`Typed::update`] competes with other writers.
const UPDATE_WITHIN: Duration = Duration::from_secs(10);

/// The values of one type in a bucket. Cheap to clone.
///
/// ```
/// use futures_util::StreamExt as _;
/// use jetbridge::core::{BucketName, BucketSpec, Open};
/// use jetbridge::typed::{Typed, TypedChange};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Deserialize, Serialize)]
/// struct Flags {
///     dark: bool,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge::Result<()> {
/// let store = jetbridge::connect("memory:").await?;
/// let bucket = BucketName::parse("flags")?;
/// let flags = Typed::<Flags>::new(store.kv(&bucket, Open::ensure(BucketSpec::default())).await?);
/// flags.put("site", &Flags { dark: true }).await?;
///
/// let mut changes = flags.watch("");
/// if let Some(TypedChange::Put(entry)) = changes.next().await.transpose()? {
///     assert_eq!((entry.key.as_str(), entry.value), ("site", Flags { dark: true }));
/// }
/// # Ok(())
/// # }
/// ```
pub struct Typed<T> {
    kv: Arc<dyn Kv>,
    codecs: Codecs,
    prefix: Arc<str>,
    value: PhantomData<fn() -> T>,
}

/// A value and what the store knows of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TypedEntry<T> {
    /// Its key, without the prefix.
    pub key: String,
    /// The value.
    pub value: T,
    /// The write that left it.
    pub revision: Revision,
    /// When the store took it, by the store's clock.
    pub written: SystemTime,
    /// When it expires, by the store's clock; `None` if it stays.
    pub expires: Option<SystemTime>,
}

/// What [`Typed::watch`] delivers.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "to ignore a kind of change is a bug")]
pub enum TypedChange<T> {
    /// A value was written.
    Put(TypedEntry<T>),
    /// A key was deleted or has expired.
    Delete {
        /// The key, without the prefix.
        key: String,
        /// The revision of the deletion.
        revision: Revision,
    },
    /// Everything that was there when the watch began has been delivered.
    CaughtUp,
}

impl<T> Typed<T> {
    /// The values in `kv`, written as JSON.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv, codecs: Codecs::default(), prefix: "".into(), value: PhantomData }
    }

    /// Sets how values are written, and read where they do not say.
    #[must_use]
    pub fn codecs(mut self, codecs: Codecs) -> Self {
        self.codecs = codecs;
        self
    }

    /// Sets what goes before every key.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The bucket underneath.
    pub fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// Deletes `key`; `false` if it was not there.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.kv.delete(&self.key(key)?, DeleteOpts::new()).await?.is_some())
    }

    /// The live keys that begin with `prefix`, in no particular order, each at least once.
    pub fn keys(&self, prefix: &str) -> BoxStream<'static, Result<String>> {
        let own = Arc::clone(&self.prefix);
        let keys = self.kv.keys(self.scope(prefix));
        keys.map(move |key| key.map(|key| without(&own, key.as_str()))).boxed()
    }

    fn key(&self, key: &str) -> Result<Key> {
        Key::parse(format!("{}{key}", self.prefix))
    }

    fn scope(&self, prefix: &str) -> Scope {
        Scope::prefix(&format!("{}{prefix}", self.prefix))
    }
}

impl<T: Serialize> Typed<T> {
    /// Writes `value` under `key`, whatever was there; it stays until it is overwritten.
    pub async fn put(&self, key: &str, value: &T) -> Result<Written> {
        self.put_with(key, value, PutOpts::new()).await
    }

    /// Writes `value` under `key` as `opts` say: under a condition, for a time. A lost race is
    /// [`Conflict`](crate::ErrorKind::Conflict) with the present revision.
    pub async fn put_with(&self, key: &str, value: &T, mut opts: PutOpts) -> Result<Written> {
        let bytes = self.codecs.encode(value, &mut opts.headers)?;
        self.kv.put(&self.key(key)?, bytes, opts).await
    }
}

impl<T: DeserializeOwned> Typed<T> {
    /// The value under `key`; [`Corrupt`](crate::ErrorKind::Corrupt) if it is no `T`.
    pub async fn get(&self, key: &str) -> Result<Option<TypedEntry<T>>> {
        let entry = self.kv.get(&self.key(key)?, Read::Fresh).await?;
        entry.map(|entry| read(&self.codecs, &self.prefix, entry)).transpose()
    }
}

impl<T: DeserializeOwned + 'static> Typed<T> {
    /// The present values under keys that begin with `prefix`, `CaughtUp`, then every change. A
    /// value that is no `T` is an error among the changes, which go on behind it; any other error
    /// ends them.
    pub fn watch(&self, prefix: &str) -> BoxStream<'static, Result<TypedChange<T>>> {
        let (codecs, own) = (self.codecs.clone(), Arc::clone(&self.prefix));
        let changes = self.kv.watch(Watch::current(self.scope(prefix)));
        let typed = changes.map(move |change| {
            Ok(match change? {
                Change::Put(entry) => TypedChange::Put(read(&codecs, &own, entry)?),
                Change::Delete { key, revision, .. } => {
                    TypedChange::Delete { key: without(&own, key.as_str()), revision }
                }
                Change::CaughtUp => TypedChange::CaughtUp,
            })
        });
        typed.boxed()
    }
}

impl<T: DeserializeOwned + Serialize + Send> Typed<T> {
    /// Writes what `change` makes of the present value, `None` deleting it, unless somebody else
    /// writes in between: then `change` is asked again. Returns what it made at last.
    ///
    /// After ten seconds of competing it is [`Conflict`](crate::ErrorKind::Conflict), with
    /// nothing written. What it writes stays until it is overwritten.
    pub async fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Option<T> + Send,
    ) -> Result<Option<T>> {
        let mut made = None;
        let key = self.key(key)?;
        let update = self.kv.update_with(&key, UPDATE_WITHIN, |present| {
            let value = |entry: &Entry| self.codecs.decode(&entry.headers, &entry.value);
            made = change(present.map(value).transpose()?);
            let Some(value) = &made else { return Ok(Update::Delete) };
            let mut headers = Headers::new();
            let value: Bytes = self.codecs.encode(value, &mut headers)?;
            Ok(Update::Put { value, ttl: None, headers })
        });
        update.await.map_err(|error| error.with("key", &key))?;
        Ok(made)
    }
}

fn read<T: DeserializeOwned>(codecs: &Codecs, prefix: &str, entry: Entry) -> Result<TypedEntry<T>> {
    let value = codecs.decode(&entry.headers, &entry.value);
    Ok(TypedEntry {
        value: value.map_err(|error| error.with("key", &entry.key))?,
        key: without(prefix, entry.key.as_str()),
        revision: entry.revision,
        written: entry.written,
        expires: entry.expires,
    })
}

fn without(prefix: &str, key: &str) -> String {
    key.strip_prefix(prefix).unwrap_or(key).to_owned()
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self {
            kv: Arc::clone(&self.kv),
            codecs: self.codecs.clone(),
            prefix: Arc::clone(&self.prefix),
            value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Typed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed")
            .field("kv", &self.kv)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
