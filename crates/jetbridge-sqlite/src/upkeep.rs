//! Upkeep: the files of a replica are merged level by level, snapshots are taken, and what is not
//! needed any more is deleted. With Litestream's levels, names and defaults.
//!
//! What is to be done is decided by pure functions from the manifest; done it is here, by the
//! one writer of the replica. No object that is made is larger than stock Litestream can read,
//! so a database whose files together are larger is given no snapshot: its base stays.

mod decide;
mod merge;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jetbridge_core::{Clock, Result, SystemClock, Tasks};
use tokio::time::Instant;

use self::decide::{captured_to_delete, groups, snapshot_due, superseded};
use self::merge::{Whole, merge};
use crate::Txid;
use crate::restore::blocking;
use crate::store::{Level, LtxFile, Put, Target, reach};
use crate::uplink::StoreUplink;

/// Files of level 0 that are merged at once, however long ago that was done last: Litestream
/// opens all files of a restore at the same time.
const CAPTURED_MAX: usize = 256;
/// Between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When files are merged, and how long they are kept. The defaults are Litestream's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpkeepOptions {
    /// How often each level from 1 up is made of the one below; at most eight.
    pub levels: Vec<Duration>,
    /// How often a snapshot is taken.
    pub snapshot_interval: Duration,
    /// How long snapshots are kept, and with them what is older than the next.
    pub snapshot_retention: Duration,
    /// How long files of level 0 are kept once they are merged; zero for ever.
    pub captured_retention: Duration,
    /// How often that is looked at.
    pub captured_check: Duration,
    /// Whether anything is deleted.
    pub deletion: Deletion,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Whether files are deleted that are not needed any more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "yes or no")]
pub enum Deletion {
    /// They are.
    #[default]
    Enabled,
    /// They are not: the store has a policy of its own.
    Disabled,
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            levels: vec![Duration::from_secs(30), minutes(5), minutes(60)],
            snapshot_interval: minutes(24 * 60),
            snapshot_retention: minutes(24 * 60),
            captured_retention: minutes(5),
            captured_check: Duration::from_secs(15),
            deletion: Deletion::Enabled,
            clock: Arc::new(SystemClock),
        }
    }
}

/// Keeps the replica of an uplink in order.
#[derive(Debug)]
pub(crate) struct Upkeep {
    uplink: Arc<StoreUplink>,
    options: UpkeepOptions,
}

impl Upkeep {
    pub(crate) fn new(uplink: Arc<StoreUplink>, options: UpkeepOptions) -> Self {
        Self { uplink, options }
    }

    /// Works until `tasks` stop. A failure is logged and tried again when it is due again.
    pub(crate) async fn run(self, tasks: Tasks) {
        let began = Instant::now();
        let mut merged_at = vec![began; self.options.levels.len()];
        let mut checked_at = began;
        while !tasks.is_stopping() {
            tokio::select! {
                () = tasks.stopping() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            for (at, every) in self.options.levels.iter().enumerate() {
                let Some(level) = u8::try_from(at + 1).ok().and_then(Level::new) else { continue };
                let crowded = at == 0 && self.unmerged() >= CAPTURED_MAX;
                if merged_at[at].elapsed() >= *every || crowded {
                    merged_at[at] = Instant::now();
                    self.report(self.compact(level).await);
                }
            }
            self.report(self.snapshot().await);
            if checked_at.elapsed() >= self.options.captured_check {
                checked_at = Instant::now();
                self.report(self.forget().await);
            }
        }
    }

    fn report(&self, done: Result<()>) {
        if let Err(error) = done {
            tracing::warn!(replica = %self.uplink.replica(), %error, "upkeep failed");
        }
    }

    fn unmerged(&self) -> usize {
        let manifest = self.uplink.ledger().read();
        let merged = Level::new(1).and_then(|level| manifest.last_of(level)).unwrap_or_default();
        manifest.level(Level::CAPTURED).filter(|file| file.range.min() > merged).count()
    }

    /// Merges what the level below has that this one has not.
    pub(crate) async fn compact(&self, level: Level) -> Result<()> {
        let groups = groups(&self.uplink.ledger().read(), level);
        for group in groups {
            self.uplink.check_fence().await?;
            self.merge_into(level, group).await?;
        }
        Ok(())
    }

    async fn merge_into(&self, level: Level, group: Vec<LtxFile>) -> Result<()> {
        let replica = self.uplink.replica();
        let file = match group.as_slice() {
            // Alone and too large to be held: it is copied as it is.
            [file] if file.bytes > decide::MERGE_BYTES_MAX => {
                let put = Put { level, range: file.range, time: file.time, base: None };
                let fetch = replica.fetch(file)?;
                let body = futures_util::stream::try_unfold(fetch, |mut fetch| async move {
                    Ok(fetch.next().await?.map(|part| (part, fetch)))
                });
                replica.store(put, Box::pin(body)).await?
            }
            files => {
                let (time, bytes) = self.merged(files, Whole::AsItComes).await?;
                let Some(range) = decide::span(files) else { return Ok(()) };
                replica.put(Put { level, range, time, base: None }, bytes.into()).await?
            }
        };
        self.uplink.ledger().add(file);
        Ok(())
    }

    async fn merged(&self, files: &[LtxFile], whole: Whole) -> Result<(SystemTime, Vec<u8>)> {
        let mut contents = Vec::new();
        for file in files {
            contents.push(self.uplink.replica().bytes(file).await?);
        }
        let range = decide::span(files);
        let time = files.last().map_or(SystemTime::UNIX_EPOCH, |file| file.time);
        Ok((time, blocking(move || merge(&contents, range, whole)).await?))
    }

    /// Takes a snapshot if one is due, and deletes those that are too old, with what only they
    /// needed.
    pub(crate) async fn snapshot(&self) -> Result<()> {
        let now = self.options.clock.now();
        let plan = {
            let manifest = self.uplink.ledger().read();
            let every = self.options.snapshot_interval;
            snapshot_due(&manifest, now, every).then(|| reach(&manifest, Target::Latest))
        };
        let Some(plan) = plan else { return Ok(()) };
        if plan.bytes() > decide::MERGE_BYTES_MAX {
            return Ok(());
        }
        self.uplink.check_fence().await?;
        let (time, bytes) = self.merged(&plan.files, Whole::Snapshot).await?;
        let Some(range) = crate::TxidRange::new(Txid(1), plan.txid) else { return Ok(()) };
        let put = Put { level: Level::SNAPSHOT, range, time, base: None };
        let file = self.uplink.replica().put(put, bytes.into()).await?;
        self.uplink.ledger().add(file);
        if self.options.deletion == Deletion::Enabled {
            let retention = self.options.snapshot_retention;
            let old = superseded(&self.uplink.ledger().read(), now, retention);
            self.delete(old).await?;
        }
        Ok(())
    }

    /// Deletes files of level 0 that are merged and old enough.
    pub(crate) async fn forget(&self) -> Result<()> {
        let retention = self.options.captured_retention;
        if self.options.deletion == Deletion::Disabled || retention.is_zero() {
            return Ok(());
        }
        let now = self.options.clock.now();
        let old = captured_to_delete(&self.uplink.ledger().read(), now, retention);
        self.delete(old).await
    }

    async fn delete(&self, files: Vec<LtxFile>) -> Result<()> {
        for file in files {
            self.uplink.check_fence().await?;
            self.uplink.replica().delete(file.level, file.range).await?;
            self.uplink.ledger().remove(&file);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
