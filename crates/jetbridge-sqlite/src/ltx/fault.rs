//! What can be wrong with a file, as the house's error.

use std::io;

use jetbridge_core::{Error, ErrorKind};

/// What reading does, as errors name it.
pub(super) const DECODE: &str = "ltx.decode";
/// What writing does, as errors name it.
pub(super) const ENCODE: &str = "ltx.encode";

/// Bytes that no writer of the format produces, at `offset` in the file.
pub(super) fn corrupt(what: impl Into<String>, offset: u64) -> Error {
    Error::new(ErrorKind::Corrupt, DECODE).because(what).with("offset", offset)
}

/// A call that would write a file which no reader accepts.
pub(super) fn misuse(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, ENCODE).because(what)
}

/// A failed read. An error of the house that travelled inside comes out as it went in.
pub(super) fn unread(cause: io::Error, offset: u64) -> Error {
    if cause.kind() == io::ErrorKind::UnexpectedEof {
        return corrupt("the file ends too early", offset);
    }
    carried(cause, DECODE)
}

/// A failed write, likewise.
pub(super) fn unwritten(cause: io::Error) -> Error {
    carried(cause, ENCODE)
}

fn carried(cause: io::Error, operation: &'static str) -> Error {
    match cause.downcast::<Error>() {
        Ok(ours) => ours,
        Err(cause) => Error::new(ErrorKind::Unavailable, operation).caused_by(cause),
    }
}
