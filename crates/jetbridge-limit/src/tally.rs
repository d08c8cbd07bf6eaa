//! What a limiter counts of itself. The names are those that users of rate-sync know.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// What a limiter did in this process, all its keys together, since it was first opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls that were allowed.
    pub total_acquisitions: u64,
    /// Milliseconds that they waited, together.
    pub total_wait_time_ms: f64,
    /// The same for one of them.
    pub avg_wait_time_ms: f64,
    /// The longest of these waits.
    pub max_wait_time_ms: f64,
    /// Writes that lost against another process and were done again.
    pub cas_failures: u64,
    /// Calls that were denied: there was nothing, or not in time.
    pub timeouts: u64,
    /// Slots that callers of this process have now.
    pub current_concurrent: u64,
    /// The most of them so far.
    pub max_concurrent_reached: u64,
    /// Slots that came back.
    pub total_releases: u64,
    /// Reads and writes of the store.
    pub store_requests: u64,
    /// Calls that were decided without the store, or failed because of it.
    pub store_failures: u64,
    /// Calls that were decided without the store.
    pub fallback_activations: u64,
    /// 0 while calls go to the store, 1 while one looks whether it is back, 2 while none does.
    pub circuit_breaker_state: u8,
    /// Times that the stored value was another policy's, and was converted.
    pub policy_mismatches: u64,
}

/// The counters behind [`Metrics`].
#[derive(Debug, Default)]
pub(crate) struct Tally {
    grants: AtomicU64,
    wait_us: AtomicU64,
    wait_us_max: AtomicU64,
    conflicts: AtomicU64,
    denials: AtomicU64,
    slots: AtomicI64,
    slots_max: AtomicI64,
    releases: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    fallbacks: AtomicU64,
    mismatches: AtomicU64,
}

impl Tally {
    pub(crate) fn granted(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.grants.fetch_add(1, Relaxed);
        self.wait_us.fetch_add(waited, Relaxed);
        self.wait_us_max.fetch_max(waited, Relaxed);
    }

    pub(crate) fn denied(&self) {
        self.denials.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn fell_back(&self) {
        self.fallbacks.fetch_add(1, Relaxed);
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    /// Races lost so far.
    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts.load(Relaxed)
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn mismatch(&self) {
        self.mismatches.fetch_add(1, Relaxed);
    }

    pub(crate) fn took(&self, slots: u32) {
        let now = self.slots.fetch_add(i64::from(slots), Relaxed) + i64::from(slots);
        self.slots_max.fetch_max(now, Relaxed);
    }

    pub(crate) fn released(&self, slots: u32) {
        self.slots.fetch_sub(i64::from(slots), Relaxed);
        self.releases.fetch_add(u64::from(slots), Relaxed);
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let grants = self.grants.load(Relaxed);
        let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1e3;
        let total = ms(self.wait_us.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "an average need not be exact")]
        let average = if grants == 0 { 0.0 } else { total / grants as f64 };
        let positive = |number: &AtomicI64| u64::try_from(number.load(Relaxed)).unwrap_or(0);
        Metrics {
            total_acquisitions: grants,
            total_wait_time_ms: total,
            avg_wait_time_ms: average,
            max_wait_time_ms: ms(self.wait_us_max.load(Relaxed)),
            cas_failures: self.conflicts(),
            timeouts: self.denials.load(Relaxed),
            current_concurrent: positive(&self.slots),
            max_concurrent_reached: positive(&self.slots_max),
            total_releases: self.releases.load(Relaxed),
            store_requests: self.requests.load(Relaxed),
            store_failures: self.failures.load(Relaxed),
            fallback_activations: self.fallbacks.load(Relaxed),
            circuit_breaker_state: 0,
            policy_mismatches: self.mismatches.load(Relaxed),
        }
    }
}
