//! What goes wrong below the seam, and the two tables that translate it.
//!
//! Jobs on a database fail with a [`Fault`]: either an error that already speaks the seam's
//! language, or one of SQLite or the file system, which the caller of the job translates once it
//! knows the operation. Nothing else in this crate reads a foreign error's code.

use std::io;
use std::path::Path;

use jetbridge_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Why a job failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An answer of ours.
    Ours(Error),
    /// SQLite's.
    Sql(rusqlite::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// The seam's error for this fault in `operation` on the database at `path`.
    pub(crate) fn into_error(self, operation: &'static str, path: &Path) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Sql(cause) => from_sqlite(cause, operation, path),
        }
    }
}

/// The result of a job.
pub(crate) type JobResult<T> = Result<T, Fault>;

/// The only place that knows what SQLite's codes mean.
pub(crate) fn from_sqlite(cause: rusqlite::Error, operation: &'static str, path: &Path) -> Error {
    let (kind, why, hint) = match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            ErrorKind::Corrupt,
            "the database is damaged",
            "restore the store's directory from a backup, or delete the bucket and fill it again",
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::LimitExceeded, "the disk is full", "make room on the disk, then try again")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => (
            ErrorKind::PermissionDenied,
            "the database cannot be opened for writing",
            "give this user write access to the store's directory and everything in it",
        ),
        Some(ErrorCode::SystemIoFailure) => {
            (ErrorKind::Unavailable, "the disk failed", "look at the system's log for disk errors")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            "another process has held the database for too long",
            "look for a program other than jetbridge that has this file open",
        ),
        Some(ErrorCode::TooBig) => (ErrorKind::LimitExceeded, "the value is too large", ""),
        _ => (ErrorKind::Internal, "the database refused a statement", ""),
    };
    let error =
        Error::new(kind, operation).because(why).with("file", path.display()).caused_by(cause);
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// `cause` once more, for each of several callers.
pub(crate) fn copy_sqlite(cause: &rusqlite::Error) -> rusqlite::Error {
    match cause {
        rusqlite::Error::SqliteFailure(code, text) => {
            rusqlite::Error::SqliteFailure(*code, text.clone())
        }
        other => rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
            Some(other.to_string()),
        ),
    }
}

/// The only place that knows what the file system's errors mean.
pub(crate) fn from_io(cause: io::Error, operation: &'static str, path: &Path) -> Error {
    let (kind, hint) = match cause.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::PermissionDenied,
            "give this user write access to the store's directory and everything in it",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::LimitExceeded, "make room on the disk, then try again")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            (ErrorKind::InvalidInput, "name a directory that jetbridge may keep its store in")
        }
        _ => (ErrorKind::Unavailable, "look at the system's log for disk errors"),
    };
    Error::new(kind, operation).with("file", path.display()).caused_by(cause).hint(hint)
}
