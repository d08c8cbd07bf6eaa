//! What every section is doing: written by the sections, read by status, metrics and readiness.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jetbridge_core::{Clock, Error};
use serde::Serialize;
use tokio::sync::watch;

use crate::causes::chain;

/// The name of a section: its kind and what the file calls it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct SectionId {
    /// `bucket`, `handler`, …
    pub kind: &'static str,
    /// What the file calls it.
    pub name: String,
}

impl SectionId {
    pub(crate) fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl Display for SectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a section is doing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It has not done its first work yet.
    Starting,
    /// It does its work.
    Running,
    /// It does not, or only in part, and tries again by itself.
    Degraded {
        /// Why.
        reason: String,
    },
    /// It has ended, as it was told to.
    Stopped,
}

impl State {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded { .. } => "degraded",
            Self::Stopped => "stopped",
        }
    }
}

/// A section's state, since when, and what else it has to say.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SectionStatus {
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Facts that are no failure: what differs from the file, what was made.
    pub notes: Vec<String>,
}

/// The states of all sections. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    shared: Arc<Mutex<BTreeMap<SectionId, SectionStatus>>>,
    /// Changes with every change of a state.
    changes: Arc<watch::Sender<()>>,
    clock: Arc<dyn Clock>,
}

impl Board {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::default(), changes: Arc::default(), clock }
    }

    /// Resolves when no section of these kinds is starting any more.
    pub(crate) async fn begun(&self, kinds: &[&str]) {
        let mut changes = self.changes.subscribe();
        let is_starting = |(id, status): (&SectionId, &SectionStatus)| {
            status.state == State::Starting && kinds.contains(&id.kind)
        };
        while self.lock().iter().any(is_starting) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Puts a section on the board, starting; what it says goes through the reporter.
    pub(crate) fn add(&self, id: &SectionId) -> Reporter {
        let reporter = Reporter { board: self.clone(), id: id.clone() };
        reporter.set(State::Starting);
        reporter
    }

    pub(crate) fn remove(&self, id: &SectionId) {
        self.lock().remove(id);
        self.changes.send_replace(());
    }

    pub(crate) fn all(&self) -> Vec<(SectionId, SectionStatus)> {
        self.lock().iter().map(|(id, status)| (id.clone(), status.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SectionId, SectionStatus>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A section's own line on the board.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    board: Board,
    id: SectionId,
}

impl Reporter {
    /// Changes the state; a change for the better or the worse is one line in the log.
    pub(crate) fn set(&self, state: State) {
        let now = self.board.clock.now();
        let mut sections = self.board.lock();
        let status = sections.entry(self.id.clone()).or_insert_with(|| SectionStatus {
            state: State::Starting,
            since: now,
            notes: Vec::new(),
        });
        if status.state == state {
            return;
        }
        match (&status.state, &state) {
            (_, State::Degraded { reason }) => {
                tracing::warn!(section = %self.id, reason, "degraded");
            }
            (State::Degraded { .. }, State::Running) => {
                tracing::info!(section = %self.id, "recovered");
            }
            (_, State::Running) => tracing::info!(section = %self.id, "running"),
            _ => {}
        }
        status.state = state;
        status.since = now;
        drop(sections);
        self.board.changes.send_replace(());
    }

    pub(crate) fn degraded(&self, reason: impl Display) {
        self.set(State::Degraded { reason: reason.to_string() });
    }

    /// As [`Reporter::degraded`], with what caused the error and what to do about it.
    pub(crate) fn failed(&self, error: &Error) {
        let mut reason = chain(error);
        if let Some(hint) = error.hint_text() {
            reason.push_str("; hint: ");
            reason.push_str(hint);
        }
        self.degraded(reason);
    }

    /// Replaces the notes.
    pub(crate) fn notes(&self, notes: Vec<String>) {
        if let Some(status) = self.board.lock().get_mut(&self.id) {
            status.notes = notes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jetbridge_core::{ErrorKind, ManualClock};

    use super::*;

    #[test]
    fn a_failure_is_said_with_its_causes_and_what_to_do() {
        let board = Board::new(Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH)));
        let cause = Error::new(ErrorKind::Unavailable, "nats.connect");
        let error = Error::new(ErrorKind::NotFound, "bucket.open").caused_by(cause).hint("make it");
        board.add(&SectionId::new("bucket", "b")).failed(&error);
        let (_, status) = board.all().remove(0);
        let reason = "bucket.open: not found: nats.connect: unavailable; hint: make it".to_owned();
        assert_eq!(status.state, State::Degraded { reason });
    }

    #[test]
    fn a_state_says_since_when_and_repeating_it_changes_nothing() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let board = Board::new(Arc::new(clock.clone()));
        let id = SectionId::new("handler", "mail");
        let reporter = board.add(&id);
        clock.advance(Duration::from_secs(5));
        reporter.degraded("no server");
        clock.advance(Duration::from_secs(5));
        reporter.degraded("no server");
        let (_, status) = board.all().remove(0);
        assert_eq!(status.state, State::Degraded { reason: "no server".to_owned() });
        assert_eq!(status.since, SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        board.remove(&id);
        assert!(board.all().is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_others_to_begin_waits_for_all_of_them() {
        let board = Board::new(Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH)));
        let add = |kind, name| board.add(&SectionId::new(kind, name));
        let (one, other) = (add("bucket", "a"), add("bucket", "b"));
        let _handler = add("handler", "h");
        let mut begun = std::pin::pin!(board.begun(&["bucket", "store"]));
        assert!(futures_util::poll!(begun.as_mut()).is_pending());
        one.set(State::Running);
        assert!(futures_util::poll!(begun.as_mut()).is_pending());
        other.degraded("no server");
        assert!(futures_util::poll!(begun.as_mut()).is_ready());
        board.begun(&["store"]).await;
    }
}
