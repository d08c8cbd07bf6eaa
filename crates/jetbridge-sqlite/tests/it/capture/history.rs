//! A history of transactions that can be told from its number alone, so that of any state it can
//! be said whether it is one of them, and which.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

const BEGIN: &str = "
    CREATE TABLE meta (n INTEGER);
    CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, pad TEXT);
    CREATE INDEX t_v ON t (v);
    CREATE TABLE bulk (n INTEGER, i INTEGER, pad TEXT);
    INSERT INTO meta VALUES (0);";

/// The `n`th transaction; every so often a large one.
fn transaction(n: u64) -> String {
    format!(
        "BEGIN IMMEDIATE;
         INSERT INTO t VALUES ({n}, {n}, printf('%d-%s', {n}, hex(zeroblob({n} * 37 % 450))));
         UPDATE t SET v = {n}, pad = printf('%d-%s', {n}, hex(zeroblob({n} * 31 % 550)))
             WHERE id = {n} * 7919 % {n} + {n} % 50;
         DELETE FROM t WHERE {n} % 10 = 0 AND id = {n} - 7;
         DELETE FROM bulk WHERE {n} % 40 = 0;
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 200)
             INSERT INTO bulk SELECT {n}, i, hex(zeroblob(150)) FROM c WHERE {n} % 25 = 0;
         UPDATE meta SET n = {n};
         COMMIT;"
    )
}

/// A database in which the history is written.
pub(crate) struct History {
    connection: Connection,
    pub(crate) at: u64,
}

impl History {
    pub(crate) fn begin(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
        connection.execute_batch(BEGIN).unwrap();
        Self { connection, at: 0 }
    }

    /// Goes on with one that was begun.
    pub(crate) fn go_on(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(super::source::DEADLINE).unwrap();
        connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
        let at = number(&connection);
        Self { connection, at }
    }

    /// Waits so long for others who write.
    pub(crate) fn wait(&self, limit: std::time::Duration) {
        self.connection.busy_timeout(limit).unwrap();
    }

    /// Commits the next transaction.
    pub(crate) fn step(&mut self) {
        self.at += 1;
        self.connection.execute_batch(&transaction(self.at)).unwrap();
    }

    /// Runs something that is no part of the history, such as a checkpoint. It may fail: others
    /// hold locks.
    pub(crate) fn aside(&self, sql: &str) {
        self.connection.query_row(sql, [], |_| Ok(())).unwrap_or_default();
    }
}

/// Says of states whether they belong to the history.
pub(crate) struct Judge(History);

impl Judge {
    pub(crate) fn new() -> Self {
        Self(History::begin(Path::new(":memory:")))
    }

    /// Checks that the database is the history up to some number, and returns it.
    pub(crate) fn number_of(&mut self, path: &Path) -> u64 {
        let found = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let check: String =
            found.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let n = number(&found);
        assert!(n >= self.0.at, "{n} after {}", self.0.at);
        while self.0.at < n {
            self.0.step();
        }
        for table in ["t", "bulk"] {
            assert!(rows(&found, table) == rows(&self.0.connection, table), "{table} at {n}");
        }
        n
    }
}

fn number(connection: &Connection) -> u64 {
    let n = connection.query_row("SELECT n FROM meta", [], |row| row.get::<_, i64>(0));
    n.unwrap().try_into().unwrap()
}

fn rows(connection: &Connection, table: &str) -> Vec<Vec<Value>> {
    let mut query = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
    let columns = query.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
    query.query_map([], row).unwrap().map(|row| row.unwrap()).collect()
}
