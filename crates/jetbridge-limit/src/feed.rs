//! Follows one limiter's key while callers wait for what others give back.

use std::fmt::{self, Debug};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jetbridge_core::{Change, Key, Kv, Result, Scope, Start, Watch};
use tokio::time::Instant;

/// The changes of one key.
pub(crate) struct Feed {
    changes: Option<BoxStream<'static, Result<Change>>>,
    /// Since when it tells what happens.
    live: Option<Instant>,
}

impl Feed {
    /// Follows nothing.
    pub(crate) const fn off() -> Self {
        Self { changes: None, live: None }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.changes.is_some()
    }

    /// True once it tells what happens: to begin takes several round trips.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// True if it has told of everything that happened after `told_at`.
    pub(crate) fn covers(&self, told_at: Instant) -> bool {
        self.live.is_some_and(|since| since <= told_at)
    }

    /// From now on follows `key`. Beginning with its present value, if `present`: that takes as long
    /// as others go on writing it.
    pub(crate) fn follow(&mut self, kv: &dyn Kv, key: &Key, present: bool) {
        let start = if present { Start::Current } else { Start::Now };
        let changes = kv.watch(Watch::current(Scope::One(key.clone())).start(start));
        *self = Self { changes: Some(changes), live: None };
    }

    /// The next change; never while nothing is followed. `None` if following has ended.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        let Some(changes) = &mut self.changes else { return std::future::pending().await };
        match changes.next().await {
            Some(Ok(change)) => {
                self.live.get_or_insert_with(Instant::now);
                Some(change)
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a limiter is no longer followed");
                *self = Self::off();
                None
            }
            None => {
                *self = Self::off();
                None
            }
        }
    }
}

impl Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Feed").field(&self.is_on()).finish()
    }
}
