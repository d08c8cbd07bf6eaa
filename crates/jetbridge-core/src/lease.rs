//! Leases: at most one holder of a key at a time, as far as clocks can promise it.
//!
//! A lease is a key with a TTL that its holder keeps renewing. How long it is certain is reckoned
//! from the moment a renewal was *sent*, on the monotonic clock: the store cannot have started
//! its own clock for it earlier, so it cannot let the key expire before. Setting a machine's wall
//! clock changes nothing. A machine that sleeps can still wake up believing in a lease that has
//! passed on; this is what the fencing token is for.
//!
//! A write whose answer is lost is settled by reading: the value names the attempt that wrote it.
//! `docs/formats/leases.md` has the bytes.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::ext::{Codec as _, Json};
use crate::kv::{Change, DeleteOpts, Entry, Kv, PutOpts, Read, Revision, Scope, Watch};
use crate::name::Key;
use crate::tasks::Tasks;

/// A lease is renewed when this part of it has passed, which leaves time for two more attempts.
const RENEW_AFTER: u32 = 3;
/// Parts per million by which two clocks may drift apart while a lease runs: 100 for each.
const DRIFT_PPM: u32 = 200;
/// How long releasing waits for a renewal that is under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// For how long, and who says so.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeaseOpts {
    /// How long the lease lasts after the holder has vanished.
    pub ttl: Duration,
    /// The name that losers are told; by default one made up.
    pub holder: Option<String>,
}

impl LeaseOpts {
    /// A lease of `ttl`, by a holder with a made-up name.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, holder: None }
    }

    /// Sets the name that losers are told.
    #[must_use]
    pub fn holder(mut self, name: impl Into<String>) -> Self {
        self.holder = Some(name.into());
        self
    }
}

impl From<Duration> for LeaseOpts {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}

/// What the key of a lease holds.
#[derive(Debug, Deserialize, Serialize)]
struct Claim {
    holder: String,
    /// Names the attempt that wrote it; nobody else has it.
    attempt: String,
}

/// A lease that is held and renewed until [`Lease::release`]. Dropped, it is renewed no more and
/// passes on when its TTL ends.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::time::Duration;
/// use jetbridge_core::{
///     Backend, BucketName, BucketSpec, ErrorKind, Key, Lease, LeaseOpts, MemoryBackend, Open,
/// };
///
/// let store = MemoryBackend::new();
/// let kv = store.kv(&BucketName::parse("b")?, Open::ensure(BucketSpec::default())).await?;
/// let (key, ttl) = (Key::parse("leader")?, Duration::from_secs(30));
/// let lease = Lease::acquire(&kv, &key, LeaseOpts::new(ttl).holder("ada")).await?;
/// let lost = Lease::acquire(&kv, &key, ttl).await.unwrap_err();
/// assert_eq!((lost.kind(), lost.fact("holder")), (ErrorKind::Conflict, Some("ada")));
/// lease.release().await?;
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
pub struct Lease {
    held: Arc<Held>,
    token: Revision,
    tasks: Tasks,
}

/// What the guard and its keeper share.
struct Held {
    kv: Arc<dyn Kv>,
    key: Key,
    ttl: Duration,
    claim: Claim,
    value: Bytes,
    state: Mutex<State>,
    lost: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
struct State {
    revision: Revision,
    /// Until then no one else can hold it.
    certain_until: Instant,
}

impl Lease {
    /// Takes the lease if nobody holds it, else [`Conflict`](ErrorKind::Conflict) with the
    /// `holder` as a fact.
    pub async fn acquire(kv: &Arc<dyn Kv>, key: &Key, opts: impl Into<LeaseOpts>) -> Result<Self> {
        Self::try_acquire(kv, key, &opts.into()).await
    }

    /// Takes the lease as soon as nobody holds it. Waits for as long as it takes: put a time-out
    /// around it, dropping it is safe.
    pub async fn wait(kv: &Arc<dyn Kv>, key: &Key, opts: impl Into<LeaseOpts>) -> Result<Self> {
        let opts = opts.into();
        let mut backoff = Backoff::outage();
        loop {
            match Self::try_acquire(kv, key, &opts).await {
                Err(taken) if taken.kind() == ErrorKind::Conflict => {
                    // A store without a clock of its own may be late to say that a key expired.
                    let free = until_free(&**kv, key);
                    match tokio::time::timeout(opts.ttl, free).await {
                        Ok(Ok(())) | Err(_) => backoff = Backoff::outage(),
                        Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => {
                            backoff.wait().await;
                        }
                        Ok(Err(error)) => return Err(error),
                    }
                }
                Err(waiting) if waiting.is_retryable() => backoff.wait().await,
                settled => return settled,
            }
        }
    }

    /// Grows with every holder: whoever guards a resource refuses a token below the last one it
    /// saw. It is the revision of the write that took the lease, so it holds for one bucket.
    pub fn token(&self) -> Revision {
        self.token
    }

    /// The name that losers are told.
    pub fn holder(&self) -> &str {
        &self.held.claim.holder
    }

    /// True as long as nobody else can hold it.
    pub fn is_held(&self) -> bool {
        !self.held.lost.is_cancelled() && Instant::now() < self.held.state().certain_until
    }

    /// Resolves when it is no longer certain that nobody else holds it; never after
    /// [`Lease::release`].
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.held.lost.clone().cancelled_owned()
    }

    /// Gives it back, so that the next one can take it at once. Fine if it was lost already.
    pub async fn release(self) -> Result<()> {
        self.tasks.stop(STOP_GRACE).await;
        self.held.give_back().await
    }

    async fn try_acquire(kv: &Arc<dyn Kv>, key: &Key, opts: &LeaseOpts) -> Result<Self> {
        let attempt = crate::random::name();
        let holder = opts.holder.clone().unwrap_or_else(|| attempt.clone());
        let claim = Claim { holder, attempt };
        let value = Json.encode(&claim)?;
        let sent = Instant::now();
        let revision = claim.write_first(&**kv, key, &value, opts.ttl).await?;
        let certain_until = certain_until(sent, opts.ttl);
        let held = Arc::new(Held {
            kv: Arc::clone(kv),
            key: key.clone(),
            ttl: opts.ttl,
            claim,
            value,
            state: Mutex::new(State { revision, certain_until }),
            lost: CancellationToken::new(),
        });
        let tasks = Tasks::new();
        let keeper = Arc::clone(&held);
        tasks.spawn_until_stop(async move { keeper.keep().await });
        Ok(Self { held, token: revision, tasks })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

impl Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.held.key)
            .field("token", &self.token)
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}

impl Claim {
    /// Writes the claim over nothing, and finds out whether an unclear write landed.
    async fn write_first(
        &self,
        kv: &dyn Kv,
        key: &Key,
        value: &Bytes,
        ttl: Duration,
    ) -> Result<Revision> {
        let deadline = Instant::now() + ttl;
        let mut backoff = Backoff::outage();
        loop {
            let error = match kv.put(key, value.clone(), PutOpts::create().ttl(ttl)).await {
                Ok(written) => return Ok(written.revision),
                Err(error) => error,
            };
            if error.kind() != ErrorKind::Conflict && error.outcome() != Outcome::Unknown {
                return Err(error);
            }
            match kv.get(key, Read::Fresh).await {
                Ok(Some(entry)) if self.wrote(&entry) => return Ok(entry.revision),
                Ok(Some(entry)) => return Err(taken(&entry)),
                Ok(None) if Instant::now() < deadline => {}
                Err(unread) if unread.is_retryable() && Instant::now() < deadline => {}
                Ok(None) | Err(_) => return Err(error),
            }
            backoff.wait().await;
        }
    }

    fn wrote(&self, entry: &Entry) -> bool {
        read_claim(entry).is_some_and(|claim| claim.attempt == self.attempt)
    }
}

impl Held {
    /// Renews until the lease is lost.
    async fn keep(&self) {
        loop {
            let state = self.state();
            tokio::time::sleep_until(state.certain_until - self.ttl + self.ttl / RENEW_AFTER).await;
            match tokio::time::timeout_at(state.certain_until, self.renew()).await {
                Ok(Some(renewed)) => *self.lock() = renewed,
                Ok(None) | Err(_) => break,
            }
        }
        tracing::debug!(key = %self.key, "lease lost");
        self.lost.cancel();
    }

    /// Writes the claim again; `None` if somebody else holds the key.
    async fn renew(&self) -> Option<State> {
        let mut backoff = Backoff::new(self.ttl / 50, self.ttl / 5);
        let mut revision = self.state().revision;
        loop {
            let sent = Instant::now();
            let opts = PutOpts::over(revision).ttl(self.ttl);
            match self.kv.put(&self.key, self.value.clone(), opts).await {
                Ok(written) => {
                    let certain_until = certain_until(sent, self.ttl);
                    return Some(State { revision: written.revision, certain_until });
                }
                // It may be a write of our own whose answer was lost.
                Err(lost) if lost.kind() == ErrorKind::Conflict => {
                    match self.kv.get(&self.key, Read::Fresh).await {
                        Ok(Some(entry)) if self.claim.wrote(&entry) => revision = entry.revision,
                        Ok(_) => return None,
                        Err(error) => self.note(&error),
                    }
                }
                Err(error) => self.note(&error),
            }
            backoff.wait().await;
        }
    }

    /// Deletes the claim if it is still there.
    async fn give_back(&self) -> Result<()> {
        let State { mut revision, certain_until } = self.state();
        let mut backoff = Backoff::contention();
        loop {
            let error = match self.kv.delete(&self.key, DeleteOpts::exactly(revision)).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let unclear =
                error.kind() == ErrorKind::Conflict || error.kind() == ErrorKind::Unavailable;
            if !unclear || Instant::now() >= certain_until {
                return Err(error);
            }
            match self.kv.get(&self.key, Read::Fresh).await {
                Ok(Some(entry)) if self.claim.wrote(&entry) => revision = entry.revision,
                Ok(_) => return Ok(()),
                Err(unread) => self.note(&unread),
            }
            backoff.wait().await;
        }
    }

    fn note(&self, error: &Error) {
        tracing::debug!(key = %self.key, %error, "lease not renewed yet");
    }

    fn state(&self) -> State {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when a lease of `ttl` that was asked for at `sent` is certain.
fn certain_until(sent: Instant, ttl: Duration) -> Instant {
    sent + ttl - ttl * DRIFT_PPM / 1_000_000
}

fn read_claim(entry: &Entry) -> Option<Claim> {
    Json.decode(&entry.value).ok()
}

fn taken(entry: &Entry) -> Error {
    let holder = read_claim(entry).map_or_else(|| "unknown".to_owned(), |claim| claim.holder);
    Error::new(ErrorKind::Conflict, "lease.acquire")
        .because("somebody else holds the lease")
        .with("key", &entry.key)
        .with("holder", holder)
        .with("revision", entry.revision)
}

/// Returns when the key is not there.
async fn until_free(kv: &dyn Kv, key: &Key) -> Result<()> {
    let mut changes = kv.watch(Watch::current(Scope::One(key.clone())).keys_only());
    let mut there = false;
    while let Some(change) = changes.next().await {
        match change? {
            Change::Put(_) => there = true,
            Change::Delete { .. } => there = false,
            Change::CaughtUp => {}
        }
        if !there {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "lease.wait")
        .because("the watch ended")
        .with("key", key))
}
