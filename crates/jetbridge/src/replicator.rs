//! The databases of one entry of `dbs:`, replicated over one connection.

mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend, ErrorKind, Objects, Open, Result};
use jetbridge_sqlite::capture::{Options, Status};
use jetbridge_sqlite::restore::{self, restore};
use jetbridge_sqlite::store::Replica;
use jetbridge_sqlite::upkeep::{Deletion, UpkeepOptions};
use jetbridge_sqlite::{Replication, Txid};
use tokio::time::Instant;

use self::files::{Found, find};
use crate::connect::connect;
use crate::settings::{DatabaseSource, DatabaseSpec, Location, Upkeep};

/// How long closing a connection may take, when everything was shipped.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Databases that are being replicated. Dropping it does not stop them:
/// [`Replicator::close`] does.
#[derive(Debug)]
pub struct Replicator {
    spec: DatabaseSpec,
    upkeep: UpkeepOptions,
    objects: Arc<dyn Objects>,
    own: Option<Arc<dyn Backend>>,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    path: PathBuf,
    replication: Replication,
}

impl Replicator {
    /// Begins to replicate what `spec` names: over a connection of its own if it names a server,
    /// else in `store`.
    ///
    /// # Errors
    /// Those of the connection, [`NotFound`](ErrorKind::NotFound) if the bucket is not there,
    /// [`Conflict`](ErrorKind::Conflict) if another process replicates a database, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) if a directory has none.
    pub async fn start(
        spec: &DatabaseSpec,
        upkeep: &Upkeep,
        store: &Arc<dyn Backend>,
    ) -> Result<Self> {
        let own = match &spec.replica.server {
            Some(server) => {
                let mut server = server.clone();
                server.connect_in_background = true;
                server.name.get_or_insert_with(|| "jetbridge".to_owned());
                Some(connect(&Location::Nats(server)).await?)
            }
            None => None,
        };
        let begun = Self::begin(spec, upkeep, own.clone(), store).await;
        if let (Err(_), Some(own)) = (&begun, own) {
            let _nothing_was_written = own.close(CLOSE_GRACE).await;
        }
        begun
    }

    async fn begin(
        spec: &DatabaseSpec,
        upkeep: &Upkeep,
        own: Option<Arc<dyn Backend>>,
        store: &Arc<dyn Backend>,
    ) -> Result<Self> {
        let backend = own.as_ref().unwrap_or(store);
        let objects = backend.objects(&spec.replica.bucket, Open::existing()).await?;
        let (spec, upkeep) = (spec.clone(), options_of(upkeep));
        let mut replicator = Self { spec, upkeep, objects, own, running: Vec::new() };
        if let Err(error) = replicator.look().await {
            replicator.stop(CLOSE_GRACE).await;
            return Err(error);
        }
        Ok(replicator)
    }

    /// Begins with databases that are new in a directory; ends with those that are gone.
    ///
    /// # Errors
    /// As [`Replicator::start`]; what runs goes on running.
    pub async fn look(&mut self) -> Result<()> {
        let known: Vec<PathBuf> = self.running.iter().map(|it| it.path.clone()).collect();
        let found = find(&self.spec.source, &known)?;
        let (kept, gone): (Vec<Running>, Vec<Running>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|it| found.iter().any(|found| found.path == it.path));
        self.running = kept;
        for gone in gone {
            tracing::info!(path = %gone.path.display(), "the database is gone");
            gone.replication.close(CLOSE_GRACE).await;
        }
        for found in found {
            if self.running.iter().all(|it| it.path != found.path) {
                let running = self.begin_one(found).await?;
                self.running.push(running);
            }
        }
        Ok(())
    }

    /// True if databases may come and go: then [`Replicator::look`] is to be called.
    pub fn watches(&self) -> bool {
        matches!(self.spec.source, DatabaseSource::Directory { watch: true, .. })
    }

    async fn begin_one(&self, found: Found) -> Result<Running> {
        let place = &self.spec.replica.path;
        let path = match found.below.as_str() {
            "" => place.clone(),
            below => format!("{place}/{below}"),
        };
        let replica = Replica::new(Arc::clone(&self.objects), &path);
        if self.spec.restore_if_missing && !found.path.exists() {
            restore_missing(&replica, &found.path).await?;
        }
        let mut options = Options::new(&found.path);
        options.state.clone_from(&self.spec.state);
        options.poll = self.spec.poll;
        options.busy = self.spec.busy;
        options.checkpoint_interval = self.spec.checkpoint_interval;
        options.checkpoint_pages = self.spec.checkpoint_pages;
        let replication = Replication::start(options, replica, self.upkeep.clone()).await?;
        Ok(Running { path: found.path, replication })
    }

    /// How each database does.
    pub fn statuses(&self) -> Vec<(&Path, Status)> {
        let status = |it: &Running| it.replication.status().borrow().clone();
        self.running.iter().map(|it| (it.path.as_path(), status(it))).collect()
    }

    /// Waits until everything that was committed before the call is durable.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if a replication ended.
    pub async fn sync(&self) -> Result<Vec<(&Path, Txid)>> {
        let mut done = Vec::new();
        for running in &self.running {
            done.push((running.path.as_path(), running.replication.sync().await?));
        }
        Ok(done)
    }

    /// Ships what is committed and ends, within `grace`; returns how many databases are not
    /// shipped whole.
    pub async fn close(mut self, grace: Duration) -> usize {
        self.stop(grace).await
    }

    async fn stop(&mut self, grace: Duration) -> usize {
        let deadline = Instant::now() + grace;
        let closing = std::mem::take(&mut self.running).into_iter().map(|it| async move {
            let left = deadline.saturating_duration_since(Instant::now());
            it.replication.close(left).await
        });
        let closed = futures_util::future::join_all(closing).await;
        if let Some(own) = self.own.take() {
            let _everything_was_acknowledged = own.close(CLOSE_GRACE).await;
        }
        closed.iter().filter(|whole| !**whole).count()
    }
}

async fn restore_missing(replica: &Replica, path: &Path) -> Result<()> {
    match restore(replica, &restore::Options::new(path), &|_bytes| ()).await {
        Ok(done) => {
            tracing::info!(path = %path.display(), txid = %done.txid, "the database was restored");
            Ok(())
        }
        Err(none) if none.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn options_of(upkeep: &Upkeep) -> UpkeepOptions {
    let mut options = UpkeepOptions::default();
    options.levels.clone_from(&upkeep.levels);
    options.snapshot_interval = upkeep.snapshot_interval;
    options.snapshot_retention = upkeep.snapshot_retention;
    options.captured_retention = upkeep.captured_retention;
    options.captured_check = upkeep.captured_check;
    options.deletion = if upkeep.deletes { Deletion::Enabled } else { Deletion::Disabled };
    options
}
