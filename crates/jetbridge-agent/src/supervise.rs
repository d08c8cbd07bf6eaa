//! Keeps sections running: each is a task that is started again when it ends by itself, and
//! stopped in two steps, first asked to drain, then, at the deadline, dropped.
//!
//! One failing section never touches another: a panic is contained here.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, Stream};
use jetbridge_core::{Backend, Backoff, Tasks};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::board::{Board, Reporter, SectionId, State};
use crate::metrics::Metrics;

/// How long a section must have run for its next failure to count as the first.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// How long a section may still take behind its deadline, to give up what is under way.
const OVERDUE_GRACE: Duration = Duration::from_secs(2);

/// How long a section waits for those that it stands on to begin. They go on trying beyond that,
/// and the section says itself what it lacks.
const FOUNDATION_WAIT: Duration = Duration::from_secs(2);

/// What one section is made of: the part of the file that configures it, and how it runs.
pub(crate) trait Section: Send + Sync + 'static {
    /// Runs until `context.stop` asks to drain and the work is done. Ending earlier is a failure
    /// whose reason is on the board.
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>>;
}

/// What a section works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) reporter: Reporter,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
}

/// What was left when a section stopped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Drained {
    /// Pieces of work that were finished while draining.
    pub finished: u64,
    /// Pieces of work that were under way at the deadline and were dropped.
    pub abandoned: u64,
}

/// Tells a section to drain, and by when.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Option<Instant>>);

impl Stop {
    /// Resolves when draining begins, with the deadline.
    pub(crate) async fn begins(&self) -> Instant {
        let mut deadline = self.0.clone();
        match deadline.wait_for(Option::is_some).await {
            Ok(begun) => begun.unwrap_or_else(Instant::now),
            // The supervisor is gone: there is nobody left to wait for.
            Err(_gone) => Instant::now(),
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// The sections that run.
#[derive(Debug)]
pub(crate) struct Supervisor {
    backend: Arc<dyn Backend>,
    board: Board,
    metrics: Metrics,
    tasks: Tasks,
    running: BTreeMap<SectionId, Running>,
}

#[derive(Debug)]
struct Running {
    stop: watch::Sender<Option<Instant>>,
    drained: watch::Receiver<Option<Drained>>,
}

impl Supervisor {
    pub(crate) fn new(backend: Arc<dyn Backend>, board: Board, metrics: Metrics) -> Self {
        Self { backend, board, metrics, tasks: Tasks::new(), running: BTreeMap::new() }
    }

    pub(crate) fn start(&mut self, id: SectionId, section: Arc<dyn Section>) {
        let (stop, stopping) = watch::channel(None);
        let (report, drained) = watch::channel(None);
        let context = Context {
            backend: Arc::clone(&self.backend),
            reporter: self.board.add(&id),
            metrics: self.metrics.clone(),
            stop: Stop(stopping),
        };
        let (board, kind) = (self.board.clone(), id.kind);
        self.tasks.spawn(async move {
            tokio::select! {
                _in_time_or_not = timeout(FOUNDATION_WAIT, board.begun(foundation(kind))) => {}
                _deadline = context.stop.begins() => {}
            }
            report.send_replace(Some(keep_running(section, context).await));
        });
        self.running.insert(id, Running { stop, drained });
    }

    /// Tells the sections called `ids` to stop; as each ends, says which and what it left. Dropped
    /// before that, it leaves them draining, and a later call takes them up: the earlier deadline
    /// holds. Those that have ended are to be forgotten.
    pub(crate) fn stop(
        &self,
        ids: &[SectionId],
        deadline: Instant,
    ) -> impl Stream<Item = (SectionId, Drained)> + Send + 'static {
        let stopping = ids.iter().filter_map(|id| self.running.get_key_value(id));
        let reports = stopping.map(|(id, running)| {
            running.stop.send_modify(|stop| {
                let earlier = stop.map_or(deadline, |earlier| earlier.min(deadline));
                *stop = Some(earlier);
            });
            let (id, mut drained) = (id.clone(), running.drained.clone());
            async move {
                let report = drained.wait_for(Option::is_some).await;
                // A section that panicked while draining has nothing to report.
                (id, report.ok().and_then(|report| report.clone()).unwrap_or_default())
            }
        });
        reports.collect::<FuturesUnordered<_>>()
    }

    /// Takes a section that has ended off the board.
    pub(crate) fn forget(&mut self, id: &SectionId) {
        self.running.remove(id);
        self.board.remove(id);
    }

    pub(crate) fn ids(&self) -> Vec<SectionId> {
        self.running.keys().cloned().collect()
    }

    /// Joins the tasks of stopped sections; returns how many are left.
    pub(crate) async fn join(&self, grace: Duration) -> usize {
        self.tasks.stop(grace).await
    }
}

/// The kinds of sections that one of `kind` stands on: without them it would only say for a moment
/// that they are missing.
fn foundation(kind: &str) -> &'static [&'static str] {
    match kind {
        // A limiter answers without its store, from the first moment.
        "bucket" | "limiter" => &[],
        _ => &["bucket"],
    }
}

/// Runs `section` again and again until it ends because it was told to.
async fn keep_running(section: Arc<dyn Section>, context: Context) -> Drained {
    let mut backoff = Backoff::outage();
    loop {
        let started = Instant::now();
        let run = Arc::clone(&section).run(context.clone());
        let overdue = async {
            tokio::time::sleep_until(context.stop.begins().await + OVERDUE_GRACE).await;
        };
        let ended = tokio::select! {
            ended = AssertUnwindSafe(run).catch_unwind() => ended,
            () = overdue => {
                tracing::warn!("a section did not end by its deadline: it is dropped");
                Ok(Drained { abandoned: 1, ..Drained::default() })
            }
        };
        if let Err(panic) = &ended {
            let words = panic_words(panic.as_ref());
            tracing::error!(words, "a section panicked: this is a bug");
            context.reporter.degraded(format!("it panicked, which is a bug: {words}"));
        }
        if context.stop.has_begun() {
            context.reporter.set(State::Stopped);
            return ended.unwrap_or_default();
        }
        if started.elapsed() > STABLE_AFTER {
            backoff = Backoff::outage();
        }
        tokio::select! {
            () = backoff.wait() => {}
            _deadline = context.stop.begins() => {}
        }
        if context.stop.has_begun() {
            context.reporter.set(State::Stopped);
            return Drained::default();
        }
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
