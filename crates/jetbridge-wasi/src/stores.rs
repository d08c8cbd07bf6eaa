//! Which stores a guest can open: identifiers, the buckets behind them, and who may use which.
//!
//! A [`Link`] says what is behind an identifier. It is opened when a guest first asks for it, and
//! forgotten when its bucket turns out to be gone, so that a bucket made anew is found again.
//! Links come and go while guests run. Where a link's settings come from is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jetbridge_core::{Backend, BucketName, BucketSpec, CounterEncoding, Kv, Open, Read, Result};

use crate::bucket::Bucket;
use crate::cursors::Cursors;
use crate::fault::{Answer, Fault};

/// The identifier that the empty one stands for.
pub const DEFAULT_STORE: &str = "default";

/// What a guest finds behind an identifier: a bucket of keys on a store.
#[derive(Clone, Debug)]
pub struct Link {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) bucket: BucketName,
    pub(crate) open: Open,
    pub(crate) encoding: CounterEncoding,
    pub(crate) read: Read,
}

impl Link {
    /// A bucket that must be there when it is opened. Counters are decimal text, reads are fresh.
    pub fn new(backend: Arc<dyn Backend>, bucket: BucketName) -> Self {
        Self {
            backend,
            bucket,
            open: Open::existing(),
            encoding: CounterEncoding::Decimal,
            read: Read::Fresh,
        }
    }

    /// Makes the bucket with these settings if it is missing; one that is there is not changed.
    #[must_use]
    pub fn create(mut self, spec: BucketSpec) -> Self {
        self.open.create = Some(spec);
        self
    }

    /// Takes keys as they are, for a bucket that other programs share whose keys no codec wrote.
    #[must_use]
    pub fn raw_keys(mut self) -> Self {
        self.open = self.open.raw_keys();
        self
    }

    /// How `increment` reads and writes numbers in this bucket.
    #[must_use]
    pub fn counter_encoding(mut self, encoding: CounterEncoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Lets any replica answer reads: cheaper, and a guest may not see what it has just written.
    #[must_use]
    pub fn maybe_stale(mut self) -> Self {
        self.read = Read::MaybeStale;
        self
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &BucketName {
        &self.bucket
    }
}

/// The stores of a host, by identifier. Clones share them.
#[derive(Clone, Default)]
pub struct Stores(Arc<RwLock<BTreeMap<String, Arc<Linked>>>>);

impl Stores {
    /// No stores: every identifier is `no-such-store`.
    pub fn new() -> Self {
        Self::default()
    }

    /// One store, the default one: the bucket `default` of `backend`, made if it is missing.
    ///
    /// # Errors
    /// None in practice: the name of the bucket is a legal one.
    pub fn over(backend: Arc<dyn Backend>) -> Result<Self> {
        let stores = Self::new();
        let bucket = BucketName::parse(DEFAULT_STORE)?;
        stores.add(DEFAULT_STORE, Link::new(backend, bucket).create(BucketSpec::default()));
        Ok(stores)
    }

    /// Puts `link` behind `identifier`, in place of what was there. Guests that hold a handle of
    /// the earlier one find `no-such-store` from now on.
    pub fn add(&self, identifier: impl Into<String>, link: Link) {
        let linked = Arc::new(Linked::new(link));
        let earlier = self.write().insert(named(identifier.into()), linked);
        if let Some(earlier) = earlier {
            earlier.removed.store(true, Ordering::Release);
        }
    }

    /// Takes `identifier` away, and leaves the others; `false` if it was not there.
    pub fn remove(&self, identifier: &str) -> bool {
        let removed = self.write().remove(canonical(identifier));
        if let Some(linked) = &removed {
            linked.removed.store(true, Ordering::Release);
        }
        removed.is_some()
    }

    /// The identifiers, in order.
    pub fn identifiers(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// Opens the store behind `identifier` for a guest with `grants`.
    pub(crate) async fn open(
        &self,
        identifier: &str,
        grants: &Grants,
        bytes_max: usize,
    ) -> Answer<Bucket> {
        let identifier = canonical(identifier);
        if !grants.allow(identifier) {
            return Err(Fault::AccessDenied);
        }
        let linked = self.read().get(identifier).cloned().ok_or(Fault::NoSuchStore)?;
        let kv = linked.kv().await?;
        Ok(Bucket::new(linked, kv, bytes_max))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Linked>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Linked>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stores").field(&self.identifiers()).finish()
    }
}

fn canonical(identifier: &str) -> &str {
    if identifier.is_empty() { DEFAULT_STORE } else { identifier }
}

fn named(identifier: String) -> String {
    if identifier.is_empty() { DEFAULT_STORE.to_owned() } else { identifier }
}

/// Which stores a guest may open. One that it may not open answers `access-denied`, whether it
/// exists or not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Grants {
    /// All that the host has.
    #[default]
    All,
    /// These identifiers.
    Only(BTreeSet<String>),
}

impl Grants {
    /// These identifiers and no others; the empty one is the default store's.
    pub fn only(identifiers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Only(identifiers.into_iter().map(|it| named(it.into())).collect())
    }

    fn allow(&self, identifier: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(allowed) => allowed.contains(identifier),
        }
    }
}

/// A link, and what this process knows of its bucket.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) link: Link,
    opened: tokio::sync::Mutex<Option<Arc<dyn Kv>>>,
    cursors: Mutex<Cursors>,
    removed: AtomicBool,
}

impl Linked {
    fn new(link: Link) -> Self {
        Self {
            link,
            opened: tokio::sync::Mutex::new(None),
            cursors: Mutex::default(),
            removed: AtomicBool::new(false),
        }
    }

    async fn kv(&self) -> Answer<Arc<dyn Kv>> {
        let mut opened = self.opened.lock().await;
        if let Some(kv) = &*opened {
            return Ok(Arc::clone(kv));
        }
        let kv = self.link.backend.kv(&self.link.bucket, self.link.open.clone()).await?;
        Ok(Arc::clone(opened.insert(kv)))
    }

    /// The bucket is gone: the next guest that opens it looks again.
    pub(crate) async fn forget(&self) {
        *self.opened.lock().await = None;
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub(crate) fn cursors(&self) -> std::sync::MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
