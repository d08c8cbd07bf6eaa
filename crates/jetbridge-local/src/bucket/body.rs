//! Bodies of objects: files next to the bucket's database.
//!
//! A body grows under `incoming`, is synced if the store is to survive a power cut, and moves to
//! `bodies`, whose directory is synced too; only then does a row refer to it. It is never changed
//! and its name is never used twice, so a reader that has it open reads right bytes whatever
//! becomes of the object. A body is removed after the row that referred to it; what a crash leaves
//! in between is swept. Whoever writes a body holds a lock on its file until the row is committed,
//! and a lock dies with its process: a sweep can tell what is still wanted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jetbridge_core::{Result, random};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Bucket;
use crate::db::{Durability, sync_parent};
use crate::fault::from_io;

pub(crate) mod receive;
pub(crate) mod send;

const INCOMING: &str = "incoming";
const BODIES: &str = "bodies";
/// Characters of a body's name that name its directory, so that no directory gets too many.
const SHARD_CHARS: usize = 2;

/// The bodies of one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    root: PathBuf,
    durability: Durability,
}

impl Bodies {
    pub(crate) fn of(bucket: &Bucket) -> Self {
        Self { root: bucket.directory().to_owned(), durability: bucket.durability() }
    }

    /// A new body, to be written. Blocks.
    fn begin(&self) -> Result<Incoming> {
        let directory = self.root.join(INCOMING);
        let begin = || {
            fs::create_dir_all(&directory)?;
            loop {
                let name = random::name();
                let path = directory.join(&name);
                let file = File::options().write(true).create_new(true).open(&path)?;
                // A sweep may have found it before it was locked.
                if is_ours(&file)? {
                    return Ok(Incoming { file, name, path, wanted: AtomicBool::new(false) });
                }
            }
        };
        begin().map_err(|error| from_io(error, "object.put", &directory))
    }

    /// Opens the body called `name`.
    pub(crate) fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    /// Removes the body called `name`. What cannot be removed is left to a sweep.
    pub(crate) fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, body = name, "a body that nobody needs stays");
        }
    }

    /// Removes what nobody refers to, writes, or has written since `before`; returns the bytes
    /// that frees. Blocks.
    pub(crate) fn sweep(
        &self,
        before: SystemTime,
        is_wanted: impl Fn(&str) -> Result<bool>,
    ) -> Result<u64> {
        let mut freed = 0;
        let failed = |error| from_io(error, "object.sweep", &self.root);
        for path in self.files().map_err(failed)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if is_wanted(&name)? {
                continue;
            }
            let Some(idle) = lock_idle(&path, before).map_err(failed)? else { continue };
            // Its writer may have committed just before it let go of the lock.
            if is_wanted(&name)? {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => freed += idle.metadata().map_err(failed)?.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(freed)
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = entries(&self.root.join(INCOMING))?;
        for shard in entries(&self.root.join(BODIES))? {
            files.extend(entries(&shard)?);
        }
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        let shard = name.get(..SHARD_CHARS).unwrap_or_default();
        self.root.join(BODIES).join(shard).join(name)
    }
}

/// A body being written. Dropped before a row refers to it, it is gone.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: File,
    name: String,
    path: PathBuf,
    wanted: AtomicBool,
}

impl Incoming {
    /// What a row calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Says whether a row refers to it, if the transaction under way is committed.
    pub(crate) fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Release);
    }

    fn write(&self, block: &[Bytes]) -> Result<()> {
        let written = block.iter().try_for_each(|bytes| (&self.file).write_all(bytes));
        written.map_err(|error| from_io(error, "object.put", &self.path))
    }

    /// Moves it to where rows refer to; see the module's head for the order.
    fn settle(&mut self, bodies: &Bodies) -> Result<()> {
        let target = bodies.path(&self.name);
        self.move_to(&target, bodies.durability)
            .map_err(|error| from_io(error, "object.put", &target))
    }

    fn move_to(&mut self, target: &Path, durability: Durability) -> io::Result<()> {
        let shard = target.parent().unwrap_or(target);
        let full = durability == Durability::Full;
        if full {
            self.file.sync_all()?;
        }
        if !shard.exists() {
            fs::create_dir_all(shard)?;
            if full {
                sync_parent(shard)?;
                sync_parent(shard.parent().unwrap_or(shard))?;
            }
        }
        fs::rename(&self.path, target)?;
        target.clone_into(&mut self.path);
        if full { sync_parent(target) } else { Ok(()) }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.wanted.load(Ordering::Acquire)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "an unfinished body is left to a sweep");
        }
    }
}

/// Locks a new file; `false` if it is gone already, or about to go.
fn is_ours(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The file, locked, if nobody else holds it and it is older than `before`.
fn lock_idle(path: &Path, before: SystemTime) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.modified()? > before {
        return Ok(None);
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// `before` for a sweep of what is older than `age` at `now`.
pub(crate) fn older_than(now: SystemTime, age: Duration) -> SystemTime {
    now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
}
