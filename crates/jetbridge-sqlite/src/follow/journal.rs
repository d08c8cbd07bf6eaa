//! A rollback journal, as SQLite writes and plays it back.
//!
//! It holds the pages as they were. A database beside which it lies, and that nobody writes to,
//! is rolled back by the next who opens it: it gets these pages and its old size.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::{PageSize, Pgno};

const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// What the head takes: a sector, and SQLite takes any size from 32 on for one.
const SECTOR_BYTES: u32 = 512;
/// Every so many bytes of a page count for its checksum, from the end.
const CHECKSUM_STEP: usize = 200;
/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Journal {
    file: BufWriter<File>,
    page_size: PageSize,
    pages: Pgno,
    records: u32,
    nonce: u32,
}

impl Journal {
    /// A journal of a database that has so many pages, in a file that is made or replaced.
    pub(super) fn create(path: &Path, page_size: PageSize, pages: Pgno) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        file.seek(SeekFrom::Start(u64::from(SECTOR_BYTES)))?;
        // Tells records of this journal from those of another that were where it is.
        let name = jetbridge_core::random::name();
        let nonce = name.bytes().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(byte));
        Ok(Self { file, page_size, pages, records: 0, nonce })
    }

    /// Adds a page as it was.
    pub(super) fn add(&mut self, pgno: Pgno, page: &[u8]) -> io::Result<()> {
        self.records += 1;
        self.file.write_all(&pgno.to_be_bytes())?;
        self.file.write_all(page)?;
        self.file.write_all(&checksum(self.nonce, page).to_be_bytes())
    }

    /// Writes the head and brings all of it to disk.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let numbers = [self.records, self.nonce, self.pages, SECTOR_BYTES, self.page_size.get()];
        let numbers = numbers.map(u32::to_be_bytes).concat();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&[MAGIC.as_slice(), &numbers].concat())?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

fn checksum(nonce: u32, page: &[u8]) -> u32 {
    let places = (1..).map_while(|step| page.len().checked_sub(CHECKSUM_STEP * step));
    let bytes = places.take_while(|at| *at > 0).map(|at| u32::from(page[at]));
    bytes.fold(nonce, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use rusqlite::Connection;

    use super::*;

    /// What a crash in the middle of a write leaves, SQLite makes undone.
    #[test]
    fn sqlite_rolls_back_what_a_journal_holds() {
        for bytes in [512, 4096, 65536] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.db");
            let connection = Connection::open(&path).unwrap();
            let begin = format!(
                "PRAGMA page_size = {bytes}; CREATE TABLE t (a);
                 WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 900)
                 INSERT INTO t SELECT hex(zeroblob(200)) || i FROM c"
            );
            connection.execute_batch(&begin).unwrap();
            drop(connection);
            let before = std::fs::read(&path).unwrap();
            let page_size = PageSize::new(bytes).unwrap();
            let pages = u32::try_from(before.len() / page_size.bytes()).unwrap();
            let journal = dir.path().join("a.db-journal");
            let mut written = Journal::create(&journal, page_size, pages).unwrap();
            let page =
                |pgno: u32| &before[(pgno as usize - 1) * page_size.bytes()..][..page_size.bytes()];
            for pgno in [1, 2, pages] {
                written.add(pgno, page(pgno)).unwrap();
            }
            written.finish().unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            for pgno in [1, 2, pages, pages + 1, pages + 2] {
                let torn = vec![0xab; page_size.bytes()];
                file.write_all_at(&torn, page_size.offset_of(pgno)).unwrap();
            }
            drop(file);
            let connection = Connection::open(&path).unwrap();
            let count = "SELECT count(*) FROM t";
            assert_eq!(connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 900);
            assert!(std::fs::read(&path).unwrap() == before, "pages of {bytes}");
            assert!(!journal.exists());
        }
    }
}
