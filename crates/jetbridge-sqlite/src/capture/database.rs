//! A live database, and the locks that keep its log from being taken away.
//!
//! A read transaction that stays open pins the log. If it began while the log had frames that
//! were not yet in the file, nobody can reset the log before it ends. If it began when the file
//! had everything (SQLite then reads the file alone), the next writer may begin the log anew, but
//! nobody can move a frame into the file any more; so no log that has frames is reset after that.
//! In both cases: **while the transaction is held, no frame that was not in the file when it
//! began is overwritten.** [`Database::reset`] is the one place that lets go, and does so while it
//! holds the write lock, so that no commit falls into the gap.
//!
//! What is committed is asked of SQLite (`wal_checkpoint(NOOP)`), never concluded from the log: a
//! writer that dies in the middle may leave a valid commit frame that is overwritten later.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jetbridge_core::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

use super::fault::{CAPTURE, failed, io_failed, not_a_database, read_only};
use super::kept::{self, FileId};
use super::slim::slim;
use crate::PageSize;
use crate::wal::{Header, Source as _};

/// What every unencrypted database begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How often the beginning of a read transaction is tried beside writers before they are made to
/// wait for one: each try takes well below a millisecond.
const PIN_ATTEMPTS: usize = 20;
/// How often the write lock is asked for. SQLite's own waiting asks ten times a second in the
/// end, and never meets the short gap between two transactions of a busy writer.
const GAP: Duration = Duration::from_micros(200);

/// The database, with a read transaction held on it.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    busy: Duration,
    pub(super) id: FileId,
    pub(super) file: Arc<File>,
    pub(super) log: Arc<File>,
    log_path: PathBuf,
    log_id: FileId,
    /// Holds the read transaction.
    holder: Connection,
    /// Asks and checkpoints, and takes the read transaction over.
    other: Connection,
    /// Holds the write lock while there must be no commits.
    writer: Option<Connection>,
}

/// The log, as SQLite sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Log {
    /// What the file says; `None` if it is empty. The header of a log without frames may be that
    /// of the log before.
    pub(super) header: Option<Header>,
    /// Committed frames.
    pub(super) frames: u32,
    /// How many of them are in the database file.
    pub(super) moved: u32,
}

impl Log {
    /// The header, and where the committed frames end; `None` without any.
    pub(super) fn filled(&self) -> Option<(Header, u64)> {
        let header = self.header.filter(|_| self.frames > 0)?;
        Some((header, header.end_of(self.frames)))
    }

    /// Whether the file has everything. Then the log may be overwritten at any time.
    pub(super) fn is_moved(&self) -> bool {
        self.frames == self.moved
    }
}

impl Database {
    /// Opens the database, switches it to WAL mode if it is not, and holds its log.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) while there is no file or an empty one,
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no database,
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if it cannot be written,
    /// [`Unavailable`](ErrorKind::Unavailable) while others hold its locks.
    pub(super) fn open(path: &Path, busy: Duration) -> Result<(Self, Log)> {
        kept::forget_deleted();
        let (id, file) = kept::open(path).map_err(|cause| io_failed(path, cause))?;
        check_magic(path, &file)?;
        let holder = connect(path, busy)?;
        if holder.is_readonly(MAIN_DB).map_err(|cause| failed(path, cause))? {
            return Err(read_only(path));
        }
        set_wal_mode(path, &holder)?;
        let log_path = beside(&real(path).map_err(|cause| io_failed(path, cause))?, "-wal");
        let other = connect(path, busy)?;
        // Opens the log, which makes its file.
        frames(path, &other)?;
        let log = File::open(&log_path).map_err(|cause| io_failed(&log_path, cause))?;
        let log_id = FileId::of(&log_path).map_err(|cause| io_failed(&log_path, cause))?;
        let path = path.to_owned();
        let log = Arc::new(log);
        let writer = None;
        let mut database =
            Self { path, busy, id, file, log, log_path, log_id, holder, other, writer };
        let log = database.pin()?;
        Ok((database, log))
    }

    /// Whether the names still stand for the files that are open.
    pub(super) fn is_current(&self) -> bool {
        let same = |path: &Path, id| FileId::of(path).is_ok_and(|now| now == id);
        same(&self.path, self.id) && same(&self.log_path, self.log_id)
    }

    /// The page size, and the size of the database in pages, as of the read transaction.
    pub(super) fn size(&self) -> Result<(PageSize, u32)> {
        let ask = |pragma: &str| {
            self.holder
                .query_row(pragma, [], |row| row.get::<_, u32>(0))
                .map_err(|cause| failed(&self.path, cause))
        };
        let bytes = ask("PRAGMA page_size")?;
        let page_size = PageSize::new(bytes).ok_or_else(|| not_a_database(&self.path))?;
        Ok((page_size, ask("PRAGMA page_count")?))
    }

    /// The log now; `None` if it was begun anew while we looked.
    pub(super) fn log(&self) -> Result<Option<Log>> {
        let before = self.log.header()?;
        let (frames, moved) = frames(&self.path, &self.other)?;
        let after = self.log.header()?;
        Ok((before == after).then_some(Log { header: before, frames, moved }))
    }

    /// The log now.
    pub(super) fn settled_log(&self) -> Result<Log> {
        for _ in 0..PIN_ATTEMPTS {
            if let Some(log) = self.log()? {
                return Ok(log);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, CAPTURE)
            .because("the log is begun anew all the time")
            .with("path", self.path.display()))
    }

    /// The size of the log's file in bytes.
    pub(super) fn log_bytes(&self) -> Result<u64> {
        self.log.metadata().map(|facts| facts.len()).map_err(|cause| io_failed(&self.path, cause))
    }

    /// Takes the read transaction anew, so that what was committed since can be moved into the
    /// file, and moves it. Others read and write meanwhile, and the log is held throughout.
    pub(super) fn advance(&mut self) -> Result<()> {
        self.begin(&self.other)?;
        self.end(&self.holder)?;
        std::mem::swap(&mut self.holder, &mut self.other);
        self.move_frames()
    }

    /// Keeps every other writer out until [`Database::admit_writers`]; `false` if they leave no
    /// gap for too long.
    pub(super) fn hold_writers(&mut self) -> Result<bool> {
        let writer = connect(&self.path, Duration::ZERO)?;
        let deadline = Instant::now() + self.busy;
        loop {
            match writer.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => break,
                Err(cause) if !is_busy(&cause) => return Err(failed(&self.path, cause)),
                Err(_busy) if Instant::now() >= deadline => return Ok(false),
                Err(_busy) => std::thread::sleep(GAP),
            }
        }
        self.writer = Some(writer);
        Ok(true)
    }

    /// Whether writers are held.
    pub(super) fn is_alone(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| !writer.is_autocommit())
    }

    /// Ends [`Database::hold_writers`], if it was begun.
    pub(super) fn admit_writers(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) if !writer.is_autocommit() => self.run(&writer, "ROLLBACK"),
            _ => Ok(()),
        }
    }

    /// Moves the rest of the log into the file, so that the next writer begins it anew. Only
    /// while writers are held, and only if all that is committed was captured: for a moment the
    /// log is not pinned.
    pub(super) fn reset(&self) -> Result<()> {
        self.end(&self.holder)?;
        let moved = self.move_frames();
        self.begin(&self.holder)?;
        moved
    }

    /// Begins the log anew and cuts its file, if all of it is in the database file. It takes a
    /// commit to do that: one that sets a number to what it is.
    pub(super) fn cut_log(&mut self) -> Result<()> {
        if !self.hold_writers()? {
            return Ok(());
        }
        let committed = self.commit_nothing();
        self.admit_writers()?;
        committed
    }

    fn commit_nothing(&self) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let version = writer.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        let version = version.map_err(|cause| failed(&self.path, cause))?;
        self.run(writer, &format!("PRAGMA user_version = {version}; COMMIT"))
    }

    /// Begins the read transaction at the end of the log, and says where that is.
    fn pin(&mut self) -> Result<Log> {
        for _ in 0..PIN_ATTEMPTS {
            if let Some(log) = self.try_pin()? {
                return Ok(log);
            }
        }
        let pinned = if self.hold_writers()? { self.try_pin() } else { Ok(None) };
        self.admit_writers()?;
        pinned?.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, CAPTURE)
                .because("a writer holds the database")
                .with("path", self.path.display())
        })
    }

    /// `None` if something was committed meanwhile, so that the place is not known.
    fn try_pin(&self) -> Result<Option<Log>> {
        let before = self.log()?;
        self.begin(&self.holder)?;
        let after = self.log()?;
        let same = |a: Log, b: Log| (a.header, a.frames) == (b.header, b.frames);
        match (before, after) {
            (Some(before), Some(after)) if same(before, after) => Ok(Some(after)),
            _ => {
                self.end(&self.holder)?;
                Ok(None)
            }
        }
    }

    /// A checkpoint that waits for nobody and moves as much as readers allow.
    fn move_frames(&self) -> Result<()> {
        checkpoint(&self.path, &self.other, "PRAGMA wal_checkpoint(PASSIVE)").map(drop)
    }

    fn begin(&self, connection: &Connection) -> Result<()> {
        // A transaction reads nothing, and so locks nothing, before its first query.
        self.run(connection, "BEGIN")?;
        let read = connection.query_row("PRAGMA user_version", [], |_| Ok(()));
        read.map_err(|cause| {
            connection.execute_batch("ROLLBACK").unwrap_or_default();
            failed(&self.path, cause)
        })
    }

    fn end(&self, connection: &Connection) -> Result<()> {
        self.run(connection, "ROLLBACK")
    }

    fn run(&self, connection: &Connection, sql: &str) -> Result<()> {
        connection.execute_batch(sql).map_err(|cause| failed(&self.path, cause))
    }
}

/// The path beside which SQLite keeps its files: that of the file itself, not of a link to it.
pub(super) fn real(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let path = std::path::absolute(path)?;
            let folder = path.parent().map(std::fs::canonicalize).transpose()?;
            Ok(folder.unwrap_or_default().join(path.file_name().unwrap_or_default()))
        }
        found => found,
    }
}

/// The name of a file that SQLite keeps beside a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn check_magic(path: &Path, file: &File) -> Result<()> {
    let mut magic = [0; MAGIC.len()];
    match file.fill_at(&mut magic, 0).map_err(|cause| io_failed(path, cause))? {
        0 => Err(Error::new(ErrorKind::NotFound, CAPTURE)
            .because("the database is empty so far")
            .with("path", path.display())),
        _ if &magic == MAGIC => Ok(()),
        _ => Err(not_a_database(path)),
    }
}

fn connect(path: &Path, busy: Duration) -> Result<Connection> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(busy)?;
        slim(&connection)?;
        // Closing must neither move the log nor delete it: the next start goes on in it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 0")?;
        Ok(connection)
    };
    open().map_err(|cause| failed(path, cause))
}

fn set_wal_mode(path: &Path, connection: &Connection) -> Result<()> {
    let mode = connection
        .query_row("PRAGMA journal_mode = wal", [], |row| row.get::<_, String>(0))
        .map_err(|cause| failed(path, cause))?;
    if mode == "wal" {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, CAPTURE)
        .because("the database cannot be switched to WAL mode")
        .with("path", path.display())
        .with("journal_mode", mode))
}

/// Committed frames of the log, and how many of them are in the file.
fn frames(path: &Path, connection: &Connection) -> Result<(u32, u32)> {
    checkpoint(path, connection, "PRAGMA wal_checkpoint(NOOP)")
}

fn checkpoint(path: &Path, connection: &Connection, sql: &str) -> Result<(u32, u32)> {
    let count = |value: i64| u32::try_from(value).unwrap_or(0);
    connection
        .query_row(sql, [], |row| Ok((count(row.get(1)?), count(row.get(2)?))))
        .map_err(|cause| failed(path, cause))
}

fn is_busy(cause: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(cause.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}
