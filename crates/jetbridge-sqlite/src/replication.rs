//! Replication: a database is captured, shipped to its replica, and the replica kept in order.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use jetbridge_core::{Digest, Error, ErrorKind, Result, Tasks};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::Txid;
use crate::capture::{self, Capture};
use crate::restore::{blocking, sync_directory};
use crate::store::{Manifest, Replica, restorable};
use crate::upkeep::{Forgotten, Upkeep, UpkeepOptions};
use crate::uplink::{FenceOptions, Pulse, StoreUplink};

const OPERATION: &str = "sqlite.replicate";
/// The file beside what the capture remembers that names this writer.
pub(crate) const WRITER_FILE: &str = "writer";
/// Names the machine, where there is such a file.
const MACHINE_FILE: &str = "/etc/machine-id";

/// A database that is being replicated. Dropping it does not stop it: [`Replication::close`]
/// does.
#[derive(Debug)]
pub struct Replication {
    capture: Capture,
    uplink: Arc<StoreUplink>,
    upkeep: Arc<Mutex<Upkeep>>,
    tasks: Tasks,
}

impl Replication {
    /// Begins to replicate a database to `replica`.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if another process replicates the database, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) if what is remembered of it cannot be written.
    /// What is wrong with the database or the store is in the status: it may pass.
    pub async fn start(
        options: capture::Options,
        replica: Replica,
        upkeep: UpkeepOptions,
    ) -> Result<Self> {
        Self::begin(options, replica, upkeep, None).await
    }

    /// As [`Replication::start`], for one of many: `pulse` says for all of them that this process
    /// lives. It is closed after the last of them.
    ///
    /// # Errors
    /// As [`Replication::start`].
    pub async fn start_sharing(
        pulse: &Pulse,
        options: capture::Options,
        replica: Replica,
        upkeep: UpkeepOptions,
    ) -> Result<Self> {
        Self::begin(options, replica, upkeep, Some(pulse.clone())).await
    }

    async fn begin(
        options: capture::Options,
        replica: Replica,
        upkeep: UpkeepOptions,
        pulse: Option<Pulse>,
    ) -> Result<Self> {
        let state = options.state_dir();
        let writer = blocking(move || writer(&state)).await?;
        let tasks = Tasks::new();
        let mut fence = FenceOptions::new(writer);
        fence.pulse = pulse;
        let uplink = StoreUplink::new(replica, fence, tasks.clone());
        let uplink = Arc::new(uplink);
        let capture = Capture::start(options, Arc::clone(&uplink) as _).await?;
        let upkeep = Upkeep::new(Arc::clone(&uplink), upkeep, capture.rebase(), tasks.clone());
        let upkeep = Arc::new(Mutex::new(upkeep));
        tasks.spawn_until_stop(Upkeep::run(Arc::clone(&upkeep)));
        Ok(Self { capture, uplink, upkeep, tasks })
    }

    /// Waits until everything that was committed before the call is durable in the replica.
    ///
    /// # Errors
    /// As [`Capture::sync`].
    pub async fn sync(&self) -> Result<Txid> {
        self.capture.sync().await
    }

    /// Ships every page anew, whatever the replica has, and waits until that is durable.
    ///
    /// # Errors
    /// As [`Capture::sync`].
    pub async fn rebase(&self) -> Result<Txid> {
        self.capture.rebase().ask();
        self.capture.sync().await
    }

    /// Deletes what is older than it is to be kept, now: behind the round of upkeep that is under
    /// way, and when the newest state, which replaces it, was read back as it was written.
    ///
    /// # Errors
    /// Those of the store, and [`Conflict`](ErrorKind::Conflict) if somebody else writes to the
    /// replica.
    pub async fn enforce_retention(&self) -> Result<()> {
        loop {
            let forgotten = self.upkeep.lock().await.forget().await?;
            let Forgotten::Unproven(mut ended) = forgotten else { return Ok(()) };
            if self.tasks.is_stopping() {
                return Err(Error::new(ErrorKind::Unavailable, OPERATION)
                    .because("the replication ends: nothing is deleted any more")
                    .with("replica", self.uplink.replica()));
            }
            while ended.changed().await.is_ok() {}
        }
    }

    /// How the capture does now and from now on.
    pub fn status(&self) -> watch::Receiver<capture::Status> {
        self.capture.status()
    }

    /// The files of the replica.
    pub fn manifest(&self) -> Manifest {
        self.uplink.manifest()
    }

    /// The times of the oldest and the newest state that can be restored.
    pub fn window(&self) -> Option<(SystemTime, SystemTime)> {
        restorable(&self.uplink.ledger().read())
    }

    /// How many files the replica has.
    pub fn files(&self) -> usize {
        self.uplink.ledger().read().len()
    }

    /// The replica.
    pub fn replica(&self) -> &Replica {
        self.uplink.replica()
    }

    /// Ships what is committed, gives the replica up, and ends, all within `grace`; `false` if
    /// that was not enough.
    pub async fn close(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let shipped = self.capture.close(grace).await;
        // First whoever would take the fence again. What is cut off is not missed: merges and
        // deletions are begun anew by the next writer.
        let left = deadline.saturating_duration_since(Instant::now());
        let running = self.tasks.stop(left).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let released = tokio::time::timeout(left, self.uplink.close()).await;
        if let Ok(Err(error)) = &released {
            tracing::debug!(%error, "the fence stays until it is stale");
        }
        running == 0 && shipped
    }
}

/// Who writes: a name made up when the database is first replicated, and kept, with what does not
/// travel with a copy of the directory. A copy is another writer.
fn writer(state: &Path) -> Result<String> {
    let failed = |cause: io::Error| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("what is remembered of a database cannot be written")
            .with("path", state.display())
            .caused_by(cause)
    };
    let path = state.join(WRITER_FILE);
    let name = match fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {
            fs::create_dir_all(state).map_err(failed)?;
            let name = jetbridge_core::random::name();
            fs::write(&path, format!("{name}\n")).map_err(failed)?;
            sync_directory(&path)?;
            name
        }
    };
    let file = fs::metadata(&path).map_err(failed)?;
    // Without one, the file alone tells copies on one machine apart.
    let machine = fs::read_to_string(MACHINE_FILE).unwrap_or_default();
    // Hashed: the identity of a machine is not to be shown to everybody who reads the bucket.
    let place = format!("{}/{}/{}", machine.trim(), file.dev(), file.ino());
    Ok(format!("{name}-{}", Digest::of(place.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_another_writer() {
        let dir = tempfile::tempdir().unwrap();
        let (state, copy) = (dir.path().join("state"), dir.path().join("copy"));
        let first = writer(&state).unwrap();
        assert_eq!(writer(&state).unwrap(), first);
        fs::create_dir(&copy).unwrap();
        fs::copy(state.join(WRITER_FILE), copy.join(WRITER_FILE)).unwrap();
        let other = writer(&copy).unwrap();
        assert_ne!(other, first);
        assert_eq!(writer(&copy).unwrap(), other);
    }
}
