//! Wall time as an argument, and the store's time as an estimate.
//!
//! Nothing reads the system clock but [`SystemClock`], so tests own time. What a client's wall
//! clock says is no basis for decisions between machines: [`StoreClock`] estimates the store's
//! time on the monotonic clock, so that setting a client's clock changes nothing.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A source of wall time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;

    /// Resolves once [`Clock::now`] is `at` or later.
    fn sleep_until(&self, at: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while let Ok(left) = at.duration_since(self.now()) {
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(SLEEP_SLICE)).await;
            }
        })
    }
}

/// Longest sleep between two looks at the wall clock: within this time it is noticed that
/// somebody has set it.
const SLEEP_SLICE: Duration = Duration::from_secs(1);

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that moves only when told to. Clones share the time.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::{sync::Arc, time::{Duration, SystemTime}};
/// use jetbridge_core::{
///     Backend, BucketName, BucketSpec, Key, ManualClock, MemoryBackend, Open, PutOpts, Read,
/// };
///
/// let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
/// let store = MemoryBackend::with_clock(Arc::new(clock.clone()));
/// let kv = store.kv(&BucketName::parse("b")?, Open::ensure(BucketSpec::default())).await?;
/// let (key, hour) = (Key::parse("session")?, Duration::from_secs(3600));
/// kv.put(&key, "ada".into(), PutOpts::new().ttl(hour)).await?;
/// clock.advance(hour);
/// assert!(kv.get(&key, Read::Fresh).await?.is_none());
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Manual>);

#[derive(Debug)]
struct Manual {
    now: Mutex<SystemTime>,
    moved: Notify,
}

impl ManualClock {
    /// Starts at `now`.
    pub fn new(now: SystemTime) -> Self {
        Self(Arc::new(Manual { now: Mutex::new(now), moved: Notify::new() }))
    }

    /// Moves forward by `by`.
    pub fn advance(&self, by: Duration) {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner) += by;
        self.0.moved.notify_waiters();
    }

    /// Jumps to `to`, backwards too.
    pub fn set(&self, to: SystemTime) {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.0.moved.notify_waiters();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep_until(&self, at: SystemTime) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                // Taken before the look at the time, so that no move in between is missed.
                let moved = self.0.moved.notified();
                if self.now() >= at {
                    return;
                }
                moved.await;
            }
        })
    }
}

/// The store's time with the bound of its error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "an estimate is a value and its error")]
pub struct StoreTime {
    /// The estimate.
    pub now: SystemTime,
    /// The store's time lies within this distance of it.
    pub error: Duration,
}

/// One observation: the store said `server` between `sent` and `received`.
#[derive(Clone, Copy, Debug)]
struct Sample {
    middle: Instant,
    server: SystemTime,
    error: Duration,
}

/// Estimates the store's time from its own time stamps, on the monotonic clock.
///
/// The sample with the shortest round trip of the last minute counts. Clones share the samples.
#[derive(Clone, Debug, Default)]
pub struct StoreClock(Arc<Mutex<Option<Sample>>>);

/// A better sample than the present one always replaces it; a worse one does after this long,
/// in which a quartz clock drifts by less than 10 ms.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(60);
/// How much two good clocks drift apart: 100 parts per million.
const DRIFT_PER_SECOND: Duration = Duration::from_micros(100);

impl StoreClock {
    /// Takes a sample: a request left at `sent`, its answer came at `received` and was stamped
    /// `server` in between.
    pub fn observe(&self, sent: Instant, received: Instant, server: SystemTime) {
        let round_trip = received.saturating_duration_since(sent);
        let sample = Sample { middle: sent + round_trip / 2, server, error: round_trip / 2 };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let replace = held.as_ref().is_none_or(|old| {
            sample.error <= old.error
                || received.saturating_duration_since(old.middle) > SAMPLE_AGE_MAX
        });
        if replace {
            *held = Some(sample);
        }
    }

    /// The store's time now; `None` before the first sample.
    pub fn now(&self) -> Option<StoreTime> {
        self.at(Instant::now())
    }

    /// The store's time at `instant`; `None` before the first sample.
    pub fn at(&self, instant: Instant) -> Option<StoreTime> {
        let sample = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = instant.saturating_duration_since(sample.middle);
        let drift = DRIFT_PER_SECOND.mul_f64(since.as_secs_f64());
        Some(StoreTime { now: sample.server + since, error: sample.error + drift })
    }

    /// True if there is no sample, or it is older than a minute.
    pub fn is_stale(&self) -> bool {
        let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_none_or(|sample| sample.middle.elapsed() > SAMPLE_AGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

    #[tokio::test]
    async fn a_sleeper_wakes_when_a_manual_clock_is_moved() {
        let clock = ManualClock::new(EPOCH);
        let wake = EPOCH + Duration::from_secs(3600);
        let mut sleeper = std::pin::pin!(clock.sleep_until(wake));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_secs(3599));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(futures_util::poll!(&mut sleeper).is_ready());
    }

    #[tokio::test]
    async fn the_system_clock_sleeps_at_least_as_long_as_told() {
        let wake = SystemClock.now() + Duration::from_millis(5);
        SystemClock.sleep_until(wake).await;
        assert!(SystemClock.now() >= wake);
    }

    #[test]
    fn the_shortest_round_trip_wins() {
        let clock = StoreClock::default();
        assert_eq!(clock.now(), None);
        let start = Instant::now();
        let ms = Duration::from_millis;
        clock.observe(start, start + ms(10), EPOCH + ms(5));
        clock.observe(start, start + ms(100), EPOCH + ms(90));
        let read = clock.at(start + ms(5)).unwrap();
        assert_eq!((read.now, read.error), (EPOCH + ms(5), ms(5)));
        clock.observe(start, start + ms(2), EPOCH + ms(1));
        assert_eq!(clock.at(start + ms(1)).unwrap().error, ms(1));
    }
}
