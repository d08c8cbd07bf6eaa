//! The buckets of one kind: which there are, and who has them open.
//!
//! Each bucket has a directory of its own, `NAME.GENERATION`; a generation is never used twice,
//! so whoever still has a deleted bucket open finds it deleted, never another one. One that is
//! being made is called `NAME.GENERATION.new` until it is whole, and one that is deleted says so
//! in its database, then becomes `.gone`, then goes; what a crash leaves of either is cleared
//! away by whoever makes the next bucket. Making takes turns by a lock file; finding a bucket
//! takes no lock at all.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jetbridge_core::{
    BucketInfo, BucketKind, BucketName, BucketSpec, Error, ErrorKind, Open, Result, random,
};

use super::settings::{differences, normalised};
use super::{Bucket, Context, absent};
use crate::db::Durability;
use crate::fault::from_io;
use crate::lock::TurnLock;

/// What the lock of all changes is named after.
const LOCK_NAME: &str = "catalog";
/// What is behind the generation of a bucket that is being made.
const NEW: &str = "new";
/// What is behind the generation of a bucket that was deleted.
const GONE: &str = "gone";

/// The buckets of one kind. Clones share them.
#[derive(Clone)]
pub(crate) struct Catalog(Arc<Inner>);

struct Inner {
    kind: BucketKind,
    root: PathBuf,
    context: Context,
    /// Every generation that is open, by its directory.
    open: Mutex<HashMap<PathBuf, Arc<Bucket>>>,
    /// Changes by this process, one at a time; the lock file orders processes.
    changing: tokio::sync::Mutex<()>,
}

impl Catalog {
    /// The buckets in `root`, which is made if missing. For a thread that may block.
    pub(crate) fn open(kind: BucketKind, root: PathBuf, context: Context) -> Result<Self> {
        fs::create_dir_all(&root).map_err(|error| from_io(error, "bucket.open", &root))?;
        let (open, changing) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(Inner { kind, root, context, open, changing })))
    }

    /// The bucket called `name`, as it is now.
    pub(crate) async fn find(
        &self,
        name: &BucketName,
        operation: &'static str,
    ) -> Result<Arc<Bucket>> {
        if let Some(bucket) = self.opened(name)? {
            return Ok(bucket);
        }
        let (catalog, name) = (self.clone(), name.clone());
        blocking(move || {
            let found = catalog.look_for(&name)?;
            found.ok_or_else(|| absent(catalog.0.kind, &name, operation))
        })
        .await
    }

    /// Finds a bucket, or makes it if `open` says how.
    pub(crate) async fn open_or_make(&self, name: &BucketName, open: &Open) -> Result<Arc<Bucket>> {
        match (self.find(name, "bucket.open").await, &open.create) {
            (Err(error), Some(spec)) if error.kind() == ErrorKind::NotFound => {
                self.make(name, normalised(self.0.kind, spec)?).await
            }
            (found, _) => found,
        }
    }

    /// Makes a bucket, or finds it with the same settings.
    pub(crate) async fn create(&self, name: &BucketName, spec: &BucketSpec) -> Result<BucketInfo> {
        let wanted = normalised(self.0.kind, spec)?;
        let bucket = self.open_or_make(name, &Open::ensure(wanted.clone())).await?;
        let info = bucket.info()?;
        let differences = differences(&wanted, &info.spec);
        if differences.is_empty() {
            return Ok(info);
        }
        Err(Error::new(ErrorKind::AlreadyExists, "bucket.create")
            .because("it is there with other settings")
            .with("kind", self.0.kind)
            .with("bucket", name)
            .with("differs", differences.join(",")))
    }

    /// Changes the settings of a bucket.
    pub(crate) async fn update(&self, name: &BucketName, spec: &BucketSpec) -> Result<BucketInfo> {
        let spec = normalised(self.0.kind, spec)?;
        let bucket = self.find(name, "bucket.update").await?;
        bucket.update(spec).await?;
        bucket.info()
    }

    /// All buckets, by name.
    pub(crate) async fn list(&self) -> Result<Vec<BucketInfo>> {
        let catalog = self.clone();
        blocking(move || {
            let mut infos = Vec::new();
            for (name, directory) in catalog.directories()? {
                match catalog.describe(&name, &directory) {
                    Ok(info) => infos.push(info),
                    // Deleted meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error.with("bucket", &name)),
                }
            }
            infos.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(infos)
        })
        .await
    }

    /// How many buckets there are.
    pub(crate) fn count(&self) -> Result<usize> {
        Ok(self.directories()?.len())
    }

    /// Deletes a bucket and what it holds; `false` if there was none.
    pub(crate) async fn delete(&self, name: &BucketName) -> Result<bool> {
        let bucket = match self.find(name, "bucket.delete").await {
            Ok(bucket) => bucket,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match bucket.mark_deleted().await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        self.lock_open().remove(bucket.directory());
        let (catalog, directory) = (self.clone(), bucket.directory().to_owned());
        blocking(move || {
            catalog.remove(&directory);
            Ok(true)
        })
        .await
    }

    /// Closes every database.
    pub(crate) async fn close(&self) {
        let open: Vec<_> = self.lock_open().drain().map(|(_, bucket)| bucket).collect();
        for bucket in open {
            bucket.db().close().await;
        }
    }

    /// Writes that were not acknowledged yet.
    pub(crate) fn pending(&self) -> usize {
        self.lock_open().values().map(|bucket| bucket.db().pending()).sum()
    }

    /// The bucket called `name`, if this process has it open and it is still there.
    fn opened(&self, name: &BucketName) -> Result<Option<Arc<Bucket>>> {
        let open = self.lock_open();
        let candidates: Vec<_> =
            open.values().filter(|bucket| bucket.name == *name).cloned().collect();
        drop(open);
        for bucket in candidates {
            match bucket.settings("bucket.open") {
                Ok(_) => return Ok(Some(bucket)),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.lock_open().remove(bucket.directory());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens the generation of `name` that is there.
    fn look_for(&self, name: &BucketName) -> Result<Option<Arc<Bucket>>> {
        for (found, directory) in self.directories()? {
            if found != *name {
                continue;
            }
            match self.open_in(name, &directory) {
                Ok(bucket) => return Ok(Some(bucket)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens the bucket in `directory`, for as long as this process lives;
    /// [`NotFound`](ErrorKind::NotFound) if it was deleted.
    fn open_in(&self, name: &BucketName, directory: &Path) -> Result<Arc<Bucket>> {
        let held = self.lock_open().get(directory).cloned();
        if let Some(bucket) = held {
            return bucket.settings("bucket.open").map(|_| bucket);
        }
        let bucket = self.open_anew(name, directory)?;
        // Another caller may have been faster: all share one.
        let mut open = self.lock_open();
        Ok(Arc::clone(open.entry(directory.to_owned()).or_insert(bucket)))
    }

    fn open_anew(&self, name: &BucketName, directory: &Path) -> Result<Arc<Bucket>> {
        let Inner { kind, context, .. } = &*self.0;
        if !directory.join(super::DATABASE).exists() {
            return Err(absent(*kind, name, "bucket.open"));
        }
        let opened = Bucket::open(*kind, name.clone(), directory.to_owned(), context.clone());
        let bucket = opened.map_err(|error| match directory.exists() {
            true => error,
            // Deleted while it was being opened.
            false => absent(*kind, name, "bucket.open").caused_by(error),
        })?;
        if let Err(error) = bucket.settings("bucket.open") {
            if error.kind() == ErrorKind::NotFound {
                // Whoever deleted it did not live to clear it away.
                self.remove(directory);
            }
            return Err(error);
        }
        Ok(Arc::new(bucket))
    }

    /// Describes the bucket in `directory`, which is not kept open if it was not.
    fn describe(&self, name: &BucketName, directory: &Path) -> Result<BucketInfo> {
        let held = self.lock_open().get(directory).cloned();
        held.map_or_else(|| self.open_anew(name, directory), Ok)?.info()
    }

    /// Makes a bucket, unless somebody else was faster.
    async fn make(&self, name: &BucketName, spec: BucketSpec) -> Result<Arc<Bucket>> {
        let _alone = self.0.changing.lock().await;
        let (catalog, name) = (self.clone(), name.clone());
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let lock_path = catalog.0.root.join(LOCK_NAME);
            let failed = |error| from_io(error, "bucket.create", &lock_path);
            let lock = TurnLock::open(&lock_path).map_err(failed)?;
            let _turn = lock.acquire().map_err(failed)?;
            if let Some(bucket) = catalog.look_for(&name)? {
                return Ok(bucket);
            }
            catalog.clear_away()?;
            let directory = catalog.0.root.join(format!("{name}.{}", random::name()));
            let growing = directory.with_added_extension(NEW);
            fs::create_dir(&growing).map_err(|e| from_io(e, "bucket.create", &growing))?;
            runtime.block_on(catalog.fill(&name, &growing, &spec))?;
            catalog.rename(&growing, &directory)?;
            catalog.open_in(&name, &directory)
        })
        .await
    }

    /// Makes the database of a bucket, and closes it: it is about to be renamed.
    async fn fill(&self, name: &BucketName, directory: &Path, spec: &BucketSpec) -> Result<()> {
        let Inner { kind, context, .. } = &*self.0;
        let bucket = Bucket::open(*kind, name.clone(), directory.to_owned(), context.clone())?;
        let bucket = Arc::new(bucket);
        let made = bucket.make(spec).await;
        bucket.db().close().await;
        made
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let Inner { root, context, .. } = &*self.0;
        let renamed = fs::rename(from, to).and_then(|()| match context.durability {
            Durability::Full => fs::File::open(root)?.sync_all(),
            Durability::Process => Ok(()),
        });
        renamed.map_err(|error| from_io(error, "bucket.create", to))
    }

    /// Removes what crashes left. To be called with the lock, under which nobody else is making
    /// a bucket.
    fn clear_away(&self) -> Result<()> {
        for path in self.entries()? {
            if path.extension().is_some_and(|end| end == NEW || end == GONE) {
                remove_all(&path);
            }
        }
        Ok(())
    }

    /// Removes the directory of a deleted bucket. What cannot be removed now is cleared away later.
    fn remove(&self, directory: &Path) {
        let gone = directory.with_added_extension(GONE);
        match fs::rename(directory, &gone) {
            Ok(()) => remove_all(&gone),
            // Somebody else is at it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, directory = %directory.display(), "leftovers stay");
            }
        }
    }

    /// The directories of whole buckets.
    fn directories(&self) -> Result<Vec<(BucketName, PathBuf)>> {
        let named = |path: PathBuf| Some((bucket_of(&path)?, path));
        Ok(self.entries()?.into_iter().filter_map(named).collect())
    }

    fn entries(&self) -> Result<Vec<PathBuf>> {
        let root = &self.0.root;
        let read = fs::read_dir(root)
            .and_then(|entries| entries.map(|entry| entry.map(|it| it.path())).collect());
        read.map_err(|error| from_io(error, "bucket.list", root))
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Bucket>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("root", &self.0.root).finish_non_exhaustive()
    }
}

/// The bucket whose generation is in `directory`, if it is whole.
fn bucket_of(directory: &Path) -> Option<BucketName> {
    let (name, generation) = directory.file_name()?.to_str()?.split_once('.')?;
    let whole = !generation.is_empty() && !generation.contains('.');
    whole.then(|| BucketName::parse(name).ok())?
}

fn remove_all(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Ok(()) => {}
        // Somebody else was at it too.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, directory = %directory.display(), "leftovers stay"),
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|lost| Error::new(ErrorKind::Internal, "local.work").caused_by(lost))?
}
