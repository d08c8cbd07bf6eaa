//! Cleaning up what has expired where the server does not.
//!
//! Values that this process wrote with a TTL, and those it came across, are replaced by a
//! tombstone once their time has come, on the condition that they are still the last; the
//! tombstone is then removed too, if the user may purge. Whoever reads before that sees them as
//! expired anyway.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jetbridge_core::{ErrorKind, Key, Result, Revision};

use super::NatsKv;
use crate::facts::Facts;
use crate::fates::Fates;
use crate::request::{Call, Repeat, may_not_ask};

/// Longest pause: values come to be known while it lasts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Until what could not be cleaned up is tried again.
const PAUSE_AGAIN: Duration = Duration::from_secs(1);
/// How long one clean-up may take.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);
const OPERATION: &str = "kv.clean_up";

/// Whether somebody cleans up a bucket. What comes to expire is in the [`Fates`] before anybody asks
/// to begin, so that their lock tells who ends and who begins which of the two came first.
#[derive(Debug, Default)]
pub(crate) struct Shift(AtomicBool);

impl Shift {
    /// True for who is to clean up.
    fn begin(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// True if who cleans up may go: what comes later finds nobody, and begins.
    fn end(&self, fates: &Fates) -> bool {
        self.0.store(false, Ordering::Relaxed);
        // What came to be known before that was left to who wants to go.
        fates.is_empty() || !self.begin()
    }
}

impl NatsKv {
    /// Sees to it that somebody cleans up this bucket, if nobody else does.
    pub(super) fn clean_up_later(&self, facts: &Facts) {
        if facts.ttl || !self.bucket.shift.begin() {
            return;
        }
        let kv = self.clone();
        self.bucket.api.link().cleanups().spawn_until_stop(async move {
            loop {
                kv.clean_up().await;
                if kv.bucket.shift.end(&kv.bucket.fates) {
                    return;
                }
            }
        });
    }

    /// Cleans up until nothing is left to expire.
    async fn clean_up(&self) {
        loop {
            let (expired, next) = self.bucket.fates.expired(self.bucket.now());
            let mut again = None;
            for (key, revision, due) in expired {
                let Err(error) = self.remove_expired(&key, revision).await else { continue };
                tracing::debug!(bucket = %self.bucket.name, %key, %error,
                    "an expired value stays for now");
                if error.kind() == ErrorKind::Unavailable {
                    self.bucket.fates.stays(key, revision, due);
                    again = Some(PAUSE_AGAIN);
                }
            }
            match again.or_else(|| next.map(|due| self.pause(due))) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return,
            }
        }
    }

    fn pause(&self, due: SystemTime) -> Duration {
        let now = self.bucket.now();
        let left = due.duration_since(now.now).unwrap_or_default() + now.error;
        left.clamp(PAUSE_MIN, PAUSE_MAX)
    }

    async fn remove_expired(&self, key: &Key, revision: Revision) -> Result<()> {
        let call = Call::new(OPERATION, Repeat::Safe, CLEAN_WITHIN);
        let facts = self.bucket.facts(&call).await?;
        let Some(tombstone) = self.delete_over(&facts, key, revision, true, &call).await? else {
            return Ok(());
        };
        match self.forget_up_to(&facts, key, tombstone, &call).await {
            // The tombstone stays, which is what happens to deletions before 2.11.
            Err(error) if may_not_ask(&error) => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(fates: &Fates) {
        fates.lives(&Key::parse("k").unwrap(), Revision(1), Some(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn one_cleans_up_at_a_time() {
        let (shift, fates) = (Shift::default(), Fates::default());
        assert!(shift.begin());
        assert!(!shift.begin());
        assert!(shift.end(&fates));
        assert!(shift.begin());
    }

    #[test]
    fn what_is_left_to_who_wants_to_go_keeps_it() {
        let (shift, fates) = (Shift::default(), Fates::default());
        assert!(shift.begin());
        lives(&fates);
        assert!(!shift.begin(), "it is left to the one");
        assert!(!shift.end(&fates), "who goes on");
        assert!(!shift.begin(), "and is still the only one");
    }
}
