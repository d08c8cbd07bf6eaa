//! One SQLite file that several processes read and write at once.
//!
//! Write-ahead log, one writer connection, and a pool of readers that work on their caller's
//! thread. Writes are committed in groups ([`commit`](crate::commit)); this module opens the
//! file, keeps its [`State`] row and closes it. It knows nothing of keys, objects or streams:
//! those bring their tables as migrations and their statements as jobs.
//!
//! A file belongs to one generation of one bucket or stream and its path is never used again, so
//! a handle that outlives a deletion meets [`State::deleted`], never somebody else's rows. The
//! file must be opened through SQLite alone: its locks are the process's, and closing any other
//! descriptor of the file would drop them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::commit::{Committer, Tx};
use crate::fault::{Fault, JobResult, from_io};
use crate::lock::TurnLock;

/// Marks our files, so that a foreign SQLite database is not taken for one: `jetb` in ASCII.
const APPLICATION_ID: i32 = 0x6A65_7462;
/// A small write changes a page or two, and each is copied into the log whole: small pages make
/// small writes cheap.
pub(crate) const PAGE_BYTES: u32 = 1_024;
/// Bytes that the file of the write-ahead log keeps once a large transaction has made it longer:
/// four times what it has when it is copied into the database.
const LOG_BYTES_KEPT: u64 = 64 << 20;
/// Statements each connection keeps prepared; more than all modules together use.
const STATEMENTS_PREPARED: usize = 96;
/// KiB of pages each connection keeps.
const CACHE_KIB: u32 = 8_192;
/// How long SQLite waits by itself. Writers take turns by a lock of ours, so this covers only
/// the recovery of the log after a crash and the instant in which another process closes.
const BUSY_WAIT: Duration = Duration::from_secs(30);
/// Readers kept when idle. Beyond this many threads read at once, connections are made and
/// dropped.
const READERS_IDLE_MAX: usize = 16;

/// The row every database has, kept in step by the committer: see [`Tx::state`].
const STATE_TABLE: &str = "
    CREATE TABLE state (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        sequence INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        settings INTEGER NOT NULL,
        sealed INTEGER NOT NULL,
        deleted INTEGER NOT NULL
    );
    INSERT INTO state VALUES (0, 0, 0, 0, 0, 0, 0);
";

/// When an acknowledged write is on the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Durability {
    /// Before it is acknowledged: a power cut loses nothing. Every commit waits for the disk.
    Full,
    /// Soon after: the end of a process loses nothing, a power cut may lose the last commits but
    /// never breaks the store.
    #[default]
    Process,
}

/// How a database is opened.
#[derive(Clone)]
pub(crate) struct DbOptions {
    /// When a commit is on the disk.
    pub(crate) durability: Durability,
    /// The statements that bring a database from version `i` to `i + 1`, in order. Never
    /// changed once released, only added to.
    pub(crate) migrations: &'static [&'static str],
    /// Called after every group that changed [`State::sequence`] or the settings, on the thread
    /// that committed it; must not block.
    pub(crate) committed: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for DbOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbOptions")
            .field("durability", &self.durability)
            .field("migrations", &self.migrations.len())
            .finish_non_exhaustive()
    }
}

/// What every database knows of itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    /// The last revision or sequence given out.
    pub(crate) sequence: u64,
    /// Rows that count: revisions with their history, objects, messages.
    pub(crate) entries: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Grows with every change of the settings, so that open handles read them again.
    pub(crate) settings: u64,
    /// No further writes but of this row.
    pub(crate) sealed: bool,
    /// The bucket or stream is gone; this file is about to go.
    pub(crate) deleted: bool,
}

/// A database. Clones share it.
#[derive(Clone)]
pub(crate) struct Database(Arc<Inner>);

struct Inner {
    committer: Committer,
    readers: Mutex<Vec<Connection>>,
    closed: AtomicBool,
}

impl Database {
    /// Opens the database at `path`, making and migrating it under the lock. Its directory must
    /// be there. Blocks while others open it or write.
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if a newer version wrote it,
    /// [`Corrupt`](ErrorKind::Corrupt) if it is no database of ours,
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if it cannot be written.
    pub(crate) fn open(path: PathBuf, options: DbOptions) -> Result<Self> {
        let lock = TurnLock::open(&path).map_err(|e| from_io(e, "local.open", &path))?;
        let turn = lock.acquire().map_err(|e| from_io(e, "local.open", &path))?;
        let made = !path.exists();
        let writer = connect(&path, options.durability, OpenFlags::SQLITE_OPEN_CREATE)
            .and_then(|mut writer| migrate(&mut writer, options.migrations).map(|()| writer))
            .map_err(|fault| fault.into_error("local.open", &path))?;
        writer.set_prepared_statement_cache_capacity(STATEMENTS_PREPARED);
        if made && options.durability == Durability::Full {
            sync_parent(&path).map_err(|e| from_io(e, "local.open", &path))?;
        }
        drop(turn);
        let committer = Committer::new(path, lock, writer, options)?;
        let (readers, closed) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { committer, readers, closed })))
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        self.0.committer.path()
    }

    /// Runs `job` in a transaction, shared with whoever writes at the same time, and returns
    /// once it is committed.
    ///
    /// A job may run more than once: if another job of its group fails half way, the group is
    /// rolled back and run again without that one. So it must have no effect but through the
    /// transaction. Its error undoes its own changes alone. A future dropped in mid-write leaves
    /// the job either done or not begun. In a deleted database every job is
    /// [`NotFound`](ErrorKind::NotFound).
    pub(crate) async fn write<T, F>(&self, operation: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> JobResult<T> + Send + 'static,
    {
        self.0.committer.write(operation, job).await
    }

    /// Runs `job` on this thread and a connection that sees every committed write. Several
    /// statements may see different states: for one state use [`Database::snapshot`].
    ///
    /// Whoever deletes a database renames the tables that its reads use, so that a read of what
    /// is gone fails, and is [`NotFound`](ErrorKind::NotFound), at no cost to the others.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Connection) -> JobResult<T>,
    ) -> Result<T> {
        let reader = self.reader(operation)?;
        let answer = job(&reader).map_err(|fault| match fault {
            Fault::Sql(_) if State::load(&reader).is_ok_and(|state| state.deleted) => {
                gone(operation)
            }
            fault => fault.into_error(operation, self.path()),
        });
        self.put_back(reader);
        answer
    }

    /// As [`Database::read`], all statements on one state.
    pub(crate) fn snapshot<T>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Connection) -> JobResult<T>,
    ) -> Result<T> {
        self.read(operation, |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let answer = job(&snapshot)?;
            snapshot.commit()?;
            Ok(answer)
        })
    }

    /// The present [`State`].
    pub(crate) fn state(&self, operation: &'static str) -> Result<State> {
        self.read(operation, |connection| Ok(State::load(connection)?))
    }

    /// Writes that are not settled, those under way counting as one.
    pub(crate) fn pending(&self) -> usize {
        self.0.committer.pending()
    }

    /// Waits for the writes under way, then closes every connection. Later calls are
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub(crate) async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.readers().clear();
        self.0.committer.close().await;
    }

    fn reader(&self, operation: &'static str) -> Result<Connection> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(closed(operation));
        }
        if let Some(reader) = self.readers().pop() {
            return Ok(reader);
        }
        let path = self.path();
        let reader = connect(path, Durability::Process, OpenFlags::empty()).and_then(|reader| {
            reader.set_prepared_statement_cache_capacity(STATEMENTS_PREPARED);
            reader.pragma_update(None, "query_only", true)?;
            Ok(reader)
        });
        reader.map_err(|fault| match fault {
            _ if !path.exists() => gone(operation),
            fault => fault.into_error(operation, path),
        })
    }

    fn put_back(&self, reader: Connection) {
        let mut readers = self.readers();
        if readers.len() < READERS_IDLE_MAX && !self.0.closed.load(Ordering::Acquire) {
            readers.push(reader);
        }
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.path()).finish()
    }
}

impl State {
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        const SQL: &str =
            "SELECT sequence, entries, bytes, settings, sealed, deleted FROM state WHERE id = 0";
        connection.prepare_cached(SQL)?.query_row([], |row| {
            Ok(Self {
                sequence: unsigned(row.get(0)?),
                entries: unsigned(row.get(1)?),
                bytes: unsigned(row.get(2)?),
                settings: unsigned(row.get(3)?),
                sealed: row.get(4)?,
                deleted: row.get(5)?,
            })
        })
    }

    pub(crate) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        const SQL: &str = "UPDATE state SET sequence = ?1, entries = ?2, bytes = ?3, \
                           settings = ?4, sealed = ?5, deleted = ?6 WHERE id = 0";
        let (sequence, entries) = (signed(self.sequence), signed(self.entries));
        let (bytes, settings) = (signed(self.bytes), signed(self.settings));
        connection
            .prepare_cached(SQL)?
            .execute((sequence, entries, bytes, settings, self.sealed, self.deleted))
            .map(drop)
    }
}

/// A number as SQLite stores it. Counts and times stay far below the sign bit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The inverse of [`signed`].
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What every call after [`Database::close`] gets.
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because("the store was closed")
}

/// What every call on a deleted bucket or stream gets.
pub(crate) fn gone(operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation).because("it was deleted")
}

/// Another connection to the database at `path`.
pub(crate) fn connect(
    path: &Path,
    durability: Durability,
    more: OpenFlags,
) -> JobResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    // Without this SQLite plans a prepared statement anew for each new value bound to it, which
    // takes three times as long as running it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = match durability {
        Durability::Full => "full",
        Durability::Process => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
    connection.pragma_update(None, "journal_size_limit", signed(LOG_BYTES_KEPT))?;
    // The committer sees to it, where it may wait for the disk.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

fn migrate(writer: &mut Connection, migrations: &[&str]) -> JobResult<()> {
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = transaction.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || found > 0) {
        return Err(foreign());
    }
    if found > known {
        return Err(newer(found, known));
    }
    if tables == 0 {
        transaction.execute_batch(STATE_TABLE)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    for migration in migrations.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(migration)?;
    }
    if found < known {
        transaction.pragma_update(None, "user_version", known)?;
    }
    Ok(transaction.commit()?)
}

fn foreign() -> Fault {
    Error::new(ErrorKind::Corrupt, "local.open")
        .because("the file is a SQLite database, but none of jetbridge's")
        .hint("name another directory for the store")
        .into()
}

fn newer(found: i64, known: i64) -> Fault {
    Error::new(ErrorKind::Unsupported, "local.open")
        .because("a newer jetbridge wrote this store")
        .with("layout", found)
        .with("known_up_to", known)
        .hint("upgrade this jetbridge, or name another directory")
        .into()
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
