//! The databases of one entry of `dbs:`, replicated over one connection.
//!
//! Each database has a fate of its own: one that cannot be replicated is tried again by itself,
//! and the others go on.

mod files;
mod slot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Backend, Clock, Error, ErrorKind, Objects, Open, Result, SystemClock};
use jetbridge_nats::ConnectOptions;
use jetbridge_sqlite::capture::Options;
use jetbridge_sqlite::restore::{self, restore};
use jetbridge_sqlite::store::{Replica, Target, in_words_of_the_page};
use jetbridge_sqlite::upkeep::{Deletion, UpkeepOptions};
use jetbridge_sqlite::uplink::Pulse;
use jetbridge_sqlite::{Replication, Txid};
use tokio::time::Instant;

use self::files::{Found, find};
use self::slot::Slot;
pub use self::slot::{DatabaseState, DatabaseStatus, Verified};
use crate::connect::connect;
use crate::settings::{DatabaseSource, DatabaseSpec, Location, Upkeep};

/// How long closing a connection may take, when everything was shipped.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Databases that begin at once; each may have to restore, or to read itself as a whole.
const BEGINNINGS_MAX: usize = 16;
/// Between two looks whether a directory has other databases.
const SEARCH_EVERY: Duration = Duration::from_secs(5);

/// Databases that are being replicated. Dropping it does not stop them:
/// [`Replicator::close`] does.
#[derive(Debug)]
pub struct Replicator {
    spec: DatabaseSpec,
    upkeep: UpkeepOptions,
    objects: Arc<dyn Objects>,
    pulse: Pulse,
    own: Mutex<Option<Arc<dyn Backend>>>,
    slots: Mutex<BTreeMap<PathBuf, Slot>>,
    searched: Mutex<Option<Instant>>,
    /// Replications that have ended by themselves, or whose database is gone, until they are
    /// closed.
    ending: Mutex<Vec<Arc<Replication>>>,
}

impl Replicator {
    /// Begins to replicate what `spec` names: over a connection of its own if it names a server,
    /// else in `store`.
    ///
    /// # Errors
    /// Those of the connection, [`NotFound`](ErrorKind::NotFound) if the bucket is not there,
    /// [`InvalidInput`](ErrorKind::InvalidInput) if a directory has no database, and for a single
    /// database what keeps it from being replicated, such as
    /// [`Conflict`](ErrorKind::Conflict) if another process does. Of a directory,
    /// [`Replicator::databases`] says how each does.
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
                let connected = connect(&Location::Nats(server)).await;
                Some(connected.map_err(in_words_of_the_page)?)
            }
            None => None,
        };
        let begun = Self::begin(spec, upkeep, own.clone(), store).await;
        let (Err(error), Some(own)) = (&begun, own) else { return begun };
        let _nothing_was_written = own.close(CLOSE_GRACE).await;
        if error.kind() != ErrorKind::Unavailable {
            return begun;
        }
        match &spec.replica.server {
            Some(server) => cause_of(server, begun).await,
            None => begun,
        }
    }

    async fn begin(
        spec: &DatabaseSpec,
        upkeep: &Upkeep,
        own: Option<Arc<dyn Backend>>,
        store: &Arc<dyn Backend>,
    ) -> Result<Self> {
        let backend = own.as_ref().unwrap_or(store);
        let opened = backend.objects(&spec.replica.bucket, Open::existing()).await;
        let objects = opened.map_err(in_words_of_the_page)?;
        let replicator = Self {
            spec: spec.clone(),
            upkeep: options_of(upkeep),
            pulse: Pulse::new(Arc::clone(&objects)),
            objects,
            own: Mutex::new(own),
            slots: Mutex::default(),
            searched: Mutex::default(),
            ending: Mutex::default(),
        };
        let found = find(&replicator.spec.source, &[])?;
        *lock(&replicator.searched) = Some(Instant::now());
        replicator.add(found);
        replicator.begin_due().await;
        if let DatabaseSource::File(path) = &spec.source
            && let Some(error) = replicator.slots().get_mut(path).and_then(Slot::take_error)
        {
            return Err(error);
        }
        Ok(replicator)
    }

    /// Looks after the databases, to be called every second or so: what ended is tried again,
    /// what is new in a directory that is watched is begun, what is gone is ended. It may be
    /// dropped before it returns, if [`Replicator::close`] follows.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the directory cannot be read; what runs goes
    /// on running.
    pub async fn tend(&self) -> Result<()> {
        let searched = self.search_if_due().await;
        let now = SystemClock.now();
        let ended: Vec<Arc<Replication>> =
            self.slots().values_mut().filter_map(|slot| slot.take_ended(now)).collect();
        lock(&self.ending).extend(ended);
        self.close_ended(CLOSE_GRACE).await;
        self.begin_due().await;
        searched
    }

    async fn close_ended(&self, grace: Duration) {
        let ending = lock(&self.ending).clone();
        join_all(ending.iter().map(|ended| ended.close(grace))).await;
        lock(&self.ending).retain(|it| ending.iter().all(|closed| !Arc::ptr_eq(it, closed)));
    }

    async fn search_if_due(&self) -> Result<()> {
        let watches = matches!(self.spec.source, DatabaseSource::Directory { watch: true, .. });
        let due = lock(&self.searched).is_none_or(|at| at.elapsed() >= SEARCH_EVERY);
        if !watches || !due {
            return Ok(());
        }
        *lock(&self.searched) = Some(Instant::now());
        let known: Vec<PathBuf> = self.slots().keys().cloned().collect();
        let found = find(&self.spec.source, &known)?;
        let gone: Vec<PathBuf> =
            known.into_iter().filter(|path| found.iter().all(|it| it.path != *path)).collect();
        for path in gone {
            tracing::info!(path = %path.display(), "the database is gone");
            let slot = self.slots().remove(&path);
            lock(&self.ending).extend(slot.and_then(|slot| slot.replication()));
        }
        self.add(found);
        Ok(())
    }

    fn add(&self, found: Vec<Found>) {
        let mut slots = self.slots();
        for Found { path, below } in found {
            slots.entry(path).or_insert_with(|| Slot::new(below));
        }
    }

    /// Begins with every database whose time has come.
    async fn begin_due(&self) {
        let due: Vec<(PathBuf, String)> = {
            let mut slots = self.slots();
            let due = slots
                .iter_mut()
                .filter_map(|(path, slot)| slot.is_due().then(|| (path.clone(), slot.begin())));
            due.collect()
        };
        let beginning = due.into_iter().map(|(path, below)| async move {
            let begun = self.begin_one(&path, &below).await;
            let unwanted = match self.slots().get_mut(&path) {
                Some(slot) => slot.begun(begun, SystemClock.now()),
                None => begun.ok(),
            };
            if let Some(unwanted) = unwanted {
                unwanted.close(CLOSE_GRACE).await;
            }
        });
        stream::iter(beginning).buffer_unordered(BEGINNINGS_MAX).collect::<()>().await;
    }

    async fn begin_one(&self, path: &Path, below: &str) -> Result<Arc<Replication>> {
        let place = &self.spec.replica.path;
        let place = if below.is_empty() { place.clone() } else { format!("{place}/{below}") };
        let replica = Replica::new(Arc::clone(&self.objects), &place);
        if self.spec.restore_if_missing && !path.exists() {
            restore_missing(&replica, path).await?;
        }
        let mut options = Options::new(path);
        // In a directory each has a folder of its own there.
        options.state = self.spec.state.as_ref().map(|state| state.join(below));
        options.poll = self.spec.poll;
        options.busy = self.spec.busy;
        options.checkpoint_interval = self.spec.checkpoint_interval;
        options.checkpoint_pages = self.spec.checkpoint_pages;
        let upkeep = self.upkeep.clone();
        Replication::start_sharing(&self.pulse, options, replica, upkeep).await.map(Arc::new)
    }

    /// What it replicates.
    pub fn spec(&self) -> &DatabaseSpec {
        &self.spec
    }

    /// How each database does.
    pub fn databases(&self) -> Vec<DatabaseStatus> {
        let slots = self.slots();
        slots.iter().map(|(path, slot)| slot.status(path, &self.spec.replica)).collect()
    }

    /// Waits until everything that was committed before the call is durable.
    ///
    /// # Errors
    /// As [`Replicator::sync_one`], for the first that fails.
    pub async fn sync(&self) -> Result<Vec<(PathBuf, Txid)>> {
        let paths: Vec<PathBuf> = self.slots().keys().cloned().collect();
        let mut done = Vec::new();
        for path in paths {
            let txid = self.sync_one(&path).await?;
            done.push((path, txid));
        }
        Ok(done)
    }

    /// Ships every page of every database anew; see [`Replication::rebase`].
    ///
    /// # Errors
    /// As [`Replicator::sync`].
    pub async fn rebase(&self) -> Result<Vec<(PathBuf, Txid)>> {
        let mut done = Vec::new();
        for (path, replication) in self.running() {
            let txid = replication.rebase().await?;
            done.push((path, txid));
        }
        Ok(done)
    }

    /// Deletes what is older than it is to be kept of every replica, now.
    ///
    /// # Errors
    /// As [`Replication::enforce_retention`].
    pub async fn enforce_retention(&self) -> Result<()> {
        for (_, replication) in self.running() {
            replication.enforce_retention().await?;
        }
        Ok(())
    }

    /// As [`Replicator::sync`], for one database.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is none of these,
    /// [`Conflict`](ErrorKind::Conflict) if it is not replicated now, and
    /// [`Unavailable`](ErrorKind::Unavailable) if its replication ended.
    pub async fn sync_one(&self, path: &Path) -> Result<Txid> {
        let replication = self.slots().get_mut(path).ok_or_else(|| unknown(path))?.running()?;
        replication.sync().await
    }

    /// True if `path` is one of these databases.
    pub fn has(&self, path: &Path) -> bool {
        self.slots().contains_key(path)
    }

    /// Ships what is committed to one database and ends with it until it is resumed; `None` if
    /// it was stopped before.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is none of these, and
    /// [`Unavailable`](ErrorKind::Unavailable) if not everything was shipped; it is stopped then.
    pub async fn pause(&self, path: &Path, grace: Duration) -> Result<Option<Txid>> {
        let ending = self.ending(path)?;
        let _ending = ending.lock().await;
        let now = SystemClock.now();
        let paused = self.slots().get_mut(path).ok_or_else(|| unknown(path))?.pause(now);
        let Some(replication) = paused else { return Ok(None) };
        let Some(replication) = replication else { return Ok(Some(Txid::NONE)) };
        if !replication.close(grace).await {
            return Err(Error::new(ErrorKind::Unavailable, "sqlite.stop")
                .because("the last changes were not shipped in time")
                .with("path", path.display()));
        }
        if let Some(slot) = self.slots().get_mut(path) {
            slot.keep(&replication, SystemClock.now());
        }
        Ok(Some(replication.status().borrow().txid))
    }

    /// Goes on with one database, once it has stopped; `false` if it was not told to.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is none of these, and what keeps it from being
    /// replicated; it is tried again then.
    pub async fn resume(&self, path: &Path) -> Result<bool> {
        let ending = self.ending(path)?;
        // What is being stopped still has the database.
        let ended = ending.lock().await;
        let resumed = self.slots().get_mut(path).ok_or_else(|| unknown(path))?.resume();
        drop(ended);
        self.begin_due().await;
        match self.slots().get_mut(path).and_then(Slot::take_error) {
            Some(error) if resumed => Err(error),
            _ => Ok(resumed),
        }
    }

    fn ending(&self, path: &Path) -> Result<Arc<tokio::sync::Mutex<()>>> {
        self.slots().get(path).map(Slot::ending).ok_or_else(|| unknown(path))
    }

    /// Restores the newest state of every database that runs to a file that is removed again,
    /// and remembers how that went.
    pub async fn verify(&self) {
        for (path, replication) in self.running() {
            let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
            let place = (directory.as_path(), Target::Latest);
            let done = restore::verify(replication.replica(), place, &|_bytes| ()).await;
            if let Err(error) = &done {
                tracing::error!(path = %path.display(), %error, "the replica cannot be restored");
            }
            if let Some(slot) = self.slots().get_mut(&path) {
                slot.verified(done, SystemClock.now());
            }
        }
    }

    /// Ships what is committed and ends, within `grace`; returns how many databases are not
    /// shipped whole.
    pub async fn close(&self, grace: Duration) -> usize {
        let deadline = Instant::now() + grace;
        let slots = std::mem::take(&mut *self.slots());
        let running: Vec<_> = slots.values().filter_map(Slot::replication).collect();
        let closing = running.iter().map(|replication| {
            replication.close(deadline.saturating_duration_since(Instant::now()))
        });
        let (closed, ()) =
            tokio::join!(join_all(closing), self.close_ended(CLOSE_GRACE.min(grace)));
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(Err(error)) = tokio::time::timeout(left, self.pulse.close()).await {
            tracing::debug!(%error, "the sign of life is left behind");
        }
        let own = lock(&self.own).take();
        if let Some(own) = own {
            let _everything_was_acknowledged = own.close(CLOSE_GRACE).await;
        }
        closed.iter().filter(|whole| !**whole).count()
    }

    fn running(&self) -> Vec<(PathBuf, Arc<Replication>)> {
        let slots = self.slots();
        slots.iter().filter_map(|(path, slot)| Some((path.clone(), slot.replication()?))).collect()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Slot>> {
        lock(&self.slots)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a server cannot be reached: one that connects and waits for that is told more than one that
/// goes on trying.
async fn cause_of(server: &ConnectOptions, begun: Result<Replicator>) -> Result<Replicator> {
    match connect(&Location::Nats(Box::new(server.clone()))).await {
        Ok(store) => {
            let _nothing_was_written = store.close(CLOSE_GRACE).await;
            begun
        }
        Err(error) => Err(in_words_of_the_page(error)),
    }
}

fn unknown(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "sqlite.find")
        .because("database not found")
        .with("path", path.display())
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
