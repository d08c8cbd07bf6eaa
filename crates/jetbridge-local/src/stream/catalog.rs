//! The streams of a store: which there are, and which of them keeps a subject.
//!
//! Each stream has a directory of its own, `NAME.GENERATION`; a generation is never used twice,
//! so whoever still has a deleted stream open finds it deleted, never another one. A stream is
//! there once its settings are written, and gone once its database says so; whatever else lies
//! around was left by a crash and is cleared away by the next change.
//!
//! Every publish asks whether a stream keeps its subject, in whichever process. So the answer is
//! remembered, and a file that grows by one byte with every change of any stream tells when it is
//! old, and no process has to be told. What is remembered is gone by for a millisecond before the
//! next look; a change returns only when that is over for everybody.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jetbridge_core::{
    Error, ErrorKind, Result, StreamInfo, StreamName, StreamSpec, Subject, random,
};

use super::{Log, StreamContext, spec};
use crate::db::{Durability, closed};
use crate::fault::from_io;
use crate::hub::Trie;
use crate::lock::TurnLock;

/// Grows with every change; see the module's head.
const CHANGES_FILE: &str = "changes";
/// How long what is known may be gone by without a look at the changes: a look costs more than
/// all the rest of a publish.
const LOOK_EVERY_NS: u64 = 1_000_000;
/// How long a change takes to be known everywhere, and so at least to be made.
const CHANGE_WAIT: Duration = Duration::from_nanos(2 * LOOK_EVERY_NS);
/// What the lock of all changes is named after.
const LOCK_NAME: &str = "catalog";

/// The streams of one store, as this process knows them. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    changes: File,
    begun: Instant,
    /// When the changes were last looked at, in nanoseconds since the beginning.
    looked_at: AtomicU64,
    context: StreamContext,
    known: RwLock<Arc<Known>>,
    /// Every generation that is open, by its directory's name. Locked while reading anew.
    /// `None` once closed.
    open: Mutex<Option<Open>>,
}

type Open = HashMap<OsString, Log>;

/// The streams at one time.
#[derive(Debug, Default)]
pub(crate) struct Known {
    changes: u64,
    by_name: BTreeMap<StreamName, Log>,
    by_subject: Trie<Log>,
    /// Those that cannot be opened, and where they are.
    broken: BTreeMap<StreamName, OsString>,
}

impl Known {
    /// The stream that keeps `subject`.
    pub(crate) fn keeper(&self, subject: &Subject) -> Option<&Log> {
        let mut keeper = None;
        self.by_subject.each(subject.as_str(), |log| keeper = Some(log));
        keeper
    }

    /// Why no stream keeps `subject`.
    pub(crate) fn no_keeper(&self, subject: &Subject) -> Error {
        match self.broken.keys().next() {
            None => not_kept(subject),
            Some(broken) => Error::new(ErrorKind::Corrupt, "bus.append")
                .because("no stream keeps this subject, but for one that cannot be opened")
                .with("subject", subject)
                .with("stream", broken)
                .hint(format!("`jetbridge stream info {broken}` says what is wrong with it")),
        }
    }

    /// All streams that can be opened, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Log> {
        self.by_name.values()
    }
}

impl Catalog {
    /// The streams in `root`, which is made if missing. For a thread that may block.
    pub(crate) fn open(root: PathBuf, context: StreamContext) -> Result<Self> {
        let open = || {
            std::fs::create_dir_all(&root)?;
            let mut options = File::options();
            options.create(true).append(true).read(true).open(root.join(CHANGES_FILE))
        };
        let changes = open().map_err(|error| from_io(error, "stream.open", &root))?;
        let (known, open) = (RwLock::default(), Mutex::new(Some(Open::new())));
        let (begun, looked_at) = (Instant::now(), AtomicU64::new(0));
        let inner = Inner { root, changes, begun, looked_at, context, known, open };
        let catalog = Self(Arc::new(inner));
        catalog.read_anew()?;
        Ok(catalog)
    }

    /// The streams now.
    pub(crate) async fn known(&self) -> Result<Arc<Known>> {
        let known = self.remembered();
        let now = u64::try_from(self.0.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if now.saturating_sub(self.0.looked_at.load(Ordering::Acquire)) < LOOK_EVERY_NS {
            return Ok(known);
        }
        let known = if known.changes == self.changes()? {
            known
        } else {
            let catalog = self.clone();
            blocking(move || catalog.read_anew()).await?
        };
        // The time before the look: what has changed since is not known.
        self.0.looked_at.fetch_max(now, Ordering::Release);
        Ok(known)
    }

    /// The stream called `name`.
    pub(crate) async fn find(&self, name: &StreamName, operation: &'static str) -> Result<Log> {
        let known = self.known().await?;
        if let Some(log) = known.by_name.get(name) {
            return Ok(log.clone());
        }
        let Some(directory) = known.broken.get(name) else { return Err(absent(name, operation)) };
        let (name, path) = (name.clone(), self.0.root.join(directory));
        let context = self.0.context.clone();
        // It says what is wrong, or else is whole again.
        blocking(move || {
            let log = Log::open(name, &path, context)?;
            log.settings().map(|_| log)
        })
        .await
    }

    /// Makes a stream, or finds it with the same settings.
    pub(crate) async fn create(&self, wanted: &StreamSpec) -> Result<StreamInfo> {
        let wanted = spec::normalised(wanted, "stream.create")?;
        let log = self.change(move |catalog, known| catalog.create_in(known, wanted)).await?;
        log.info().await
    }

    /// Changes the settings of a stream.
    pub(crate) async fn update(&self, wanted: &StreamSpec) -> Result<StreamInfo> {
        let wanted = spec::normalised(wanted, "stream.update")?;
        let log = self.change(move |catalog, known| catalog.update_in(known, wanted)).await?;
        log.info().await
    }

    /// Deletes a stream; `false` if there was none.
    pub(crate) async fn delete(&self, name: &StreamName) -> Result<bool> {
        let name = name.clone();
        self.change(move |catalog, known| catalog.delete_in(known, &name)).await
    }

    /// Closes every database.
    pub(crate) async fn close(&self) {
        let open = self.lock_open().take().unwrap_or_default();
        for log in open.into_values() {
            log.db().close().await;
        }
    }

    fn remembered(&self) -> Arc<Known> {
        Arc::clone(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock_open(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> Result<u64> {
        let metadata = self.0.changes.metadata();
        Ok(metadata.map_err(|error| from_io(error, "stream.open", &self.0.root))?.len())
    }

    /// Does `act` while nobody else changes a stream, and tells everybody.
    async fn change<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self, &Known) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let catalog = self.clone();
        let done = blocking(move || {
            let Inner { root, changes, .. } = &*catalog.0;
            let failed = |error| from_io(error, "stream.change", root);
            let lock = TurnLock::open(&root.join(LOCK_NAME)).map_err(failed)?;
            let turn = lock.acquire().map_err(failed)?;
            let known = catalog.read_anew()?;
            catalog.clear_away();
            let done = act(&catalog, &known);
            // Also when it failed, which may have been half way.
            (&*changes).write_all(b"\n").map_err(failed)?;
            drop(turn);
            catalog.read_anew()?;
            done
        })
        .await?;
        // From here on nobody goes by what was known before.
        tokio::time::sleep(CHANGE_WAIT).await;
        Ok(done)
    }

    fn create_in(&self, known: &Known, wanted: StreamSpec) -> Result<Log> {
        if let Some(log) = known.by_name.get(&wanted.name) {
            let differences = spec::differences(&wanted, &log.settings()?.spec);
            if differences.is_empty() {
                return Ok(log.clone());
            }
            return Err(Error::new(ErrorKind::AlreadyExists, "stream.create")
                .because("it is there with other settings")
                .with("stream", &wanted.name)
                .with("differs", differences.join(",")));
        }
        if let Some(directory) = known.broken.get(&wanted.name) {
            let path = self.0.root.join(directory);
            Log::open(wanted.name.clone(), &path, self.0.context.clone())?.settings()?;
        }
        check_subjects(known, &wanted, "stream.create")?;
        let directory = format!("{}.{:016x}", wanted.name, random::u64());
        let path = self.0.root.join(&directory);
        std::fs::create_dir(&path).map_err(|error| from_io(error, "stream.create", &path))?;
        let log = Log::open(wanted.name.clone(), &path, self.0.context.clone())?;
        runtime_block_on(log.set_spec(wanted))?;
        if self.0.context.durability == Durability::Full {
            sync(&self.0.root)?;
        }
        match self.lock_open().as_mut() {
            Some(open) => open.insert(directory.into(), log.clone()),
            None => return Err(closed("stream.create")),
        };
        Ok(log)
    }

    fn update_in(&self, known: &Known, wanted: StreamSpec) -> Result<Log> {
        let found = known.by_name.get(&wanted.name);
        let log = found.ok_or_else(|| absent(&wanted.name, "stream.update"))?;
        check_subjects(known, &wanted, "stream.update")?;
        spec::check_update(&wanted, &log.settings()?.spec)?;
        runtime_block_on(log.set_spec(wanted))?;
        Ok(log.clone())
    }

    fn delete_in(&self, known: &Known, name: &StreamName) -> Result<bool> {
        if let Some(directory) = known.broken.get(name) {
            self.remove(Some(&self.0.root.join(directory)));
            return Ok(true);
        }
        let Some(log) = known.by_name.get(name) else { return Ok(false) };
        runtime_block_on(log.delete())?;
        self.remove(log.db().path().parent());
        Ok(true)
    }

    /// Reads which streams there are.
    fn read_anew(&self) -> Result<Arc<Known>> {
        let mut open = self.lock_open();
        let open = open.as_mut().ok_or_else(|| closed("stream.open"))?;
        // Before the look at the directory, so that a change in between is read next time.
        let changes = self.changes()?;
        let present = self.generations()?;
        open.retain(|directory, _| present.iter().any(|(_, present)| present == directory));
        let mut known = Known { changes, ..Known::default() };
        for (name, directory) in present {
            let opened = self.open_generation(open, &name, &directory);
            match opened.and_then(|log| log.settings().map(|settings| (log, settings))) {
                Ok((log, settings)) => {
                    for pattern in &settings.spec.subjects {
                        known.by_subject.insert(pattern, log.clone());
                    }
                    known.by_name.insert(name, log);
                }
                // Being made or being deleted.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) if !self.0.root.join(&directory).exists() => {}
                // The other streams work all the same.
                Err(error) => {
                    tracing::error!(stream = %name, %error, "a stream cannot be opened");
                    known.broken.insert(name, directory);
                }
            }
        }
        let known = Arc::new(known);
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&known);
        Ok(known)
    }

    fn open_generation(
        &self,
        open: &mut Open,
        name: &StreamName,
        directory: &OsString,
    ) -> Result<Log> {
        if let Some(log) = open.get(directory) {
            return Ok(log.clone());
        }
        let path = self.0.root.join(directory);
        let log = Log::open(name.clone(), &path, self.0.context.clone())?;
        open.insert(directory.clone(), log.clone());
        Ok(log)
    }

    /// The directories of streams, whole or not.
    fn generations(&self) -> Result<Vec<(StreamName, OsString)>> {
        let read = || {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&self.0.root)? {
                let directory = entry?.file_name();
                let name = directory.to_str().and_then(|text| text.split_once('.'));
                if let Some((name, generation)) = name
                    && generation.len() == 16
                    && let Ok(name) = StreamName::parse(name)
                {
                    found.push((name, directory));
                }
            }
            Ok(found)
        };
        read().map_err(|error| from_io(error, "stream.open", &self.0.root))
    }

    /// Removes what a crash left of streams that were being made or deleted. Nobody else changes
    /// a stream now.
    fn clear_away(&self) {
        let mut open = self.lock_open();
        let rest = open.iter_mut().flat_map(|open| {
            open.extract_if(|_, log| {
                log.settings().is_err_and(|error| error.kind() == ErrorKind::NotFound)
            })
        });
        for (directory, _log) in rest {
            self.remove(Some(&self.0.root.join(directory)));
        }
    }

    fn remove(&self, directory: Option<&Path>) {
        let Some(directory) = directory else { return };
        if let Err(error) = std::fs::remove_dir_all(directory) {
            tracing::warn!(%error, directory = %directory.display(), "cannot clear away");
        }
    }
}

fn check_subjects(known: &Known, wanted: &StreamSpec, operation: &'static str) -> Result<()> {
    for log in known.all().filter(|log| *log.name() != wanted.name) {
        if spec::overlaps(&log.settings()?.spec, wanted) {
            return Err(Error::new(ErrorKind::InvalidInput, operation)
                .because("another stream keeps some of these subjects")
                .with("stream", &wanted.name)
                .with("other", log.name()));
        }
    }
    Ok(())
}

fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| from_io(error, "stream.create", directory))
}

/// The error that a stream is not there.
pub(crate) fn absent(name: &StreamName, operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .because("there is no such stream")
        .with("stream", name)
        .hint(format!("create it with `jetbridge stream add {name}`"))
}

/// The error that no stream keeps a subject.
pub(crate) fn not_kept(subject: &Subject) -> Error {
    Error::new(ErrorKind::NotFound, "bus.append")
        .because("no stream keeps this subject")
        .with("subject", subject)
        .hint(format!("create one with `jetbridge stream add NAME --subjects {subject}`"))
}

/// Runs `act` where it may block.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|lost| Error::new(ErrorKind::Internal, "stream.change").caused_by(lost))?
}

/// Waits on a thread that [`blocking`] provided.
fn runtime_block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}
