//! What a limiter allows, checked once.
//!
//! Times are integer nanoseconds, so that every process computes the same; what does not divide
//! is rounded towards fewer permits. This module knows no state and no store.

use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};

/// Nanoseconds of a second.
const SECOND: f64 = 1e9;
/// The shortest interval between two permits: one million a second. Below it the rounding to
/// nanoseconds would cost more than a thousandth of the rate.
const INTERVAL_MIN: u64 = 1_000;
/// The longest interval or window: a year. Sums of a few of them stay far from the end of `u64`.
pub(crate) const SPAN_MAX: u64 = 365 * 24 * 3600 * 1_000_000_000;
/// Most permits of an exact log: each is a number in the value that every grant rewrites.
pub const LOG_LIMIT_MAX: u32 = 1_000;
/// How far ahead a permit is reserved, beyond what the policy itself spans.
const AHEAD: u64 = 3600 * 1_000_000_000;

/// The longest lease of a slot: how long a crashed process can keep what it had.
pub(crate) const LEASE_MAX: Duration = Duration::from_secs(3600);

/// What a limiter allows.
///
/// ```
/// use std::time::Duration;
/// use jetbridge_limit::Policy;
///
/// let api = Policy::per_second(100.0)?.burst(20)?;
/// assert_eq!(api.limit(), 20);
/// assert!(Policy::sliding_log(5, Duration::from_secs(60)).is_ok());
/// assert!(Policy::per_second(0.0).is_err());
/// # Ok::<(), jetbridge_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    pub(crate) algorithm: Algorithm,
    /// Permits at once: the burst, or what a window holds.
    pub(crate) limit: u32,
    /// Nanoseconds: between two permits of a rate, else of the window.
    pub(crate) span: u64,
    /// Calls under way at once, if they are limited.
    pub(crate) slots: Option<u32>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Algorithm {
    Gcra,
    Fixed,
    Sliding,
    Log,
    /// No limit over time, only one of calls under way.
    Slots,
}

impl Algorithm {
    /// As in `docs/formats/limits.md`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gcra => "gcra",
            Self::Fixed => "fixed",
            Self::Sliding => "sliding",
            Self::Log => "log",
            Self::Slots => "slots",
        }
    }
}

impl Policy {
    /// `rate` permits a second, one at a time. In any time `t` at most `rate · t + burst`
    /// permits are given. [`InvalidInput`](ErrorKind::InvalidInput) outside one a year to one
    /// million a second.
    pub fn per_second(rate: f64) -> Result<Self> {
        let interval = (SECOND / rate).ceil();
        #[expect(clippy::cast_precision_loss, reason = "the bound need not be exact")]
        let possible = interval >= INTERVAL_MIN as f64 && interval <= SPAN_MAX as f64;
        if !possible {
            return Err(invalid("a rate is between one a year and 1,000,000 a second")
                .with("rate_per_second", rate));
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        #[expect(clippy::cast_sign_loss, reason = "checked above")]
        let span = interval as u64;
        Ok(Self { algorithm: Algorithm::Gcra, limit: 1, span, slots: None })
    }

    /// `permits` every `period`, evenly spread, one at a time; bounds and errors as for
    /// [`Policy::per_second`].
    pub fn per_period(permits: u32, period: Duration) -> Result<Self> {
        Self::per_second(f64::from(permits) / period.as_secs_f64())
    }

    /// `limit` permits in each window of this length, counted from 1970 by the store's clock:
    /// around a boundary twice as many can be given in one window's time.
    pub fn fixed_window(limit: u32, window: Duration) -> Result<Self> {
        Self::windowed(Algorithm::Fixed, limit, window)
    }

    /// About `limit` permits in any such window: the previous window counts in proportion to how
    /// much of it is still in view, as if its permits had been spread evenly.
    pub fn sliding_window(limit: u32, window: Duration) -> Result<Self> {
        Self::windowed(Algorithm::Sliding, limit, window)
    }

    /// Never more than `limit` permits in any such window, by a log of all of them; at most
    /// [`LOG_LIMIT_MAX`].
    pub fn sliding_log(limit: u32, window: Duration) -> Result<Self> {
        if limit > LOG_LIMIT_MAX {
            return Err(invalid("an exact log keeps every permit of its window")
                .with("limit", limit)
                .with("limit_max", LOG_LIMIT_MAX)
                .hint("use Policy::sliding_window, or Policy::per_period with a burst"));
        }
        Self::windowed(Algorithm::Log, limit, window)
    }

    fn windowed(algorithm: Algorithm, limit: u32, window: Duration) -> Result<Self> {
        let span = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        if limit == 0 || !(INTERVAL_MIN..=SPAN_MAX).contains(&span) {
            return Err(invalid("a window holds at least one permit and is at most a year long")
                .with("limit", limit)
                .with("window_seconds", window.as_secs_f64()));
        }
        Ok(Self { algorithm, limit, span, slots: None })
    }

    /// At most `slots` calls under way at once, over all processes, and no limit over time.
    /// [`InvalidInput`](ErrorKind::InvalidInput) for 0.
    pub fn concurrent(slots: u32) -> Result<Self> {
        Self { algorithm: Algorithm::Slots, limit: slots, span: 0, slots: None }
            .max_concurrent(slots)
    }

    /// At most `slots` calls under way at once, beside the limit over time: both admit a call
    /// together, or neither is charged. [`InvalidInput`](ErrorKind::InvalidInput) for 0.
    pub fn max_concurrent(mut self, slots: u32) -> Result<Self> {
        if slots == 0 {
            return Err(invalid("at least one call can be under way"));
        }
        self.slots = Some(slots);
        Ok(self)
    }

    /// How many permits a limiter that was idle long enough gives at once; 1 by default.
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a window, for 0, and for a burst that takes
    /// longer than a year to fill.
    pub fn burst(mut self, permits: u32) -> Result<Self> {
        if self.algorithm != Algorithm::Gcra {
            return Err(invalid("only a rate has a burst"));
        }
        let fill = self.span.saturating_mul(u64::from(permits));
        if permits == 0 || fill > SPAN_MAX {
            return Err(
                invalid("a burst is at least 1 and fills within a year").with("burst", permits)
            );
        }
        self.limit = permits;
        Ok(self)
    }

    /// How many calls can be under way at once; `None` if they are not limited.
    pub fn slots(&self) -> Option<u32> {
        self.slots
    }

    /// The most permits that one call can get: the burst, what a window holds, or the slots of
    /// a limiter that has no limit over time.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How long it takes until the whole limit is there again after it was used up; `None` for
    /// one of calls under way, which no time brings back.
    pub fn window(&self) -> Option<Duration> {
        let span = match self.algorithm {
            Algorithm::Gcra => self.span.saturating_mul(u64::from(self.limit)),
            Algorithm::Fixed | Algorithm::Log | Algorithm::Sliding => self.span,
            Algorithm::Slots => return None,
        };
        Some(Duration::from_nanos(span))
    }

    /// Permits a second in the long run; `None` for a limit of calls under way.
    pub fn rate(&self) -> Option<f64> {
        let permits = match self.algorithm {
            Algorithm::Gcra => 1,
            Algorithm::Fixed | Algorithm::Log | Algorithm::Sliding => self.limit,
            Algorithm::Slots => return None,
        };
        Some(f64::from(permits) / Duration::from_nanos(self.span).as_secs_f64())
    }

    /// The algorithm: `gcra`, `fixed`, `sliding`, `log`, or `slots` without a limit over time.
    pub fn kind(&self) -> &'static str {
        self.algorithm.as_str()
    }

    /// How long the store must remember a permit: a bucket with a shorter `max_age` would give
    /// it again.
    pub fn memory(&self) -> Duration {
        Duration::from_nanos(self.memory_ns())
    }

    /// The longest time that a caller can be made to wait: an hour beyond [`Policy::memory`].
    /// Whoever would have to wait longer is denied.
    pub fn wait_max(&self) -> Duration {
        Duration::from_nanos(self.wait_max_ns())
    }

    pub(crate) fn memory_ns(&self) -> u64 {
        match self.algorithm {
            Algorithm::Gcra => self.span.saturating_mul(u64::from(self.limit)),
            Algorithm::Fixed | Algorithm::Log => self.span,
            Algorithm::Sliding => self.span.saturating_mul(2),
            Algorithm::Slots => 0,
        }
    }

    /// How much of a rate can be saved up, in nanoseconds.
    pub(crate) fn saved_ns(&self) -> u64 {
        self.span.saturating_mul(u64::from(self.limit.saturating_sub(1)))
    }

    /// How many slots a call of this cost takes: one beside a limit over time, which the cost
    /// is charged to.
    pub(crate) fn slots_of(&self, cost: u32) -> u32 {
        match (self.slots, self.algorithm) {
            (None, _) => 0,
            (Some(_), Algorithm::Slots) => cost,
            (Some(_), _) => 1,
        }
    }

    /// True for a rate alone: its permits can be taken before anybody asks.
    pub(crate) fn is_plain_rate(&self) -> bool {
        self.algorithm == Algorithm::Gcra && self.slots.is_none()
    }

    pub(crate) fn wait_max_ns(&self) -> u64 {
        self.memory_ns().saturating_add(AHEAD)
    }

    /// A state that reaches further than this was written before the store's clock was set back.
    pub(crate) fn horizon_ns(&self) -> u64 {
        self.wait_max_ns().saturating_add(self.memory_ns())
    }

    /// The part of this policy that one process may give on its own.
    pub(crate) fn share(&self, share: f64) -> Self {
        let part = |whole: u32| {
            #[expect(clippy::cast_possible_truncation, reason = "a part of a u32")]
            #[expect(clippy::cast_sign_loss, reason = "a share is positive")]
            let part = (f64::from(whole) * share) as u32;
            part.max(1)
        };
        let slots = self.slots.map(part);
        let mut shared = Self { limit: part(self.limit), slots, ..*self };
        if self.algorithm == Algorithm::Gcra {
            #[expect(clippy::cast_precision_loss, reason = "a fallback need not be exact")]
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            #[expect(clippy::cast_sign_loss, reason = "a share is positive")]
            let interval = (self.span as f64 / share).ceil() as u64;
            shared.span = interval.min(SPAN_MAX);
        }
        shared
    }

    /// Names this policy in a stored value.
    pub(crate) fn hash(&self) -> String {
        let mut text = format!("{}:{}:{}", self.algorithm.as_str(), self.limit, self.span);
        if let Some(slots) = self.slots {
            text.push_str(&format!(":{slots}"));
        }
        Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, "limit.policy").because(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_reach_from_one_a_day_to_a_million_a_second() {
        assert_eq!(Policy::per_second(1e6).unwrap().span, 1_000);
        assert_eq!(Policy::per_second(3.0).unwrap().span, 333_333_334);
        let day = Duration::from_secs(86_400);
        assert_eq!(Policy::per_period(1, day).unwrap().memory(), day);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e7, 1e-9] {
            let error = Policy::per_second(rate).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{rate}");
        }
    }

    #[test]
    fn a_share_is_a_part_and_at_least_one() {
        let policy = Policy::per_second(100.0).unwrap().burst(10).unwrap();
        let quarter = policy.share(0.25);
        assert_eq!((quarter.limit, quarter.span), (2, 40_000_000));
        assert_eq!(policy.share(0.01).limit, 1);
    }
}
