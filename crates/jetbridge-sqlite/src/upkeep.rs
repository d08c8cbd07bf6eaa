//! Upkeep: the files of a replica are merged level by level, snapshots are taken, and what is not
//! needed any more is deleted. With Litestream's levels, names and defaults.
//!
//! What is to be done is decided by pure functions from the manifest; done it is here, by the
//! one writer of the replica. No object that is made is larger than stock Litestream can read:
//! where a snapshot would be, the capture is asked for a new base, which goes up in parts.

mod decide;
mod merge;
mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Backoff, Clock, Error, ErrorKind, Result, SystemClock, Tasks};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use self::decide::{captured_to_delete, groups, snapshot_due, superseded};
use self::merge::{Whole, is_sound, merge};
use self::proof::{Proof, Reading};
use crate::capture::Rebase;
use crate::restore::blocking;
use crate::store::{Level, LtxFile, Manifest, Put, Replica, Target, reach};
use crate::uplink::StoreUplink;
use crate::{Txid, TxidRange};

/// Files of level 0 that are merged at once, however long ago that was done last: Litestream
/// opens all files of a restore at the same time.
const CAPTURED_MAX: usize = 256;
/// Between two looks at what is due, while files come and go.
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
/// After a failure nothing is tried for a while: what is broken is not read again every second.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// Files that are fetched at once for a merge: 256 small ones on a line of 50 ms are 2 s.
const FETCHES: usize = 8;
/// Mebibytes of files that the merges of this process hold at the same time, and the results once
/// more: thousands of small merges do not wait for one that is large, or whose store is slow.
const MERGES_MIB: u32 = 32;
static MERGES: Semaphore = Semaphore::const_new(MERGES_MIB as usize);

/// Keeps the replica of an uplink in order.
#[derive(Debug)]
pub(crate) struct Upkeep {
    uplink: Arc<StoreUplink>,
    options: UpkeepOptions,
    rebase: Rebase,
    tasks: Tasks,
    /// When a base was asked for.
    asked: Option<Instant>,
    /// Until when nothing is tried, and how long the next time.
    paused: Option<Instant>,
    backoff: Backoff,
    /// Files that cannot be read: nothing is made of them, and nothing goes because of them.
    broken: BTreeSet<Name>,
    /// The last transaction of the newest state that was read back as it was written.
    proven: Option<Txid>,
    /// The newest state while it is read back.
    proof: Option<Proof>,
    /// When files were first seen that were captured in the future.
    early: BTreeMap<Name, Instant>,
}

/// What names a file.
type Name = (Level, TxidRange);

/// When what is done every now and then was begun last.
struct Begun {
    merges: Vec<Instant>,
    check: Instant,
}

/// How far what is not needed any more is gone.
#[derive(Debug)]
pub(crate) enum Forgotten {
    /// All of it.
    All,
    /// What the newest state replaces is left until that is proven; the sender is dropped then.
    Unproven(watch::Receiver<()>),
}

impl Upkeep {
    /// `rebase` asks the capture for a base; what goes on beside the rounds is one of `tasks`.
    pub(crate) fn new(
        uplink: Arc<StoreUplink>,
        options: UpkeepOptions,
        rebase: Rebase,
        tasks: Tasks,
    ) -> Self {
        Self {
            uplink,
            options,
            rebase,
            tasks,
            asked: None,
            paused: None,
            backoff: Backoff::new(RETRY_FIRST, RETRY_LAST),
            broken: BTreeSet::new(),
            proven: None,
            proof: None,
            early: BTreeMap::new(),
        }
    }

    /// Works until it is dropped. A failure is logged, and what is due then is tried again later.
    /// Whoever else has something done waits for the end of a round: nothing goes while it is read.
    pub(crate) async fn run(shared: Arc<Mutex<Self>>) {
        let (uplink, options) = {
            let upkeep = shared.lock().await;
            (Arc::clone(&upkeep.uplink), upkeep.options.clone())
        };
        let now = Instant::now();
        let mut begun = Begun { merges: vec![now; options.levels.len()], check: now };
        let mut paused: Option<Instant> = None;
        loop {
            until_there_is_work(&uplink, &options, &begun, paused).await;
            if paused.is_none_or(|until| until <= Instant::now()) {
                let mut upkeep = shared.lock().await;
                let done = upkeep.round(&mut begun).await;
                upkeep.report(done);
                paused = upkeep.paused;
            }
        }
    }

    async fn round(&mut self, begun: &mut Begun) -> Result<()> {
        if !self.uplink.keeps_its_place().await {
            return Ok(());
        }
        self.uplink.bring_up_to_date().await?;
        let mut done = Ok(());
        for (at, every) in self.options.levels.clone().iter().enumerate() {
            let Some(level) = u8::try_from(at + 1).ok().and_then(Level::new) else { continue };
            let crowded = at == 0 && self.unmerged() >= CAPTURED_MAX;
            if begun.merges[at].elapsed() >= *every || crowded {
                begun.merges[at] = Instant::now();
                done = done.and(self.compact(level).await);
            }
        }
        done = done.and(self.snapshot().await);
        if begun.check.elapsed() >= self.options.captured_check {
            begun.check = Instant::now();
            done = done.and(self.forget().await.map(drop));
        }
        done
    }

    fn report(&mut self, done: Result<()>) {
        let Err(error) = done else {
            self.paused = None;
            self.backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
            return;
        };
        tracing::warn!(replica = %self.uplink.replica(), %error, "upkeep failed");
        self.paused = Some(Instant::now() + self.backoff.next_wait());
        // What is lost to the chain, the database still has.
        if error.kind() == ErrorKind::Corrupt && self.may_ask() {
            self.ask();
        }
    }

    fn may_ask(&self) -> bool {
        let again = self.options.snapshot_interval.min(REBASE_AGAIN);
        self.asked.is_none_or(|at| at.elapsed() >= again)
    }

    fn ask(&mut self) {
        self.asked = Some(Instant::now());
        self.rebase.ask();
    }

    fn unmerged(&self) -> usize {
        let manifest = self.uplink.ledger().read();
        let merged = Level::new(1).and_then(|level| manifest.last_of(level)).unwrap_or_default();
        manifest.level(Level::CAPTURED).filter(|file| file.range.min() > merged).count()
    }

    /// The files that can be read. One that was captured in the future, by a clock that was wrong,
    /// is as old as we have known it.
    fn manifest(&mut self, now: SystemTime) -> Manifest {
        let mut manifest = self.uplink.ledger().read().clone();
        self.broken.retain(|(level, range)| manifest.remove(*level, *range).is_some());
        let early: Vec<LtxFile> = manifest.files().filter(|it| it.time > now).cloned().collect();
        let mut seen = BTreeMap::new();
        for mut file in early {
            let name = (file.level, file.range);
            let since = self.early.remove(&name).unwrap_or_else(Instant::now);
            seen.insert(name, since);
            file.time = now.checked_sub(since.elapsed()).unwrap_or(now);
            manifest.insert(file);
        }
        self.early = seen;
        manifest
    }

    /// Merges what the level below has that this one has not.
    async fn compact(&mut self, level: Level) -> Result<()> {
        let now = self.options.clock.now();
        for group in groups(&self.manifest(now), level) {
            self.merge_into(level, group).await?;
        }
        Ok(())
    }

    async fn merge_into(&mut self, level: Level, group: Vec<LtxFile>) -> Result<()> {
        let replica = self.uplink.replica().clone();
        let file = match group.as_slice() {
            // Alone and too large to be held: it is copied as it is.
            [file] if file.bytes > decide::MERGE_BYTES_MAX => {
                self.uplink.check_fence().await?;
                replica.copy(file, level).await?
            }
            files => {
                let Some(range) = decide::span(files) else { return Ok(()) };
                let _turn = turn(files).await;
                let (time, bytes) = self.merged(files, Whole::AsItComes).await?;
                self.uplink.check_fence().await?;
                replica.put(Put { level, range, time, base: None }, bytes.into()).await?
            }
        };
        self.uplink.ledger().add(file);
        Ok(())
    }

    async fn merged(&mut self, files: &[LtxFile], whole: Whole) -> Result<(SystemTime, Vec<u8>)> {
        let replica = self.uplink.replica().clone();
        let wanted: Vec<(Replica, LtxFile)> =
            files.iter().map(|file| (replica.clone(), file.clone())).collect();
        let reads =
            wanted.into_iter().map(|(replica, file)| async move { replica.bytes(&file).await });
        let mut reading = stream::iter(reads).buffered(FETCHES).boxed();
        let mut contents: Vec<Bytes> = Vec::new();
        while let Some(read) = reading.next().await {
            let at = contents.len();
            contents.push(read.inspect_err(|error| self.note(&files[at], error))?);
        }
        let range = decide::span(files);
        let time = files.last().map_or(SystemTime::UNIX_EPOCH, |file| file.time);
        let (merged, unsound) = blocking(move || {
            let merged = merge(&contents, range, whole);
            let unsound = match &merged {
                Ok(_) => None,
                Err(_) => contents.iter().position(|file| !is_sound(file)),
            };
            Ok::<_, Error>((merged, unsound))
        })
        .await?;
        let merged = merged.inspect_err(|error| {
            if let Some(at) = unsound {
                self.note(&files[at], error);
            }
        })?;
        Ok((time, merged))
    }

    /// Keeps in mind that a file cannot be read.
    fn note(&mut self, file: &LtxFile, error: &Error) {
        if error.kind() == ErrorKind::Corrupt && self.broken.insert((file.level, file.range)) {
            let (level, file) = (file.level, file.file_name());
            tracing::error!(replica = %self.uplink.replica(), %level, file, %error,
                "a file of the replica is broken or gone: a base is asked for");
        }
    }

    /// Takes a snapshot if one is due, or asks for a base if it would be too large.
    async fn snapshot(&mut self) -> Result<()> {
        if !self.may_ask() {
            return Ok(());
        }
        let (now, every) = (self.options.clock.now(), self.options.snapshot_interval);
        let manifest = self.manifest(now);
        if !snapshot_due(&manifest, now, every) {
            return Ok(());
        }
        let plan = reach(&manifest, Target::Latest);
        // Where nothing leads to the newest state, only the database can make one.
        if plan.files.is_empty() || plan.bytes() > decide::MERGE_BYTES_MAX {
            self.ask();
            return Ok(());
        }
        let _turn = turn(&plan.files).await;
        let (time, bytes) = self.merged(&plan.files, Whole::Snapshot).await?;
        let Some(range) = TxidRange::new(Txid(1), plan.txid) else { return Ok(()) };
        let put = Put { level: Level::SNAPSHOT, range, time, base: None };
        self.uplink.check_fence().await?;
        let file = self.uplink.replica().put(put, bytes.into()).await?;
        self.uplink.ledger().add(file);
        Ok(())
    }

    /// Deletes files of level 0 that are merged and old enough, and what no restore needs that a
    /// newer snapshot or base has, once that was read back as it was written.
    pub(crate) async fn forget(&mut self) -> Result<Forgotten> {
        if self.options.deletion == Deletion::Disabled {
            return Ok(Forgotten::All);
        }
        self.uplink.bring_up_to_date().await?;
        let now = self.options.clock.now();
        let (captured, others) = (self.options.captured_retention, self.options.snapshot_retention);
        let manifest = self.manifest(now);
        let mut replaced = superseded(&manifest, now, others);
        if !captured.is_zero() {
            let captured = captured_to_delete(&manifest, now, captured);
            self.delete(captured.merged).await?;
            replaced.extend(captured.passed_over);
        }
        if !replaced.is_empty()
            && let Some(ended) = self.prove_newest(&manifest)?
        {
            return Ok(Forgotten::Unproven(ended));
        }
        self.delete(replaced).await?;
        Ok(Forgotten::All)
    }

    /// Reads the newest state: what it replaces goes only if it is there. While that goes on,
    /// returns who tells of its end.
    fn prove_newest(&mut self, manifest: &Manifest) -> Result<Option<watch::Receiver<()>>> {
        let Some((end, files)) = decide::newest_state(manifest) else { return Ok(None) };
        if let Some(mut proof) = self.proof.take_if(|proof| proof.end() == end) {
            match proof.reading() {
                Reading::Ended(Ok(())) => self.proven = Some(end),
                Reading::Ended(Err((file, error))) => {
                    self.note(&file, &error);
                    return Err(error);
                }
                Reading::UnderWay => {
                    let ended = proof.ended();
                    self.proof = Some(proof);
                    return Ok(Some(ended));
                }
                Reading::CutOff => {}
            }
        }
        if self.proven == Some(end) {
            return Ok(None);
        }
        let proof = Proof::begin(&self.tasks, self.uplink.replica().clone(), end, files);
        Ok(Some(self.proof.insert(proof).ended()))
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

/// Of a thousand replicas, most are at rest: nobody looks before something is due.
async fn until_there_is_work(
    uplink: &StoreUplink,
    options: &UpkeepOptions,
    begun: &Begun,
    paused: Option<Instant>,
) {
    tokio::time::sleep(LOOK_EVERY).await;
    let merges = begun.merges.iter().zip(&options.levels).map(|(at, every)| at.checked_add(*every));
    let others = [
        begun.check.checked_add(options.captured_check),
        Instant::now().checked_add(options.snapshot_interval),
        paused,
    ];
    let changed = uplink.ledger().changed();
    match merges.chain(others).flatten().min() {
        // Neither is an error: one of them is what was waited for.
        Some(due) => tokio::time::timeout_at(due, changed).await.unwrap_or_default(),
        None => changed.await,
    }
}

/// Waits until the files may be held in memory.
async fn turn(files: &[LtxFile]) -> Option<SemaphorePermit<'static>> {
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let mib = u32::try_from(bytes >> 20).unwrap_or(MERGES_MIB).saturating_add(1);
    // It is never closed.
    MERGES.acquire_many(mib.min(MERGES_MIB)).await.ok()
}

#[cfg(test)]
mod tests;
