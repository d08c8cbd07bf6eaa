//! Reading one object to its end through outages.
//!
//! A silent or lost store is asked again for what is missing, so that a large object on a bad
//! line is read once and not from its beginning each time. The digest is computed over what came,
//! whichever requests brought it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use jetbridge_core::{Backoff, Body, Digest, Error, ErrorKind, ObjectName, Objects, Result};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

use super::manifest::LtxFile;
use super::replica::silent;

const OPERATION: &str = "sqlite.read";
/// How long nothing at all may come before reading fails: a server may take a minute to restart.
const GIVE_UP: Duration = Duration::from_secs(120);

/// How long the store may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    stall: Duration,
    give_up: Duration,
}

impl Patience {
    /// One request may be silent for `stall`; reads are tried again for two minutes.
    pub const fn new(stall: Duration) -> Self {
        Self { stall, give_up: GIVE_UP }
    }

    /// Sets for how long reads are tried again while nothing comes.
    #[must_use]
    pub const fn give_up(mut self, after: Duration) -> Self {
        self.give_up = after;
        self
    }

    pub(super) const fn stall(self) -> Duration {
        self.stall
    }
}

/// A file being read.
pub struct Fetch {
    objects: Arc<dyn Objects>,
    name: ObjectName,
    patience: Patience,
    left: Range<u64>,
    /// What the whole must hash to; `None` where only a part is read.
    check: Option<(Sha256, Option<Digest>)>,
    body: Option<Body>,
    backoff: Backoff,
    moved: Instant,
}

impl Fetch {
    pub(super) fn new(
        objects: Arc<dyn Objects>,
        name: ObjectName,
        file: &LtxFile,
        patience: Patience,
    ) -> Self {
        Self {
            objects,
            name,
            patience,
            left: 0..file.bytes,
            check: Some((Sha256::new(), file.digest)),
            body: None,
            backoff: Backoff::outage(),
            moved: Instant::now(),
        }
    }

    pub(super) fn only(mut self, range: Range<u64>) -> Self {
        self.left = range;
        self.check = None;
        self
    }

    /// The next bytes; `None` after the last, if they are what their writer stored.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if they are not, or the object is not there, or was
    /// replaced; [`Unavailable`](ErrorKind::Unavailable) if nothing came for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.left.is_empty() {
            match timeout(self.patience.stall, self.step()).await {
                Ok(Ok(Some(bytes))) => return Ok(Some(self.take(bytes))),
                Ok(Ok(None)) => return Err(self.broken("the object ends before its size")),
                Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => {
                    self.again(error).await?;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Conflict => {
                    return Err(self.broken("the object is not complete").caused_by(error));
                }
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => self.again(silent(OPERATION, &self.name)).await?,
            }
        }
        match self.check.take() {
            Some((hash, Some(stored))) => {
                let digest = Digest::from_bytes(hash.finalize().into());
                if digest == stored {
                    return Ok(None);
                }
                Err(self.broken("the stored bytes are not what was written").with("digest", digest))
            }
            _ => Ok(None),
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>> {
        if self.body.is_none() {
            let found = self.objects.get(&self.name, Some(self.left.clone())).await?;
            let object = found.ok_or_else(|| self.broken("the object is not there"))?;
            self.body = Some(object.body);
        }
        match &mut self.body {
            Some(body) => body.try_next().await,
            None => Ok(None),
        }
    }

    fn take(&mut self, bytes: Bytes) -> Bytes {
        self.moved = Instant::now();
        self.backoff = Backoff::outage();
        self.left.start += bytes.len() as u64;
        if let Some((hash, _)) = &mut self.check {
            hash.update(&bytes);
        }
        bytes
    }

    /// Waits before the next attempt; fails if nothing came for too long.
    async fn again(&mut self, error: Error) -> Result<()> {
        self.body = None;
        if self.moved.elapsed() >= self.patience.give_up {
            return Err(error);
        }
        tracing::debug!(object = %self.name, at = self.left.start, %error, "reading goes on");
        self.backoff.wait().await;
        Ok(())
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(ErrorKind::Corrupt, OPERATION).because(why).with("object", &self.name)
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("name", &self.name).field("left", &self.left).finish()
    }
}
