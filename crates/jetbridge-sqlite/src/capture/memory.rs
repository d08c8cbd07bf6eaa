//! What a capture remembers between runs: how far it came, and a digest of every page.
//!
//! A small database of its own beside the replicated one. What it says was true when the replica
//! acknowledged the TXID it names. It is written without waiting for the disk: after a power
//! failure it may be an older truth, which is a truth still, because the replica knows what it
//! was sent since ([`touched_since`](super::Uplink::touched_since)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::fault::{CAPTURE, failed, io_failed};
use super::kept::FileId;
use super::slim::slim;
use super::snapshot::UNKNOWN;
use crate::wal::Position;
use crate::{PageSize, Pgno, Txid};

/// The layout that this code reads and writes. Another one is begun anew: all that is lost is
/// that the next start ships the whole database.
const LAYOUT: i64 = 1;
/// Digests in one row: a kibibyte of them.
const BLOCK_DIGESTS: u32 = 128;
const DIGEST_BYTES: usize = 8;
pub(super) const FILE_NAME: &str = "capture.db";

/// How far a capture came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Cursor {
    /// The replica that acknowledged it.
    pub(super) replica: String,
    pub(super) txid: Txid,
    pub(super) page_size: PageSize,
    /// The size of the database in pages.
    pub(super) pages: Pgno,
    pub(super) file: FileId,
    /// The place in the log, if there was one.
    pub(super) log: Option<LogCursor>,
    /// When the last delta was captured, in milliseconds since 1970.
    pub(super) time_ms: i64,
}

/// A place in a log that can be told from every other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LogCursor {
    pub(super) sequence: u32,
    pub(super) salts: [u32; 2],
    pub(super) position: Position,
}

/// The database of what is remembered.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    connection: Connection,
}

impl Memory {
    /// Opens it in `dir`, which is made if it is missing; begins anew if it cannot be read.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|cause| io_failed(dir, cause))?;
        let path = dir.join(FILE_NAME);
        match Self::open_file(&path) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(path = %path.display(), %error, "what was remembered is unreadable");
                remove(&path)?;
                Self::open_file(&path)
            }
            opened => opened,
        }
    }

    /// Opens it to look at it: nothing is made, changed or thrown away. `None` if there is none,
    /// or one of another layout.
    pub(super) fn look(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return Ok(None);
        }
        let connection = Self::connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let layout = layout(&connection).map_err(|cause| refused(&path, cause))?;
        Ok((layout == LAYOUT).then_some(Self { path, connection }))
    }

    /// Exclusive: whoever comes second is told so, for as long as this one lives.
    fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
            slim(&connection)?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                 PRAGMA cache_size = -256; PRAGMA journal_size_limit = 1048576;",
            )?;
            Ok(connection)
        };
        open().map_err(|cause| refused(path, cause))
    }

    fn open_file(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Self::connect(path, flags)?;
        let found = layout(&connection).map_err(|cause| refused(path, cause))?;
        let old = found != LAYOUT;
        let make = format!(
            "BEGIN IMMEDIATE; {} CREATE TABLE IF NOT EXISTS cursor (id INTEGER PRIMARY KEY,
             replica TEXT, txid INTEGER, page_size INTEGER, pages INTEGER, device INTEGER,
             inode INTEGER, time_ms INTEGER, sequence INTEGER, salt_1 INTEGER, salt_2 INTEGER,
             position INTEGER, sum_1 INTEGER, sum_2 INTEGER) STRICT;
             CREATE TABLE IF NOT EXISTS digests (block INTEGER PRIMARY KEY, digests BLOB) STRICT;
             PRAGMA user_version = {LAYOUT}; COMMIT; PRAGMA cache_size = -256",
            if old { "DROP TABLE IF EXISTS cursor; DROP TABLE IF EXISTS digests;" } else { "" }
        );
        // Its size is set when pages are in the cache: it takes no room in advance any more.
        connection.execute_batch(&make).map_err(|cause| refused(path, cause))?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// How far the last run came; `None` if nothing is known.
    pub(super) fn cursor(&self) -> Result<Option<Cursor>> {
        let query = "SELECT replica, txid, page_size, pages, device, inode, time_ms, sequence,
             salt_1, salt_2, position, sum_1, sum_2 FROM cursor WHERE id = 0";
        let row = self.connection.query_row(query, [], |row| {
            let log = match row.get::<_, Option<u32>>(7)? {
                None => None,
                Some(sequence) => Some(LogCursor {
                    sequence,
                    salts: [row.get(8)?, row.get(9)?],
                    position: Position {
                        offset: row.get::<_, i64>(10)?.cast_unsigned(),
                        sums: [row.get(11)?, row.get(12)?],
                    },
                }),
            };
            let page_size = PageSize::new(row.get(2)?);
            let cursor = page_size.map(|page_size| Cursor {
                page_size,
                replica: row.get(0).unwrap_or_default(),
                txid: Txid(row.get::<_, i64>(1).unwrap_or_default().cast_unsigned()),
                pages: row.get(3).unwrap_or_default(),
                file: FileId {
                    device: row.get::<_, i64>(4).unwrap_or_default().cast_unsigned(),
                    inode: row.get::<_, i64>(5).unwrap_or_default().cast_unsigned(),
                },
                time_ms: row.get(6).unwrap_or_default(),
                log,
            });
            Ok(cursor)
        });
        let found = row.optional().map_err(|cause| failed(&self.path, cause))?;
        Ok(found.flatten())
    }

    /// The digest of every page from 1 on, as of the cursor.
    pub(super) fn digests(&self) -> Result<Vec<u64>> {
        self.read_digests().map_err(|cause| failed(&self.path, cause))
    }

    fn read_digests(&self) -> rusqlite::Result<Vec<u64>> {
        let mut query =
            self.connection.prepare("SELECT block, digests FROM digests ORDER BY block")?;
        let mut rows = query.query([])?;
        let mut digests = Vec::new();
        while let Some(row) = rows.next()? {
            let block: u32 = row.get(0)?;
            digests.resize(block as usize * BLOCK_DIGESTS as usize, UNKNOWN);
            let bytes = row.get_ref(1)?.as_blob()?;
            digests.extend(
                bytes.as_chunks::<DIGEST_BYTES>().0.iter().map(|it| u64::from_le_bytes(*it)),
            );
        }
        Ok(digests)
    }

    /// Remembers `cursor`, and the digests of pages that changed up to it; `anew` forgets all
    /// others.
    pub(super) fn record(
        &mut self,
        cursor: &Cursor,
        digests: &[(Pgno, u64)],
        anew: bool,
    ) -> Result<()> {
        let path = self.path.clone();
        self.write(cursor, digests, anew).map_err(|cause| failed(&path, cause))
    }

    /// Lets its file grow by no page more, as a full disk does; or again.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, most: u32) {
        let limit = format!("PRAGMA max_page_count = {most}");
        self.connection.query_row(&limit, [], |_row| Ok(())).unwrap();
    }

    fn write(
        &mut self,
        cursor: &Cursor,
        digests: &[(Pgno, u64)],
        anew: bool,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        if anew {
            transaction.execute("DELETE FROM digests", [])?;
        }
        // Pages that were cut off are forgotten: they may come back with other content.
        let kept = i64::from(cursor.pages.div_ceil(BLOCK_DIGESTS));
        transaction.execute("DELETE FROM digests WHERE block >= ?", [kept])?;
        let mut blocks: BTreeMap<u32, Vec<(usize, u64)>> = BTreeMap::new();
        for (pgno, digest) in digests {
            let at = pgno - 1;
            let place = (at % BLOCK_DIGESTS) as usize;
            blocks.entry(at / BLOCK_DIGESTS).or_default().push((place, *digest));
        }
        for (block, changes) in blocks {
            merge_block(&transaction, block, &changes)?;
        }
        write_cursor(&transaction, cursor)?;
        transaction.commit()
    }
}

fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn refused(path: &Path, cause: rusqlite::Error) -> Error {
    match cause.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => {
            Error::new(ErrorKind::Corrupt, CAPTURE).with("path", path.display())
        }
        Some(rusqlite::ErrorCode::DatabaseBusy) => Error::new(ErrorKind::Conflict, CAPTURE)
            .because("another process captures this database")
            .with("path", path.display())
            .hint("stop the other replicator first"),
        _ => failed(path, cause),
    }
}

fn merge_block(
    connection: &Connection,
    block: u32,
    changes: &[(usize, u64)],
) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached("SELECT digests FROM digests WHERE block = ?")?;
    let found: Option<Vec<u8>> = query.query_row([block], |row| row.get(0)).optional()?;
    let mut bytes = found.unwrap_or_default();
    bytes.resize(BLOCK_DIGESTS as usize * DIGEST_BYTES, 0);
    for (place, digest) in changes {
        let at = place * DIGEST_BYTES;
        bytes[at..at + DIGEST_BYTES].copy_from_slice(&digest.to_le_bytes());
    }
    let write = "INSERT INTO digests VALUES (?1, ?2)
         ON CONFLICT (block) DO UPDATE SET digests = excluded.digests";
    connection.prepare_cached(write)?.execute(params![block, bytes]).map(drop)
}

fn write_cursor(connection: &Connection, cursor: &Cursor) -> rusqlite::Result<()> {
    let log = cursor.log.as_ref();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO cursor (id, replica, txid, page_size, pages, device, inode,
             time_ms, sequence, salt_1, salt_2, position, sum_1, sum_2)
             VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            cursor.replica,
            cursor.txid.0.cast_signed(),
            cursor.page_size.get(),
            cursor.pages,
            cursor.file.device.cast_signed(),
            cursor.file.inode.cast_signed(),
            cursor.time_ms,
            log.map(|it| it.sequence),
            log.map(|it| it.salts[0]),
            log.map(|it| it.salts[1]),
            log.map(|it| it.position.offset.cast_signed()),
            log.map(|it| it.position.sums[0]),
            log.map(|it| it.position.sums[1]),
        ])
        .map(drop)
}

fn remove(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_failed(path, cause));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(pages: Pgno) -> Cursor {
        Cursor {
            replica: "r".to_owned(),
            txid: Txid(u64::MAX),
            page_size: PageSize::new(512).unwrap(),
            pages,
            file: FileId { device: 1, inode: u64::MAX },
            log: Some(LogCursor {
                sequence: u32::MAX,
                salts: [1, u32::MAX],
                position: Position { offset: 32, sums: [3, u32::MAX] },
            }),
            time_ms: -1,
        }
    }

    #[test]
    fn what_is_recorded_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(dir.path()).unwrap();
        assert_eq!(memory.cursor().unwrap(), None);
        memory.record(&cursor(300), &[(1, 11), (300, 33)], false).unwrap();
        memory.record(&cursor(300), &[(2, 22)], false).unwrap();
        drop(memory);
        let mut memory = Memory::open(dir.path()).unwrap();
        assert_eq!(memory.cursor().unwrap(), Some(cursor(300)));
        let digests = memory.digests().unwrap();
        assert_eq!((digests[0], digests[1], digests[2], digests[299]), (11, 22, UNKNOWN, 33));

        memory.record(&Cursor { log: None, ..cursor(1) }, &[], false).unwrap();
        assert_eq!(memory.digests().unwrap().len(), BLOCK_DIGESTS as usize);
        memory.record(&cursor(1), &[(1, 5)], true).unwrap();
        assert_eq!(memory.digests().unwrap()[..2], [5, UNKNOWN]);
    }

    #[test]
    fn what_cannot_be_read_is_begun_anew_and_a_second_owner_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), [7; 4096]).unwrap();
        let memory = Memory::open(dir.path()).unwrap();
        assert_eq!(memory.cursor().unwrap(), None);
        let second = Memory::open(dir.path()).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::Conflict);
    }
}
