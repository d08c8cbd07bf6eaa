//! What comes in: values and payloads from the command line or stdin, bodies from files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Body, Error, ErrorKind, Headers, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::progress::Progress;

/// Bytes read from a file at once.
const READ_BYTES: usize = 1 << 20;

/// What it means if no value is given and stdin is a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unwritten {
    /// The value is empty.
    Empty,
    /// The user forgot it.
    Refused,
}

/// The value given on the command line; from stdin if it is `-` or none is given. More than
/// `bytes_max` bytes, what the store takes, are refused when so many have come.
pub(crate) async fn value(
    given: Option<&OsStr>,
    unwritten: Unwritten,
    bytes_max: u64,
) -> Result<Bytes> {
    match given {
        Some(text) if text != "-" => return Ok(Bytes::copy_from_slice(text.as_bytes())),
        None if io::stdin().is_terminal() => {
            return match unwritten {
                Unwritten::Empty => Ok(Bytes::new()),
                Unwritten::Refused => Err(Error::new(ErrorKind::InvalidInput, "value.read")
                    .because("no value given")
                    .hint("write it behind the key, or `-` to type it in")),
            };
        }
        _ => {}
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        io::stdin().lock().take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(Bytes::from(bytes))
    });
    let settled = read.await.map_err(io::Error::from).and_then(|bytes| bytes);
    let bytes = settled.map_err(|error| file_error("stdin.read", Path::new("-"), error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(too_long(bytes_max));
    }
    Ok(bytes)
}

fn too_long(bytes_max: u64) -> Error {
    let bytes = match stdin_bytes() {
        Some(bytes) => bytes.to_string(),
        None => format!("over {bytes_max}"),
    };
    Error::new(ErrorKind::LimitExceeded, "stdin.read")
        .because("stdin holds more than the store takes as one value")
        .with("bytes", bytes)
        .with("bytes_max", bytes_max)
        .hint("store it as an object: `jetbridge object put`")
}

/// Bytes of what stdin is, if it is a file.
fn stdin_bytes() -> Option<u64> {
    let file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let facts = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(facts.len())
}

/// Header fields as given.
pub(crate) fn headers(given: &[(String, String)]) -> Result<Headers> {
    let mut headers = Headers::new();
    for (name, value) in given {
        headers.append(name, value)?;
    }
    Ok(headers)
}

/// A file, or stdin, to be stored.
pub(crate) struct Source {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Its size, if it has one.
    pub(crate) size: Option<u64>,
}

impl Source {
    /// Opens `path`; `-` is stdin.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::new(tokio::io::stdin()), size: None });
        }
        let failed = |error| file_error("file.read", path, error);
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let facts = file.metadata().await.map_err(failed)?;
        if facts.is_dir() {
            return Err(file_error("file.read", path, io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self { reader: Box::new(file), size: facts.is_file().then_some(facts.len()) })
    }

    /// Its bytes.
    pub(crate) fn body(self, progress: Progress, path: &Path) -> Body {
        let path = path.to_owned();
        let chunks = stream::unfold(Some(self.reader), move |reader| {
            let (progress, path) = (progress.clone(), path.clone());
            async move {
                let mut reader = reader?;
                let mut chunk = BytesMut::with_capacity(READ_BYTES);
                match reader.read_buf(&mut chunk).await {
                    Ok(0) => None,
                    Ok(bytes) => {
                        progress.advance(u64::try_from(bytes).unwrap_or(u64::MAX));
                        Some((Ok(chunk.freeze()), Some(reader)))
                    }
                    Err(error) => Some((Err(file_error("file.read", &path, error)), None)),
                }
            }
        });
        chunks.boxed()
    }
}

/// What an error of the file system means for the caller.
pub(crate) fn file_error(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::AlreadyExists
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::NotFound => ErrorKind::InvalidInput,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::PermissionDenied
        }
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => ErrorKind::LimitExceeded,
        _ => ErrorKind::Unavailable,
    };
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check the permissions of the file and its directory",
        io::ErrorKind::IsADirectory => "name a file",
        _ => "check the file and the disk it is on",
    };
    Error::new(kind, operation).with("file", path.display()).caused_by(error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_is_taken_as_it_is_given() {
        let value = value(Some(OsStr::new("a b")), Unwritten::Refused, 1).await.unwrap();
        assert_eq!(value, "a b");
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = Source::open(Path::new("/no/such/file")).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.fact("file"), Some("/no/such/file"));
        let error = Source::open(Path::new("/")).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
