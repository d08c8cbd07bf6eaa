//! Follows one limiter's key while callers wait for what others give back.

use std::fmt::{self, Debug};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jetbridge_core::{Change, Key, Kv, Result, Scope, Watch};

/// The changes of one key.
pub(crate) struct Feed(Option<BoxStream<'static, Result<Change>>>);

impl Feed {
    /// Follows nothing.
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// From now on follows `key`, beginning with its present value.
    pub(crate) fn follow(&mut self, kv: &dyn Kv, key: &Key) {
        self.0 = Some(kv.watch(Watch::current(Scope::One(key.clone()))));
    }

    /// The next change; never while nothing is followed. `None` if following has ended.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        let Some(changes) = &mut self.0 else { return std::future::pending().await };
        match changes.next().await {
            Some(Ok(change)) => Some(change),
            Some(Err(error)) => {
                tracing::debug!(%error, "a limiter is no longer followed");
                self.0 = None;
                None
            }
            None => {
                self.0 = None;
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
