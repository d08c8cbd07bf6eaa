//! Bodies on their way in: while one block is hashed and written, the next arrives.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use jetbridge_core::{Body, Digest, Result};
use sha2::{Digest as _, Sha256};

use super::{Bodies, Incoming};
use crate::bucket::catalog::blocking;

/// Bytes that are hashed and written at once: large enough that handing them to another thread
/// costs nothing, small enough that three of them on their way need no thought.
const BLOCK_BYTES: usize = 1 << 20;
/// A piece of a body of at least this size is passed on as it is; smaller ones are joined.
const PIECE_BYTES_MIN: usize = 64 << 10;

/// A body that is where rows may refer to it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) incoming: Arc<Incoming>,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// Takes `body` to its end. `check` is asked whether it may be of this size.
pub(crate) async fn receive(
    bodies: &Bodies,
    mut body: Body,
    check: impl Fn(u64) -> Result<()> + Send,
) -> Result<Received> {
    let (mut block, mut size) = (Block::default(), 0);
    let mut writing: Option<Writing> = None;
    while let Some(bytes) = body.try_next().await? {
        size += bytes.len() as u64;
        check(size)?;
        block.push(bytes);
        if block.bytes >= BLOCK_BYTES {
            let full = std::mem::take(&mut block).finish();
            let (hasher, incoming) = Writing::settled(writing.take(), bodies).await?;
            writing = Some(Writing::start(hasher, incoming, full));
        }
    }
    let (mut hasher, incoming) = Writing::settled_or_new(writing).await?;
    let (last, bodies) = (block.finish(), bodies.clone());
    blocking(move || {
        let mut incoming = match incoming {
            Some(incoming) => incoming,
            None => bodies.begin()?,
        };
        last.iter().for_each(|bytes| hasher.update(bytes));
        incoming.write(&last)?;
        incoming.settle(&bodies)?;
        let digest = Digest::from_bytes(hasher.finalize().into());
        Ok(Received { incoming: Arc::new(incoming), size, digest })
    })
    .await
}

/// Pieces of a body that are written at once.
#[derive(Debug, Default)]
struct Block {
    pieces: Vec<Bytes>,
    /// Small pieces, joined.
    joined: BytesMut,
    bytes: usize,
}

impl Block {
    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if bytes.len() < PIECE_BYTES_MIN {
            self.joined.extend_from_slice(&bytes);
        } else {
            self.part();
            self.pieces.push(bytes);
        }
    }

    fn part(&mut self) {
        if !self.joined.is_empty() {
            self.pieces.push(self.joined.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.part();
        self.pieces
    }
}

/// A block being hashed on one thread and written by another.
struct Writing {
    hashing: Task<Sha256>,
    writing: Task<Incoming>,
}

type Task<T> = std::pin::Pin<Box<dyn Future<Output = Result<T>> + Send>>;

impl Writing {
    fn start(mut hasher: Sha256, incoming: Incoming, block: Vec<Bytes>) -> Self {
        let to_hash = block.clone();
        let hashing = spawned(move || {
            to_hash.iter().for_each(|bytes| hasher.update(bytes));
            Ok(hasher)
        });
        let writing = spawned(move || incoming.write(&block).map(|()| incoming));
        Self { hashing, writing }
    }

    /// What is needed for the next block: from the one under way, or new for the first.
    async fn settled(writing: Option<Self>, bodies: &Bodies) -> Result<(Sha256, Incoming)> {
        let (hasher, incoming) = Self::settled_or_new(writing).await?;
        if let Some(incoming) = incoming {
            return Ok((hasher, incoming));
        }
        let bodies = bodies.clone();
        Ok((hasher, blocking(move || bodies.begin()).await?))
    }

    async fn settled_or_new(writing: Option<Self>) -> Result<(Sha256, Option<Incoming>)> {
        let Some(Self { hashing, writing }) = writing else { return Ok((Sha256::new(), None)) };
        let incoming = writing.await?;
        Ok((hashing.await?, Some(incoming)))
    }
}

/// Runs `work` on a blocking thread, from now on.
fn spawned<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Task<T> {
    let running = tokio::task::spawn_blocking(work);
    Box::pin(async move {
        use jetbridge_core::{Error, ErrorKind};
        let lost = |lost| Error::new(ErrorKind::Internal, "object.put").caused_by(lost);
        running.await.map_err(lost)?
    })
}
