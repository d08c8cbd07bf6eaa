//! The database that is followed into: read by anybody, written here alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::OPERATION;
use super::journal::Journal;
use super::place::{HEAD_BYTES, Place, place_of, stamp_head};
use crate::probe::immutable;
use crate::restore::{
    Image, POSITION_SUFFIX, directory_of, sync_directory, unwritten, with_suffix,
};
use crate::{PageSize, Pgno, Txid};

/// Beside the database: what is to be written, and the lock that only one follower has.
const STAGING_SUFFIX: &str = ".jetbridge-follow";
/// A journal before it has the name under which SQLite looks for it.
const DRAFT_SUFFIX: &str = ".jetbridge-follow-journal";
const JOURNAL_SUFFIX: &str = "-journal";
/// How long readers may be in the way of one attempt. New ones wait meanwhile, as SQLite has it.
const READERS_MAX: Duration = Duration::from_secs(5);
/// Where the first page has the number that changes with the tables.
const SCHEMA_VERSION_AT: u64 = 40;
/// Bytes of neighbouring pages that are written at once.
const RUN_BYTES: usize = 1 << 20;

/// Files that this process has followed into. They are not closed again: that would take away the
/// locks of whoever reads the database in this process.
static KEPT: Mutex<Vec<Arc<File>>> = Mutex::new(Vec::new());

/// A database that is followed into.
#[derive(Debug)]
pub(super) struct Database {
    claim: Claim,
    connection: Connection,
    file: Arc<File>,
}

/// The right to write to the database of a path, which one follower has.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    staging: Arc<File>,
}

/// What was written at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    /// The pages that differed.
    pub(super) pages: u64,
}

/// What a database is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    page_size: PageSize,
    pages: Pgno,
}

/// What is to be written.
struct Prepared {
    changed: Vec<Pgno>,
    /// True if nothing but the place differs.
    same: bool,
}

impl Claim {
    /// For a database that is there.
    pub(super) fn existing(path: &Path) -> Result<Self> {
        // SQLite looks for the journal beside the file, not beside a link to it.
        Self::lock(fs::canonicalize(path).map_err(unwritten)?)
    }

    /// For one that is to be made, or to be replaced: a link by a file.
    pub(super) fn replacing(path: &Path) -> Result<Self> {
        let directory = fs::canonicalize(directory_of(path)).map_err(unwritten)?;
        let name = path.file_name().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, OPERATION)
                .because("this is not the name of a file")
                .with("path", path.display())
        })?;
        Self::lock(directory.join(name))
    }

    fn lock(path: PathBuf) -> Result<Self> {
        let staging = lock(&with_suffix(&path, STAGING_SUFFIX))?;
        Ok(Self { path, staging })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for suffix in [STAGING_SUFFIX, DRAFT_SUFFIX] {
            // What is left takes room, and the next follower uses it.
            fs::remove_file(with_suffix(&self.path, suffix)).unwrap_or_default();
        }
    }
}

impl Database {
    /// Opens one that was followed, and says where it stands.
    pub(super) fn open(claim: Claim) -> Result<(Self, Place)> {
        let path = claim.path.as_path();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(READERS_MAX).map_err(failed)?;
        let file = kept(path).map_err(unwritten)?;
        let database = Self { claim, connection, file };
        // What an earlier follower left half done is rolled back by this.
        let locked = database.connection.execute_batch("BEGIN EXCLUSIVE; ROLLBACK");
        locked.map_err(|cause| database.refused().caused_by(cause))?;
        let place = database.found()?.ok_or_else(|| database.refused())?;
        database.note(place.txid);
        Ok((database, place))
    }

    /// Where it stands. A change that was cut off is rolled back first: its pages, of which the
    /// first says where the database stands, are half written.
    pub(super) fn place(&self) -> Result<Place> {
        if with_suffix(&self.claim.path, JOURNAL_SUFFIX).exists() {
            self.connection.execute_batch("BEGIN EXCLUSIVE; ROLLBACK").map_err(failed)?;
        }
        self.found()?.ok_or_else(|| self.meddled_with())
    }

    fn meddled_with(&self) -> Error {
        Error::new(ErrorKind::Conflict, OPERATION)
            .because("somebody else wrote to the followed database, or replaced it")
            .with("path", self.claim.path.display())
            .hint("use -force to restore it anew, and only read it then")
    }

    fn other_history(&self, at: &str) -> Error {
        Error::new(ErrorKind::Conflict, OPERATION)
            .because(format!("the replica was begun anew with another database, at {at}"))
            .with("path", self.claim.path.display())
            .hint("readers would not notice; use -force to restore the database anew")
    }

    /// True if what is staged, which is whole, has other tables under the number by which who
    /// reads knows the tables. In one history that cannot be.
    fn has_other_tables(&self, staged: &File) -> Result<bool> {
        let number = |file: &File| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, SCHEMA_VERSION_AT).map_err(unwritten).map(|()| bytes)
        };
        if number(&self.file)? != number(staged)? {
            return Ok(false);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let path = with_suffix(&self.claim.path, STAGING_SUFFIX);
        let staged = Connection::open_with_flags(immutable(&path), flags).map_err(failed)?;
        let ours = tables(&self.connection).map_err(failed)?;
        Ok(tables(&staged).map_err(failed)? != ours)
    }

    fn refused(&self) -> Error {
        let text = format!(
            "cannot resume follow mode: {} is no database that was followed, or somebody has \
             written to it since",
            self.claim.path.display()
        );
        Error::new(ErrorKind::AlreadyExists, OPERATION)
            .because(text)
            .hint("name another output, or use -force to restore it anew")
    }

    fn found(&self) -> Result<Option<Place>> {
        let mut head = [0; HEAD_BYTES];
        match self.file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(place_of(&head)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(unwritten(error)),
        }
    }

    fn shape(&self) -> Result<Shape> {
        let mut bytes = [0; 2];
        self.file.read_exact_at(&mut bytes, 16).map_err(unwritten)?;
        let said = match u32::from(u16::from_be_bytes(bytes)) {
            1 => PageSize::MAX,
            said => said,
        };
        let page_size = PageSize::new(said).ok_or_else(|| self.refused())?;
        let length = self.file.metadata().map_err(unwritten)?.len();
        let pages = length / u64::from(said);
        Ok(Shape { page_size, pages: Pgno::try_from(pages).map_err(|_huge| self.refused())? })
    }

    /// An empty file in which is put together what is to be written, and how many pages the
    /// database has.
    pub(super) fn stage(&self) -> Result<(Arc<File>, Pgno)> {
        self.claim.staging.set_len(0).map_err(unwritten)?;
        Ok((Arc::clone(&self.claim.staging), self.shape()?.pages))
    }

    /// Writes the pages of `image`, whose bytes are `staged`, which lead from `before` to `after`;
    /// `None` if readers are in the way.
    pub(super) fn apply(
        &mut self,
        (image, staged): (&Image, &File),
        before: Place,
        after: Place,
    ) -> Result<Option<Applied>> {
        let shape = self.shape()?;
        if shape.page_size != image.page_size {
            return Err(Error::new(ErrorKind::Conflict, OPERATION)
                .because("the replica has pages of another size now")
                .hint("use -force to restore the database anew"));
        }
        let draft = with_suffix(&self.claim.path, DRAFT_SUFFIX);
        let Prepared { changed, same } = self.prepare((image, staged), shape, (&draft, after))?;
        // Who has pages in memory drops them when the transaction is another one, and only then.
        if before.txid == after.txid && !same {
            return Err(self.other_history("the same transaction"));
        }
        if image.is_claimed() && self.has_other_tables(staged)? {
            return Err(self.other_history("the same version of its schema"));
        }
        match self.connection.execute_batch("BEGIN EXCLUSIVE") {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        }
        let written = self.write((staged, image), &changed, (&draft, before));
        // Gives the lock back: SQLite itself has written nothing. If we failed half-way, the
        // journal is there, and the next who takes the lock rolls back.
        self.connection.execute_batch("ROLLBACK").map_err(failed)?;
        written?;
        self.claim.staging.set_len(0).map_err(unwritten)?;
        self.note(after.txid);
        Ok(Some(Applied { pages: changed.len() as u64 }))
    }

    /// Writes the journal of what differs, and says which pages do.
    fn prepare(
        &self,
        (image, staged): (&Image, &File),
        shape: Shape,
        (draft, after): (&Path, Place),
    ) -> Result<Prepared> {
        let page_size = shape.page_size;
        let (mut old, mut new) = (vec![0; page_size.bytes()], vec![0; page_size.bytes()]);
        let mut journal = Journal::create(draft, page_size, shape.pages).map_err(unwritten)?;
        let mut changed = Vec::new();
        // The first page says where the database stands, and so changes whatever else does.
        self.file.read_exact_at(&mut old, 0).map_err(unwritten)?;
        journal.add(1, &old).map_err(unwritten)?;
        let claims_first = image.claimed().next() == Some(1);
        let mut first = old.clone();
        if claims_first {
            staged.read_exact_at(&mut first, 0).map_err(unwritten)?;
        }
        stamp_head(&mut first, image.pages, after);
        let mut moved = old.clone();
        stamp_head(&mut moved, shape.pages, after);
        staged.write_all_at(&first, 0).map_err(unwritten)?;
        changed.push(1);
        for pgno in image.claimed().filter(|pgno| *pgno != 1) {
            let offset = page_size.offset_of(pgno);
            staged.read_exact_at(&mut new, offset).map_err(unwritten)?;
            if pgno <= shape.pages {
                self.file.read_exact_at(&mut old, offset).map_err(unwritten)?;
                if old == new {
                    continue;
                }
                journal.add(pgno, &old).map_err(unwritten)?;
            }
            changed.push(pgno);
        }
        let cut = image.pages.saturating_add(1)..=shape.pages;
        for pgno in cut.filter(|pgno| *pgno != page_size.lock_page()) {
            self.file.read_exact_at(&mut old, page_size.offset_of(pgno)).map_err(unwritten)?;
            journal.add(pgno, &old).map_err(unwritten)?;
        }
        journal.finish().map_err(unwritten)?;
        // The numbers of pages are in the first.
        let same = moved == first && changed.len() == 1;
        Ok(Prepared { changed, same })
    }

    /// Writes under the lock: the journal gets its name, the pages their places, and when all is
    /// on disk the journal goes, which is the moment when it counts.
    fn write(
        &self,
        (staged, image): (&File, &Image),
        changed: &[Pgno],
        (draft, before): (&Path, Place),
    ) -> Result<()> {
        let same = fs::metadata(&self.claim.path).and_then(|named| {
            let ours = self.file.metadata()?;
            Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino()))
        });
        if !same.unwrap_or(false) || self.found()? != Some(before) {
            return Err(self.meddled_with());
        }
        let journal = with_suffix(&self.claim.path, JOURNAL_SUFFIX);
        fs::rename(draft, &journal).map_err(unwritten)?;
        sync_directory(&journal)?;
        let page_size = image.page_size;
        let at_once = (RUN_BYTES / page_size.bytes()).max(1);
        let mut left = changed;
        while let Some(first) = left.first() {
            let follows = |(at, pgno): &(usize, &Pgno)| **pgno as usize == *first as usize + at;
            let run = left.iter().enumerate().take(at_once).take_while(follows).count();
            let mut bytes = vec![0; run * page_size.bytes()];
            staged.read_exact_at(&mut bytes, page_size.offset_of(*first)).map_err(unwritten)?;
            self.file.write_all_at(&bytes, page_size.offset_of(*first)).map_err(unwritten)?;
            left = &left[run..];
        }
        let length = u64::from(image.pages) * u64::from(page_size.get());
        self.file.set_len(length).map_err(unwritten)?;
        self.file.sync_all().map_err(unwritten)?;
        fs::remove_file(&journal).map_err(unwritten)
    }

    /// Leaves the position where Litestream looks for it. Ours is in the first page.
    fn note(&self, txid: Txid) {
        let draft = with_suffix(&self.claim.path, DRAFT_SUFFIX);
        let noted = fs::write(&draft, format!("{txid}\n"))
            .and_then(|()| fs::rename(&draft, with_suffix(&self.claim.path, POSITION_SUFFIX)));
        if let Err(error) = noted {
            tracing::debug!(%error, "the position is not noted for others");
        }
    }
}

/// The file that only one follower has locked.
fn lock(path: &Path) -> Result<Arc<File>> {
    loop {
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(unwritten)?;
        file.try_lock().map_err(|_held| {
            Error::new(ErrorKind::Conflict, OPERATION)
                .because("another process follows into this database")
                .with("lock", path.display())
        })?;
        // Who had it before may have removed it on the way out.
        if file.metadata().map_err(unwritten)?.nlink() > 0 {
            return Ok(Arc::new(file));
        }
    }
}

fn kept(path: &Path) -> io::Result<Arc<File>> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let named = fs::metadata(path)?;
    let is_it = |file: &&Arc<File>| {
        file.metadata().is_ok_and(|it| (it.dev(), it.ino()) == (named.dev(), named.ino()))
    };
    if let Some(file) = kept.iter().find(is_it) {
        return Ok(Arc::clone(file));
    }
    let file = Arc::new(File::options().read(true).write(true).open(path)?);
    kept.push(Arc::clone(&file));
    Ok(file)
}

/// What the database says of its tables.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut query = connection.prepare("SELECT * FROM sqlite_schema ORDER BY rowid")?;
    let columns = query.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
    query.query_map([], row)?.collect()
}

fn failed(cause: rusqlite::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, OPERATION)
        .because("the followed database cannot be written")
        .caused_by(cause)
}
