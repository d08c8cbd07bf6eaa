//! Bodies on their way out: while one block is hashed and delivered, the next is read.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Body, Digest, Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

/// Bytes read at once.
const BLOCK_BYTES: u64 = 1 << 20;
/// A body up to this size is read and hashed on the caller's thread: that takes less than to
/// hand it to another.
const INLINE_BYTES_MAX: u64 = 32 << 10;

/// What of a body is wanted.
pub(crate) struct Sending {
    pub(crate) file: File,
    pub(crate) range: Range<u64>,
    /// What the bytes must hash to, where they are the whole body.
    pub(crate) digest: Option<Digest>,
}

/// The bytes, each block after `check` has said that they are still wanted.
pub(crate) fn send(sending: Sending, check: impl Fn() -> Result<()> + Send + 'static) -> Body {
    let reader = Reader {
        file: Arc::new(sending.file),
        at: sending.range.start,
        end: sending.range.end,
        reading: None,
        hashing: sending.digest.map(|digest| (digest, Hashing::Here(Sha256::new()))),
    };
    stream::unfold(Some((reader, check)), |state| async {
        let (mut reader, check) = state?;
        let block = match reader.next().await {
            Ok(Some(block)) => check().map(|()| block),
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        let rest = block.is_ok().then_some((reader, check));
        Some((block, rest))
    })
    .fuse()
    .boxed()
}

struct Reader {
    file: Arc<File>,
    /// Where the next block to be read begins.
    at: u64,
    end: u64,
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
    hashing: Option<(Digest, Hashing)>,
}

enum Hashing {
    Here(Sha256),
    There(JoinHandle<Sha256>),
}

impl Reader {
    /// The next block; an error instead of the end if the bytes are not what they should be.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.reading.is_none() && self.end - self.at <= INLINE_BYTES_MAX {
            return self.next_here().await;
        }
        let reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.read_ahead(),
        };
        let block = reading.await.map_err(lost)?.map_err(unreadable)?;
        if self.at < self.end {
            self.reading = Some(self.read_ahead());
        }
        if let Some((digest, hashing)) = self.hashing.take() {
            let (mut hasher, hashed) = (hashing.settled().await?, block.clone());
            let hashing = tokio::task::spawn_blocking(move || {
                hasher.update(&hashed);
                hasher
            });
            self.hashing = Some((digest, Hashing::There(hashing)));
        }
        Ok(Some(block))
    }

    async fn next_here(&mut self) -> Result<Option<Bytes>> {
        if self.at == self.end {
            return self.verify().await.map(|()| None);
        }
        let block = read(&self.file, self.at..self.end).map_err(unreadable)?;
        self.at = self.end;
        if let Some((digest, hashing)) = self.hashing.take() {
            let mut hasher = hashing.settled().await?;
            hasher.update(&block);
            self.hashing = Some((digest, Hashing::Here(hasher)));
        }
        Ok(Some(block))
    }

    fn read_ahead(&mut self) -> JoinHandle<std::io::Result<Bytes>> {
        let range = self.at..self.end.min(self.at + BLOCK_BYTES);
        self.at = range.end;
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || read(&file, range))
    }

    async fn verify(&mut self) -> Result<()> {
        let Some((digest, hashing)) = self.hashing.take() else { return Ok(()) };
        let found = Digest::from_bytes(hashing.settled().await?.finalize().into());
        if found == digest {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, "object.get")
            .because("the stored bytes are not those that were written")
            .with("digest", digest)
            .with("found", found)
            .hint("store the object again, or restore the store's directory from a backup"))
    }
}

impl Hashing {
    async fn settled(self) -> Result<Sha256> {
        match self {
            Self::Here(hasher) => Ok(hasher),
            Self::There(hashing) => hashing.await.map_err(lost),
        }
    }
}

fn read(file: &File, range: Range<u64>) -> std::io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut block = vec![0; length];
    file.read_exact_at(&mut block, range.start)?;
    Ok(block.into())
}

fn unreadable(cause: std::io::Error) -> Error {
    let kind = match cause.kind() {
        std::io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "object.get").because("the body of the object cannot be read").caused_by(cause)
}

fn lost(cause: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unavailable, "object.get").because("the runtime stopped").caused_by(cause)
}
