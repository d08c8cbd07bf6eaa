//! The capture itself: from one state of the database to the next. Blocking; run by
//! [`run`](super::run) on threads that may block.
//!
//! One delta is out at a time. What it leads to is remembered when the replica has acknowledged
//! it, not before. Whatever goes wrong between, the way back is the same: let go of the
//! database, and begin again from what is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jetbridge_core::{ErrorKind, Result};

use super::fault::CAPTURE;
use super::held::{Held, Read};
use super::kept::FileId;
use super::memory::{Cursor, Memory};
use super::options::Options;
use super::patience::Progress;
use super::snapshot::{Digests, Snapshot, UNKNOWN, digests_in, digests_of};
use super::start::{Found, Start, start};
use super::uplink::{Delta, Head, Pages, Scope, Touched};
use crate::ltx::WalSpan;
use crate::wal::{Header, Position};
use crate::{Pgno, Txid};

/// Most bytes of pages that a delta holds in memory; larger ones are read as they are sent.
const HELD_BYTES_MAX: usize = 16 << 20;

/// What to do next.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nothing was committed.
    Idle,
    /// Ship this, then [`Engine::acknowledge`].
    Ship(Delta),
}

/// What the replica is known to have.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) identity: String,
    pub(super) head: Option<Head>,
    /// What it was sent after the TXID at which we remember it; asked for at the start. `None` if
    /// it cannot be told.
    pub(super) touched: Option<Touched>,
}

/// Captures one database.
#[derive(Debug)]
pub(super) struct Engine {
    options: Options,
    memory: Memory,
    at: Option<At>,
    pending: Option<Pending>,
    /// What the replica has, and the disk had no room to remember.
    unrecorded: Option<Unrecorded>,
    wants_base: bool,
}

/// Where the capture stands.
#[derive(Debug)]
struct At {
    held: Held,
    txid: Txid,
    time: SystemTime,
    /// Pages that the next delta holds in any case, and whether there must be one.
    owed: BTreeSet<Pgno>,
    must_ship: bool,
    moved_at: Instant,
    /// Where the log stood when it was last moved into the file.
    moved: Option<(Header, Position)>,
}

/// A delta that is out: what is remembered once it is acknowledged.
#[derive(Debug)]
struct Pending {
    cursor: Cursor,
    digests: Arc<Mutex<Digests>>,
    anew: bool,
}

/// What is to be remembered when the disk has room again.
#[derive(Debug)]
struct Unrecorded {
    digests: BTreeMap<Pgno, u64>,
    anew: bool,
}

impl Engine {
    pub(super) fn new(options: Options) -> Result<Self> {
        let memory = Memory::open(&options.state_dir())?;
        Ok(Self { options, memory, at: None, pending: None, unrecorded: None, wants_base: false })
    }

    /// The next delta is to hold every page, so that older files may go.
    pub(super) fn want_base(&mut self) {
        self.wants_base = true;
    }

    /// The replica has a new base.
    pub(super) fn has_base(&mut self) {
        self.wants_base = false;
    }

    /// The TXID after which the replica must say what it was sent; `None` if it need not.
    pub(super) fn remembered(&self, identity: &str) -> Result<Option<Txid>> {
        let cursor = self.memory.cursor()?;
        Ok(cursor.filter(|cursor| cursor.replica == identity).map(|cursor| cursor.txid))
    }

    /// Remembers what the replica has, of which nothing was remembered, from a file of it.
    pub(super) fn adopt(&mut self, identity: &str, head: Head, image: &Path) -> Result<()> {
        let (pages, digests) = digests_in(image, head.page_size)?;
        let since = head.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let cursor = Cursor {
            replica: identity.to_owned(),
            txid: head.txid,
            page_size: head.page_size,
            pages,
            // No file and no log that could be gone on with.
            file: FileId { device: 0, inode: 0 },
            log: None,
            time_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        };
        self.memory.record(&cursor, &digests, true)
    }

    /// What to do now: ship what was committed, after moving the log into the file if it is time.
    pub(super) fn next(&mut self, replica: &Replica) -> Result<Turn> {
        if self.wants_checkpoint()
            && let Some(turn) = self.checkpoint(replica)?
        {
            return Ok(turn);
        }
        self.turn(replica)
    }

    /// Lets go of the database and of a delta that was not acknowledged.
    pub(super) fn detach(&mut self) {
        self.at = None;
        self.pending = None;
        // From here on, what stands in the memory counts: an older truth.
        self.unrecorded = None;
    }

    /// Whether the log has grown so long that it should be let go rather than held until the
    /// replica can be reached again.
    pub(super) fn is_overgrown(&self) -> Result<bool> {
        let Some(at) = &self.at else { return Ok(false) };
        let log = at.held.database.settled_log()?;
        Ok(log.filled().is_some_and(|(_, end)| end > self.options.log_bytes_max))
    }

    /// Remembers that the delta is durable, as the replica's head `txid`.
    pub(super) fn acknowledge(&mut self, txid: Txid) -> Result<()> {
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        pending.cursor.txid = txid;
        if let Some(at) = &mut self.at {
            at.txid = txid;
        }
        let digests =
            std::mem::take(&mut *pending.digests.lock().unwrap_or_else(PoisonError::into_inner));
        self.remember(&pending.cursor, digests, pending.anew)
    }

    /// A full disk is not the replica's fault: it has what it acknowledged, and gets what comes
    /// next. What could not be remembered is kept for the next time.
    fn remember(&mut self, cursor: &Cursor, digests: Digests, anew: bool) -> Result<()> {
        let (digests, anew) = match self.unrecorded.take() {
            Some(mut before) => {
                if anew {
                    before.digests.clear();
                }
                before.digests.extend(digests);
                (before.digests.into_iter().collect(), before.anew || anew)
            }
            None => (digests, anew),
        };
        match self.memory.record(cursor, &digests, anew) {
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                tracing::warn!(%error, "how far the capture came is not remembered");
                let digests = digests.into_iter().collect();
                self.unrecorded = Some(Unrecorded { digests, anew });
                Ok(())
            }
            recorded => recorded,
        }
    }

    /// Opens the database, holds its log, and makes the first delta, if one is needed.
    fn attach(&mut self, replica: &Replica) -> Result<Turn> {
        self.detach();
        let held = Held::take(&self.options.path, self.options.busy)?;
        let cursor = self.memory.cursor()?;
        let log_cursor = cursor.as_ref().and_then(|cursor| cursor.log);
        let found = Found {
            page_size: held.page_size,
            file: held.database.id,
            log: held.found_log(),
            sums_at_cursor: match log_cursor {
                Some(then) => held.sums_at(then.position.offset)?,
                None => None,
            },
        };
        let known = cursor.as_ref().filter(|_| replica.touched.is_some());
        let begin = start(known, replica.head.as_ref(), &replica.identity, &found);
        let touched = replica.touched.clone().unwrap_or_default();
        let (path, pages) = (self.options.path.display(), held.pages);
        tracing::info!(%path, pages, %begin, "capture begins");
        let time = time_of(cursor.as_ref().map_or(0, |it| it.time_ms));
        let at = self.at.insert(At {
            held,
            txid: replica.head.map_or(Txid::NONE, |head| head.txid),
            time: replica.head.map_or(time, |head| head.time.max(time)),
            must_ship: touched != Touched::default(),
            owed: touched.pages.into_iter().collect(),
            moved_at: Instant::now(),
            moved: None,
        });
        let pages_then = cursor.map_or(0, |cursor| cursor.pages);
        let known = touched.fewest.map_or(pages_then, |it| it.min(pages_then));
        match begin {
            Start::Base => self.base(replica),
            Start::Compare(_) => self.compare(replica, known),
            Start::Resume(position, _) => {
                // What the replica lost since must come again, whether it changed here or not.
                at.owed.extend(known.saturating_add(1)..=pages_then);
                at.held.rewind(position, pages_then)?;
                self.turn(replica)
            }
        }
    }

    /// What was committed since the last delta.
    fn turn(&mut self, replica: &Replica) -> Result<Turn> {
        let Some(at) = &mut self.at else { return self.attach(replica) };
        if !at.held.database.is_current() {
            tracing::warn!(path = %self.options.path.display(), "the database was replaced");
            return self.attach(replica);
        }
        match at.held.read_on()? {
            Read::Lost => {
                tracing::warn!(path = %self.options.path.display(), "the log was replaced");
                self.attach(replica)
            }
            Read::Nothing | Read::Pages(..) if std::mem::take(&mut self.wants_base) => {
                tracing::info!(path = %self.options.path.display(), "a new base is shipped");
                self.base(replica)
            }
            Read::Nothing if !at.must_ship => Ok(Turn::Idle),
            Read::Nothing => self.change(replica, BTreeSet::new(), None),
            Read::Pages(pages, span) => self.change(replica, pages, Some(span)),
        }
    }

    /// True if the log is long enough, or has waited long enough, to be moved into the file.
    fn wants_checkpoint(&self) -> bool {
        let Some(at) = &self.at else { return false };
        let Some((header, position)) = at.held.log.filter(|log| at.moved != Some(*log)) else {
            return false;
        };
        let since = match at.moved {
            Some((then, moved)) if then == header => moved.offset,
            _ => 0,
        };
        let frames = (position.offset - since) / header.frame_bytes();
        let due = at.moved_at.elapsed() >= self.options.checkpoint_interval;
        frames >= u64::from(self.options.checkpoint_pages) || due
    }

    /// Moves the log into the file, so that it does not grow for ever; what is committed before
    /// that is to be shipped next. `None` if a writer is busy for too long.
    fn checkpoint(&mut self, replica: &Replica) -> Result<Option<Turn>> {
        let Some(at) = &mut self.at else { return Ok(None) };
        at.moved_at = Instant::now();
        at.held.database.advance()?;
        if !at.held.database.hold_writers()? {
            return Ok(None);
        }
        let done = self.checkpoint_alone(replica);
        if let Some(at) = &mut self.at {
            at.held.database.admit_writers()?;
        }
        let turn = done?;
        self.cut_log()?;
        Ok(Some(turn))
    }

    /// The part during which writers are held.
    fn checkpoint_alone(&mut self, replica: &Replica) -> Result<Turn> {
        let turn = self.turn(replica)?;
        // A delta that is still to be read needs the log as it is.
        let in_memory = match &turn {
            Turn::Idle => true,
            Turn::Ship(delta) => matches!(delta.pages, Pages::Held(_)),
        };
        if let Some(at) = self.at.as_mut().filter(|at| in_memory && at.held.database.is_alone()) {
            at.held.reset()?;
            at.moved = at.held.log;
        }
        Ok(turn)
    }

    fn cut_log(&mut self) -> Result<()> {
        let Some(at) = &mut self.at else { return Ok(()) };
        if at.held.database.log_bytes()? <= self.options.log_bytes_max {
            return Ok(());
        }
        match at.held.database.log()? {
            Some(log) if log.is_moved() => at.held.database.cut_log(),
            _ => Ok(()),
        }
    }

    fn base(&mut self, replica: &Replica) -> Result<Turn> {
        let Some(at) = &mut self.at else { return Ok(Turn::Idle) };
        at.owed.clear();
        let snapshot = at.held.snapshot(&self.options.path);
        let list = snapshot.all().collect();
        self.send(replica, Scope::Base, list, None)
    }

    /// Ships what differs from what is remembered of the first `known` pages.
    fn compare(&mut self, replica: &Replica, known: Pgno) -> Result<Turn> {
        let Some(at) = &mut self.at else { return Ok(Turn::Idle) };
        let owed = std::mem::take(&mut at.owed);
        let snapshot = at.held.snapshot(&self.options.path);
        let mut digests = self.memory.digests()?;
        digests.truncate(known as usize);
        let then = |pgno: Pgno| digests.get(pgno as usize - 1).copied().unwrap_or(UNKNOWN);
        let mut differ = Vec::new();
        snapshot.digest_all(|pgno, digest| {
            if then(pgno) != digest || owed.contains(&pgno) {
                differ.push(pgno);
            }
        })?;
        if differ.is_empty() && known == snapshot.pages && !at.must_ship {
            let cursor = at.cursor(replica);
            self.memory.record(&cursor, &[], false)?;
            return Ok(Turn::Idle);
        }
        self.send(replica, Scope::Change, differ.into(), None)
    }

    fn change(
        &mut self,
        replica: &Replica,
        pages: BTreeSet<Pgno>,
        wal: Option<WalSpan>,
    ) -> Result<Turn> {
        let Some(at) = &mut self.at else { return Ok(Turn::Idle) };
        let mut list = std::mem::take(&mut at.owed);
        list.extend(pages);
        let (last, lock_page) = (at.held.pages, at.held.page_size.lock_page());
        let list = list.into_iter().filter(|pgno| *pgno <= last && *pgno != lock_page);
        self.send(replica, Scope::Change, list.collect(), wal)
    }

    fn send(
        &mut self,
        replica: &Replica,
        scope: Scope,
        list: Arc<[Pgno]>,
        wal: Option<WalSpan>,
    ) -> Result<Turn> {
        let Some(at) = &mut self.at else { return Ok(Turn::Idle) };
        at.must_ship = false;
        at.txid = at.txid.next();
        at.time = at.time.max(self.options.clock.now());
        let snapshot: Arc<Snapshot> = Arc::new(at.held.snapshot(&self.options.path));
        let digests = Arc::new(Mutex::new(Digests::new()));
        let pages = if list.len() * at.held.page_size.bytes() <= HELD_BYTES_MAX {
            let pages = snapshot.hold(&list)?;
            digests_of(&pages, &digests);
            Pages::Held(pages)
        } else {
            snapshot.stream(list, Arc::clone(&digests))
        };
        let delta = Delta {
            txid: at.txid,
            page_size: at.held.page_size,
            commit: at.held.pages,
            time: at.time,
            wal,
            scope,
            pages,
            progress: Progress::default(),
        };
        let cursor = at.cursor(replica);
        self.pending = Some(Pending { cursor, digests, anew: scope == Scope::Base });
        tracing::debug!(operation = CAPTURE, txid = %delta.txid, ?delta.pages, "captured");
        Ok(Turn::Ship(delta))
    }
}

impl At {
    fn cursor(&self, replica: &Replica) -> Cursor {
        let millis = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Cursor {
            replica: replica.identity.clone(),
            txid: self.txid,
            page_size: self.held.page_size,
            pages: self.held.pages,
            file: self.held.database.id,
            log: self.held.place(),
            time_ms: i64::try_from(millis.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

fn time_of(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    const MANY: u32 = 1_000_000;

    fn ship(engine: &mut Engine, replica: &Replica, txid: Txid) {
        let Turn::Ship(delta) = engine.next(replica).unwrap() else { panic!("nothing to ship") };
        assert_eq!(delta.txid, txid);
        engine.acknowledge(txid).unwrap();
    }

    /// What the replica has acknowledged is durable, whether there is room to remember it or not.
    #[test]
    fn a_full_disk_neither_stops_the_capture_nor_is_what_it_did_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let application = Connection::open(&path).unwrap();
        application
            .execute_batch(
                "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t (a);
                 INSERT INTO t VALUES (zeroblob(700000))",
            )
            .unwrap();
        let mut engine = Engine::new(Options::new(&path)).unwrap();
        let replica =
            Replica { identity: "r".to_owned(), head: None, touched: Some(Touched::default()) };
        engine.memory.limit_pages(1);
        ship(&mut engine, &replica, Txid(1));
        assert!(engine.memory.cursor().unwrap().is_none(), "there was room");
        application.execute_batch("INSERT INTO t VALUES (zeroblob(3000))").unwrap();
        ship(&mut engine, &replica, Txid(2));
        engine.memory.limit_pages(MANY);
        application.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        ship(&mut engine, &replica, Txid(3));
        let cursor = engine.memory.cursor().unwrap().unwrap();
        assert_eq!(cursor.txid, Txid(3));
        let digests = engine.memory.digests().unwrap();
        assert!(cursor.pages > 1300);
        let known = digests[..cursor.pages as usize].iter().filter(|it| **it != UNKNOWN).count();
        assert_eq!(known, cursor.pages as usize, "every page is known");
    }
}
