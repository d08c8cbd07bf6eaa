//! What all handles on one bucket of keys share within a backend.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use jetbridge_core::{BucketKind, BucketName, ErrorKind, KvShared, Result, StoreTime, random};

use super::janitor::Shift;
use crate::api::Api;
use crate::bucket::stream_name;
use crate::clock::{Witness, estimate};
use crate::copies::no_bucket;
use crate::facts::Facts;
use crate::fates::Fates;
use crate::request::{Call, may_not_ask};

/// How long facts are relied on. A stream can be given more copies, or a mirror, at any time;
/// from then on a copy's answer may be old.
const FACTS_AGE_MAX: Duration = Duration::from_secs(60);
/// Ids of this bucket's writes that a server is made to remember at once, at about 150 bytes
/// each; writes beyond them go without.
const IDS_MAX: u64 = 100_000;
/// Unconditional writes under way at once, beyond which they are a burst: what counts then is how
/// many the server takes, and those beyond go without a name.
const NAMED_MAX: usize = 64;
/// How long it remembers them.
const IDS_WINDOW: Duration = Duration::from_secs(120);

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) api: Api,
    pub(crate) name: BucketName,
    pub(crate) stream: String,
    pub(crate) shared: KvShared,
    pub(crate) fates: Fates,
    pub(crate) witness: Arc<Witness>,
    /// Set once a permission for asking for many keys at once turned out to be missing.
    pub(crate) many_denied: AtomicBool,
    /// Set once a permission for reading without a filter turned out to be missing.
    pub(super) unfiltered_denied: AtomicBool,
    writer: String,
    writes: AtomicU64,
    /// Unconditional writes under way.
    blind: AtomicUsize,
    ids: Mutex<Ids>,
    facts: Mutex<Option<Cached>>,
    asking: tokio::sync::Mutex<()>,
    pub(super) shift: Shift,
}

#[derive(Clone, Debug)]
struct Cached {
    facts: Arc<Facts>,
    asked: Instant,
    epoch: u64,
}

/// An unconditional write under way; it is over when this is dropped.
pub(crate) struct Blind<'a>(&'a AtomicUsize);

impl Drop for Blind<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Ids {
    since: Instant,
    used: u64,
}

impl Bucket {
    pub(crate) fn new(api: Api, name: BucketName, witness: Arc<Witness>) -> Self {
        Self {
            stream: stream_name(BucketKind::Kv, name.as_str()),
            api,
            name,
            shared: KvShared::new(),
            fates: Fates::default(),
            witness,
            many_denied: AtomicBool::new(false),
            unfiltered_denied: AtomicBool::new(false),
            writer: format!("{:x}", random::u64()),
            writes: AtomicU64::new(0),
            blind: AtomicUsize::new(0),
            ids: Mutex::new(Ids { since: Instant::now(), used: 0 }),
            facts: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            shift: Shift::default(),
        }
    }

    /// The name of a write, which no other write has.
    pub(crate) fn next_write(&self) -> String {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.writer)
    }

    /// Begins an unconditional write.
    pub(crate) fn blind(&self) -> Blind<'_> {
        self.blind.fetch_add(1, Ordering::Relaxed);
        Blind(&self.blind)
    }

    /// Whether the unconditional writes under way are a burst.
    pub(crate) fn is_burst(&self) -> bool {
        self.blind.load(Ordering::Relaxed) > NAMED_MAX
    }

    /// Whether another write may be remembered by the server by its id.
    pub(crate) fn may_fence(&self, now: Instant) -> bool {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(ids.since) > IDS_WINDOW {
            *ids = Ids { since: now, used: 0 };
        }
        ids.used += 1;
        ids.used <= IDS_MAX
    }

    /// The store's time, as far as it is known.
    pub(crate) fn now(&self) -> StoreTime {
        estimate(&self.api)
    }

    /// The facts, asked for anew after a while and after every reconnect.
    pub(crate) async fn facts(&self, call: &Call) -> Result<Arc<Facts>> {
        let epoch = self.api.link().epoch();
        let cached = self.cached();
        if let Some(cached) = &cached
            && cached.epoch == epoch
            && call.began.saturating_duration_since(cached.asked) < FACTS_AGE_MAX
        {
            return Ok(Arc::clone(&cached.facts));
        }
        // Rare, so its room is not that of every operation.
        Box::pin(self.ask_anew(cached, call)).await
    }

    async fn ask_anew(&self, cached: Option<Cached>, call: &Call) -> Result<Arc<Facts>> {
        let Some(_asking) = self.may_ask(cached.is_some()).await else {
            return self.facts_or_unknown();
        };
        // Whoever asked before us may have been answered meanwhile.
        match self.cached() {
            Some(now) if cached.is_none_or(|before| now.asked > before.asked) => Ok(now.facts),
            _ => self.ask(call).await,
        }
    }

    /// One asks at a time; the others go on with what was known, if anything was.
    async fn may_ask(&self, known: bool) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if known { self.asking.try_lock().ok() } else { Some(self.asking.lock().await) }
    }

    fn cached(&self) -> Option<Cached> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn facts_or_unknown(&self) -> Result<Arc<Facts>> {
        let unknown = || Arc::new(Facts::unknown(&self.name));
        Ok(self.cached().map_or_else(unknown, |cached| cached.facts))
    }

    async fn ask(&self, call: &Call) -> Result<Arc<Facts>> {
        match self.api.stream(&self.stream, call).await {
            Ok(Some(info)) => {
                self.witness.note(&info.config);
                Ok(self.remember(Facts::of(&self.name, &info)))
            }
            Ok(None) => Err(no_bucket(BucketKind::Kv, &self.name, call.operation)),
            Err(error) if may_not_ask(&error) => Ok(self.remember(Facts::unknown(&self.name))),
            Err(error) => match self.cached() {
                Some(cached) if error.kind() == ErrorKind::Unavailable => Ok(cached.facts),
                _ => Err(error.with("bucket", &self.name)),
            },
        }
    }

    /// Replaces the facts.
    pub(crate) fn remember(&self, facts: Facts) -> Arc<Facts> {
        let facts = Arc::new(facts);
        let epoch = self.api.link().epoch();
        let cached = Cached { facts: Arc::clone(&facts), asked: Instant::now(), epoch };
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(cached);
        facts
    }
}
