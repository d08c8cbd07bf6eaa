//! What SQLite and the file system fail with, as the house's error: the one table.

use std::io;
use std::path::Path;

use jetbridge_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// What capturing does, as errors name it.
pub(super) const CAPTURE: &str = "sqlite.capture";

/// A failed statement on the database, or on what is remembered of it.
pub(super) fn failed(path: &Path, cause: rusqlite::Error) -> Error {
    let (kind, text, hint) = match cause.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            return read_only(path).caused_by(cause);
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Unavailable, "another connection holds the lock", None)
        }
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Corrupt,
            "SQLite finds the database damaged",
            Some("look at it with `PRAGMA integrity_check`; restore an earlier state"),
        ),
        Some(ErrorCode::DiskFull) => (ErrorKind::LimitExceeded, "the disk is full", None),
        Some(ErrorCode::NotADatabase) => {
            return not_a_database(path).caused_by(cause);
        }
        Some(ErrorCode::SystemIoFailure) => (ErrorKind::Unavailable, "the file system fails", None),
        _ => (ErrorKind::Unavailable, "a statement failed", None),
    };
    let error = Error::new(kind, CAPTURE).because(text).with("path", path.display());
    match hint {
        Some(hint) => error.hint(hint).caused_by(cause),
        None => error.caused_by(cause),
    }
}

/// A database that may only be read.
pub(super) fn read_only(path: &Path) -> Error {
    Error::new(ErrorKind::PermissionDenied, CAPTURE)
        .because("the database cannot be written; a capture needs that to hold SQLite's locks")
        .with("path", path.display())
        .hint("allow this user to write the file and its folder")
}

/// A file that is no database to us.
pub(super) fn not_a_database(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidInput, CAPTURE)
        .because("the file is not a SQLite database, or it is encrypted")
        .with("path", path.display())
        .hint("name the database file itself; encrypted databases cannot be replicated")
}

/// A failed call of the file system.
pub(super) fn io_failed(path: &Path, cause: io::Error) -> Error {
    let (kind, text) = match cause.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "the file is not there"),
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::PermissionDenied, "this user may not read the file")
        }
        io::ErrorKind::StorageFull => (ErrorKind::LimitExceeded, "the disk is full"),
        _ => (ErrorKind::Unavailable, "the file system fails"),
    };
    Error::new(kind, CAPTURE).because(text).with("path", path.display()).caused_by(cause)
}
