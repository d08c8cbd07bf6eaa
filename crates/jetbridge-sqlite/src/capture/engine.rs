//! The capture itself: from one state of the database to the next. Blocking; run by
//! [`run`](super::run) on threads that may block.
//!
//! One delta is out at a time. What it leads to is remembered when the replica has acknowledged
//! it, not before. Whatever goes wrong between, the way back is the same: let go of the
//! database, and begin again from what is remembered.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jetbridge_core::{Error, ErrorKind, Result};

use super::database::Database;
use super::fault::CAPTURE;
use super::memory::{Cursor, LogCursor, Memory};
use super::options::Options;
use super::snapshot::{Snapshot, UNKNOWN};
use super::start::{Found, Start, start};
use super::uplink::{Delta, Head, Pages, Scope};
use crate::ltx::WalSpan;
use crate::wal::{Commits, FRAME_HEADER_BYTES, Header, Position, Source as _, commits};
use crate::{PageSize, Pgno, Txid};

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
    /// Pages that it was sent after the TXID at which we remember it; asked for at the start.
    pub(super) touched: Vec<Pgno>,
}

/// Captures one database.
#[derive(Debug)]
pub(super) struct Engine {
    options: Options,
    memory: Memory,
    held: Option<Held>,
    pending: Option<Pending>,
}

/// The database while its log is held, and how far it was read.
#[derive(Debug)]
struct Held {
    database: Database,
    page_size: PageSize,
    /// The log that was read, and the place behind what was.
    log: Option<(Header, Position)>,
    /// Where in it the newest version of each page stands.
    overlay: Arc<HashMap<Pgno, u64>>,
    /// The size of the database in pages at that place.
    pages: Pgno,
    txid: Txid,
    time: SystemTime,
    /// Pages that the next delta holds in any case.
    owed: BTreeSet<Pgno>,
    moved_at: Instant,
    /// Where the log stood when it was last moved into the file.
    moved: Option<(Header, Position)>,
}

/// A delta that is out: what is remembered once it is acknowledged.
#[derive(Debug)]
struct Pending {
    cursor: Cursor,
    digests: Vec<(Pgno, u64)>,
    anew: bool,
}

impl Engine {
    pub(super) fn new(options: Options) -> Result<Self> {
        let memory = Memory::open(&options.state_dir())?;
        Ok(Self { options, memory, held: None, pending: None })
    }

    /// The TXID after which the replica must say what it was sent; `None` if it need not.
    pub(super) fn remembered(&self, identity: &str) -> Result<Option<Txid>> {
        let cursor = self.memory.cursor()?;
        Ok(cursor.filter(|cursor| cursor.replica == identity).map(|cursor| cursor.txid))
    }

    /// Lets go of the database and of a delta that was not acknowledged.
    pub(super) fn detach(&mut self) {
        self.held = None;
        self.pending = None;
    }

    /// Opens the database, holds its log, and makes the first delta, if one is needed.
    pub(super) fn attach(&mut self, replica: &Replica) -> Result<Turn> {
        self.detach();
        let (database, log) = Database::open(&self.options.path, self.options.busy)?;
        let (page_size, pages) = database.size()?;
        let filled = log.filled();
        let read = match filled {
            Some((header, end)) => commits(&*database.log, header, header.start(), end)?,
            None => Commits::default(),
        };
        let end = read.end.map(|(_, position)| position);
        if end.map(|it| it.offset) != filled.map(|(_, end)| end) {
            return Err(unreadable(&self.options.path, end.map_or(0, |it| it.offset)));
        }
        let cursor = self.memory.cursor()?;
        let found = Found {
            page_size,
            file: database.id,
            log: filled,
            sums_at_cursor: sums_at_cursor(&database, cursor.as_ref())?,
        };
        let begin = start(cursor.as_ref(), replica.head.as_ref(), &replica.identity, &found);
        tracing::info!(path = %self.options.path.display(), ?begin, pages, "capture begins");
        let time_ms = cursor.as_ref().map_or(0, |it| it.time_ms);
        let held = Held {
            page_size,
            log: log.header.map(|header| (header, end.unwrap_or(header.start()))),
            overlay: Arc::new(read.pages.into_iter().collect()),
            pages,
            txid: replica.head.map_or(Txid::NONE, |head| head.txid),
            time: time_of(time_ms).max(replica.head.map_or(SystemTime::UNIX_EPOCH, |it| it.time)),
            owed: replica.touched.iter().copied().collect(),
            moved_at: Instant::now(),
            moved: None,
            database,
        };
        let held = self.held.insert(held);
        match begin {
            Start::Base => self.base(replica),
            Start::Compare(_) => self.compare(replica),
            Start::Resume(position, _) => {
                held.rewind(position, cursor.map_or(pages, |it| it.pages))?;
                self.turn(replica)
            }
        }
    }

    /// What was committed since the last delta.
    pub(super) fn turn(&mut self, replica: &Replica) -> Result<Turn> {
        let Some(held) = &mut self.held else { return self.attach(replica) };
        if !held.database.is_current() {
            tracing::warn!(path = %self.options.path.display(), "the database was replaced");
            return self.attach(replica);
        }
        match held.read_on()? {
            Read::Lost => {
                tracing::warn!(path = %self.options.path.display(), "the log was replaced");
                self.attach(replica)
            }
            Read::Nothing if held.owed.is_empty() => Ok(Turn::Idle),
            Read::Nothing => self.ship(replica, &BTreeSet::new(), None),
            Read::Pages(pages, span) => self.ship(replica, &pages, Some(span)),
        }
    }

    /// Remembers that the delta is durable.
    pub(super) fn acknowledge(&mut self) -> Result<()> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        self.memory.record(&pending.cursor, &pending.digests, pending.anew)
    }

    /// True if the log is long enough, or has waited long enough, to be moved into the file.
    pub(super) fn wants_checkpoint(&self) -> bool {
        let Some(held) = &self.held else { return false };
        let Some((header, position)) = held.log.filter(|log| held.moved != Some(*log)) else {
            return false;
        };
        let since = match held.moved {
            Some((then, moved)) if then == header => moved.offset,
            _ => 0,
        };
        let frames = (position.offset - since) / header.frame_bytes();
        let due = held.moved_at.elapsed() >= self.options.checkpoint_interval;
        frames >= u64::from(self.options.checkpoint_pages) || due
    }

    /// Moves the log into the file, so that it does not grow for ever; what is committed before
    /// that is shipped next.
    pub(super) fn checkpoint(&mut self, replica: &Replica) -> Result<Turn> {
        let Some(held) = &mut self.held else { return Ok(Turn::Idle) };
        held.moved_at = Instant::now();
        held.database.advance()?;
        if !held.database.hold_writers()? {
            return Ok(Turn::Idle);
        }
        let done = self.checkpoint_alone(replica);
        if let Some(held) = &self.held {
            held.database.admit_writers()?;
        }
        let turn = done?;
        self.cut_log()?;
        Ok(turn)
    }

    /// The part during which writers are held.
    fn checkpoint_alone(&mut self, replica: &Replica) -> Result<Turn> {
        let turn = self.turn(replica)?;
        let in_memory = match &turn {
            Turn::Idle => true,
            Turn::Ship(delta) => matches!(delta.pages, Pages::Held(_)),
        };
        // A delta that is still to be read needs the log as it is.
        if let Some(held) = self.held.as_mut().filter(|_| in_memory) {
            held.database.reset()?;
            held.moved = held.log;
        }
        Ok(turn)
    }

    fn cut_log(&mut self) -> Result<()> {
        let Some(held) = &mut self.held else { return Ok(()) };
        if held.database.log_bytes()? <= self.options.log_bytes_max {
            return Ok(());
        }
        match held.database.log()? {
            Some(log) if log.frames == log.moved => held.database.cut_log(),
            _ => Ok(()),
        }
    }

    fn base(&mut self, replica: &Replica) -> Result<Turn> {
        let Some(held) = &mut self.held else { return Ok(Turn::Idle) };
        held.owed.clear();
        let snapshot = held.snapshot(&self.options.path);
        let digests = snapshot.digests(snapshot.all())?;
        self.send(replica, Scope::Base, digests, None)
    }

    fn compare(&mut self, replica: &Replica) -> Result<Turn> {
        let Some(held) = &mut self.held else { return Ok(Turn::Idle) };
        let owed = std::mem::take(&mut held.owed);
        let snapshot = held.snapshot(&self.options.path);
        let mut known = self.memory.digests()?;
        let pages_then = self.memory.cursor()?.map_or(0, |cursor| cursor.pages);
        known.truncate(pages_then as usize);
        let mut found = snapshot.digests(snapshot.all())?;
        found.retain(|(pgno, digest)| {
            let then = known.get(*pgno as usize - 1).copied().unwrap_or(UNKNOWN);
            then != *digest || owed.contains(pgno)
        });
        if found.is_empty() && pages_then == snapshot.pages {
            let cursor = held.cursor(replica);
            self.memory.record(&cursor, &[], false)?;
            return Ok(Turn::Idle);
        }
        self.send(replica, Scope::Change, found, None)
    }

    fn ship(
        &mut self,
        replica: &Replica,
        pages: &BTreeSet<Pgno>,
        wal: Option<WalSpan>,
    ) -> Result<Turn> {
        let Some(held) = &mut self.held else { return Ok(Turn::Idle) };
        let mut list = std::mem::take(&mut held.owed);
        list.extend(pages);
        let lock_page = held.page_size.lock_page();
        list.retain(|pgno| *pgno <= held.pages && *pgno != lock_page);
        let digests = held.snapshot(&self.options.path).digests(list.into_iter())?;
        self.send(replica, Scope::Change, digests, wal)
    }

    fn send(
        &mut self,
        replica: &Replica,
        scope: Scope,
        digests: Vec<(Pgno, u64)>,
        wal: Option<WalSpan>,
    ) -> Result<Turn> {
        let Some(held) = &mut self.held else { return Ok(Turn::Idle) };
        held.txid = held.txid.next();
        held.time = held.time.max(self.options.clock.now());
        let snapshot = Arc::new(held.snapshot(&self.options.path));
        let list: Arc<[Pgno]> = digests.iter().map(|(pgno, _)| *pgno).collect();
        let pages = if list.len() * held.page_size.bytes() <= HELD_BYTES_MAX {
            Pages::Held(snapshot.hold(&list)?)
        } else {
            snapshot.stream(list)
        };
        let delta = Delta {
            txid: held.txid,
            page_size: held.page_size,
            commit: held.pages,
            time: held.time,
            wal,
            scope,
            pages,
        };
        let cursor = held.cursor(replica);
        self.pending = Some(Pending { cursor, digests, anew: scope == Scope::Base });
        Ok(Turn::Ship(delta))
    }
}

/// What [`Held::read_on`] finds.
enum Read {
    Lost,
    Nothing,
    Pages(BTreeSet<Pgno>, WalSpan),
}

impl Held {
    /// Reads what was committed behind the place that was read.
    fn read_on(&mut self) -> Result<Read> {
        // Begun anew while we looked: the next look sees it.
        let Some(log) = self.database.log()? else { return Ok(Read::Nothing) };
        let Some((header, end)) = log.filled() else { return Ok(Read::Nothing) };
        let from = match self.log {
            Some((read, position)) if read == header => position,
            Some((read, _)) if read.restarts_as(&header) => header.start(),
            // It was empty when we took hold of it.
            None => header.start(),
            Some(_) => return Ok(Read::Lost),
        };
        if from.offset >= end {
            return Ok(if from.offset == end { Read::Nothing } else { Read::Lost });
        }
        let read = commits(&*self.database.log, header, from, end)?;
        let Some((pages, position)) = read.end.filter(|(_, it)| it.offset == end) else {
            return Ok(Read::Lost);
        };
        if from == header.start() {
            self.overlay = Arc::default();
        }
        Arc::make_mut(&mut self.overlay).extend(&read.pages);
        // Pages that a growing database never wrote belong to it nonetheless.
        let grown = self.pages.saturating_add(1)..=pages;
        let changed = read.pages.into_keys().chain(grown).collect();
        self.log = Some((header, position));
        self.pages = pages;
        let span = WalSpan { offset: from.offset, size: end - from.offset, salts: header.salts };
        Ok(Read::Pages(changed, span))
    }

    /// Goes back to an earlier place of the log that is held.
    fn rewind(&mut self, position: Position, pages: Pgno) -> Result<()> {
        let Some((header, _)) = self.log else { return Ok(()) };
        let read = commits(&*self.database.log, header, header.start(), position.offset)?;
        self.overlay = Arc::new(read.pages.into_iter().collect());
        self.log = Some((header, position));
        self.pages = pages;
        Ok(())
    }

    fn snapshot(&self, path: &Path) -> Snapshot {
        Snapshot {
            path: path.to_owned(),
            page_size: self.page_size,
            pages: self.pages,
            file: Arc::clone(&self.database.file),
            log: Arc::clone(&self.database.log),
            overlay: Arc::clone(&self.overlay),
        }
    }

    fn cursor(&self, replica: &Replica) -> Cursor {
        let millis = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Cursor {
            replica: replica.identity.clone(),
            txid: self.txid,
            page_size: self.page_size,
            pages: self.pages,
            file: self.database.id,
            log: self.log.map(|(header, position)| LogCursor {
                sequence: header.sequence,
                salts: header.salts,
                position,
            }),
            time_ms: i64::try_from(millis.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// The checksums that stand in the frame before the cursor; those of the header at the beginning.
fn sums_at_cursor(database: &Database, cursor: Option<&Cursor>) -> Result<Option<[u32; 2]>> {
    let Some(log) = cursor.and_then(|cursor| cursor.log) else { return Ok(None) };
    let Some(header) = database.log.header()? else { return Ok(None) };
    if log.position == header.start() {
        return Ok(Some(log.position.sums));
    }
    let Some(frame) = log.position.offset.checked_sub(header.frame_bytes()) else {
        return Ok(None);
    };
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let length = database
        .log
        .fill_at(&mut bytes, frame)
        .map_err(|cause| Error::new(ErrorKind::Unavailable, CAPTURE).caused_by(cause))?;
    let place = header.position_after(&bytes, log.position.offset);
    Ok((length == bytes.len()).then_some(place.sums))
}

fn time_of(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn unreadable(path: &Path, at: u64) -> Error {
    Error::new(ErrorKind::Corrupt, CAPTURE)
        .because("SQLite counts more committed frames than the log holds")
        .with("path", path.display())
        .with("offset", at)
        .hint("look at it with `PRAGMA integrity_check`")
}
