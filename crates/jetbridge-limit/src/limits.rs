//! The limiters of one bucket: one connection, and a task for each that is in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jetbridge_core::{
    Backend, BucketKind, BucketName, Error, ErrorKind, Key, Kv, Open, Result, Tasks,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::actor::{Actor, Message, Place};
use crate::limiter::{Limiter, LimiterOpts};
use crate::policy::{Policy, SPAN_MAX};

/// How long an unused limiter keeps its task and what it knows of the stored state. Forgetting
/// costs the next call one read.
const IDLE: Duration = Duration::from_secs(10);
/// With more limiters in use than this, those without a caller are forgotten at once.
const IDLE_MAX: usize = 4_096;

/// The limiters of one bucket. Clones share everything.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::{sync::Arc, time::Duration};
/// use jetbridge_core::{BucketName, BucketSpec, MemoryBackend, Open};
/// use jetbridge_limit::{Limits, Policy};
///
/// let store = Arc::new(MemoryBackend::new());
/// let bucket = BucketName::parse("rate_limits")?;
/// let limits = Limits::open(store, &bucket, Open::ensure(BucketSpec::default())).await?;
/// let api = limits.limiter("api", Policy::per_second(100.0)?.burst(2)?)?;
/// assert_eq!(api.try_acquire().await?.remaining, 1);
/// let user = api.key("user:42")?;
/// assert!(user.acquire().await?.allowed);
/// assert_eq!(limits.close(Duration::from_secs(5)).await, 0);
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Limits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backend: Arc<dyn Backend>,
    kv: Arc<dyn Kv>,
    /// When the bucket forgets, whoever set that.
    max_age: Option<Duration>,
    tasks: Tasks,
    actors: Mutex<Actors>,
    /// Where the time of [`Limits::uptime`] begins.
    opened: Instant,
}

/// Limiters in use. The policy is part of the name: two policies on one key are two parties that
/// meet in the store, as those of two processes do.
type Actors = HashMap<(Key, String), mpsc::UnboundedSender<Message>>;

impl Limits {
    /// Opens the bucket. One that is missing is
    /// [`NotFound`](jetbridge_core::ErrorKind::NotFound) unless `open` makes it.
    pub async fn open(backend: Arc<dyn Backend>, bucket: &BucketName, open: Open) -> Result<Self> {
        let kv = backend.kv(bucket, open).await?;
        let max_age = backend.bucket(BucketKind::Kv, bucket).await?.spec.max_age;
        let (tasks, actors, opened) = (Tasks::new(), Mutex::default(), Instant::now());
        Ok(Self(Arc::new(Shared { backend, kv, max_age, tasks, actors, opened })))
    }

    /// The limiter `id` with the default options.
    pub fn limiter(&self, id: &str, policy: Policy) -> Result<Limiter> {
        self.limiter_with(id, policy, LimiterOpts::default())
    }

    /// The limiter `id`. [`InvalidInput`](ErrorKind::InvalidInput) for an id with `:`, which
    /// divides it from the keys of [`Limiter::key`], for options outside their bounds, and for a
    /// policy that must remember longer than the bucket does.
    pub fn limiter_with(&self, id: &str, policy: Policy, opts: LimiterOpts) -> Result<Limiter> {
        let invalid =
            |why| Error::new(ErrorKind::InvalidInput, "limit.open").because(why).with("id", id);
        if id.contains(':') {
            return Err(invalid("a limiter's id has no `:`").hint("use Limiter::key for the rest"));
        }
        if let Some(max_age) = self.0.max_age.filter(|age| *age < policy.memory()) {
            return Err(invalid("the bucket forgets sooner than the limiter must remember")
                .with("bucket", self.0.kv.bucket())
                .with("max_age_seconds", max_age.as_secs_f64())
                .with("memory_seconds", policy.memory().as_secs_f64())
                .hint("use a bucket without a TTL"));
        }
        Limiter::new(self.clone(), Key::parse(id)?, policy, opts)
    }

    /// Ends the tasks, at most in `grace`; how many are left. Calls under way end with an error.
    pub async fn close(&self, grace: Duration) -> usize {
        self.0.tasks.stop(grace).await
    }

    pub(crate) fn place(&self, key: &Key, policy: Policy, deadline: Duration) -> Place {
        let (backend, kv) = (Arc::clone(&self.0.backend), Arc::clone(&self.0.kv));
        Place { backend, kv, key: key.clone(), policy, deadline }
    }

    /// Hands `message` to the limiter's task, which is started if there is none.
    pub(crate) fn send(
        &self,
        place: impl FnOnce() -> Place,
        name: (Key, String),
        message: Message,
    ) {
        if self.0.tasks.is_stopping() {
            return;
        }
        let mut actors = self.actors();
        // Whoever ends takes itself off the list first, under this lock: a task that is listed
        // still reads.
        if let Some(actor) = actors.get(&name) {
            drop(actor.send(message));
            return;
        }
        let (home, inbox) = mpsc::unbounded_channel();
        drop(home.send(message));
        actors.insert(name.clone(), home.clone());
        drop(actors);
        let actor = Actor::new(place(), home);
        let limits = self.clone();
        self.0.tasks.spawn_until_stop(async move { limits.run(actor, inbox, name).await });
    }

    async fn run(
        &self,
        mut actor: Actor,
        mut inbox: mpsc::UnboundedReceiver<Message>,
        name: (Key, String),
    ) {
        loop {
            let idle = if self.actors().len() > IDLE_MAX { Duration::ZERO } else { IDLE };
            match timeout(idle, inbox.recv()).await {
                Ok(Some(message)) => actor.serve(message, &mut inbox).await,
                Ok(None) => return,
                Err(_elapsed) => {
                    let mut actors = self.actors();
                    if inbox.is_empty() {
                        actors.remove(&name);
                        return;
                    }
                }
            }
        }
    }

    /// Nanoseconds of the monotonic clock, from a year after zero: the arithmetic looks back by
    /// up to a policy's memory.
    pub(crate) fn uptime(&self) -> u64 {
        let since = u64::try_from(self.0.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        since.saturating_add(SPAN_MAX)
    }

    fn actors(&self) -> MutexGuard<'_, Actors> {
        self.0.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
