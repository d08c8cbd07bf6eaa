//! Which stores a guest can open: identifiers, the buckets behind them, and who may use which.
//!
//! A [`Link`] says what is behind an identifier. It is opened when a guest first asks for it, and
//! forgotten when its bucket turns out to be gone, so that a bucket made anew is found again.
//! Links come and go while guests run. Where a link's settings come from is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use jetbridge_core::{
    Backend, BucketName, BucketSpec, CounterEncoding, Counters, Kv, Open, Read, Result,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::bucket::Bucket;
use crate::ctx::Guest;
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
    pub(crate) contents: Contents,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Contents {
    /// Keys and values, some of which may be counters.
    #[default]
    Keys,
    /// Counters alone.
    Counters,
}

/// A bucket that is open.
#[derive(Clone, Debug)]
pub(crate) enum Backing {
    Keys(Arc<dyn Kv>),
    Counters(Arc<dyn Counters>),
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
            contents: Contents::Keys,
        }
    }

    /// The bucket holds counters and nothing else: the store adds them up where it can, as
    /// nats-server does since 2.12, without a reading before each increment. It takes
    /// `increment`, `get`, `get-many`, `exists` and deletions, is made if it is missing, and is
    /// not the bucket of keys of the same name.
    #[must_use]
    pub fn counters(mut self) -> Self {
        self.contents = Contents::Counters;
        self
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
            earlier.removed.cancel();
        }
    }

    /// Takes `identifier` away, and leaves the others; `false` if it was not there.
    pub fn remove(&self, identifier: &str) -> bool {
        let removed = self.write().remove(canonical(identifier));
        if let Some(linked) = &removed {
            linked.removed.cancel();
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
        guest: Guest,
    ) -> Answer<Bucket> {
        let identifier = canonical(identifier);
        if !grants.allow(identifier) {
            return Err(Fault::AccessDenied);
        }
        let linked = self.read().get(identifier).cloned().ok_or(Fault::NoSuchStore)?;
        let backing = linked.backing().await?;
        Ok(Bucket::new(linked, backing, guest))
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
    opened: Mutex<Opening>,
    /// Tells it from every other link, also from a later one of its name.
    pub(crate) id: u64,
    removed: CancellationToken,
}

/// A bucket that is open, or that somebody is opening.
#[derive(Default)]
struct Opening {
    backing: Option<Backing>,
    under_way: Option<Shared<BoxFuture<'static, Answer<Backing>>>>,
    /// Attempts that have ended.
    attempts: u64,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("backing", &self.backing).finish_non_exhaustive()
    }
}

impl Linked {
    fn new(link: Link) -> Self {
        Self {
            link,
            opened: Mutex::default(),
            id: jetbridge_core::random::u64(),
            removed: CancellationToken::new(),
        }
    }

    async fn backing(&self) -> Answer<Backing> {
        let (opening, attempt) = {
            let mut opened = self.opened();
            let attempt = opened.attempts;
            if let Some(backing) = &opened.backing {
                return Ok(backing.clone());
            }
            let under_way = opened.under_way.get_or_insert_with(|| self.opening()).clone();
            (under_way, attempt)
        };
        let backing = opening.await;
        let mut opened = self.opened();
        // The first who hears of it tells the others; a later attempt is none of theirs.
        if opened.attempts == attempt {
            opened.attempts += 1;
            opened.under_way = None;
            opened.backing = backing.as_ref().ok().cloned();
        }
        backing
    }

    /// Opens the bucket once for all who ask meanwhile: they hear of a failure together, not each
    /// after a time-out of its own.
    fn opening(&self) -> Shared<BoxFuture<'static, Answer<Backing>>> {
        let link = self.link.clone();
        let open = async move {
            Ok(match link.contents {
                Contents::Keys => Backing::Keys(link.backend.kv(&link.bucket, link.open).await?),
                Contents::Counters => Backing::Counters(link.backend.counters(&link.bucket).await?),
            })
        };
        open.boxed().shared()
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Opening> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket is gone: the next guest that opens it looks again.
    pub(crate) fn forget(&self) {
        self.opened().backing = None;
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.is_cancelled()
    }

    /// Resolves when the link is taken away.
    pub(crate) fn removal(&self) -> WaitForCancellationFutureOwned {
        self.removed.clone().cancelled_owned()
    }
}
