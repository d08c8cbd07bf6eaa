//! Cleaning up what has expired where the server does not.
//!
//! Values that this process wrote with a TTL, and those it came across, are replaced by a
//! tombstone once their time has come, on the condition that they are still the last; the
//! tombstone is then removed too, if the user may purge. Whoever reads before that sees them as
//! expired anyway.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use jetbridge_core::{Key, Result, Revision};

use super::NatsKv;
use crate::facts::Facts;
use crate::request::{Call, Repeat, may_not_ask};

/// Longest pause: values come to be known while it lasts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// How long one clean-up may take.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);
const OPERATION: &str = "kv.clean_up";

impl NatsKv {
    /// Sees to it that somebody cleans up this bucket, if nobody else does.
    pub(super) fn clean_up_later(&self, facts: &Facts) {
        if facts.ttl || self.bucket.janitor.swap(true, Ordering::Relaxed) {
            return;
        }
        let kv = self.clone();
        self.bucket.api.link().cleanups().spawn_until_stop(async move {
            loop {
                kv.clean_up().await;
                kv.bucket.janitor.store(false, Ordering::Relaxed);
                // What came to be known between the two was left to this task.
                if kv.bucket.fates.is_empty() || kv.bucket.janitor.swap(true, Ordering::Relaxed) {
                    return;
                }
            }
        });
    }

    /// Cleans up until nothing is left to expire.
    async fn clean_up(&self) {
        loop {
            let (expired, next) = self.bucket.fates.expired(self.bucket.now());
            for (key, revision) in expired {
                if let Err(error) = self.remove_expired(&key, revision).await {
                    tracing::debug!(bucket = %self.bucket.name, %key, %error,
                        "an expired value stays for now");
                }
            }
            match next {
                Some(due) => tokio::time::sleep(self.pause(due)).await,
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
