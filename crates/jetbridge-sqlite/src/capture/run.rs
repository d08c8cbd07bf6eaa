//! Runs a capture: looks when the log changes, ships, waits for the replica, remembers.
//!
//! Whatever fails is tried again, from what is remembered, after a pause; two failures end the
//! capture, because nothing that is tried again would help: another writer on the replica, and a
//! file that is no database.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backoff, Error, ErrorKind, Result, Tasks};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::engine::{Engine, Replica, Turn};
use super::fault::CAPTURE;
use super::options::Options;
use super::uplink::{Delta, Head, Pages, Uplink};
use super::wake::Wake;
use crate::Txid;

/// Requests for a sync that may wait: each is answered by the same look at the log.
const SYNCS_MAX: usize = 64;

/// How a capture does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The newest transaction that is durable in the replica.
    pub txid: Txid,
    /// True while the database is held and nothing that was seen is unshipped.
    pub caught_up: bool,
    /// What failed last; `None` once it works again.
    pub error: Option<String>,
    /// True once the capture has ended.
    pub ended: bool,
}

/// A running capture of one database.
///
/// Dropping it does not stop it: [`Capture::close`] does.
#[derive(Debug)]
pub struct Capture {
    tasks: Tasks,
    syncs: mpsc::Sender<oneshot::Sender<Result<Txid>>>,
    status: watch::Receiver<Status>,
}

impl Capture {
    /// Begins to capture.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if another process captures the database. What is wrong
    /// with the database itself, or with the replica, is in the [`Status`]: it may pass.
    pub async fn start(options: Options, uplink: Arc<dyn Uplink>) -> Result<Self> {
        let wake = Wake::new(&options.path, options.poll);
        let engine = blocking(move || Engine::new(options.clone()).map(|it| (it, options))).await?;
        let (engine, options) = engine?;
        let (syncs, requests) = mpsc::channel(SYNCS_MAX);
        let (sender, status) = watch::channel(Status::default());
        let tasks = Tasks::new();
        let run = Run {
            engine: Some(engine),
            batch: options.batch,
            uplink,
            wake,
            requests,
            waiting: Vec::new(),
            status: sender,
            replica: None,
            tasks: tasks.clone(),
            shipped_at: None,
        };
        tasks.spawn(run.until_stopped());
        Ok(Self { tasks, syncs, status })
    }

    /// Waits until everything that was committed before the call is durable in the replica.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the capture ended; what stands in the way
    /// meanwhile is in the [`Status`].
    pub async fn sync(&self) -> Result<Txid> {
        let ended = || {
            let cause = self.status.borrow().error.clone();
            let error =
                Error::new(ErrorKind::Unavailable, CAPTURE).because("the capture has ended");
            cause.map_or(error, |cause| Error::new(ErrorKind::Unavailable, CAPTURE).because(cause))
        };
        let (answer, answered) = oneshot::channel();
        self.syncs.send(answer).await.map_err(|_closed| ended())?;
        answered.await.map_err(|_dropped| ended())?
    }

    /// How it does now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Ships what is committed, lets go of the database, and ends, all within `grace`; `false`
    /// if that was not enough.
    pub async fn close(self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let synced = tokio::time::timeout_at(deadline, self.sync()).await;
        let left = self.tasks.stop(deadline.saturating_duration_since(Instant::now())).await;
        left == 0 && matches!(synced, Ok(Ok(_)))
    }
}

struct Run {
    /// Away while a thread that may block works with it.
    engine: Option<Engine>,
    batch: Duration,
    uplink: Arc<dyn Uplink>,
    wake: Wake,
    requests: mpsc::Receiver<oneshot::Sender<Result<Txid>>>,
    waiting: Vec<oneshot::Sender<Result<Txid>>>,
    status: watch::Sender<Status>,
    replica: Option<Replica>,
    tasks: Tasks,
    shipped_at: Option<Instant>,
}

impl Run {
    async fn until_stopped(mut self) {
        let tasks = self.tasks.clone();
        let mut backoff = Backoff::outage();
        while !tasks.is_stopping() {
            let worked = tokio::select! {
                worked = self.step() => worked,
                () = tasks.stopping() => break,
            };
            let Err(error) = worked else {
                backoff = Backoff::outage();
                continue;
            };
            let last = is_final(&error);
            self.report(&error);
            if last {
                break;
            }
            self.replica = None;
            if let Err(error) = self
                .with_engine(|engine| {
                    engine.detach();
                    Ok(())
                })
                .await
            {
                self.report(&error);
                break;
            }
            let pause = backoff.next_wait();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = tasks.stopping() => break,
            }
        }
        self.status.send_modify(|status| status.ended = true);
    }

    /// One look at the database, and what follows from it.
    async fn step(&mut self) -> Result<()> {
        while let Ok(request) = self.requests.try_recv() {
            self.waiting.push(request);
        }
        let replica = self.replica().await?;
        let turn = self.with_engine(move |engine| match engine.turn(&replica)? {
            Turn::Idle if engine.wants_checkpoint() => engine.checkpoint(&replica),
            turn => Ok(turn),
        });
        match turn.await? {
            Turn::Ship(delta) => self.ship(delta).await,
            Turn::Idle => {
                self.caught_up();
                self.rest().await;
                Ok(())
            }
        }
    }

    /// What the replica has: asked for once, then known.
    async fn replica(&mut self) -> Result<Replica> {
        if let Some(replica) = &self.replica {
            return Ok(replica.clone());
        }
        let identity = self.uplink.identity();
        let head = self.uplink.head().await?;
        let asked = identity.clone();
        let remembered = self.with_engine(move |engine| engine.remembered(&asked)).await?;
        let touched = match (remembered, head) {
            (Some(then), Some(head)) if then < head.txid => self.uplink.touched_since(then).await?,
            _ => Vec::new(),
        };
        let replica = Replica { identity, head, touched };
        self.replica = Some(replica.clone());
        Ok(replica)
    }

    async fn ship(&mut self, delta: Delta) -> Result<()> {
        self.status.send_modify(|status| status.caught_up = false);
        if let Some(at) = self.shipped_at.filter(|_| self.waiting.is_empty()) {
            tokio::time::sleep_until(at + self.batch).await;
        }
        self.shipped_at = Some(Instant::now());
        let head =
            Head { txid: delta.txid, page_size: delta.page_size, wal: delta.wal, time: delta.time };
        let held = matches!(delta.pages, Pages::Held(_));
        tracing::debug!(txid = %head.txid, held, "shipping");
        self.uplink.ship(delta).await?;
        self.with_engine(Engine::acknowledge).await?;
        if let Some(replica) = &mut self.replica {
            replica.head = Some(head);
            replica.touched.clear();
        }
        self.status.send_modify(|status| status.txid = head.txid);
        Ok(())
    }

    /// Everything that was committed before this look is durable.
    fn caught_up(&mut self) {
        let head = self.replica.as_ref().and_then(|replica| replica.head);
        let txid = head.map_or(Txid::NONE, |head| head.txid);
        for request in self.waiting.drain(..) {
            // Whoever no longer waits for the answer does not miss it.
            request.send(Ok(txid)).unwrap_or_default();
        }
        let now = Status { txid, caught_up: true, ..Status::default() };
        self.status.send_if_modified(|status| {
            let news = *status != now;
            *status = now;
            news
        });
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self) {
        tokio::select! {
            () = self.wake.woken() => {}
            request = self.requests.recv() => match request {
                Some(request) => self.waiting.push(request),
                // Nobody can ask any more: only the database can tell of work.
                None => self.wake.woken().await,
            },
        }
    }

    fn report(&self, error: &Error) {
        tracing::warn!(%error, "the capture is interrupted");
        let text = error.to_string();
        self.status.send_modify(|status| {
            status.caught_up = false;
            status.error = Some(text);
        });
    }

    /// Works with the engine on a thread that may block.
    async fn with_engine<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::new(ErrorKind::Internal, CAPTURE).because("a capture was lost");
        let mut engine = self.engine.take().ok_or_else(gone)?;
        let (engine, done) = blocking(move || {
            let done = work(&mut engine);
            (engine, done)
        })
        .await?;
        self.engine = Some(engine);
        done
    }
}

/// What no new attempt mends.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput | ErrorKind::Internal)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|cause| Error::new(ErrorKind::Internal, CAPTURE).caused_by(cause))
}
