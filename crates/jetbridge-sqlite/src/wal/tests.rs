use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::{PageSize, Pgno};

const EVERYTHING: u64 = u64::MAX;

fn database(path: &Path, page_size: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "page_size", page_size).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)").unwrap();
    connection
}

fn wal_of(path: &Path) -> Vec<u8> {
    std::fs::read(path.with_extension("db-wal")).unwrap()
}

/// The database as the log leaves it on top of what the file holds.
fn image(path: &Path) -> Vec<u8> {
    let wal = wal_of(path);
    let header = wal[..].header().unwrap().unwrap();
    let found = commits(&wal[..], header, header.start(), EVERYTHING).unwrap();
    let mut image = std::fs::read(path).unwrap();
    let size = header.page_size;
    if let Some((commit, _)) = found.end {
        image.resize(commit as usize * size.bytes(), 0);
        for (pgno, offset) in found.pages.range(..=commit) {
            let at = usize::try_from(size.offset_of(*pgno)).unwrap();
            let from = usize::try_from(*offset).unwrap();
            image[at..at + size.bytes()].copy_from_slice(&wal[from..from + size.bytes()]);
        }
    }
    image
}

/// One random step of an application.
#[derive(Clone, Copy, Debug)]
enum Act {
    Insert(u16),
    Delete,
    Rollback,
    Checkpoint(&'static str),
    Vacuum,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..9000_u16).prop_map(Act::Insert),
        1 => Just(Act::Delete),
        1 => Just(Act::Rollback),
        1 => prop_oneof![Just("PASSIVE"), Just("FULL"), Just("RESTART"), Just("TRUNCATE")]
            .prop_map(Act::Checkpoint),
        1 => Just(Act::Vacuum),
    ];
    proptest::collection::vec(act, 1..12)
}

fn perform(connection: &Connection, act: Act) {
    match act {
        Act::Insert(bytes) => {
            connection.execute("INSERT INTO t (b) VALUES (randomblob(?))", [bytes]).map(drop)
        }
        Act::Delete => connection.execute_batch("DELETE FROM t WHERE id % 3 = 0"),
        Act::Rollback => {
            // A small cache spills frames into the log that are never committed.
            connection.execute_batch(
                "PRAGMA cache_size = 2; BEGIN; INSERT INTO t (b) VALUES (randomblob(20000));
                 INSERT INTO t (b) VALUES (randomblob(20000)); ROLLBACK",
            )
        }
        Act::Checkpoint(mode) => {
            connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
        }
        Act::Vacuum => connection.execute_batch("VACUUM"),
    }
    .unwrap();
}

fn page_sizes() -> impl Strategy<Value = u32> {
    (9..=16_u32).prop_map(|power| 1 << power)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_log_reads_as_sqlite_reads_it(page_size in page_sizes(), acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = database(&path, page_size);
        for act in acts {
            perform(&connection, act);
            if wal_of(&path).is_empty() {
                continue;
            }
            let ours = image(&path);
            let copy = dir.path().join("copy.db");
            std::fs::write(&copy, &ours).unwrap();
            let read = Connection::open(&copy).unwrap();
            let dump = "SELECT count(*), total(length(b)), max(hex(b)) FROM t";
            let row = |it: &Connection| it.query_row(dump, [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?, row.get::<_, Option<String>>(2)?))
            });
            prop_assert_eq!(row(&read).unwrap(), row(&connection).unwrap());
            drop(read);
            prop_assert_eq!(std::fs::read(&copy).unwrap(), ours);
            for sidecar in ["copy.db-wal", "copy.db-shm"] {
                std::fs::remove_file(dir.path().join(sidecar)).unwrap_or_default();
            }
        }
        // In the end SQLite itself moves the log into the file: page for page what we made.
        if !wal_of(&path).is_empty() {
            let ours = image(&path);
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            prop_assert_eq!(std::fs::read(&path).unwrap(), ours);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_log_before_it(place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let wal = sample();
        let header = wal[..].header().unwrap().unwrap();
        let whole = commits(&wal[..], header, header.start(), EVERYTHING).unwrap();
        let at = place.index(wal.len());
        let mut flipped = wal;
        flipped[at] ^= 1_u8 << bit;
        let Some(header) = flipped[..].header().unwrap() else {
            prop_assert!(at < HEADER_BYTES);
            return Ok(());
        };
        let found = commits(&flipped[..], header, header.start(), EVERYTHING).unwrap();
        let frame = (at as u64 - HEADER_BYTES as u64) / header.frame_bytes();
        let end = found.end.map_or(header.start().offset, |(_, position)| position.offset);
        prop_assert!(end <= header.end_of(u32::try_from(frame).unwrap()));
        prop_assert!(found.pages.len() <= whole.pages.len());
    }

    #[test]
    fn noise_is_no_log(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(noise[..].header().unwrap(), None);
        let wal = sample();
        let header = wal[..].header().unwrap().unwrap();
        let file = [&wal[..HEADER_BYTES], &noise].concat();
        let found = commits(&file[..], header, header.start(), EVERYTHING).unwrap();
        prop_assert_eq!(found, Commits::default());
    }
}

/// A log of several transactions.
fn sample() -> Vec<u8> {
    static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = database(&path, 512);
        for bytes in [100, 3000, 10] {
            perform(&connection, Act::Insert(bytes));
        }
        wal_of(&path)
    };
    SAMPLE.get_or_init(make).clone()
}

#[test]
fn a_limit_cuts_at_commits() {
    let wal = sample();
    let header = wal[..].header().unwrap().unwrap();
    let read = |from, end| commits(&wal[..], header, from, end).unwrap();
    let whole = read(header.start(), EVERYTHING);
    let (commit, end) = whole.end.unwrap();
    assert_eq!(end.offset, wal.len() as u64);

    // In pieces it is the same.
    let mut pages: BTreeMap<Pgno, u64> = BTreeMap::new();
    let mut position = header.start();
    let mut pieces = 0;
    for frames in 1.. {
        let mut piece = read(position, header.end_of(frames));
        pages.append(&mut piece.pages);
        if let Some((_, end)) = piece.end {
            position = end;
            pieces += 1;
        }
        if header.end_of(frames) == end.offset {
            break;
        }
    }
    assert!(pieces >= 4, "{pieces} transactions");
    assert_eq!((pages, position), (whole.pages.clone(), end));

    // One byte before the end the last transaction is not there.
    let short = read(header.start(), end.offset - 1);
    assert!(short.end.unwrap().1.offset < end.offset);
    assert!(short.end.unwrap().0 <= commit);
}

#[test]
fn a_restarted_log_is_told_from_one_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let header = |path: &Path| wal_of(path)[..].header().unwrap().unwrap();
    let connection = database(&path, 4096);
    let first = header(&path);
    assert_eq!(first.page_size, PageSize::new(4096).unwrap());
    perform(&connection, Act::Checkpoint("PASSIVE"));
    perform(&connection, Act::Insert(10));
    let second = header(&path);
    for _ in 0..3 {
        perform(&connection, Act::Checkpoint("TRUNCATE"));
    }
    perform(&connection, Act::Insert(10));
    let third = header(&path);
    assert!(first.restarts_as(&second) && second.restarts_as(&third) && first.restarts_as(&third));
    assert!(!first.restarts_as(&first) && !third.restarts_as(&first));
    drop(connection);
    let connection = Connection::open(&path).unwrap();
    perform(&connection, Act::Insert(10));
    assert!(!third.restarts_as(&header(&path)));
}

#[test]
fn a_log_is_the_same_whichever_connection_restarts_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let header = |path: &Path| wal_of(path)[..].header().unwrap().unwrap();
    let checkpointer = database(&path, 4096);
    let writers = [Connection::open(&path).unwrap(), Connection::open(&path).unwrap()];
    for writer in &writers {
        perform(writer, Act::Insert(10));
    }
    let mut before = header(&path);
    for turn in 0..6 {
        perform(&checkpointer, Act::Checkpoint("PASSIVE"));
        perform(&writers[turn % 2], Act::Insert(10));
        let after = header(&path);
        assert!(before.restarts_as(&after), "{turn}: {before:?} {after:?}");
        before = after;
    }
}
