//! One store shared by several applications: keys, object names and subjects under a prefix.
//!
//! What is under the prefix is all that can be seen, and it is seen without it. Buckets, streams,
//! consumers and groups keep their names: they are what the applications share or divide.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use self::bus::PrefixedBus;
use self::kv::{PrefixedCounters, PrefixedKv};
use self::object::PrefixedObjects;
use crate::backend::{
    Backend, BucketInfo, BucketKind, BucketSpec, Capabilities, Check, ConnectionState, Open,
    StopReport, StoreStatus,
};
use crate::bus::Bus;
use crate::clock::{StoreClock, StoreTime};
use crate::codec;
use crate::counter::Counters;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Kv, Scope};
use crate::name::{BucketName, Key, ObjectName, Pattern, Subject};
use crate::object::Objects;

mod bus;
mod kv;
mod object;

/// A backend whose keys and object names, or subjects, or both, begin with a text that its users
/// neither write nor see.
///
/// To go around it for one call, use [`Prefixed::inner`]. A name that is too long together with
/// the prefix is [`InvalidInput`](ErrorKind::InvalidInput). Subjects that begin with `_` or `$`
/// belong to the transport (inboxes, for one) and pass as they are, so that whoever receives a
/// request can answer it.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::sync::Arc;
/// use jetbridge_core::{
///     Backend as _, BucketName, BucketSpec, Key, MemoryBackend, Open, PutOpts, Read,
///     wrap::Prefixed,
/// };
///
/// let store = Arc::new(MemoryBackend::new());
/// let app = Prefixed::new(store).keys("app/")?;
/// let (bucket, open) = (BucketName::parse("config")?, Open::ensure(BucketSpec::default()));
/// let (ours, all) = (app.kv(&bucket, open.clone()).await?, app.inner().kv(&bucket, open).await?);
/// ours.put(&Key::parse("port")?, "8080".into(), PutOpts::new()).await?;
/// assert!(all.get(&Key::parse("app/port")?, Read::Fresh).await?.is_some());
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Prefixed {
    inner: Arc<dyn Backend>,
    keys: Option<NamePrefix>,
    subjects: Option<Subject>,
}

impl Prefixed {
    /// `inner` without a prefix yet.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, keys: None, subjects: None }
    }

    /// Keys and object names begin with `prefix`, which is [`InvalidInput`](ErrorKind::InvalidInput)
    /// if it is empty.
    pub fn keys(mut self, prefix: &str) -> Result<Self> {
        if prefix.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "prefix.keys")
                .because("an empty prefix separates nothing"));
        }
        self.keys = Some(NamePrefix(prefix.into()));
        Ok(self)
    }

    /// Subjects begin with `prefix` and a dot.
    #[must_use]
    pub fn subjects(mut self, prefix: Subject) -> Self {
        self.subjects = Some(prefix);
        self
    }

    /// The backend inside, to go around the prefix.
    pub fn inner(&self) -> &Arc<dyn Backend> {
        &self.inner
    }
}

impl Display for Prefixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Prefixed {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>> {
        let inner = self.inner.kv(bucket, open).await?;
        Ok(match &self.keys {
            Some(prefix) => Arc::new(PrefixedKv::new(inner, prefix.clone())),
            None => inner,
        })
    }

    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>> {
        let inner = self.inner.objects(bucket, open).await?;
        Ok(match &self.keys {
            Some(prefix) => Arc::new(PrefixedObjects::new(inner, prefix.clone())),
            None => inner,
        })
    }

    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>> {
        let inner = self.inner.counters(bucket).await?;
        Ok(match &self.keys {
            Some(prefix) => Arc::new(PrefixedCounters::new(inner, prefix.clone())),
            None => inner,
        })
    }

    fn bus(&self) -> Arc<dyn Bus> {
        match &self.subjects {
            Some(prefix) => Arc::new(PrefixedBus::new(self.inner.bus(), prefix.clone())),
            None => self.inner.bus(),
        }
    }

    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.inner.create_bucket(kind, bucket, spec).await
    }

    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.inner.update_bucket(kind, bucket, spec).await
    }

    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>> {
        self.inner.buckets(kind).await
    }

    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo> {
        self.inner.bucket(kind, bucket).await
    }

    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool> {
        self.inner.delete_bucket(kind, bucket).await
    }

    fn clock(&self) -> &StoreClock {
        self.inner.clock()
    }

    async fn now(&self) -> Result<StoreTime> {
        self.inner.now().await
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.inner.connection()
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.inner.status().await
    }

    async fn diagnose(&self) -> Vec<Check> {
        self.inner.diagnose().await
    }

    async fn close(&self, grace: Duration) -> StopReport {
        self.inner.close(grace).await
    }
}

/// The text that keys and object names begin with.
#[derive(Clone, Debug)]
struct NamePrefix(Arc<str>);

impl NamePrefix {
    fn key(&self, key: &Key) -> Result<Key> {
        Key::parse(format!("{}{key}", self.0))
    }

    fn object(&self, name: &ObjectName) -> Result<ObjectName> {
        ObjectName::parse(format!("{}{name}", self.0))
    }

    /// `name` without the prefix; `None` if it is not under it.
    fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&*self.0).filter(|rest| !rest.is_empty())
    }

    /// The same scope under the prefix. A pattern cannot be prefixed, because its tokens need
    /// not begin where the prefix ends: it is kept aside, to be asked of each name.
    fn scope(&self, scope: Scope) -> Result<(Scope, Option<Pattern>)> {
        Ok(match scope {
            Scope::All => (Scope::prefix(&self.0), None),
            Scope::Prefix(text) => (Scope::prefix(&format!("{}{text}", self.0)), None),
            Scope::One(key) => (Scope::One(self.key(&key)?), None),
            Scope::Many(keys) => {
                let keys = keys.iter().map(|key| self.key(key)).collect::<Result<_>>()?;
                (Scope::Many(keys), None)
            }
            Scope::Matching(pattern) => (Scope::prefix(&self.0), Some(pattern)),
        })
    }
}

/// True if the pattern that was kept aside, if any, matches the bare name.
fn is_wanted(aside: Option<&Pattern>, name: &str) -> bool {
    aside.is_none_or(|pattern| pattern.matches(&codec::encode(name)))
}

/// A stream of one error.
fn failed<T: Send + 'static>(error: Error) -> BoxStream<'static, Result<T>> {
    stream::once(async { Err(error) }).boxed()
}
