//! Whether a file is a database, asked without taking anybody's locks away.
//!
//! POSIX takes away all locks of a process on a file when the process closes *any* descriptor of
//! it. SQLite knows that, and closes a file on which one of its connections holds locks later.
//! So SQLite is asked, and nothing is opened here.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::PageSize;

/// True if SQLite reads `path` as a database that has at least one page.
///
/// Safe on a database that this process has open. Takes no locks and changes nothing.
pub fn is_database(path: &Path) -> bool {
    let size = std::fs::metadata(path).map_or(0, |facts| facts.len());
    size >= u64::from(PageSize::MIN) && is_read(path)
}

fn is_read(path: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let opened = Connection::open_with_flags(immutable(path), flags);
    let asked = opened.and_then(|database| {
        database.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))
    });
    match asked {
        Ok(_version) => true,
        // One that is damaged, or half written just now, is for its capture to judge.
        Err(error) => error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt),
    }
}

/// The address of a database that is read as it is: without locks, log and journal.
pub(crate) fn immutable(path: &Path) -> String {
    let escaped =
        path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{escaped}?immutable=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn another_process_reads(path: &Path) -> bool {
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0)\n\
                      try: c.execute('SELECT * FROM t'); print('free')\n\
                      except sqlite3.OperationalError: print('locked')";
        let look = std::process::Command::new("python3").args(["-c", script]).arg(path).output();
        look.unwrap().stdout == b"free\n"
    }

    #[test]
    fn to_ask_takes_no_lock_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a); BEGIN EXCLUSIVE").unwrap();
        assert!(is_database(&path));
        assert!(!another_process_reads(&path));
        connection.execute_batch("COMMIT").unwrap();
        assert!(another_process_reads(&path));
    }

    #[test]
    fn databases_are_told_from_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a 100% #1?.db");
        let connection = Connection::open(&path).unwrap();
        assert!(!is_database(&path), "empty");
        connection.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (a)").unwrap();
        assert!(is_database(&path), "with a log");
        drop(connection);
        assert!(is_database(&path), "moved");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
        let other = dir.path().join("notes.db");
        std::fs::write(&other, [b'x'; 4096]).unwrap();
        assert!(!is_database(&other));
        assert!(!is_database(&dir.path().join("none.db")));
    }
}
