//! The store's time as the integer that the arithmetic takes, bound to the monotonic clock on
//! which callers wait.

use std::time::{Duration, SystemTime};

use jetbridge_core::{Backend, Result};
use tokio::time::Instant;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    /// Nanoseconds since 1970 by the store's clock.
    pub(crate) store: u64,
    /// How far that may be off.
    pub(crate) error: u64,
}

impl Moment {
    /// Now, by the store's clock as far as it is known.
    pub(crate) async fn now(backend: &dyn Backend) -> Result<Self> {
        let time = backend.now().await?;
        let error = u64::try_from(time.error.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { instant: Instant::now(), store: nanos(time.now), error })
    }

    /// The earliest that it can be by the store's clock: what has ended then has ended.
    pub(crate) fn behind(self) -> u64 {
        self.store.saturating_sub(self.error)
    }

    /// When the store's clock will show `at`; not before this moment.
    pub(crate) fn when(self, at: u64) -> Instant {
        self.instant + Duration::from_nanos(at.saturating_sub(self.store))
    }
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A span of time in nanoseconds.
pub(crate) fn length(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
