//! The application: a database in WAL mode whose every commit has a number that can be found in
//! the bytes of its page.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::Outcome;

/// Stands before the number.
const MARK: &[u8] = b"JBCOMMIT:";
/// Hexadecimal digits of the number.
const DIGITS: usize = 16;
/// How long the application waits for a lock, as careful ones do.
const BUSY: Duration = Duration::from_secs(5);
/// Bytes of a row of a large database: half of them cannot be compressed.
const ROW_BYTES: usize = 1000;
/// Rows that one statement makes.
const ROWS_AT_ONCE: u64 = 50_000;
/// What a row takes in the file beside its bytes, about.
const ROW_OVERHEAD: f64 = 1.15;

/// The newest number that a page holds.
pub(super) fn number_in(page: &[u8]) -> Option<u64> {
    let places = page.windows(MARK.len() + DIGITS).filter(|it| it.starts_with(MARK));
    let texts = places.filter_map(|it| std::str::from_utf8(&it[MARK.len()..]).ok());
    texts.filter_map(|text| u64::from_str_radix(text, 16).ok()).max()
}

/// An application with one connection, and the number of its last commit.
pub(super) struct Application {
    connection: Connection,
    number: u64,
}

impl Application {
    /// Makes a small database, or opens one that is there.
    pub(super) fn open(path: &Path) -> Outcome<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE IF NOT EXISTS mark (id INTEGER PRIMARY KEY, text TEXT);
             CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, body BLOB);
             INSERT OR IGNORE INTO mark VALUES (1, '');",
        )?;
        Ok(Self { connection, number: 0 })
    }

    /// Commits a row of 100 bytes; its number, and how long that took.
    pub(super) fn commit(&mut self) -> Outcome<(u64, Duration)> {
        self.number += 1;
        let mark = format!("{}{:016x}", String::from_utf8_lossy(MARK), self.number);
        let begun = Instant::now();
        let transaction = self.connection.transaction()?;
        let update = "UPDATE mark SET text = ? WHERE id = 1";
        transaction.prepare_cached(update)?.execute([mark])?;
        let insert = "INSERT INTO item (body) VALUES (randomblob(100))";
        transaction.prepare_cached(insert)?.execute([])?;
        transaction.commit()?;
        Ok((self.number, begun.elapsed()))
    }
}

/// Makes a database of about `bytes`, of which half can be compressed away; its true size.
pub(super) fn large(path: &Path, bytes: u64) -> Outcome<u64> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
         CREATE TABLE item (id INTEGER PRIMARY KEY, body BLOB);",
    )?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of rows that fit on a disk"
    )]
    let rows = (bytes as f64 / (ROW_BYTES as f64 * ROW_OVERHEAD)) as u64;
    let half = i64::try_from(ROW_BYTES / 2)?;
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO item (body)
         SELECT CAST(randomblob(?2) || zeroblob(?2) AS BLOB) FROM n";
    let mut left = rows;
    while left > 0 {
        let count = left.min(ROWS_AT_ONCE);
        connection.prepare_cached(insert)?.execute(params![i64::try_from(count)?, half])?;
        left -= count;
    }
    connection.execute_batch("PRAGMA journal_mode = WAL")?;
    drop(connection);
    Ok(std::fs::metadata(path)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_number_of_a_page_is_found() {
        let page = b"..JBCOMMIT:0000000000000010..JBCOMMIT:000000000000002a.JBCOMMIT:short";
        assert_eq!(number_in(page), Some(42));
        assert_eq!(number_in(&[0; 512]), None);
    }
}
