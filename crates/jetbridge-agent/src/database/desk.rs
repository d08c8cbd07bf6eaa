//! Which databases are replicated in this process: written by the sections, read by metrics,
//! status and the socket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use jetbridge::{DatabaseState, DatabaseStatus, Replicator};
use jetbridge_core::Result;
use serde_json::{Value, json};

use super::metrics;

/// The replicators that run. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct DatabaseDesk(Arc<Mutex<BTreeMap<String, Arc<Replicator>>>>);

/// Takes a replicator off the desk when dropped, unless another has taken its place there.
#[derive(Debug)]
pub(super) struct Listed {
    desk: DatabaseDesk,
    name: String,
    replicator: Weak<Replicator>,
}

impl DatabaseDesk {
    /// Puts a replicator on the desk until what is returned is dropped.
    pub(super) fn list(&self, name: &str, replicator: &Arc<Replicator>) -> Listed {
        self.lock().insert(name.to_owned(), Arc::clone(replicator));
        let replicator = Arc::downgrade(replicator);
        Listed { desk: self.clone(), name: name.to_owned(), replicator }
    }

    pub(super) fn replicators(&self) -> Vec<Arc<Replicator>> {
        self.lock().values().cloned().collect()
    }

    /// The replicator that has the database `path`.
    pub(super) fn find(&self, path: &Path) -> Option<Arc<Replicator>> {
        self.replicators().into_iter().find(|it| it.has(path))
    }

    pub(crate) fn databases(&self) -> Vec<DatabaseStatus> {
        self.replicators().iter().flat_map(|it| it.databases()).collect()
    }

    /// As Prometheus reads it.
    pub(crate) fn metrics(&self, out: &mut String, now: SystemTime) -> Result<()> {
        metrics::write(&self.databases(), out, now)
    }

    /// The databases of the section `name`, for `/v1/status`.
    pub(crate) fn json(&self, name: &str, now: SystemTime) -> Vec<Value> {
        self.of(name).iter().map(|database| status_json(database, now)).collect()
    }

    /// How the databases of the section `name` do.
    pub(crate) fn of(&self, name: &str) -> Vec<DatabaseStatus> {
        let replicator = self.lock().get(name).cloned();
        replicator.map(|it| it.databases()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Replicator>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut desk = self.desk.lock();
        let is_ours =
            |there: &Arc<Replicator>| Weak::ptr_eq(&Arc::downgrade(there), &self.replicator);
        if desk.get(&self.name).is_some_and(is_ours) {
            desk.remove(&self.name);
        }
    }
}

/// The word for a state, as Litestream has it where it has one.
pub(crate) fn word(database: &DatabaseStatus) -> &'static str {
    match database.state {
        DatabaseState::Starting => "open",
        DatabaseState::Running => "replicating",
        DatabaseState::Failed => "error",
        DatabaseState::Stopped => "stopped",
    }
}

/// How long something may have been missing in the replica; `None` if nobody can tell: it was told
/// to stop, or has not begun.
pub(crate) fn lag(database: &DatabaseStatus, now: SystemTime) -> Option<f64> {
    match (database.state, database.lag_since) {
        (DatabaseState::Stopped, _) => None,
        (_, Some(since)) => Some(seconds(since, now)),
        (DatabaseState::Running, None) => Some(0.0),
        (DatabaseState::Starting | DatabaseState::Failed, None) => None,
    }
}

pub(super) fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64()
}

pub(super) fn unix(time: SystemTime) -> f64 {
    seconds(SystemTime::UNIX_EPOCH, time)
}

pub(super) fn status_json(database: &DatabaseStatus, now: SystemTime) -> Value {
    let failed = database.failed.as_ref().map(
        |(at, text)| json!({"error": text, "age_s": seconds(*at, now), "at_unix_s": unix(*at)}),
    );
    let window = database.window.map(
        |(oldest, newest)| json!({"oldest_unix_s": unix(oldest), "newest_unix_s": unix(newest)}),
    );
    let verified = database.verified.as_ref().map(|it| {
        let (txid, error) = match &it.outcome {
            Ok(txid) => (Some(txid.to_string()), None),
            Err(error) => (None, Some(error.clone())),
        };
        json!({"at_unix_s": unix(it.at), "txid": txid, "error": error})
    });
    json!({
        "path": database.path.display().to_string(),
        "replica": database.replica,
        "status": word(database),
        "txid": database.capture.txid.to_string(),
        "caught_up": database.capture.caught_up,
        "lag_s": lag(database, now),
        "error": database.error(),
        "last_error": failed,
        "restorable": window,
        "files": database.files,
        "last_verified_restore": verified,
    })
}
