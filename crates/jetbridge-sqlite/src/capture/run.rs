//! A running capture, as its owner sees it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::drive::{Drive, blocking};
use super::engine::Engine;
use super::fault::CAPTURE;
use super::options::Options;
use super::uplink::Uplink;
use super::wake::Wake;
use crate::Txid;

/// Requests for a sync that may wait: each is answered by the same look at the log.
const SYNCS_MAX: usize = 64;
/// The part of the time to close that shipping may not have: whoever comes next finds the
/// database free, whether everything was shipped or not.
const LETTING_GO: u32 = 8;

/// How a capture does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The newest transaction that is durable in the replica.
    pub txid: Txid,
    /// True while the database is held and nothing that was seen is unshipped.
    pub caught_up: bool,
    /// Since when something that was captured is not acknowledged; `None` if nothing is out.
    pub behind_since: Option<SystemTime>,
    /// Since when it fails, so that what is committed may not even be seen; `None` once it works,
    /// and while there is no database yet.
    pub failing_since: Option<SystemTime>,
    /// What fails; `None` once it works again.
    pub error: Option<String>,
    /// What failed last, and when, whether it works again or not.
    pub failed: Option<(SystemTime, String)>,
    /// Failures so far.
    pub failures: u64,
    /// Transactions that were shipped so far.
    pub shipped: u64,
    /// When the newest of those was captured.
    pub shipped_time: Option<SystemTime>,
    /// True once the capture has ended.
    pub ended: bool,
}

/// Asks a capture for a base: all pages anew, so that older files may go. Clones ask the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rebase(Arc<Notify>);

impl Rebase {
    /// Asks; more than once before it is heard is once.
    pub(crate) fn ask(&self) {
        self.0.notify_one();
    }

    /// Returns when it was asked for, once for all who have.
    pub(super) async fn asked(&self) {
        self.0.notified().await;
    }
}

/// A running capture of one database.
///
/// Dropping it does not stop it: [`Capture::close`] does.
#[derive(Debug)]
pub struct Capture {
    path: PathBuf,
    tasks: Tasks,
    syncs: mpsc::Sender<oneshot::Sender<Txid>>,
    status: watch::Receiver<Status>,
    rebase: Rebase,
}

impl Capture {
    /// Begins to capture.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if another process captures the database. What is wrong
    /// with the database itself, or with the replica, is in the [`Status`]: it may pass.
    pub async fn start(options: Options, uplink: Arc<dyn Uplink>) -> Result<Self> {
        let (syncs, requests) = mpsc::channel(SYNCS_MAX);
        let (sender, status) = watch::channel(Status::default());
        let (tasks, rebase) = (Tasks::new(), Rebase::default());
        let path = options.path.clone();
        let wake = Wake::new(&path, options.poll);
        let told = options.clone();
        let engine = blocking(move || Engine::new(told)).await??;
        let drive = Drive {
            engine: Some(engine),
            options,
            uplink,
            wake,
            requests,
            asked: Vec::new(),
            looked: Vec::new(),
            status: sender,
            rebase: rebase.clone(),
            replica: None,
            unshipped: None,
            tasks: tasks.clone(),
            shipped_at: None,
            logged_at: None,
        };
        tasks.spawn(drive.until_stopped());
        Ok(Self { path, tasks, syncs, status, rebase })
    }

    /// Waits until everything that was committed before the call is durable in the replica.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the capture ended; what stands in the way
    /// meanwhile is in the [`Status`].
    pub async fn sync(&self) -> Result<Txid> {
        let ended = || {
            let cause = self.status.borrow().error.clone();
            let text = cause.unwrap_or_else(|| "the capture has ended".to_owned());
            Error::new(ErrorKind::Unavailable, CAPTURE).because(text)
        };
        let (answer, answered) = oneshot::channel();
        self.syncs.send(answer).await.map_err(|_closed| ended())?;
        answered.await.map_err(|_dropped| ended())
    }

    /// How it does now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Asks this capture for a base.
    pub(crate) fn rebase(&self) -> Rebase {
        self.rebase.clone()
    }

    /// Ships what is committed, lets go of the database, and ends, all within `grace`; `false`
    /// if that was not enough.
    pub async fn close(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let synced = self.has_nothing().await
            || tokio::time::timeout(grace - grace / LETTING_GO, self.sync())
                .await
                .is_ok_and(|synced| synced.is_ok());
        let left = self.tasks.stop(deadline.saturating_duration_since(Instant::now())).await;
        left == 0 && synced
    }

    /// True if there is no database, or an empty one, and nothing of an earlier one is unshipped:
    /// to wait for it would be to wait for an application that has not begun.
    async fn has_nothing(&self) -> bool {
        let is_empty = match tokio::fs::metadata(&self.path).await {
            Ok(file) => file.len() == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        is_empty && self.status.borrow().behind_since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use rusqlite::Connection;

    use super::*;
    use crate::capture::{Delta, Head, Scope, Touched};

    const WITHIN: Duration = Duration::from_secs(20);

    /// A replica whose database is written to whenever it is shipped: no look finds nothing.
    #[derive(Debug)]
    struct Busy {
        application: Mutex<Connection>,
        shipped: watch::Sender<(u64, u64)>,
    }

    #[async_trait]
    impl Uplink for Busy {
        fn identity(&self) -> String {
            "busy".to_owned()
        }

        async fn head(&self) -> Result<Option<Head>> {
            Ok(None)
        }

        async fn touched_since(&self, _after: Txid) -> Result<Touched> {
            Ok(Touched::default())
        }

        async fn ship(&self, delta: Delta) -> Result<Txid> {
            self.application.lock().unwrap().execute_batch("INSERT INTO t VALUES (1)").unwrap();
            let base = u64::from(delta.scope == Scope::Base);
            self.shipped.send_modify(|(bases, changes)| {
                *bases += base;
                *changes += 1 - base;
            });
            Ok(delta.txid)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_that_never_rests_gets_the_base_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path().join("app.db"));
        options.batch = Duration::from_millis(1);
        let application = Connection::open(&options.path).unwrap();
        application.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap();
        let (shipped, mut seen) = watch::channel((0, 0));
        let uplink = Arc::new(Busy { application: Mutex::new(application), shipped });
        let capture = Capture::start(options, Arc::clone(&uplink) as _).await.unwrap();
        let mut until = async |bases, changes| {
            let reached = seen.wait_for(|seen| seen.0 >= bases && seen.1 >= changes);
            let reached = tokio::time::timeout(WITHIN, reached).await;
            *reached.expect("it is shipped in time").unwrap()
        };
        let (bases, changes) = until(1, 3).await;
        assert_eq!(bases, 1);
        capture.rebase().ask();
        let (bases, _changes) = until(2, changes).await;
        assert_eq!(bases, 2);
        // It was asked for one, and gets no other.
        let (bases, _changes) = until(2, changes + 10).await;
        assert_eq!(bases, 2);
        capture.tasks.stop(WITHIN).await;
    }

    /// A replica that does not answer.
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl Uplink for Silent {
        fn identity(&self) -> String {
            "silent".to_owned()
        }

        async fn head(&self) -> Result<Option<Head>> {
            std::future::pending().await
        }

        async fn touched_since(&self, _after: Txid) -> Result<Touched> {
            std::future::pending().await
        }

        async fn ship(&self, _delta: Delta) -> Result<Txid> {
            std::future::pending().await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_is_let_go_of_in_time_though_the_replica_is_silent() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path().join("app.db"));
        Connection::open(&options.path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        let capture = Capture::start(options, Arc::new(Silent)).await.unwrap();
        assert!(!capture.close(Duration::from_secs(2)).await);
        assert!(capture.status().borrow().ended, "it still has the database");
    }
}
