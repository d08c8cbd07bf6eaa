//! Copying the write-ahead log into the database, so that it does not grow for ever.
//!
//! A copy waits for the disk twice, for as long as it takes to write what has gathered. Most of it
//! is done beside the writers, by a connection of its own, while they go on; what they add
//! meanwhile is little, and is copied while they stand still, for the log can begin anew only
//! when nothing in it is left to copy.

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::Handle;

use crate::db::{Durability, PAGE_BYTES, connect};
use crate::fault::JobResult;

/// Pages of the log after which it is copied: 16 MiB. Each copy costs two fsyncs, each page in the
/// log a little of every read.
const PAGES_MAX: u32 = (16 << 20) / PAGE_BYTES;
/// Pages that may be left to copy while writers stand still: a few milliseconds' worth.
const LEFT_MAX: u32 = (4 << 20) / PAGE_BYTES;
/// How much longer the log gets before it is copied again where readers keep it from beginning
/// anew.
const PAGES_MORE: u32 = PAGES_MAX / 4;

/// The log of one database. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    durability: Durability,
    /// Pages in the log after the last commit of this process.
    pages: AtomicU32,
    /// At how many pages there is something to do.
    due_at: AtomicU32,
    /// Pages that were in the log when the last copy beside the writers had been made; 0 if none
    /// has been made since the log began.
    copied: AtomicU32,
    /// A copy beside the writers is under way.
    copying: AtomicBool,
    copier: Mutex<Copier>,
}

/// What copies beside the writers.
#[derive(Debug, Default)]
enum Copier {
    #[default]
    NotNeeded,
    Open(Connection),
    Closed,
}

/// What is to be done about the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    Nothing,
    /// [`Log::copy_beside`], which waits for nothing.
    Beside,
    /// [`Log::copy_rest`], on a thread that may wait.
    Rest,
}

impl Log {
    /// The log that `writer` writes.
    pub(crate) fn new(
        path: PathBuf,
        durability: Durability,
        writer: &mut Connection,
    ) -> rusqlite::Result<Self> {
        let inner = Arc::new(Inner {
            path,
            durability,
            pages: AtomicU32::new(0),
            due_at: AtomicU32::new(PAGES_MAX),
            copied: AtomicU32::new(0),
            copying: AtomicBool::new(false),
            copier: Mutex::default(),
        });
        let seen = Arc::clone(&inner);
        let hook = move |_log: &mut Wal, pages: c_int| {
            seen.pages.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(hook))?;
        Ok(Self(inner))
    }

    pub(crate) fn due(&self) -> Due {
        let inner = &*self.0;
        let pages = inner.pages.load(Ordering::Relaxed);
        if pages < inner.due_at.load(Ordering::Relaxed) || inner.copying.load(Ordering::Acquire) {
            return Due::Nothing;
        }
        let copied = inner.copied.load(Ordering::Relaxed);
        // Less than was copied means that the log has begun anew in between.
        let rest = copied > 0 && pages >= copied && pages - copied <= LEFT_MAX;
        if rest { Due::Rest } else { Due::Beside }
    }

    /// Copies most of the log on a thread of its own.
    pub(crate) fn copy_beside(&self) {
        // A thread without a runtime leads only in an emergency, and may wait.
        match Handle::try_current() {
            Ok(runtime) => {
                self.0.copying.store(true, Ordering::Release);
                let log = self.clone();
                drop(runtime.spawn_blocking(move || log.copy_now()));
            }
            Err(_none) => self.copy_now(),
        }
    }

    fn copy_now(&self) {
        let inner = &*self.0;
        // The copy reaches at least up to here.
        let pages = inner.pages.load(Ordering::Relaxed);
        match self.copy_with_copier() {
            Ok(()) => inner.copied.store(pages, Ordering::Relaxed),
            Err(error) => {
                let error = error.into_error("local.copy_log", &inner.path);
                // What is committed is in the log all the same.
                tracing::warn!(%error, "the log was not copied");
                inner.due_at.store(pages.saturating_add(PAGES_MORE), Ordering::Relaxed);
            }
        }
        inner.copying.store(false, Ordering::Release);
    }

    fn copy_with_copier(&self) -> JobResult<()> {
        let mut copier = self.0.copier.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*copier, Copier::NotNeeded) {
            let flags = OpenFlags::empty();
            *copier = Copier::Open(connect(&self.0.path, self.0.durability, flags)?);
        }
        match &*copier {
            Copier::Open(connection) => copy(connection).map(drop),
            Copier::NotNeeded | Copier::Closed => Ok(()),
        }
    }

    /// Copies what is left of the log with the writer's connection, so that the next commit can
    /// begin it anew.
    pub(crate) fn copy_rest(&self, writer: &Connection) {
        let inner = &*self.0;
        let pages = inner.pages.swap(0, Ordering::Relaxed);
        inner.copied.store(0, Ordering::Relaxed);
        let left = copy(writer).unwrap_or_else(|error| {
            let error = error.into_error("local.copy_log", &inner.path);
            tracing::warn!(%error, "the log was not copied");
            u32::MAX
        });
        let due_at = if left == 0 { PAGES_MAX } else { pages.saturating_add(PAGES_MORE) };
        inner.due_at.store(due_at, Ordering::Relaxed);
    }

    /// Waits for a copy under way and lets go of the database.
    pub(crate) fn close(&self) {
        *self.0.copier.lock().unwrap_or_else(PoisonError::into_inner) = Copier::Closed;
    }
}

/// Copies what no reader needs of the log, and returns how many pages are left in it.
fn copy(connection: &Connection) -> JobResult<u32> {
    const SQL: &str = "PRAGMA wal_checkpoint(PASSIVE)";
    let (pages, copied): (i64, i64) =
        connection.query_row(SQL, [], |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(u32::try_from(pages - copied).unwrap_or(0))
}
