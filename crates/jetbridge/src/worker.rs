//! What everything that handles messages shares: so many jobs at once and no more, in order of a
//! key where that is wanted, panics contained, and an end under a deadline with counts.
//!
//! A job is taken in only when there is a place for it, so that a slow handler slows its source
//! down instead of filling memory. Where jobs come from, and what becomes of a message whose job
//! failed, is not this module's business.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// Jobs of one worker at once, at most: each is a task, and a place for each is kept free.
pub const CONCURRENCY_MAX: usize = 65_536;
/// How long a job that is given up has to reach its next await and be dropped there. One that
/// blocks its thread never does.
const ABANDON_GRACE: Duration = Duration::from_millis(500);

/// Runs jobs. Clones share its places and counts.
#[derive(Clone, Debug)]
pub struct Worker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    label: String,
    concurrency: u32,
    places: Arc<Semaphore>,
    chains: Mutex<Chains>,
    tally: Tally,
    tasks: Tasks,
}

impl Worker {
    /// A worker for at most `concurrency` jobs at once, which the log calls `label`.
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if that is 0 or over [`CONCURRENCY_MAX`].
    pub fn new(label: impl Into<String>, concurrency: usize) -> Result<Self> {
        let places = u32::try_from(concurrency).unwrap_or(u32::MAX);
        if concurrency == 0 || concurrency > CONCURRENCY_MAX {
            return Err(Error::new(ErrorKind::InvalidInput, "worker.new")
                .because(format!("{concurrency} at once: it must be 1 to {CONCURRENCY_MAX}")));
        }
        Ok(Self(Arc::new(Inner {
            label: label.into(),
            concurrency: places,
            places: Arc::new(Semaphore::new(concurrency)),
            chains: Mutex::default(),
            tally: Tally::default(),
            tasks: Tasks::new(),
        })))
    }

    /// Waits for a free place. Take a message in only when you have one.
    pub async fn place(&self) -> Place {
        // Nobody closes the semaphore; a place that is none would still be bounded by the caller.
        Place(Arc::clone(&self.0.places).acquire_owned().await.ok())
    }

    /// Runs `job` in `place`.
    pub fn start<J>(&self, place: Place, job: J)
    where
        J: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let worker = self.clone();
        self.0.tasks.spawn_until_stop(async move {
            worker.run(job).await;
            drop(place);
        });
    }

    /// As [`Worker::start`], behind every job started earlier under the same `key`. Jobs of other
    /// keys go on meanwhile, as long as there are places: one that waits for its turn keeps its
    /// place.
    pub fn start_in_order<J>(&self, place: Place, key: &str, job: J)
    where
        J: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let (turn, ended) = lock(&self.0.chains).enter(key);
        let (worker, key) = (self.clone(), Box::<str>::from(key));
        self.0.tasks.spawn_until_stop(async move {
            if let Some(before) = turn.before {
                // Its end is what counts, and an end without a word is one too.
                drop(before.await);
            }
            worker.run(job).await;
            lock(&worker.0.chains).leave(&key, turn.number);
            drop(ended);
            drop(place);
        });
    }

    async fn run<J>(&self, job: J)
    where
        J: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let running = Running { tally: &self.0.tally, ended: false };
        let result = contain(job).await.and_then(|result| result);
        if let Err(error) = &result {
            tracing::warn!(worker = self.0.label, panicked = error.is_panic(), "{error}");
        }
        running.end(&result);
    }

    /// Resolves when no job runs. Meaningful once nobody takes places any more.
    pub async fn idle(&self) {
        drop(self.0.places.acquire_many(self.0.concurrency).await);
    }

    /// Gives up what still runs: every job is dropped at its next await.
    pub async fn abandon(&self) -> Counts {
        let stuck = self.0.tasks.stop(ABANDON_GRACE).await;
        let mut counts = self.counts();
        counts.abandoned += u64::try_from(stuck).unwrap_or(u64::MAX);
        counts
    }

    /// Waits for the jobs under way until `deadline`, then gives up the rest. Call it when nobody
    /// takes places any more.
    pub async fn drain(&self, deadline: Instant) -> Counts {
        if tokio::time::timeout_at(deadline, self.idle()).await.is_err() {
            tracing::warn!(worker = self.0.label, "jobs are given up at the deadline");
        }
        self.abandon().await
    }

    /// Counts messages that never became a job because they did not fit a buffer.
    pub fn note_dropped(&self, messages: u64) {
        self.0.tally.dropped.fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts messages that arrived but were not begun before the end.
    pub fn note_undelivered(&self, messages: u64) {
        self.0.tally.undelivered.fetch_add(messages, Ordering::Relaxed);
    }

    /// What has become of the jobs so far.
    pub fn counts(&self) -> Counts {
        self.0.tally.counts()
    }

    /// What the log calls it.
    pub fn label(&self) -> &str {
        &self.0.label
    }
}

/// The right to run one job; dropping it gives it back.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

/// What became of jobs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Jobs that ended well.
    pub handled: u64,
    /// Jobs that returned an error.
    pub failed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that were given up in mid-work.
    pub abandoned: u64,
    /// Messages that arrived but were not begun before the end.
    pub undelivered: u64,
    /// Messages that did not fit the buffer and were lost.
    pub dropped: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            handled: self.handled + other.handled,
            failed: self.failed + other.failed,
            panicked: self.panicked + other.panicked,
            abandoned: self.abandoned + other.abandoned,
            undelivered: self.undelivered + other.undelivered,
            dropped: self.dropped + other.dropped,
        }
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} handled, {} failed, {} panicked", self.handled, self.failed, self.panicked)?;
        let rest = [
            (self.abandoned, "abandoned"),
            (self.undelivered, "not begun"),
            (self.dropped, "dropped"),
        ];
        for (number, what) in rest.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, ", {number} {what}")?;
        }
        Ok(())
    }
}

/// Why a handler did not do its work, and what is to become of the message.
///
/// Any error becomes one by `?`, as text does by `.into()`: the message comes again, where it
/// can. [`HandlerError::terminal`] and [`HandlerError::retry_after`] say otherwise.
pub struct HandlerError {
    cause: Box<dyn std::error::Error + Send + Sync>,
    next: Next,
}

/// What is to become of a message whose handler failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "whoever settles messages must know every answer")]
pub enum Next {
    /// It never comes again.
    GiveUp,
    /// It comes again, after a time that the source chooses.
    Retry,
    /// It comes again after this long.
    RetryAfter(Duration),
}

impl HandlerError {
    /// A failure that trying again cannot mend: a durable message is given up.
    pub fn terminal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: cause.into(), next: Next::GiveUp }
    }

    /// A failure after which a durable message comes again in `delay`.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.next = Next::RetryAfter(delay);
        self
    }

    /// What is to become of the message.
    pub const fn next(&self) -> Next {
        self.next
    }

    /// The cause.
    pub fn cause(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.cause
    }

    /// True if the handler panicked.
    pub fn is_panic(&self) -> bool {
        self.cause.is::<Panicked>()
    }
}

// Not an `Error` itself: then everything that is one converts by `?`.
impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for HandlerError {
    fn from(cause: E) -> Self {
        Self { cause: cause.into(), next: Next::Retry }
    }
}

impl Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        let mut next = self.cause.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("cause", &self.cause)
            .field("next", &self.next)
            .finish()
    }
}

/// A panic, as an error.
#[derive(Debug)]
struct Panicked(String);

impl Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler panicked: {}", self.0)
    }
}

impl std::error::Error for Panicked {}

/// Runs `job` and turns a panic into an error: it ends that job and nothing else.
pub async fn contain<J: Future>(job: J) -> Result<J::Output, HandlerError> {
    AssertUnwindSafe(job).catch_unwind().await.map_err(|panic| Panicked(panic_text(&*panic)).into())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

#[derive(Debug, Default)]
struct Tally {
    handled: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    abandoned: AtomicU64,
    undelivered: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    fn counts(&self) -> Counts {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Counts {
            handled: read(&self.handled),
            failed: read(&self.failed),
            panicked: read(&self.panicked),
            abandoned: read(&self.abandoned),
            undelivered: read(&self.undelivered),
            dropped: read(&self.dropped),
        }
    }
}

/// A job under way: dropped before its end, it counts as abandoned.
struct Running<'a> {
    tally: &'a Tally,
    ended: bool,
}

impl Running<'_> {
    fn end(mut self, result: &Result<(), HandlerError>) {
        self.ended = true;
        let number = match result {
            Ok(()) => &self.tally.handled,
            Err(error) if error.is_panic() => &self.tally.panicked,
            Err(_failed) => &self.tally.failed,
        };
        number.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tally.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The last job of each key that has one. Bounded by the places: a key leaves with its last job.
#[derive(Debug, Default)]
struct Chains {
    last: HashMap<Box<str>, (u64, oneshot::Receiver<()>)>,
    entered: u64,
}

/// A job's turn among those of its key.
struct Turn {
    number: u64,
    before: Option<oneshot::Receiver<()>>,
}

impl Chains {
    fn enter(&mut self, key: &str) -> (Turn, oneshot::Sender<()>) {
        let (ended, end) = oneshot::channel();
        self.entered += 1;
        let before = self.last.insert(key.into(), (self.entered, end)).map(|(_, before)| before);
        (Turn { number: self.entered, before }, ended)
    }

    fn leave(&mut self, key: &str, number: u64) {
        if self.last.get(key).is_some_and(|(last, _)| *last == number) {
            self.last.remove(key);
        }
    }
}

fn lock(chains: &Mutex<Chains>) -> std::sync::MutexGuard<'_, Chains> {
    chains.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn never_more_at_once_than_there_are_places() {
        let worker = Worker::new("test", 3).unwrap();
        let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        for _ in 0..50 {
            let place = worker.place().await;
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            worker.start(place, async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            });
        }
        let counts = worker.drain(Instant::now() + SOON).await;
        assert_eq!((counts.handled, most.load(Ordering::SeqCst)), (50, 3));
    }

    #[tokio::test]
    async fn a_panic_and_an_error_end_their_own_job_only() {
        let worker = Worker::new("test", 1).unwrap();
        worker.start(worker.place().await, async { panic!("boom") });
        worker.start(worker.place().await, async { Err("no".into()) });
        worker.start(worker.place().await, async { Ok(()) });
        let counts = worker.drain(Instant::now() + SOON).await;
        assert_eq!(counts.to_string(), "1 handled, 1 failed, 1 panicked");
    }

    #[tokio::test]
    async fn jobs_of_one_key_keep_their_order_and_others_pass() {
        let worker = Worker::new("test", 4).unwrap();
        let (seen, mut order) = mpsc::unbounded_channel();
        let (go, gate) = oneshot::channel::<()>();
        let first = seen.clone();
        worker.start_in_order(worker.place().await, "a", async move {
            gate.await?;
            first.send("a1")?;
            Ok(())
        });
        for (key, name) in [("a", "a2"), ("b", "b1"), ("a", "a3")] {
            let seen = seen.clone();
            worker.start_in_order(worker.place().await, key, async move { Ok(seen.send(name)?) });
        }
        assert_eq!(order.recv().await, Some("b1"));
        go.send(()).unwrap();
        for expected in ["a1", "a2", "a3"] {
            assert_eq!(order.recv().await, Some(expected));
        }
        worker.drain(Instant::now() + SOON).await;
        assert!(lock(&worker.0.chains).last.is_empty());
    }

    #[tokio::test]
    async fn what_misses_the_deadline_is_given_up_and_counted() {
        let worker = Worker::new("test", 2).unwrap();
        worker.start(worker.place().await, std::future::pending());
        worker.start(worker.place().await, async { Ok(()) });
        let counts = worker.drain(Instant::now() + Duration::from_millis(20)).await;
        assert_eq!((counts.handled, counts.abandoned), (1, 1));
    }

    #[test]
    fn no_place_at_all_is_a_mistake() {
        for concurrency in [0, CONCURRENCY_MAX + 1] {
            let error = Worker::new("test", concurrency).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
