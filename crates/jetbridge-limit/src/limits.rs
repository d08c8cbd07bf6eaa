//! The limiters of one bucket: one connection, and a task for each that is in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::BoxStream;
use jetbridge_core::{
    Backend, BucketKind, BucketName, DeleteOpts, Error, ErrorKind, Key, Kv, Open, Read, Result,
    Scope, Support, Tasks,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::actor::Actor;
use crate::booth::{self, Booth};
use crate::front::Front;
use crate::limiter::{Limiter, LimiterOpts};
use crate::message::Message;
use crate::place::Place;
use crate::policy::Policy;
use crate::record;
use crate::tally::Tally;

/// How long an unused limiter keeps its task and what it knows of the stored state. Forgetting
/// costs the next call one read.
const IDLE: Duration = Duration::from_secs(10);
/// With more limiters in use than [`IDLE_MAX`], they keep it only so long: enough for a refund,
/// and for a denial to be known to the next call.
const IDLE_CROWDED: Duration = Duration::from_millis(200);
const IDLE_MAX: usize = 4_096;

/// How often a reset tries to delete exactly what it has read.
const DELETIONS: u32 = 16;

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
    booth: Option<Arc<Booth>>,
    tasks: Tasks,
    actors: Mutex<Actors>,
    tallies: Mutex<HashMap<String, Arc<Tally>>>,
}

/// Limiters in use: by key, then by policy. Two policies on one key are two parties that meet in
/// the store, as those of two processes do.
type Actors = HashMap<Key, Vec<Listed>>;

/// A limiter's task.
#[derive(Debug)]
struct Listed {
    policy: String,
    inbox: mpsc::UnboundedSender<Message>,
    front: Arc<Front>,
}

impl Limits {
    /// Opens the bucket. One that is missing is
    /// [`NotFound`](jetbridge_core::ErrorKind::NotFound) unless `open` makes it.
    pub async fn open(backend: Arc<dyn Backend>, bucket: &BucketName, open: Open) -> Result<Self> {
        let (tasks, makes) = (Tasks::new(), open.create.is_some());
        let booth = Booth::beside(bucket, makes, tasks.clone()).map(Arc::new);
        let kv = backend.kv(bucket, open).await?;
        let max_age = backend.bucket(BucketKind::Kv, bucket).await?.spec.max_age;
        let (actors, tallies) = (Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Shared { backend, kv, max_age, booth, tasks, actors, tallies })))
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
        let mut tallies = self.0.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = Arc::clone(tallies.entry(id.to_owned()).or_default());
        drop(tallies);
        Limiter::new(self.clone(), Key::parse(id)?, (policy, opts), tally)
    }

    /// Forgets what `id`, a limiter or a key of one, has given; false if it has given nothing.
    /// Its slots are free, and their holders' [`Permit::lost`](crate::Permit::lost) resolves when
    /// they next renew. Processes that have just denied a call may do so for ten more seconds.
    pub async fn reset(&self, id: &str) -> Result<bool> {
        let key = Key::parse(id)?;
        let (deleted, has_tickets) = self.delete(&key).await?;
        if has_tickets {
            booth::end_tickets(self.0.booth.as_deref(), &*self.0.backend, &key).await?;
        }
        if let Some(listed) = self.actors().get(&key) {
            listed.iter().for_each(|listed| listed.front.clear());
        }
        Ok(deleted)
    }

    /// Deletes a value; whether there was one, and whether it had tickets. Where others write it
    /// faster than it can be read and deleted, it has none: those are not written.
    async fn delete(&self, key: &Key) -> Result<(bool, bool)> {
        for _ in 0..DELETIONS {
            let Some(entry) = self.0.kv.get(key, Read::Fresh).await? else {
                return Ok((false, false));
            };
            let opts = DeleteOpts::exactly(entry.revision).with_history();
            match self.0.kv.delete(key, opts).await {
                Ok(_) => return Ok((true, record::has_tickets(&entry))),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        let opts = DeleteOpts::new().with_history();
        Ok((self.0.kv.delete(key, opts).await?.is_some(), false))
    }

    /// The limiters and keys of limiters that have given something, as they come.
    pub fn used(&self) -> BoxStream<'static, Result<Key>> {
        self.0.kv.keys(Scope::All)
    }

    /// Ends the tasks, at most in `grace`; how many are left. Calls under way end with an error.
    /// Slots that were given back by then are free at once, others when their lease ends.
    pub async fn close(&self, grace: Duration) -> usize {
        self.0.tasks.stop(grace).await
    }

    pub(crate) fn place(
        &self,
        key: &Key,
        policy: Policy,
        (opts, tally): (LimiterOpts, Arc<Tally>),
    ) -> Place {
        let (backend, kv) = (Arc::clone(&self.0.backend), Arc::clone(&self.0.kv));
        let (deadline, lease) = (opts.deadline, opts.lease);
        let expires = backend.capabilities().key_ttl != Support::No;
        let booth = self.0.booth.clone();
        Place { backend, kv, key: key.clone(), policy, deadline, expires, lease, booth, tally }
    }

    /// What there is to see of a limiter that is in use.
    pub(crate) fn front(&self, (key, policy): (&Key, &str)) -> Option<Arc<Front>> {
        if self.0.tasks.is_stopping() {
            return None;
        }
        let actors = self.actors();
        let listed = actors.get(key)?.iter().find(|listed| listed.policy == policy)?;
        Some(Arc::clone(&listed.front))
    }

    /// Hands `message` to the limiter's task, which is started if there is none.
    pub(crate) fn send(
        &self,
        (key, policy): (&Key, &str),
        place: impl FnOnce() -> Place,
        message: Message,
    ) {
        if self.0.tasks.is_stopping() {
            return;
        }
        let mut actors = self.actors();
        // Whoever ends takes itself off the list first, under this lock: a task that is listed
        // still reads.
        let known = actors.get(key).and_then(|it| it.iter().find(|it| it.policy == policy));
        if let Some(listed) = known {
            drop(listed.inbox.send(message));
            return;
        }
        let (home, inbox) = mpsc::unbounded_channel();
        drop(home.send(message));
        let (front, policy) = (Arc::<Front>::default(), policy.to_owned());
        let (sender, seen) = (home.clone(), Arc::clone(&front));
        let listed = Listed { policy: policy.clone(), inbox: sender, front };
        actors.entry(key.clone()).or_default().push(listed);
        drop(actors);
        let actor = Actor::new(place(), home, seen);
        let (limits, key) = (self.clone(), key.clone());
        self.0.tasks.spawn(async move { limits.run(actor, inbox, (key, policy)).await });
    }

    async fn run(
        &self,
        mut actor: Actor,
        mut inbox: mpsc::UnboundedReceiver<Message>,
        name: (Key, String),
    ) {
        let stopping = self.0.tasks.stopping();
        tokio::pin!(stopping);
        loop {
            let woken = async {
                if !actor.is_idle() {
                    actor.next(&mut inbox).await;
                    return true;
                }
                let idle = if self.actors().len() > IDLE_MAX { IDLE_CROWDED } else { IDLE };
                timeout(idle, actor.next(&mut inbox)).await.is_ok()
            };
            let woken = tokio::select! {
                biased;
                () = &mut stopping => break,
                woken = woken => woken,
            };
            if !woken {
                tokio::select! {
                    biased;
                    () = &mut stopping => break,
                    () = actor.retire() => {}
                }
                if self.unlist(&inbox, &name) {
                    return;
                }
            }
            tokio::select! {
                biased;
                () = &mut stopping => break,
                () = actor.serve(&mut inbox) => {}
            }
        }
        actor.farewell(inbox).await;
    }

    /// Takes a task off the list, unless a message has just come.
    fn unlist(
        &self,
        inbox: &mpsc::UnboundedReceiver<Message>,
        (key, policy): &(Key, String),
    ) -> bool {
        let mut actors = self.actors();
        if !inbox.is_empty() {
            return false;
        }
        if let Some(listed) = actors.get_mut(key) {
            listed.retain(|listed| listed.policy != *policy);
            if listed.is_empty() {
                actors.remove(key);
            }
        }
        true
    }

    fn actors(&self) -> MutexGuard<'_, Actors> {
        self.0.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
