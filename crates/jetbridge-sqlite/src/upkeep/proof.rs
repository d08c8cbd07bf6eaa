//! The proof of a state: every byte of it is read back as it was written, before what it replaces
//! goes.
//!
//! A state may be hundreds of gigabytes. It is read beside everything else, and at most half of
//! the time, so that what is shipped and merged meanwhile has the line too.

use jetbridge_core::{Error, Result, Tasks};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::Txid;
use crate::store::{LtxFile, Replica};

/// Bytes that are read before others have the line for as long.
const PIECE_BYTES: usize = 4 << 20;
/// Proofs of this process that read at the same time: each has a piece in flight.
const PROOFS: usize = 2;
static READING: Semaphore = Semaphore::const_new(PROOFS);

/// A state that is being read; given up when dropped.
#[derive(Debug)]
pub(super) struct Proof {
    end: Txid,
    reading: oneshot::Receiver<Proven>,
    ended: watch::Receiver<()>,
}

/// What a proof has found: which file is not as it was written, or could not be read.
type Proven = std::result::Result<(), (LtxFile, Error)>;

/// How far a proof has come.
#[derive(Debug)]
pub(super) enum Reading {
    /// It is through.
    Ended(Proven),
    /// It reads on.
    UnderWay,
    /// It was cut off, and is to be begun again.
    CutOff,
}

impl Proof {
    /// Begins to read the files of the state at `end`, as one of `tasks`.
    pub(super) fn begin(tasks: &Tasks, replica: Replica, end: Txid, files: Vec<LtxFile>) -> Self {
        let (ends, ended) = watch::channel(());
        let (mut finds, reading) = oneshot::channel();
        tasks.spawn_until_stop(async move {
            let _told_when_dropped = ends;
            let found = tokio::select! {
                biased;
                () = finds.closed() => return,
                found = prove(replica, files) => found,
            };
            // Whoever asked may have gone just now.
            drop(finds.send(found));
        });
        Self { end, reading, ended }
    }

    /// The transaction that the state is at.
    pub(super) fn end(&self) -> Txid {
        self.end
    }

    /// How far it has come. What was found is told once.
    pub(super) fn reading(&mut self) -> Reading {
        match self.reading.try_recv() {
            Ok(proven) => Reading::Ended(proven),
            Err(TryRecvError::Empty) => Reading::UnderWay,
            Err(TryRecvError::Closed) => Reading::CutOff,
        }
    }

    /// Its sender is dropped when it has ended.
    pub(super) fn ended(&self) -> watch::Receiver<()> {
        self.ended.clone()
    }
}

async fn prove(replica: Replica, files: Vec<LtxFile>) -> Proven {
    // It is never closed.
    let _turn = READING.acquire().await.ok();
    for file in files {
        if let Err(error) = read(&replica, &file).await {
            return Err((file, error));
        }
    }
    Ok(())
}

/// Reads a file to its end, where the digest is compared; nothing of it is held.
async fn read(replica: &Replica, file: &LtxFile) -> Result<()> {
    let mut fetch = replica.fetch(file)?;
    let (mut began, mut bytes) = (Instant::now(), 0);
    while let Some(part) = fetch.next().await? {
        bytes += part.len();
        if bytes >= PIECE_BYTES {
            tokio::time::sleep(began.elapsed()).await;
            (began, bytes) = (Instant::now(), 0);
        }
    }
    Ok(())
}
