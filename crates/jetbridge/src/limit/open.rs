//! From what a file says to limiters that can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend, BucketSpec, Error, ErrorKind, MemoryBackend, Open, Result};
use jetbridge_limit::{Limiter, Limits};

use super::file::LimitFile;
use super::limiter::LimiterSpec;
use super::store::{Engine, StoreSpec};
use crate::connect::connect;

/// The limiters of a file, opened.
///
/// ```
/// # async fn demo() -> jetbridge::Result<()> {
/// use std::time::Duration;
/// use jetbridge::limit::{LimitFile, Limiters};
/// use jetbridge::settings::{Environment, parse_toml};
///
/// let text = "[stores.s]\nengine = \"nats\"\nauto_create = true\n\
///             [limiters.api]\nstore = \"s\"\nrate_per_second = 100.0\n";
/// let root = parse_toml("rate-sync.toml", text)?;
/// let file = LimitFile::read(&[&root], &Environment::default()).unwrap();
/// // A connection that is there already: it is not closed with the limiters.
/// let store = jetbridge::connect("memory:").await?;
/// let limiters = Limiters::open(&file, store).await?;
/// assert!(limiters.find("api")?.unwrap().limiter.try_acquire().await?.allowed);
/// assert!(limiters.find("api:user 42")?.is_some() && limiters.find("other")?.is_none());
/// limiters.close(Duration::from_secs(5)).await;
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[derive(Debug)]
pub struct Limiters {
    limiters: BTreeMap<String, Found>,
    limits: Vec<Limits>,
    /// Connections that were made here.
    own: Vec<Arc<dyn Backend>>,
}

/// A limiter of a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// What the file says.
    pub spec: LimiterSpec,
    /// What its store is.
    pub engine: Engine,
    /// The limiter, or the key of it that was asked for.
    pub limiter: Limiter,
    /// All limiters of its bucket.
    pub limits: Limits,
}

impl Limiters {
    /// Opens every store that a limiter of `file` uses; `store` is the file's, which may be left
    /// out where [`LimitFile::needs_store`] says so.
    ///
    /// # Errors
    /// As [`open_store`] and [`Limits::limiter_with`];
    /// [`InvalidInput`](ErrorKind::InvalidInput) without a store that is needed.
    pub async fn open(
        file: &LimitFile,
        store: impl Into<Option<Arc<dyn Backend>>>,
    ) -> Result<Self> {
        let store = store.into();
        let (mut limiters, mut limits, mut own) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for spec in &file.limiters {
            let place = &file.store_of(spec)?;
            if !limits.contains_key(&place.name) {
                let backend = match connect_store(place).await? {
                    Some(backend) => {
                        own.push(Arc::clone(&backend));
                        backend
                    }
                    None => store.clone().ok_or_else(|| {
                        Error::new(ErrorKind::InvalidInput, "limit.open")
                            .because("the limiter uses the file's store, and none was given")
                            .with("id", &spec.id)
                    })?,
                };
                limits.insert(place.name.clone(), open_store(place, backend).await?);
            }
            let Some(limits) = limits.get(&place.name).cloned() else { continue };
            let limiter = limits.limiter_with(&spec.id, spec.policy, spec.opts)?;
            let found = Found { spec: spec.clone(), engine: place.engine, limiter, limits };
            limiters.insert(spec.id.clone(), found);
        }
        Ok(Self { limiters, limits: limits.into_values().collect(), own })
    }

    /// The limiter that `id` names, or the key of it that stands behind the first `:`; `None` if
    /// the file has no such limiter. [`InvalidInput`](ErrorKind::InvalidInput) for a key that is
    /// empty or too long.
    pub fn find(&self, id: &str) -> Result<Option<Found>> {
        let (name, key) = id.split_once(':').map_or((id, None), |(name, key)| (name, Some(key)));
        let Some(found) = self.limiters.get(name).cloned() else { return Ok(None) };
        match key {
            None => Ok(Some(found)),
            Some(key) => Ok(Some(Found { limiter: found.limiter.key(key)?, ..found })),
        }
    }

    /// Everything, by id.
    pub fn all(&self) -> impl Iterator<Item = &Found> {
        self.limiters.values()
    }

    /// Ends what runs for the limiters, and the connections that they made, at most in `grace`
    /// each; how many tasks are left.
    pub async fn close(&self, grace: Duration) -> usize {
        let mut left = 0;
        for limits in &self.limits {
            left += limits.close(grace).await;
        }
        for backend in &self.own {
            left += backend.close(grace).await.tasks_abandoned;
        }
        left
    }
}

/// The connection that a store has of its own; `None` if it uses the file's.
///
/// # Errors
/// As [`connect`]; the words begin as those of [`open_store`].
pub async fn connect_store(store: &StoreSpec) -> Result<Option<Arc<dyn Backend>>> {
    match (store.engine, &store.location) {
        (Engine::Memory, _) => Ok(Some(Arc::new(MemoryBackend::new()))),
        (Engine::Nats, None) => Ok(None),
        (Engine::Nats, Some(location)) => connect(location)
            .await
            .map(Some)
            .map_err(|error| in_the_words_of_the_page(error, store)),
    }
}

/// Opens the bucket of a store on `backend`.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) if the bucket is missing and is not to be made. The words
/// begin with those that rate-sync's page explains: `Bucket not found`, `Connection refused`,
/// `JetStream not enabled`.
pub async fn open_store(store: &StoreSpec, backend: Arc<dyn Backend>) -> Result<Limits> {
    let open = match store.auto_create {
        true => Open::ensure(BucketSpec::default()),
        false => Open::existing(),
    };
    let opened = Limits::open(backend, &store.bucket, open).await;
    opened.map_err(|error| in_the_words_of_the_page(error, store))
}

/// The command that makes the bucket where the limiters look for it.
fn kv_add(store: &StoreSpec) -> String {
    let server = store.location.as_ref().map(|location| format!(" --store {location}"));
    format!("jetbridge kv add {}{}", store.bucket, server.unwrap_or_default())
}

fn in_the_words_of_the_page(error: Error, store: &StoreSpec) -> Error {
    let (kind, words, hint) = match error.kind() {
        ErrorKind::NotFound => (
            ErrorKind::NotFound,
            format!("Bucket not found: {}", store.bucket),
            format!("make it with `{}`, or set `auto_create = true`", kv_add(store)),
        ),
        // Nothing else about a plain bucket can be unsupported.
        ErrorKind::Unsupported => (
            ErrorKind::Unsupported,
            "JetStream not enabled on the server".to_owned(),
            "start it with JetStream: `nats-server -js`".to_owned(),
        ),
        ErrorKind::Unavailable => (
            ErrorKind::Unavailable,
            "Connection refused, or no answer".to_owned(),
            "check that the server runs: `jetbridge doctor`".to_owned(),
        ),
        _ => return error,
    };
    Error::new(kind, "limit.open").because(words).caused_by(error).hint(hint)
}
