//! The uplink to a store: what a capture ships becomes files of a replica.
//!
//! A change becomes one file of level 0, from memory. What is too large for that, a base above
//! all, is cut by pages into parts of [`PART_BYTES`], each an object that stock Litestream can
//! read within its time limits. Parts carry transactions of their own, at level 3. What makes the
//! chain reach them is a file without pages that is stored when all parts are, so that nobody
//! ever sees some of them only. A file of level 0 without pages stands behind them: Litestream
//! takes its position from there.

mod encode;
mod fence;
mod ledger;
mod listing;
mod note;
mod pulse;

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jetbridge_core::{Error, ErrorKind, Result, Tasks};

pub use fence::FenceOptions;
pub(crate) use ledger::Ledger;
pub use pulse::Pulse;

use self::encode::{Source, encode};
use self::fence::{Fence, Taking};
use crate::capture::{Delta, Head, Page, Pages, Progress, Scope, Touched, Uplink};
use crate::ltx::{Decoder, HEADER_BYTES, Header, WalSpan};
use crate::restore::{self, index};
use crate::store::{
    Level, LtxFile, Manifest, Plan, Put, Replica, Target, in_words_of_the_page, reach,
};
use crate::{Pgno, Txid, TxidRange};

pub(crate) const OPERATION: &str = "sqlite.ship";
/// Bytes of pages in a part of a base. Compressed they are about half; Litestream, which must
/// read an object in a few spans of 5 s, could restore objects of 44 MB and not one of 700.
pub const PART_BYTES: u64 = 64 << 20;
/// How often the files are listed while others are added and removed: a merge takes longer than
/// a list.
const LISTINGS_MAX: u32 = 10;
/// Where the log begins behind its header. A file of level 0 must stand somewhere in a log, or
/// Litestream never goes on from it; the salts of no log make it look for itself.
const NOWHERE_IN_THE_LOG: WalSpan = WalSpan { offset: 32, size: 0, salts: [0, 0] };

/// An uplink to a replica, of which it is the only writer while it is open.
pub struct StoreUplink {
    replica: Replica,
    ledger: Ledger,
    fence: Fence,
    /// What was last listed; `None` before that, and after a failure.
    head: tokio::sync::Mutex<Option<Known>>,
    /// Under which taking of the place the files in the ledger were listed.
    listed: Mutex<Option<Taking>>,
    part_bytes: u64,
}

/// What is known of the replica, for as long as nobody else can have written to it.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The newest transaction.
    head: Txid,
    taking: Taking,
}

impl StoreUplink {
    /// An uplink to `replica`. The first [`Uplink::head`] takes it into possession.
    pub fn new(replica: Replica, fence: FenceOptions, tasks: Tasks) -> Self {
        Self {
            fence: Fence::new(replica.clone(), fence, tasks),
            replica,
            ledger: Ledger::default(),
            head: tokio::sync::Mutex::new(None),
            listed: Mutex::new(None),
            part_bytes: PART_BYTES,
        }
    }

    /// Cuts what is large into parts of so many bytes of pages.
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// The files of the replica, as this uplink has left them.
    pub fn manifest(&self) -> Manifest {
        self.ledger.read().clone()
    }

    /// The files, shared with whoever merges them.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The replica.
    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Fails unless this is the only writer, and was since the files were listed.
    pub(crate) async fn check_fence(&self) -> Result<()> {
        let listed = *self.listed();
        self.still(listed).await
    }

    /// Whether the files were listed, and the place was not found lost since: who only tidies up
    /// neither takes it nor takes it again.
    pub(crate) async fn keeps_its_place(&self) -> bool {
        let listed = *self.listed();
        listed.is_some() && self.fence.is_taken().await
    }

    /// Lists the files anew if others may have written since.
    pub(crate) async fn bring_up_to_date(&self) -> Result<()> {
        let listed = *self.listed();
        if Some(self.fence.hold().await?) == listed {
            return Ok(());
        }
        // Nobody ships meanwhile: what is half done and nobody's goes.
        let mut head = self.head.lock().await;
        *head = None;
        let (plan, taking) = self.look().await?;
        *head = Some(Known { head: plan.txid, taking });
        Ok(())
    }

    fn listed(&self) -> MutexGuard<'_, Option<Taking>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when this is the only writer, if nobody else can have been one since `taking`.
    async fn still(&self, taking: impl Into<Option<Taking>>) -> Result<()> {
        if Some(self.fence.hold().await.map_err(told)?) == taking.into() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, OPERATION)
            .because("the place was lost meanwhile and taken again: others may have written")
            .with("replica", &self.replica)
            .hint("it is tried again when the files were listed anew"))
    }

    /// Gives the replica up, so that the next writer need not wait.
    ///
    /// # Errors
    /// Those of the store; the next writer then waits until the fence is stale.
    pub async fn close(&self) -> Result<()> {
        self.fence.release().await
    }

    /// Looks at what is stored, and removes what an attempt before left half done.
    async fn look(&self) -> Result<(Plan, Taking)> {
        // Upkeep goes on meanwhile.
        for _ in 0..LISTINGS_MAX {
            let taking = self.fence.hold().await?;
            let changes = self.ledger.changes();
            let mut manifest = self.fence.manifest().await?;
            for part in manifest.abandoned() {
                let file = part.file_name();
                tracing::info!(file, "a part of a base that was never completed");
                self.replica.delete(part.level, part.range).await?;
                manifest.remove(part.level, part.range);
            }
            let plan = reach(&manifest, Target::Latest);
            if self.fence.hold().await? == taking && self.ledger.replace(manifest, changes) {
                *self.listed() = Some(taking);
                return Ok((plan, taking));
            }
        }
        Err(Error::new(ErrorKind::Unavailable, OPERATION)
            .because("the files of the replica change whenever they are listed")
            .with("replica", &self.replica))
    }

    async fn ship_upon(&self, delta: Delta, known: Known) -> Result<Txid> {
        let Known { head, taking } = known;
        let facts = Facts::of(&delta);
        match (delta.scope, delta.pages) {
            (Scope::Change, Pages::Held(pages)) => {
                let range = one(delta.txid)?;
                if delta.txid != head.next() && !self.may_be_again(range, head) {
                    return Err(moved_on(delta.txid, head));
                }
                let wal = delta.wal.or(Some(NOWHERE_IN_THE_LOG));
                let header = Header { wal, ..facts.header(range) };
                self.ship_change(header, &pages, &facts.progress).await?;
                Ok(delta.txid)
            }
            (Scope::Change, _) if delta.txid != head.next() => Err(moved_on(delta.txid, head)),
            (Scope::Change, pages) => self.ship_parts(&facts, pages, (head.next(), taking)).await,
            (Scope::Base, pages) => self.ship_parts(&facts, pages, (Txid(1), taking)).await,
        }
    }

    /// Whether a change of that number may be the newest there is, sent once more: then its own
    /// file is there, and is compared. Without one, the number was used by something else.
    fn may_be_again(&self, range: TxidRange, head: Txid) -> bool {
        let is_it = |file: &LtxFile| file.range == range;
        range.max() == head && self.ledger.read().level(Level::CAPTURED).any(is_it)
    }

    async fn ship_change(&self, header: Header, pages: &[Page], progress: &Progress) -> Result<()> {
        let (range, time) = (header.range, header.time());
        let put = Put { level: Level::CAPTURED, range, time, base: None };
        let file = self.put(put, encode(header, pages)?, progress).await?;
        self.ledger.add(file);
        Ok(())
    }

    /// Stores what is large or a base. `lowest` is the first transaction of the file that leads
    /// to the parts: 1 for what stands on nothing.
    async fn ship_parts(
        &self,
        facts: &Facts,
        pages: Pages,
        (lowest, taking): (Txid, Taking),
    ) -> Result<Txid> {
        let part_pages = (self.part_bytes / u64::from(facts.page_size.get())).max(1);
        let parts = u64::from(facts.commit).div_ceil(part_pages);
        let bridge = self.ledger.read().files().map(|file| file.range.max()).max();
        let bridge = bridge.unwrap_or_default().next();
        let last = match pages {
            Pages::Held(_) => bridge,
            Pages::Streamed(_) => Txid(bridge.0 + parts),
        };
        let base = Some(between(bridge, last)?);
        let put = |range| Put { level: Level::BASE, range, time: facts.time, base };
        let leading = match pages {
            Pages::Held(pages) => {
                let range = between(lowest.min(bridge), bridge)?;
                (range, encode(facts.header(range), &pages)?)
            }
            Pages::Streamed(pages) => {
                let source = Source::new(pages);
                let mut next = last;
                while next > bridge && source.has_more().await? {
                    let range = one(next)?;
                    let body = source.part(facts.header(range), part_pages)?;
                    self.still(taking).await?;
                    let stored = self.replica.store(put(range), body).await;
                    // What fails while the database is read is none of the store's.
                    let stored = stored.map_err(|error| match source.has_failed() {
                        true => error,
                        false => told(error),
                    });
                    self.ledger.add(stored?);
                    next = Txid(next.0 - 1);
                }
                let range = between(lowest.min(bridge), next)?;
                (range, encode(facts.header(range), &[])?)
            }
        };
        self.still(taking).await?;
        self.ledger.add(self.put(put(leading.0), leading.1, &facts.progress).await?);
        // Where Litestream takes its position from.
        let behind = last.next();
        let header = Header { wal: Some(NOWHERE_IN_THE_LOG), ..facts.header(one(behind)?) };
        self.ship_change(header, &[], &facts.progress).await?;
        Ok(behind)
    }

    async fn put(&self, put: Put, bytes: Vec<u8>, progress: &Progress) -> Result<LtxFile> {
        let progress = progress.clone();
        let putting = self.replica.put_told(put, bytes.into(), move || progress.tick());
        putting.await.map_err(told)
    }

    async fn header_of(&self, file: &LtxFile) -> Result<Header> {
        let head = self.replica.part(file, 0..(HEADER_BYTES as u64).min(file.bytes)).await?;
        Ok(*Decoder::new(&head[..])?.header())
    }
}

#[async_trait]
impl Uplink for StoreUplink {
    fn identity(&self) -> String {
        self.replica.to_string()
    }

    async fn head(&self) -> Result<Option<Head>> {
        let mut head = self.head.lock().await;
        *head = None;
        let (plan, taking) = self.look().await.map_err(told)?;
        let newest = self.ledger.read().files().map(|file| file.range.max()).max();
        *head = Some(Known { head: plan.txid, taking });
        let Some(last) = plan.files.last() else { return Ok(None) };
        if newest > Some(plan.txid) {
            tracing::warn!(replica = %self.replica, reached = %plan.txid, newest = ?newest,
                "the chain has a gap: a new base is shipped");
            return Ok(None);
        }
        let captured = self.ledger.read().level(Level::CAPTURED).next_back().cloned();
        let captured = captured.filter(|file| file.range.max() == plan.txid);
        let file = captured.as_ref().unwrap_or(last);
        let header = match self.header_of(file).await {
            // A name without a body, as Litestream leaves it in a full bucket.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(replica = %self.replica, file = file.file_name(), %error,
                    "the newest file is broken or gone: a new base is shipped");
                return Ok(None);
            }
            read => read.map_err(told)?,
        };
        let wal = header.wal.filter(|wal| wal.size > 0 && captured.is_some());
        Ok(Some(Head { txid: plan.txid, page_size: header.page_size, wal, time: header.time() }))
    }

    async fn touched_since(&self, after: Txid) -> Result<Touched> {
        let files = self.ledger.read().since(after).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, OPERATION)
                .because("the files since then are not there any more")
                .with("txid", after)
        })?;
        let mut pages = std::collections::BTreeSet::new();
        let mut fewest = None;
        for file in files {
            let (header, index) = index(&self.replica, &file).await?;
            pages.extend(index.entries().iter().map(|entry| entry.pgno));
            fewest = Some(fewest.map_or(header.commit, |it: Pgno| it.min(header.commit)));
        }
        Ok(Touched { pages: pages.into_iter().collect(), fewest })
    }

    async fn image(&self, path: &Path) -> Result<Option<Txid>> {
        self.fence.hold().await?;
        let mut options = restore::Options::new(path);
        options.overwrite = restore::Overwrite::Yes;
        let restored = restore::restore(&self.replica, &options, &|_bytes| ()).await?;
        Ok(Some(restored.txid))
    }

    async fn ship(&self, delta: Delta) -> Result<Txid> {
        let mut head = self.head.lock().await;
        let taking = self.fence.hold().await.map_err(told)?;
        let known = match head.take().filter(|known| known.taking == taking) {
            Some(known) => known,
            None => {
                let (plan, taking) = self.look().await.map_err(told)?;
                Known { head: plan.txid, taking }
            }
        };
        let shipped = self.ship_upon(delta, known).await?;
        // While it was sent, the place may have been another's, whose chain does not lead to it.
        self.still(known.taking).await.map_err(Error::outcome_unknown)?;
        *head = Some(Known { head: shipped, ..known });
        Ok(shipped)
    }
}

impl fmt::Debug for StoreUplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUplink({})", self.replica)
    }
}

/// A failure of the store in the words that its users look for.
fn told(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::PermissionDenied => in_words_of_the_page(error),
        _ => error,
    }
}

/// What all files of a delta say alike.
struct Facts {
    page_size: crate::PageSize,
    commit: Pgno,
    time: SystemTime,
    progress: Progress,
}

impl Facts {
    fn of(delta: &Delta) -> Self {
        Self {
            page_size: delta.page_size,
            commit: delta.commit,
            time: delta.time,
            progress: delta.progress.clone(),
        }
    }

    fn header(&self, range: TxidRange) -> Header {
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Header {
            page_size: self.page_size,
            commit: self.commit,
            range,
            timestamp_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            wal: None,
        }
    }
}

fn one(txid: Txid) -> Result<TxidRange> {
    between(txid, txid)
}

fn between(min: Txid, max: Txid) -> Result<TxidRange> {
    TxidRange::new(min, max).ok_or_else(|| {
        Error::new(ErrorKind::Internal, OPERATION)
            .because("these are no transactions in a row")
            .with("txid", format!("{min}-{max}"))
    })
}

/// Somebody else has written, or a delta was left out.
fn moved_on(txid: Txid, head: Txid) -> Error {
    Error::new(ErrorKind::Conflict, OPERATION)
        .because("the transaction does not follow the newest of the replica")
        .with("txid", txid)
        .with("head", head)
        .hint("somebody else has written meanwhile: see who; started again, it takes that up")
}
