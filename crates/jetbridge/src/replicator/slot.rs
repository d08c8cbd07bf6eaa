//! One database of an entry: whether it runs, waits for another attempt, or was stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use jetbridge_core::{Backoff, Error, ErrorKind, Result};
use jetbridge_sqlite::capture::Status;
use jetbridge_sqlite::restore::Restored;
use jetbridge_sqlite::{Replication, Txid};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::settings::ReplicaSpec;

/// What one database is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there are these four")]
pub enum DatabaseState {
    /// It is being begun with.
    Starting,
    /// It is replicated.
    Running,
    /// It is not, and is tried again.
    Failed,
    /// It was told to stop.
    Stopped,
}

/// How one database does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DatabaseStatus {
    /// The database.
    pub path: PathBuf,
    /// Where it goes, without the server.
    pub replica: String,
    /// What it is doing.
    pub state: DatabaseState,
    /// How its capture does; how it did last, where it does not run now.
    pub capture: Status,
    /// Since when something may not be in the replica; `None` if nothing is known to be missing.
    pub lag_since: Option<SystemTime>,
    /// What failed last, and when.
    pub failed: Option<(SystemTime, String)>,
    /// The times of the oldest and the newest state that can be restored.
    pub window: Option<(SystemTime, SystemTime)>,
    /// The files of its replica.
    pub files: usize,
    /// The last attempt to restore it as a proof.
    pub verified: Option<Verified>,
}

/// An attempt to restore.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verified {
    /// When.
    pub at: SystemTime,
    /// The state that was restored and found intact, or why it was not.
    pub outcome: std::result::Result<Txid, String>,
}

impl DatabaseStatus {
    /// What fails now.
    pub fn error(&self) -> Option<&str> {
        match self.state {
            DatabaseState::Failed => self.failed.as_ref().map(|(_, text)| text.as_str()),
            DatabaseState::Running => self.capture.error.as_deref(),
            DatabaseState::Starting | DatabaseState::Stopped => None,
        }
    }
}

/// What is known of a replication that ended, until the next one.
#[derive(Debug)]
struct Last {
    capture: Status,
    window: Option<(SystemTime, SystemTime)>,
    files: usize,
    at: SystemTime,
}

/// One database.
#[derive(Debug)]
pub(super) struct Slot {
    /// Where it is below its directory; empty for one that is named.
    below: String,
    work: Work,
    backoff: Backoff,
    failed: Option<(SystemTime, String)>,
    last: Option<Last>,
    /// What kept it from being begun with, for whoever asked for it.
    error: Option<Error>,
    verified: Option<Verified>,
    /// Locked while it is being stopped: until then it has the database.
    ending: Arc<Mutex<()>>,
}

#[derive(Debug)]
enum Work {
    Waits(Instant),
    Begins,
    Runs(Arc<Replication>),
    Stopped,
}

impl Slot {
    pub(super) fn new(below: String) -> Self {
        Self {
            below,
            work: Work::Waits(Instant::now()),
            backoff: Backoff::outage(),
            failed: None,
            last: None,
            error: None,
            verified: None,
            ending: Arc::default(),
        }
    }

    pub(super) fn ending(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.ending)
    }

    pub(super) fn is_due(&self) -> bool {
        matches!(self.work, Work::Waits(until) if until <= Instant::now())
    }

    /// Marks it as being begun with; returns where it is below its directory.
    pub(super) fn begin(&mut self) -> String {
        self.work = Work::Begins;
        self.error = None;
        self.below.clone()
    }

    /// How that came out. Returns a replication that nobody wants any more.
    pub(super) fn begun(
        &mut self,
        begun: Result<Arc<Replication>>,
        now: SystemTime,
    ) -> Option<Arc<Replication>> {
        match begun {
            Ok(replication) if matches!(self.work, Work::Begins) => {
                self.work = Work::Runs(replication);
                None
            }
            Ok(unwanted) => Some(unwanted),
            Err(error) => {
                if matches!(self.work, Work::Begins) {
                    self.wait();
                }
                self.failed = Some((now, whole(&error)));
                self.error = Some(error);
                None
            }
        }
    }

    fn wait(&mut self) {
        self.work = Work::Waits(Instant::now() + self.backoff.next_wait());
    }

    /// The replication, if it has ended by itself: another attempt follows.
    pub(super) fn take_ended(&mut self, now: SystemTime) -> Option<Arc<Replication>> {
        let Work::Runs(replication) = &self.work else { return None };
        let status = replication.status();
        // Asked every second of every database: nothing is copied before it matters.
        let status = status.borrow();
        if !status.ended {
            if status.caught_up {
                self.backoff = Backoff::outage();
            }
            return None;
        }
        let ended = Arc::clone(replication);
        self.failed = status.failed.clone();
        drop(status);
        self.keep(&ended, now);
        self.wait();
        Some(ended)
    }

    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    pub(super) fn replication(&self) -> Option<Arc<Replication>> {
        match &self.work {
            Work::Runs(replication) => Some(Arc::clone(replication)),
            _ => None,
        }
    }

    /// The replication, or why there is none.
    pub(super) fn running(&mut self) -> Result<Arc<Replication>> {
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        self.replication().ok_or_else(|| {
            let why = self.failed.as_ref().map(|(_, text)| text.clone());
            Error::new(ErrorKind::Conflict, "sqlite.sync")
                .because(why.unwrap_or_else(|| "the database is not replicated now".to_owned()))
        })
    }

    /// Stops it; `None` if it was stopped.
    pub(super) fn pause(&mut self, now: SystemTime) -> Option<Option<Arc<Replication>>> {
        match std::mem::replace(&mut self.work, Work::Stopped) {
            Work::Stopped => None,
            Work::Runs(replication) => {
                self.keep(&replication, now);
                Some(Some(replication))
            }
            Work::Waits(_) | Work::Begins => Some(None),
        }
    }

    /// Keeps in mind how a replication did in the end.
    pub(super) fn keep(&mut self, replication: &Replication, at: SystemTime) {
        let mut capture = replication.status().borrow().clone();
        capture.caught_up = false;
        self.last =
            Some(Last { capture, window: replication.window(), files: replication.files(), at });
    }

    /// `false` if it was not stopped.
    pub(super) fn resume(&mut self) -> bool {
        let stopped = matches!(self.work, Work::Stopped);
        if stopped {
            self.work = Work::Waits(Instant::now());
            self.backoff = Backoff::outage();
        }
        stopped
    }

    pub(super) fn verified(&mut self, outcome: Result<Restored>, at: SystemTime) {
        let outcome = outcome.map(|done| done.txid).map_err(|error| error.to_string());
        self.verified = Some(Verified { at, outcome });
    }

    pub(super) fn status(&self, path: &Path, spec: &ReplicaSpec) -> DatabaseStatus {
        let slash = if spec.path.is_empty() || self.below.is_empty() { "" } else { "/" };
        let mut status = DatabaseStatus {
            path: path.to_owned(),
            replica: format!("{}/{}{slash}{}", spec.bucket, spec.path, self.below),
            state: DatabaseState::Starting,
            capture: Status::default(),
            lag_since: None,
            failed: self.failed.clone(),
            window: None,
            files: 0,
            verified: self.verified.clone(),
        };
        if let Some(last) = &self.last {
            status.capture = last.capture.clone();
            // What is committed from then on is seen by nobody.
            status.lag_since = last.capture.behind_since.or(Some(last.at));
            (status.window, status.files) = (last.window, last.files);
        }
        match &self.work {
            Work::Begins => {}
            Work::Waits(_) if self.failed.is_none() => {}
            Work::Waits(_) => status.state = DatabaseState::Failed,
            Work::Stopped => {
                status.state = DatabaseState::Stopped;
                status.lag_since = None;
            }
            Work::Runs(replication) => {
                status.state = DatabaseState::Running;
                status.capture = replication.status().borrow().clone();
                status.lag_since = status.capture.behind_since.or(status.capture.failing_since);
                status.failed = status.capture.failed.clone().or(status.failed);
                status.window = replication.window();
                status.files = replication.files();
            }
        }
        status
    }
}

/// An error with what it came from.
fn whole(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |it| it.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("{error}{causes}")
}
