//! Runs a capture: looks when the log changes, ships, waits for the replica, remembers.
//!
//! Whatever fails is tried again after a pause: the same delta while the log can be held, else
//! from what is remembered. Two failures end the capture, because nothing that is tried again
//! would help: another writer on the replica, and a file that is no database.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jetbridge_core::{Backoff, Error, ErrorKind, Result, Tasks};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::engine::{Engine, Replica, Turn};
use super::fault::CAPTURE;
use super::options::Options;
use super::patience::{self, Progress};
use super::run::{Rebase, Status};
use super::uplink::{Delta, Head, Scope, Touched, Uplink};
use super::wake::Wake;
use crate::Txid;

/// How often a failure that goes on is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Where the replica's database is written to while a chain is taken over.
pub(super) const IMAGE_NAME: &str = "replica.db";

/// The state of a running capture.
pub(super) struct Drive {
    /// Away while a thread that may block works with it.
    pub(super) engine: Option<Engine>,
    pub(super) options: Options,
    pub(super) uplink: Arc<dyn Uplink>,
    pub(super) wake: Wake,
    pub(super) requests: mpsc::Receiver<oneshot::Sender<Txid>>,
    /// Who waits for a sync that the next look begins, and whom the one that is out satisfies.
    pub(super) asked: Vec<oneshot::Sender<Txid>>,
    pub(super) looked: Vec<oneshot::Sender<Txid>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) rebase: Rebase,
    pub(super) replica: Option<Replica>,
    /// What the replica has not acknowledged and can be sent again.
    pub(super) unshipped: Option<Delta>,
    pub(super) tasks: Tasks,
    pub(super) shipped_at: Option<Instant>,
    pub(super) logged_at: Option<Instant>,
}

impl Drive {
    pub(super) async fn until_stopped(mut self) {
        let mut backoff = Backoff::outage();
        while !self.tasks.is_stopping() {
            let worked = self.step().await;
            let worked = match worked {
                // What is cut off when it ends is no failure.
                Err(_) if self.tasks.is_stopping() => break,
                Err(error) => self.recover(error).await.map(|()| false),
                Ok(()) => Ok(true),
            };
            match worked {
                Ok(true) => backoff = Backoff::outage(),
                Ok(false) => self.pause(backoff.next_wait()).await,
                Err(error) => {
                    tracing::error!(%error, "the capture has ended");
                    self.failed(&error);
                    break;
                }
            }
        }
        // The database is let go of before anybody hears that this has ended.
        let engine = self.engine.take();
        blocking(move || drop(engine)).await.unwrap_or_default();
        self.status.send_modify(|status| {
            status.caught_up = false;
            status.ended = true;
        });
    }

    /// One look at the database, and what follows from it.
    async fn step(&mut self) -> Result<()> {
        let again = self.unshipped.as_ref().and_then(Delta::again);
        if let Some(delta) = again {
            return self.ship(delta).await;
        }
        self.let_commits_gather().await;
        let replica = self.replica().await?;
        while let Ok(request) = self.requests.try_recv() {
            self.asked.push(request);
        }
        self.looked.append(&mut self.asked);
        // Heard here too: a database that is written to all the time never comes to rest.
        self.hear_rebase();
        match self.with_engine(move |engine| engine.next(&replica)).await? {
            Turn::Ship(delta) => {
                self.unshipped = delta.again();
                self.ship(delta).await
            }
            Turn::Idle => {
                self.caught_up();
                self.rest().await;
                Ok(())
            }
        }
    }

    fn hear_rebase(&mut self) {
        if self.rebase.asked().now_or_never().is_some()
            && let Some(engine) = &mut self.engine
        {
            engine.want_base();
        }
    }

    /// Under load, one delta holds many commits.
    async fn let_commits_gather(&mut self) {
        let Some(at) = self.shipped_at.filter(|_| self.asked.is_empty()) else { return };
        tokio::select! {
            () = tokio::time::sleep_until(at + self.options.batch) => {}
            Some(request) = self.requests.recv() => self.asked.push(request),
            () = self.tasks.stopping() => {}
        }
    }

    /// What the replica has: asked for once, then known.
    async fn replica(&mut self) -> Result<Replica> {
        if let Some(replica) = &self.replica {
            return Ok(replica.clone());
        }
        let identity = self.uplink.identity();
        let head = unless_stopping(&self.tasks, self.uplink.head()).await?;
        let asked = identity.clone();
        let remembered = self.with_engine(move |engine| engine.remembered(&asked)).await?;
        let touched = match (remembered, head) {
            (_, None) => Some(Touched::default()),
            (Some(then), Some(head)) if then == head.txid => Some(Touched::default()),
            (Some(then), Some(head)) if then < head.txid => self.touched_since(then).await?,
            _ => None,
        };
        let touched = match (touched, head) {
            (None, Some(head)) => self.adopt(&identity, head).await?.then(Touched::default),
            (touched, _) => touched,
        };
        let replica = Replica { identity, head, touched };
        self.replica = Some(replica.clone());
        Ok(replica)
    }

    /// Takes a chain over of which nothing is remembered; `false` if that cannot be done.
    async fn adopt(&mut self, identity: &str, head: Head) -> Result<bool> {
        let path = self.options.state_dir().join(IMAGE_NAME);
        let (uplink, tasks) = (Arc::clone(&self.uplink), self.tasks.clone());
        let image = tokio::select! {
            image = uplink.image(&path) => image,
            () = tasks.stopping() => Ok(None),
        };
        match image {
            Ok(Some(txid)) if txid == head.txid => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "what the replica has cannot be read");
                return Ok(false);
            }
        }
        let identity = identity.to_owned();
        self.with_engine(move |engine| {
            let adopted = engine.adopt(&identity, head, &path);
            std::fs::remove_file(&path).unwrap_or_default();
            adopted
        })
        .await?;
        Ok(true)
    }

    /// `None` if it cannot be told any more.
    async fn touched_since(&mut self, then: Txid) -> Result<Option<Touched>> {
        match unless_stopping(&self.tasks, self.uplink.touched_since(then)).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "what the replica was sent cannot be told");
                Ok(None)
            }
            told => told.map(Some),
        }
    }

    async fn ship(&mut self, delta: Delta) -> Result<()> {
        let (time, mut head) = (
            delta.time,
            Head { txid: delta.txid, page_size: delta.page_size, wal: delta.wal, time: delta.time },
        );
        self.status.send_modify(|status| {
            status.caught_up = false;
            status.behind_since = status.behind_since.or(Some(time));
        });
        self.shipped_at = Some(Instant::now());
        let is_base = delta.scope == Scope::Base;
        let (delta, progress) = Progress::of(delta);
        let (uplink, tasks) = (Arc::clone(&self.uplink), self.tasks.clone());
        let shipping = patience::while_progress(uplink.ship(delta), &progress, |error| {
            self.report(&error);
        });
        let shipped = tokio::select! {
            shipped = shipping => Some(shipped?),
            () = tasks.stopping() => None,
        };
        let Some(txid) = shipped else { return Ok(()) };
        self.unshipped = None;
        self.with_engine(move |engine| engine.acknowledge(txid)).await?;
        if is_base {
            // Whoever asked for one meanwhile has it: another would ship everything again.
            self.hear_rebase();
            self.with_engine(|engine| {
                engine.has_base();
                Ok(())
            })
            .await?;
        }
        head.txid = txid;
        if let Some(replica) = &mut self.replica {
            replica.head = Some(head);
            replica.touched = Some(Touched::default());
        }
        self.status.send_modify(|status| {
            status.shipped += 1;
            status.shipped_time = Some(time);
        });
        self.works(txid, false);
        Ok(())
    }

    /// Everything that was committed before this look is durable.
    fn caught_up(&mut self) {
        let head = self.replica.as_ref().and_then(|replica| replica.head);
        self.works(head.map_or(Txid::NONE, |head| head.txid), true);
    }

    /// Tells everybody that what the last look saw is durable.
    fn works(&mut self, txid: Txid, caught_up: bool) {
        for request in self.looked.drain(..) {
            // Whoever no longer waits for the answer does not miss it.
            request.send(txid).unwrap_or_default();
        }
        if self.logged_at.take().is_some() {
            tracing::info!(path = %self.options.path.display(), %txid, "the capture goes on");
        }
        self.status.send_if_modified(|status| {
            let (behind_since, failing_since, error) = (None, None, None);
            let now =
                Status { txid, caught_up, behind_since, failing_since, error, ..status.clone() };
            let news = *status != now;
            *status = now;
            news
        });
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self) {
        tokio::select! {
            () = self.wake.woken() => {}
            () = self.rebase.asked() => {
                if let Some(engine) = &mut self.engine {
                    engine.want_base();
                }
            }
            request = self.requests.recv() => match request {
                Some(request) => self.asked.push(request),
                // Nobody can ask any more: only the database can tell of work.
                None => self.wake.woken().await,
            },
            () = self.tasks.stopping() => {}
        }
    }

    async fn pause(&mut self, length: Duration) {
        tokio::select! {
            () = tokio::time::sleep(length) => {}
            () = self.tasks.stopping() => {}
        }
    }

    /// Prepares the next attempt.
    ///
    /// # Errors
    /// What no new attempt mends.
    async fn recover(&mut self, error: Error) -> Result<()> {
        if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput) {
            return Err(error);
        }
        self.report(&error);
        let unshipped = self.unshipped.is_some();
        let detached = self.with_engine(move |engine| {
            let holds = unshipped && !engine.is_overgrown().unwrap_or(true);
            if !holds {
                engine.detach();
            }
            Ok(!holds)
        });
        if detached.await? {
            self.unshipped = None;
            self.replica = None;
            self.asked.append(&mut self.looked);
        }
        Ok(())
    }

    fn failed(&self, error: &Error) {
        let (now, text) = (self.options.clock.now(), described(error));
        let is_missing = error.kind() == ErrorKind::NotFound;
        self.status.send_modify(|status| {
            status.caught_up = false;
            status.failures += 1;
            if !is_missing {
                status.failing_since.get_or_insert(now);
            }
            status.failed = Some((now, text.clone()));
            status.error = Some(text);
        });
    }

    fn report(&mut self, error: &Error) {
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.logged_at = Some(Instant::now());
            let path = self.options.path.display();
            tracing::warn!(%path, error = described(error), "the capture is interrupted");
        }
        self.failed(error);
    }

    /// Works with the engine on a thread that may block.
    async fn with_engine<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::new(ErrorKind::Conflict, CAPTURE).because("a capture was lost");
        let mut engine = self.engine.take().ok_or_else(gone)?;
        let (engine, done) = blocking(move || {
            let done = work(&mut engine);
            (engine, done)
        })
        .await
        .map_err(|cause| gone().caused_by(cause))?;
        self.engine = Some(engine);
        done
    }
}

/// Waits for an answer for as long as any may take; not when this is to end.
async fn unless_stopping<T>(tasks: &Tasks, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        answer = patience::limited(call) => answer,
        () = tasks.stopping() => {
            Err(Error::new(ErrorKind::Unavailable, CAPTURE).because("the capture ends"))
        }
    }
}

/// An error with what it came from, and what to do.
fn described(error: &Error) -> String {
    let hint = error.hint_text().map(|hint| format!("; {hint}"));
    let causes = std::iter::successors(std::error::Error::source(error), |it| it.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("{error}{causes}{}", hint.unwrap_or_default())
}

pub(super) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let joining = tokio::task::spawn_blocking(work);
    async {
        joining.await.map_err(|cause| Error::new(ErrorKind::Internal, CAPTURE).caused_by(cause))
    }
}
