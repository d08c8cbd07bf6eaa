//! A database while its log is held, and how far it was read.
//!
//! What lies in the log and not yet in the file is read from the log, and only that: a log of
//! which the file has everything may be begun anew, and overwritten, by the next writer.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};

use super::database::{Database, Log};
use super::fault::CAPTURE;
use super::memory::LogCursor;
use super::snapshot::Snapshot;
use crate::ltx::WalSpan;
use crate::wal::{FRAME_HEADER_BYTES, Header, Position, Source as _, commits};
use crate::{PageSize, Pgno};

/// The database, read up to a place.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) database: Database,
    pub(super) page_size: PageSize,
    /// The size of the database in pages at that place.
    pub(super) pages: Pgno,
    /// The log that was read, and the place behind what was.
    pub(super) log: Option<(Header, Position)>,
    /// The log when we took hold of it.
    pinned: Log,
    /// Where in the log the newest version of each page stands that may not be in the file.
    overlay: Arc<HashMap<Pgno, u64>>,
}

/// What [`Held::read_on`] finds.
#[derive(Debug)]
pub(super) enum Read {
    /// Something else than what follows: it cannot be told what was missed.
    Lost,
    Nothing,
    Pages(BTreeSet<Pgno>, WalSpan),
}

impl Held {
    /// Opens the database, and holds and reads its log up to what is committed now.
    pub(super) fn take(path: &Path, busy: Duration) -> Result<Self> {
        let (database, pinned) = Database::open(path, busy)?;
        let (page_size, pages) = database.size()?;
        let overlay = Arc::default();
        let mut held = Self { database, page_size, pages, log: None, pinned, overlay };
        held.log = match pinned.filled() {
            None => pinned.header.map(|header| (header, header.start())),
            Some((header, end)) if pinned.is_moved() => {
                // Overwritten already, perhaps: then this place is never taken for another's.
                let sums = held.sums_at(end)?.unwrap_or_default();
                Some((header, Position { offset: end, sums }))
            }
            Some((header, end)) => Some((header, held.read_all(path, header, end)?)),
        };
        Ok(held)
    }

    fn read_all(&mut self, path: &Path, header: Header, end: u64) -> Result<Position> {
        let read = commits(&*self.database.log, header, header.start(), end)?;
        self.overlay = Arc::new(read.pages.into_iter().collect());
        let position = read.end.map_or(header.start(), |(_, position)| position);
        if position.offset == end { Ok(position) } else { Err(unreadable(path, position.offset)) }
    }

    /// The log's header and where what is committed ended when we took hold of it.
    pub(super) fn found_log(&self) -> Option<(Header, u64)> {
        self.pinned.filled()
    }

    /// The checksums that stand in the frame before `offset`; those of the header at the
    /// beginning.
    pub(super) fn sums_at(&self, offset: u64) -> Result<Option<[u32; 2]>> {
        let Some(header) = self.database.log.header()? else { return Ok(None) };
        if offset == header.start().offset {
            return Ok(Some(header.start().sums));
        }
        let Some(frame) = offset.checked_sub(header.frame_bytes()) else { return Ok(None) };
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let length = self
            .database
            .log
            .fill_at(&mut bytes, frame)
            .map_err(|cause| Error::new(ErrorKind::Unavailable, CAPTURE).caused_by(cause))?;
        Ok((length == bytes.len()).then_some(header.position_after(&bytes, offset).sums))
    }

    /// Goes back to an earlier place of the log that is held, at which the database had `pages`.
    pub(super) fn rewind(&mut self, position: Position, pages: Pgno) -> Result<()> {
        let Some((header, _)) = self.log else { return Ok(()) };
        if !self.pinned.is_moved() {
            let read = commits(&*self.database.log, header, header.start(), position.offset)?;
            self.overlay = Arc::new(read.pages.into_iter().collect());
        }
        self.log = Some((header, position));
        self.pages = pages;
        Ok(())
    }

    /// Reads what was committed behind the place that was read.
    pub(super) fn read_on(&mut self) -> Result<Read> {
        let log = self.database.settled_log()?;
        let Some((header, end)) = log.filled() else { return Ok(Read::Nothing) };
        let Some(from) = self.next_place(&header) else { return Ok(Read::Lost) };
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
        // What the file has is read there: these frames may be overwritten at any time.
        let in_file = self.pinned.filled().filter(|(pinned, _)| *pinned == header);
        let in_file = in_file.filter(|_| self.pinned.is_moved()).map_or(0, |(_, end)| end);
        let fresh = read.pages.iter().filter(|(_, offset)| **offset >= in_file);
        Arc::make_mut(&mut self.overlay).extend(fresh);
        // Pages that a growing database never wrote belong to it nonetheless.
        let grown = self.pages.min(read.fewest).saturating_add(1)..=pages;
        let changed = read.pages.into_keys().chain(grown).collect();
        self.log = Some((header, position));
        self.pages = pages;
        let span = WalSpan { offset: from.offset, size: end - from.offset, salts: header.salts };
        Ok(Read::Pages(changed, span))
    }

    /// Where to read on in the log of this header; `None` if something before it was missed.
    fn next_place(&self, header: &Header) -> Option<Position> {
        // It was empty when we took hold of it.
        let Some((read, position)) = &self.log else { return Some(header.start()) };
        if read == header {
            return Some(*position);
        }
        // Only a log of which the file has everything is begun anew; but was all of it read?
        let pinned = self.pinned.filled().filter(|(pinned, _)| pinned == read);
        let complete = pinned.is_none_or(|(_, end)| position.offset >= end);
        (complete && read.restarts_as(header)).then_some(header.start())
    }

    /// Moves the rest of the log into the file. Only while writers are held, and only if all that
    /// is committed was read.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.database.reset()?;
        let Some(log) = self.database.log()? else { return Ok(()) };
        if log.is_moved() {
            self.overlay = Arc::default();
        }
        self.pinned = log;
        Ok(())
    }

    /// The state of the database at the place that was read.
    pub(super) fn snapshot(&self, path: &Path) -> Snapshot {
        Snapshot {
            path: path.to_owned(),
            page_size: self.page_size,
            pages: self.pages,
            file: Arc::clone(&self.database.file),
            log: Arc::clone(&self.database.log),
            overlay: Arc::clone(&self.overlay),
        }
    }

    /// The place, as it is remembered.
    pub(super) fn place(&self) -> Option<LogCursor> {
        self.log.map(|(header, position)| LogCursor {
            sequence: header.sequence,
            salts: header.salts,
            position,
        })
    }
}

fn unreadable(path: &Path, at: u64) -> Error {
    Error::new(ErrorKind::Corrupt, CAPTURE)
        .because("SQLite counts more committed frames than the log holds")
        .with("path", path.display())
        .with("offset", at)
        .hint("look at it with `PRAGMA integrity_check`")
}
