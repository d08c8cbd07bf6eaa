//! Upkeep: the files of a replica are merged level by level, snapshots are taken, and what is not
//! needed any more is deleted. With Litestream's levels, names and defaults.
//!
//! What is to be done is decided by pure functions from the manifest; done it is here, by the
//! one writer of the replica. No object that is made is larger than stock Litestream can read:
//! where a snapshot would be, the capture is asked for a new base, which goes up in parts.

mod decide;
mod merge;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jetbridge_core::{Clock, Result, SystemClock};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::decide::{captured_to_delete, groups, snapshot_due, superseded};
use self::merge::{Whole, merge};
use crate::Txid;
use crate::capture::Rebase;
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

/// A base that was asked for and does not come is asked for again after this time: making one
/// reads the whole database.
const REBASE_AGAIN: Duration = Duration::from_secs(3600);
/// Merges of this process at the same time: each holds what it merges in memory.
static MERGES: Semaphore = Semaphore::const_new(1);

/// Keeps the replica of an uplink in order.
#[derive(Debug)]
pub(crate) struct Upkeep {
    uplink: Arc<StoreUplink>,
    options: UpkeepOptions,
    rebase: Rebase,
    /// When a base was asked for.
    asked: Option<Instant>,
}

impl Upkeep {
    /// `rebase` asks the capture for a base.
    pub(crate) fn new(uplink: Arc<StoreUplink>, options: UpkeepOptions, rebase: Rebase) -> Self {
        Self { uplink, options, rebase, asked: None }
    }

    /// Works until it is dropped. A failure is logged and tried again when it is due again.
    pub(crate) async fn run(mut self) {
        let began = Instant::now();
        let mut merged_at = vec![began; self.options.levels.len()];
        let mut checked_at = began;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for (at, every) in self.options.levels.iter().enumerate() {
                let Some(level) = u8::try_from(at + 1).ok().and_then(Level::new) else { continue };
                let crowded = at == 0 && self.unmerged() >= CAPTURED_MAX;
                if merged_at[at].elapsed() >= *every || crowded {
                    merged_at[at] = Instant::now();
                    self.report(self.compact(level).await);
                }
            }
            let taken = self.snapshot().await;
            self.report(taken);
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
            [file] if file.bytes > decide::MERGE_BYTES_MAX => replica.copy(file, level).await?,
            files => {
                let _turn = MERGES.acquire().await;
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

    /// Takes a snapshot if one is due, or asks for a base if it would be too large.
    pub(crate) async fn snapshot(&mut self) -> Result<()> {
        let now = self.options.clock.now();
        let every = self.options.snapshot_interval;
        if self.asked.is_some_and(|at| at.elapsed() < every.min(REBASE_AGAIN)) {
            return Ok(());
        }
        let plan = {
            let manifest = self.uplink.ledger().read();
            snapshot_due(&manifest, now, every).then(|| reach(&manifest, Target::Latest))
        };
        let Some(plan) = plan else { return Ok(()) };
        if plan.bytes() > decide::MERGE_BYTES_MAX {
            self.asked = Some(Instant::now());
            self.rebase.ask();
            return Ok(());
        }
        self.uplink.check_fence().await?;
        let _turn = MERGES.acquire().await;
        let (time, bytes) = self.merged(&plan.files, Whole::Snapshot).await?;
        let Some(range) = crate::TxidRange::new(Txid(1), plan.txid) else { return Ok(()) };
        let put = Put { level: Level::SNAPSHOT, range, time, base: None };
        let file = self.uplink.replica().put(put, bytes.into()).await?;
        self.uplink.ledger().add(file);
        Ok(())
    }

    /// Deletes files of level 0 that are merged and old enough, and what no restore needs that a
    /// newer snapshot or base has.
    pub(crate) async fn forget(&self) -> Result<()> {
        if self.options.deletion == Deletion::Disabled {
            return Ok(());
        }
        let now = self.options.clock.now();
        let (captured, others) = (self.options.captured_retention, self.options.snapshot_retention);
        let old = {
            let manifest = self.uplink.ledger().read();
            let mut old = superseded(&manifest, now, others);
            if !captured.is_zero() {
                old.extend(captured_to_delete(&manifest, now, captured));
            }
            old
        };
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
