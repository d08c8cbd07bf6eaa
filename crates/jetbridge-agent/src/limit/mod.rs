//! `stores:` and `limiters:`: what is opened for them, and who may ask.
//!
//! A store and each limiter are sections of their own, so that a changed limiter leaves the others
//! and what they hold alone. They meet at the [`Desk`], where HTTP asks too.

mod http;
mod limiter;
mod metrics;
mod permits;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jetbridge::limit::{Engine, LimitFile, Limiter, LimiterSpec, Limits};
use jetbridge_core::{Backend, BucketKind, Error, ErrorKind, Result, SystemClock, Tasks};
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) use http::operations;
pub(crate) use limiter::LimiterSection;
pub(crate) use store::LimitStoreSection;

use self::metrics::Durations;
use self::permits::Permits;

/// How long starting waits for a store: for one that could say that a limiter cannot be, and before
/// a limiter says that it lacks its own.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// What there is of a store or a limiter: nothing as long as the store has not answered, or why it
/// cannot be.
type Found<T> = std::result::Result<Option<T>, Arc<Error>>;

/// The limiters that run. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stores: Mutex<BTreeMap<String, watch::Sender<Found<Limits>>>>,
    /// The ids in the files, whether or not their sections run yet.
    declared: Mutex<BTreeSet<String>>,
    limiters: Mutex<BTreeMap<String, Desked>>,
    permits: Permits,
    durations: Durations,
    /// Calls over HTTP that wait for a limiter, by its id.
    waiting: Mutex<BTreeMap<String, u64>>,
}

/// A call that waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    desk: Desk,
    id: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = lock(&self.desk.0.waiting);
        match waiting.get_mut(&self.id) {
            Some(number) if *number > 1 => *number -= 1,
            _ => drop(waiting.remove(&self.id)),
        }
    }
}

/// A limiter that the files name.
#[derive(Clone, Debug)]
pub(crate) struct Desked {
    pub(crate) spec: LimiterSpec,
    pub(crate) engine: Engine,
    pub(crate) limiter: Found<Limiter>,
    /// The same in this process alone: it says what happens as long as the store has not answered.
    pub(crate) alone: Limiter,
}

/// What there is behind an id.
enum Sought<'a> {
    Here(Box<Desked>, Option<&'a str>),
    /// The files have it, and its section has not begun.
    Starting,
    Unknown,
}

impl Desk {
    /// The bucket of a store as soon as it is open.
    fn store(&self, name: &str) -> watch::Receiver<Found<Limits>> {
        let mut stores = lock(&self.0.stores);
        stores.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(Ok(None))).subscribe()
    }

    fn set_store(&self, name: &str, limits: Found<Limits>) {
        let mut stores = lock(&self.0.stores);
        let store = stores.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(Ok(None)));
        drop(store.send_replace(limits));
    }

    fn set_limiter(&self, desked: Desked) {
        lock(&self.0.limiters).insert(desked.spec.id.clone(), desked);
    }

    fn remove_limiter(&self, id: &str) {
        lock(&self.0.limiters).remove(id);
    }

    /// From now on the files have these limiters and no others.
    pub(crate) fn declare(&self, ids: BTreeSet<String>) {
        *lock(&self.0.declared) = ids;
    }

    /// The limiter that `id` names, or the one that it is a key of, and that key.
    fn find<'a>(&self, id: &'a str) -> Sought<'a> {
        let (name, key) = id.split_once(':').map_or((id, None), |(name, key)| (name, Some(key)));
        if let Some(desked) = lock(&self.0.limiters).get(name).cloned() {
            return Sought::Here(Box::new(desked), key);
        }
        match lock(&self.0.declared).contains(name) {
            true => Sought::Starting,
            false => Sought::Unknown,
        }
    }

    /// Counts a call as waiting for the limiter `id`.
    pub(crate) fn wait(&self, id: &str) -> Waiting {
        *lock(&self.0.waiting).entry(id.to_owned()).or_default() += 1;
        Waiting { desk: self.clone(), id: id.to_owned() }
    }

    /// Calls over HTTP that wait for the limiter `id`.
    pub(crate) fn waiting(&self, id: &str) -> u64 {
        lock(&self.0.waiting).get(id).copied().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Desked> {
        lock(&self.0.limiters).values().cloned().collect()
    }

    pub(crate) fn permits(&self) -> &Permits {
        &self.0.permits
    }

    /// What [`Tasks`] the permits given over HTTP end by.
    pub(crate) fn tasks(&self) -> &Tasks {
        self.0.permits.tasks()
    }

    /// As Prometheus reads it.
    pub(crate) fn metrics(&self, out: &mut String) -> Result<()> {
        metrics::write(self, out)
    }
}

/// Refuses limiters that must remember longer than the bucket that is there does. A store that
/// does not answer is looked at later, by its section.
pub(crate) async fn refuse_what_cannot_be(
    file: &LimitFile,
    store: &Arc<dyn Backend>,
) -> Result<()> {
    for spec in &file.limiters {
        let place = file.store_of(spec)?;
        if place.engine == Engine::Memory {
            continue;
        }
        let look = async {
            let backend = match store::connect(&place).await {
                Ok(Some(own)) => own,
                Ok(None) => Arc::clone(store),
                Err(_later) => return None,
            };
            let info = backend.bucket(BucketKind::Kv, &place.bucket).await.ok();
            if place.location.is_some() {
                backend.close(LOOK).await;
            }
            info
        };
        let Ok(Some(info)) = timeout(LOOK, look).await else { continue };
        let memory = spec.policy.memory();
        if let Some(max_age) = info.spec.max_age.filter(|age| *age < memory) {
            return Err(Error::new(ErrorKind::InvalidInput, "limit.open")
                .because(format!(
                    "the bucket `{}` forgets after {max_age:?}, and the limiter `{}` must \
                     remember for {memory:?}",
                    place.bucket, spec.id
                ))
                .hint("use a bucket without a TTL: `bucket_name`"));
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock that fields of answers count in.
const CLOCK: SystemClock = SystemClock;
