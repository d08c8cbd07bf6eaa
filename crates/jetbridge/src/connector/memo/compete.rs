//! Changing a value that is there. Those of one process take turns on a key, so that they lose
//! races to other processes only: how long a call competes is a matter of time and not of luck.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jetbridge_core::{Entry, Error, ErrorKind, Key, KvExt as _, Result, Update};
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

/// Does what `decide` says of the value under `key`, and returns what it answered; `None` if
/// there is no value. `decide` may be asked several times, each time about the present value.
pub(super) async fn change<T: Send>(
    target: &Target<'_>,
    key: &Key,
    mut decide: impl FnMut(&Entry) -> Result<(Update, T)> + Send,
) -> Result<Option<T>> {
    let deadline = Instant::now() + COMPETE_MAX;
    let Ok(_turn) = tokio::time::timeout_at(deadline, target.bucket.turns.take(key)).await else {
        return Err(Error::new(ErrorKind::Conflict, "kv.replace")
            .because("others of this process kept changing the key; nothing was written")
            .with("key", key));
    };
    let mut answer = None;
    let left = deadline.saturating_duration_since(Instant::now());
    let update = target.kv().update_with(key, left, |present| {
        let Some(entry) = present else {
            answer = None;
            return Ok(Update::Keep);
        };
        let (update, value) = decide(entry)?;
        answer = Some(value);
        Ok(update)
    });
    update.await?;
    Ok(answer)
}
