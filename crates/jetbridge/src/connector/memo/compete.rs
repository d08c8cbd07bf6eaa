//! Changing a value that is there: read, decide, write if nobody came between, else again.
//!
//! Those of one process take turns on a key, so that they lose races to other processes only, and
//! how long it goes on is a matter of time and not of luck.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    Backoff, DeleteOpts, Entry, Error, ErrorKind, Expect, Key, PutOpts, Read, Result,
};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::call::Target;

/// How long a call competes before it gives up with nothing written: as long as an increment.
const COMPETE_MAX: Duration = Duration::from_secs(10);
/// Keys of a bucket that can have a turn at once; two keys in one place only wait needlessly.
const TURNS: usize = 64;

/// Whose turn it is on the keys of a bucket.
pub(super) struct Turns {
    places: [Mutex<()>; TURNS],
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self { places: std::array::from_fn(|_| Mutex::new(())), hasher: RandomState::new() }
    }
}

impl Turns {
    async fn take(&self, key: &Key) -> MutexGuard<'_, ()> {
        let hash = usize::try_from(self.hasher.hash_one(key) & 0xffff).unwrap_or(0);
        self.places[hash % TURNS].lock().await
    }
}

/// What is to become of a value.
pub(super) enum Change {
    Delete,
    Put { value: Bytes, opts: PutOpts },
}

/// Does what `decide` says of the value under `key`; `None` if there is none. `decide` may be
/// asked several times, each time about the present value.
pub(super) async fn change<T>(
    target: &Target<'_>,
    key: &Key,
    mut decide: impl FnMut(Entry) -> Result<(Change, T)>,
) -> Result<Option<T>> {
    let deadline = Instant::now() + COMPETE_MAX;
    let Ok(_turn) = tokio::time::timeout_at(deadline, target.bucket.turns.take(key)).await else {
        return Err(gave_up(key));
    };
    let mut backoff = Backoff::contention();
    loop {
        let Some(entry) = target.kv().get(key, Read::Fresh).await? else { return Ok(None) };
        let revision = entry.revision;
        let (change, answer) = decide(entry)?;
        let written = match change {
            Change::Delete => {
                target.kv().delete(key, DeleteOpts::exactly(revision)).await.map(drop)
            }
            Change::Put { value, opts } => {
                let opts = opts.expect(Expect::Exactly(revision));
                target.kv().put(key, value, opts).await.map(drop)
            }
        };
        match written {
            Ok(()) => return Ok(Some(answer)),
            Err(lost) if lost.kind() != ErrorKind::Conflict => return Err(lost),
            Err(_lost) if Instant::now() >= deadline => return Err(gave_up(key)),
            Err(_lost) => backoff.wait().await,
        }
    }
}

fn gave_up(key: &Key) -> Error {
    Error::new(ErrorKind::Unavailable, "kv.replace")
        .because(format!(
            "others kept changing the key for {} s; nothing was written",
            COMPETE_MAX.as_secs()
        ))
        .with("key", key)
}
