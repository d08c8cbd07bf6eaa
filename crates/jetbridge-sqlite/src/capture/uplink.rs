//! Where captured transactions go: what a store must offer, and what it is given.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use jetbridge_core::Result;

use super::patience::Progress;
use crate::ltx::WalSpan;
use crate::{PageSize, Pgno, Txid};

/// A replica of one database, in order. One capture writes to it at a time; that it is the only
/// one is the uplink's to hold (a lease), and losing that is an error of every method.
#[async_trait]
pub trait Uplink: fmt::Debug + Send + Sync + 'static {
    /// Names the replica: two texts differ if, and only if, the replicas do. What is remembered
    /// of one replica is never believed of another.
    fn identity(&self) -> String;

    /// The newest transaction that is durable; `None` if the replica is empty.
    async fn head(&self) -> Result<Option<Head>>;

    /// What the transactions after `after` changed; more pages than those are allowed, fewer are
    /// not.
    ///
    /// # Errors
    /// [`Corrupt`](jetbridge_core::ErrorKind::Corrupt) if it can no longer be told. Then a new
    /// base is shipped.
    async fn touched_since(&self, after: Txid) -> Result<Touched>;

    /// Writes the database as it is at the head to a file, and says which transaction that is;
    /// `None` if this uplink cannot. It is how a chain is taken over of which nothing is
    /// remembered: one that another program wrote, or whose memory was lost.
    ///
    /// # Errors
    /// Whatever keeps the file from being made. Then a new base is shipped.
    async fn image(&self, path: &Path) -> Result<Option<Txid>> {
        let _unused = path;
        Ok(None)
    }

    /// Makes a transaction durable, whole or not at all, and returns when it is, with the TXID of
    /// the head from then on: the delta's, or a later one where an uplink cut a large delta into
    /// several transactions. Deltas come in order, each one TXID after the head; the same delta
    /// may come again after an error whose outcome is unknown, and is then acknowledged once more.
    ///
    /// The future may be dropped at any time, when it took too long: what it had begun must then
    /// either not become durable, or be what [`Uplink::head`] says from then on. It is not while
    /// pages are read, or [`Delta::progress`] ticks, at least every half minute.
    ///
    /// # Errors
    /// [`Conflict`](jetbridge_core::ErrorKind::Conflict) if somebody else writes to the replica.
    async fn ship(&self, delta: Delta) -> Result<Txid>;
}

/// What some transactions of a replica changed, taken together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "made by every uplink")]
pub struct Touched {
    /// The pages they hold.
    pub pages: Vec<Pgno>,
    /// The smallest size of the database in pages after any of them: what lay behind is gone.
    pub fewest: Option<Pgno>,
}

/// The newest transaction of a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "made by every uplink")]
pub struct Head {
    /// Its number.
    pub txid: Txid,
    /// The size of the replica's pages.
    pub page_size: PageSize,
    /// The WAL it was read from, where its file says so.
    pub wal: Option<WalSpan>,
    /// When it was captured.
    pub time: SystemTime,
}

/// What leads the replica from one state of the database to a later one.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "read by every uplink")]
pub struct Delta {
    /// Its number: one after the head's.
    pub txid: Txid,
    /// The size of its pages.
    pub page_size: PageSize,
    /// The size of the database in pages afterwards.
    pub commit: Pgno,
    /// When it was captured; never before the one before.
    pub time: SystemTime,
    /// Where in which WAL it stood; `None` if it was read from the database.
    pub wal: Option<WalSpan>,
    /// Whether it stands on what is there.
    pub scope: Scope,
    /// The pages by ascending number, without the lock page.
    pub pages: Pages,
    /// Where the uplink says that it gets on.
    pub progress: Progress,
}

/// What a delta stands on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "uplinks branch on both")]
pub enum Scope {
    /// On nothing: it holds every page, and what was there before is no part of the state.
    Base,
    /// On the state of the head.
    Change,
}

/// A page as it is in the database.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a number and its bytes")]
pub struct Page {
    /// Which page.
    pub pgno: Pgno,
    /// Its bytes, as many as the page size says.
    pub data: Bytes,
}

/// The pages of a delta.
#[expect(clippy::exhaustive_enums, reason = "uplinks branch on both")]
pub enum Pages {
    /// Few enough to be held in memory; sent again after a failure.
    Held(Arc<[Page]>),
    /// Too many to be held. They are read as the stream is: while it is open the database cannot
    /// be checkpointed. After an error in it, or of [`Uplink::ship`], a new delta is made.
    Streamed(BoxStream<'static, Result<Page>>),
}

impl Delta {
    /// The same once more; `None` if its pages are read as they are sent.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        let Pages::Held(pages) = &self.pages else { return None };
        let (pages, progress) = (Pages::Held(Arc::clone(pages)), self.progress.clone());
        Some(Self { pages, progress, ..*self })
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(pages) => write!(f, "{} pages", pages.len()),
            Self::Streamed(_) => f.write_str("pages as they are read"),
        }
    }
}
