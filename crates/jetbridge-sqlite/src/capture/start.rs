//! How a capture begins: what it may believe of what it remembers. Pure.
//!
//! One thing proves that nothing was missed while nobody held the read lock: the log is still the
//! one that the cursor stands in, by sequence and salts, and it still has the frame before the
//! cursor. That the last frame looks as before proves nothing in a log that was restarted since.

use std::fmt;

use super::kept::FileId;
use super::memory::Cursor;
use super::uplink::Head;
use crate::wal::{Header, Position};
use crate::{PageSize, Txid};

/// How to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// Ship every page: nothing is known of what the replica has.
    Base,
    /// Compare every page with its digest, and ship those that differ, beside those that the
    /// replica got after this TXID.
    Compare(Txid),
    /// Go on from this place in the log, and ship besides what the replica got after this TXID.
    Resume(Position, Txid),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("with all pages"),
            Self::Compare(txid) => write!(f, "with the pages that differ from {txid}"),
            Self::Resume(position, txid) => write!(f, "after {txid}, at {}", position.offset),
        }
    }
}

/// What the database looks like now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) page_size: PageSize,
    pub(super) file: FileId,
    /// The log's header, and where its committed frames end.
    pub(super) log: Option<(Header, u64)>,
    /// The checksums of the frame that ends where the cursor stands.
    pub(super) sums_at_cursor: Option<[u32; 2]>,
}

pub(super) fn start(
    cursor: Option<&Cursor>,
    head: Option<&Head>,
    replica: &str,
    found: &Found,
) -> Start {
    let (Some(cursor), Some(head)) = (cursor, head) else { return Start::Base };
    let known = cursor.replica == replica && cursor.txid <= head.txid;
    if !known || head.page_size != found.page_size || cursor.page_size != found.page_size {
        return Start::Base;
    }
    match (cursor.log, found.log) {
        (Some(then), Some((now, end)))
            if cursor.file == found.file
                && (then.sequence, then.salts) == (now.sequence, now.salts)
                && then.position.offset <= end
                && found.sums_at_cursor == Some(then.position.sums) =>
        {
            Start::Resume(then.position, cursor.txid)
        }
        _ => Start::Compare(cursor.txid),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::memory::LogCursor;
    use super::*;

    const SIZE: PageSize = PageSize::new(4096).unwrap();
    const FILE: FileId = FileId { device: 1, inode: 2 };
    const PLACE: Position = Position { offset: 4152, sums: [5, 6] };

    fn header() -> Header {
        let mut header = sample_header();
        header.sequence = 3;
        header.salts = [7, 8];
        header
    }

    fn sample_header() -> Header {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap();
        let wal = std::fs::File::open(path.with_extension("db-wal")).unwrap();
        crate::wal::Source::header(&wal).unwrap().unwrap()
    }

    fn cursor() -> Cursor {
        Cursor {
            replica: "r".to_owned(),
            txid: Txid(4),
            page_size: SIZE,
            pages: 9,
            file: FILE,
            log: Some(LogCursor { sequence: 3, salts: [7, 8], position: PLACE }),
            time_ms: 0,
        }
    }

    fn head(txid: u64) -> Head {
        Head { txid: Txid(txid), page_size: SIZE, wal: None, time: SystemTime::UNIX_EPOCH }
    }

    fn found() -> Found {
        let log = Some((header(), PLACE.offset));
        Found { page_size: SIZE, file: FILE, log, sums_at_cursor: Some(PLACE.sums) }
    }

    #[test]
    fn an_unchanged_log_is_gone_on_with() {
        for txid in [4, 5] {
            let begun = start(Some(&cursor()), Some(&head(txid)), "r", &found());
            assert_eq!(begun, Start::Resume(PLACE, Txid(4)));
        }
    }

    #[test]
    fn a_log_that_may_be_another_is_not_believed() {
        let mut restarted = header();
        restarted.sequence += 1;
        let mut salted = header();
        salted.salts[1] += 1;
        let other = FileId { inode: 3, ..FILE };
        for found in [
            Found { log: Some((restarted, 9000)), ..found() },
            Found { log: Some((salted, 9000)), ..found() },
            Found { log: Some((header(), PLACE.offset - 1)), ..found() },
            Found { log: None, ..found() },
            Found { sums_at_cursor: Some([5, 7]), ..found() },
            Found { sums_at_cursor: None, ..found() },
            Found { file: other, ..found() },
        ] {
            let begun = start(Some(&cursor()), Some(&head(4)), "r", &found);
            assert_eq!(begun, Start::Compare(Txid(4)), "{found:?}");
        }
        let mut bare = cursor();
        bare.log = None;
        assert_eq!(start(Some(&bare), Some(&head(4)), "r", &found()), Start::Compare(Txid(4)));
    }

    #[test]
    fn digests_of_another_state_are_not_believed() {
        let other = PageSize::new(512).unwrap();
        let base = |cursor: Option<Cursor>, head: Option<Head>, replica, found| {
            assert_eq!(start(cursor.as_ref(), head.as_ref(), replica, &found), Start::Base);
        };
        base(None, Some(head(4)), "r", found());
        base(Some(cursor()), None, "r", found());
        base(Some(cursor()), Some(head(3)), "r", found());
        base(Some(cursor()), Some(head(4)), "another", found());
        base(Some(cursor()), Some(head(4)), "r", Found { page_size: other, ..found() });
    }
}
