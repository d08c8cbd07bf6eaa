//! Connections that take little memory: a process may hold thousands of them, and most read next
//! to nothing.
//!
//! SQLite gives each one 48 KiB for small objects when it is opened, and takes room for twenty
//! pages at the first that is read, which is before any setting of the cache can be heard.

use std::ffi::c_void;

use rusqlite::{Connection, ffi};

/// So few that SQLite takes no room for pages in advance.
const PAGES_FEW: u32 = 2;

/// Gives back what a connection took when it was opened, before it is used.
pub(super) fn slim(connection: &Connection) -> rusqlite::Result<()> {
    const NO_BUFFER: *mut c_void = std::ptr::null_mut();
    const NOTHING: std::ffi::c_int = 0;
    #[expect(
        unsafe_code,
        reason = "the handle is that of a connection that is borrowed, so open; the option takes \
                  a pointer and two integers, and without a buffer SQLite allocates as usual"
    )]
    // SAFETY: as above.
    let code = unsafe {
        let handle = connection.handle();
        ffi::sqlite3_db_config(handle, ffi::SQLITE_DBCONFIG_LOOKASIDE, NO_BUFFER, NOTHING, NOTHING)
    };
    if code != ffi::SQLITE_OK {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
    }
    // To set the size of the cache is to read the schema, and so to fill it.
    connection.execute_batch(&format!("PRAGMA cache_size = {PAGES_FEW}"))?;
    connection.release_memory()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a connection took something from what it was given when it was opened.
    fn hits(connection: &Connection) -> i32 {
        let (mut now, mut most) = (0, 0);
        let what = ffi::SQLITE_DBSTATUS_LOOKASIDE_HIT;
        #[expect(unsafe_code, reason = "a query of an open connection into two integers")]
        // SAFETY: as above.
        let code = unsafe {
            ffi::sqlite3_db_status(connection.handle(), what, &raw mut now, &raw mut most, 0)
        };
        assert_eq!(code, ffi::SQLITE_OK);
        most
    }

    #[test]
    fn a_slim_connection_reads_without_what_others_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap();
        let slim_one = Connection::open(&path).unwrap();
        slim(&slim_one).unwrap();
        let before = hits(&slim_one);
        for connection in [&connection, &slim_one] {
            let count = "SELECT count(*) FROM t";
            let rows: i64 = connection.query_row(count, [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 0);
        }
        assert!(hits(&connection) > 0, "what this is about is gone");
        assert_eq!(hits(&slim_one), before);
    }
}
