//! The rows of a bucket: what is stored under a name, and what is due when.
//!
//! Keys and objects are the same to these tables: a name has a newest row, live or a deletion,
//! and, where the bucket keeps a history, older ones. `latest` has one row for each name, clustered
//! by it, so that a get is one descent. Watchers read in the order of revisions, which the
//! [journal](crate::changes) has; no index by revision is kept for them, as it would cost every
//! write as much as the row itself. Times are nanoseconds since 1970.
//!
//! This module reads them; [`writer`](super::writer) changes them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jetbridge_core::Revision;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use crate::db::{signed, unsigned};
use crate::fault::JobResult;

/// See [`DbOptions::migrations`](crate::db::DbOptions::migrations).
pub(crate) const MIGRATIONS: &[&str] = &["
    CREATE TABLE changes (
        last INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        names BLOB NOT NULL
    );
    CREATE TABLE settings (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        created INTEGER NOT NULL,
        spec TEXT NOT NULL,
        forgotten INTEGER NOT NULL
    );
    CREATE TABLE latest (
        name TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        op INTEGER NOT NULL,
        size INTEGER NOT NULL,
        written INTEGER NOT NULL,
        expires INTEGER,
        due INTEGER,
        body TEXT,
        headers TEXT,
        value BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX latest_by_due ON latest (due) WHERE due IS NOT NULL;
    CREATE TABLE older (
        name TEXT NOT NULL,
        revision INTEGER NOT NULL,
        op INTEGER NOT NULL,
        size INTEGER NOT NULL,
        written INTEGER NOT NULL,
        expires INTEGER,
        due INTEGER,
        body TEXT,
        headers TEXT,
        value BLOB NOT NULL,
        PRIMARY KEY (name, revision)
    ) WITHOUT ROWID;
    CREATE INDEX older_by_due ON older (due) WHERE due IS NOT NULL;
"];

/// Hides the rows of a bucket that is being deleted from every open handle.
pub(crate) const HIDE: &str =
    "ALTER TABLE latest RENAME TO deleted_latest; ALTER TABLE older RENAME TO deleted_older";

/// What a row records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    Put,
    /// Somebody deleted it.
    Delete,
    /// The trace of an expiry, or of a deletion that leaves none: forgotten after a while, and no
    /// part of what the bucket holds.
    Marker,
}

impl Op {
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Put => 0,
            Self::Delete => 1,
            Self::Marker => 2,
        }
    }

    pub(super) fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Put,
            1 => Self::Delete,
            _ => Self::Marker,
        }
    }

    /// Rows this one counts as.
    pub(super) fn entries(self) -> u64 {
        u64::from(self != Self::Marker)
    }
}

/// A stored row without its name.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) revision: Revision,
    pub(crate) op: Op,
    pub(crate) written: i64,
    pub(crate) expires: Option<i64>,
    due: Option<i64>,
    pub(crate) body: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) value: Bytes,
}

impl Stored {
    /// A live row as it was just written, without its value.
    pub(crate) fn new(revision: Revision, written: i64, headers: Option<String>) -> Self {
        let (expires, due, body, value) = (None, None, None, Bytes::new());
        Self { revision, op: Op::Put, written, expires, due, body, headers, value }
    }

    /// Reads the columns of [`columns`], which begin at `first`.
    fn read(row: &SqlRow<'_>, first: usize) -> rusqlite::Result<Self> {
        let value = row.get_ref(first + 7)?.as_bytes_or_null()?.unwrap_or_default();
        Ok(Self {
            revision: Revision(unsigned(row.get(first)?)),
            op: Op::from_code(row.get(first + 1)?),
            written: row.get(first + 2)?,
            expires: row.get(first + 3)?,
            due: row.get(first + 4)?,
            body: row.get(first + 5)?,
            headers: row.get(first + 6)?,
            value: Bytes::copy_from_slice(value),
        })
    }

    /// True if it is a value that has not expired at `now`.
    pub(crate) fn is_live(&self, now: i64) -> bool {
        self.op == Op::Put && !self.is_due(now)
    }

    pub(crate) fn is_due(&self, now: i64) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

/// The columns that [`Stored::read`] takes.
macro_rules! columns {
    () => {
        "revision, op, written, expires, due, body, headers, value"
    };
}

/// A row and its name.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) stored: Stored,
}

/// The names between two texts, as the tables order them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    /// The first.
    pub(crate) from: String,
    /// The first that is too far; `None` is none.
    pub(crate) to: Option<String>,
}

impl Span {
    pub(crate) fn contains(&self, name: &str) -> bool {
        *self.from <= *name && self.to.as_ref().is_none_or(|to| *name < **to)
    }
}

/// The live row of `name`.
pub(crate) fn live(sql: &Connection, name: &str, now: i64) -> JobResult<Option<Stored>> {
    Ok(newest(sql, name)?.filter(|stored| stored.is_live(now)))
}

/// The newest row of `name`, whatever it is.
pub(crate) fn newest(sql: &Connection, name: &str) -> JobResult<Option<Stored>> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM latest WHERE name = ?1");
    Ok(sql.prepare_cached(SQL)?.query_row([name], |row| Stored::read(row, 0)).optional()?)
}

/// The value of `name` that `revision` wrote, if it is still stored.
pub(crate) fn at(
    sql: &Connection,
    name: &str,
    revision: Revision,
    now: i64,
) -> JobResult<Option<Stored>> {
    const SQL: &str =
        concat!("SELECT ", columns!(), " FROM older WHERE name = ?1 AND revision = ?2");
    let newest = newest(sql, name)?;
    if newest.as_ref().is_none_or(|newest| newest.op == Op::Put && newest.is_due(now)) {
        return Ok(None);
    }
    let found = match newest.filter(|newest| newest.revision == revision) {
        Some(newest) => Some(newest),
        None => sql
            .prepare_cached(SQL)?
            .query_row(params![name, signed(revision.0)], |row| Stored::read(row, 0))
            .optional()?,
    };
    Ok(found.filter(|found| found.is_live(now)))
}

/// What is stored of `name`, oldest first.
pub(crate) fn history(sql: &Connection, name: &str, now: i64) -> JobResult<Vec<Stored>> {
    const SQL: &str =
        concat!("SELECT ", columns!(), " FROM older WHERE name = ?1 ORDER BY revision");
    let Some(newest) = newest(sql, name)? else { return Ok(Vec::new()) };
    // What an expired value hides must not come back.
    if newest.op == Op::Put && newest.is_due(now) {
        return Ok(Vec::new());
    }
    let mut statement = sql.prepare_cached(SQL)?;
    let mut all =
        statement.query_map([name], |row| Stored::read(row, 0))?.collect::<Result<Vec<_>, _>>()?;
    all.push(newest);
    all.retain(|stored| !stored.is_due(now));
    Ok(all)
}

/// What [`page`] asks.
const PAGE: &str = "\
    SELECT revision, op, written, expires, due, \
    CASE ?5 WHEN 1 THEN NULL ELSE body END, \
    CASE ?5 WHEN 1 THEN NULL ELSE headers END, \
    CASE ?5 WHEN 1 THEN x'' ELSE value END, name \
    FROM latest WHERE name >= ?1 AND name != ?2 AND (?3 IS NULL OR name < ?3) \
    AND op = 0 AND (due IS NULL OR due > ?4) ORDER BY name LIMIT ?6";

/// At most `limit` live rows of `span` behind the name `after`, by name, without their values if
/// `names_only`.
pub(crate) fn page(
    sql: &Connection,
    span: &Span,
    page: Page<'_>,
    mut each: impl FnMut(Row) -> JobResult<()>,
) -> JobResult<Option<String>> {
    let mut statement = sql.prepare_cached(PAGE)?;
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    // One bound below: of two SQLite would search by the first, and pass over all pages before.
    let from = page.after.max(span.from.as_str());
    let parameters =
        params![from, page.after, span.to, page.now, i64::from(page.names_only), limit];
    let mut rows = statement.query(parameters)?;
    let (mut last, mut found) = (None, 0);
    while let Some(row) = rows.next()? {
        let row = Row { name: row.get(8)?, stored: Stored::read(row, 0)? };
        last = Some(row.name.clone());
        found += 1;
        each(row)?;
    }
    Ok(last.filter(|_| found == page.limit))
}

/// What [`page`] is to find.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) after: &'a str,
    pub(crate) limit: usize,
    pub(crate) now: i64,
    pub(crate) names_only: bool,
}

/// Which rows watchers read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Depth {
    /// The newest of each name.
    Latest,
    /// All that are stored.
    All,
}

/// The names of the rows of `span` behind the revision `after`, in the order of their revisions,
/// at most `limit`. Looks through all rows of the span.
pub(crate) fn listed(
    sql: &Connection,
    span: &Span,
    after: Revision,
    depth: Depth,
    limit: usize,
) -> JobResult<Vec<(Revision, String)>> {
    const LATEST: &str = "SELECT revision, name FROM latest WHERE revision > ?1 \
                          AND name >= ?2 AND (?3 IS NULL OR name < ?3) \
                          ORDER BY revision LIMIT ?4";
    const ALL: &str = "SELECT revision, name FROM latest WHERE revision > ?1 \
                       AND name >= ?2 AND (?3 IS NULL OR name < ?3) \
                       UNION ALL SELECT revision, name FROM older WHERE revision > ?1 \
                       AND name >= ?2 AND (?3 IS NULL OR name < ?3) \
                       ORDER BY revision LIMIT ?4";
    let mut statement = sql.prepare_cached(match depth {
        Depth::Latest => LATEST,
        Depth::All => ALL,
    })?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![signed(after.0), span.from, span.to, limit], |row| {
        Ok((Revision(unsigned(row.get(0)?)), row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The row that `revision` wrote under `name`, if it is stored as deep as `depth`; without its
/// value if `keys_only`.
pub(crate) fn written(
    sql: &Connection,
    (revision, name): (Revision, &str),
    depth: Depth,
    keys_only: bool,
) -> JobResult<Option<Stored>> {
    const LATEST: &str = "SELECT revision, op, written, expires, due, body, headers, \
                          CASE ?3 WHEN 1 THEN x'' ELSE value END \
                          FROM latest WHERE name = ?1 AND revision = ?2";
    const OLDER: &str = "SELECT revision, op, written, expires, due, body, headers, \
                         CASE ?3 WHEN 1 THEN x'' ELSE value END \
                         FROM older WHERE name = ?1 AND revision = ?2";
    let find = |statement: &str| {
        let parameters = params![name, signed(revision.0), i64::from(keys_only)];
        sql.prepare_cached(statement)?.query_row(parameters, |row| Stored::read(row, 0)).optional()
    };
    match find(LATEST)? {
        None if depth == Depth::All => Ok(find(OLDER)?),
        found => Ok(found),
    }
}

/// When the next row is due.
pub(crate) fn next_due(sql: &Connection) -> JobResult<Option<i64>> {
    const SQL: &str = "SELECT min(due) FROM latest WHERE due IS NOT NULL \
                       UNION ALL SELECT min(due) FROM older WHERE due IS NOT NULL";
    let mut statement = sql.prepare_cached(SQL)?;
    let dues = statement.query_map([], |row| row.get::<_, Option<i64>>(0))?;
    Ok(dues.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().min())
}

/// The newest deletion that is no longer remembered.
pub(crate) fn forgotten(sql: &Connection) -> JobResult<Revision> {
    const SQL: &str = "SELECT forgotten FROM settings WHERE id = 0";
    let forgotten = sql.prepare_cached(SQL)?.query_row([], |row| row.get(0))?;
    Ok(Revision(unsigned(forgotten)))
}

/// The bodies that rows refer to.
pub(crate) fn bodies(sql: &Connection) -> JobResult<std::collections::HashSet<String>> {
    const SQL: &str = "SELECT body FROM latest WHERE body IS NOT NULL";
    let mut statement = sql.prepare_cached(SQL)?;
    let bodies = statement.query_map([], |row| row.get(0))?;
    Ok(bodies.collect::<Result<_, _>>()?)
}

/// True if a row refers to `body`.
pub(crate) fn refers_to(sql: &Connection, body: &str) -> JobResult<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM latest WHERE body = ?1)";
    Ok(sql.prepare_cached(SQL)?.query_row([body], |row| row.get(0))?)
}

/// A time as it is stored; the calendar's end if it is beyond that.
pub(crate) fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => nanos_of(since),
        Err(before) => -nanos_of(before.duration()),
    }
}

/// A duration as it is stored.
pub(crate) fn nanos_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The inverse of [`nanos`].
pub(crate) fn time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

/// `age` after `at`.
pub(crate) fn later(at: i64, age: Duration) -> i64 {
    at.saturating_add(nanos_of(age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn a_late_page_is_as_short_as_an_early_one() {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(MIGRATIONS[0]).unwrap();
        sql.execute_batch(
            "WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
             INSERT INTO latest (name, revision, op, size, written, value) \
             SELECT format('k%05d', i), i + 1, 0, 1, 0, x'00' FROM n",
        )
        .unwrap();
        let span = Span { from: String::new(), to: None };
        let steps = |after: &str| {
            let wanted = Page { after, limit: 10, now: 0, names_only: true };
            let mut names = Vec::new();
            let next = page(&sql, &span, wanted, |row| {
                names.push(row.name);
                Ok(())
            });
            assert_eq!(next.unwrap(), names.last().cloned());
            let statement = sql.prepare_cached(PAGE).unwrap();
            (names.swap_remove(0), statement.reset_status(StatementStatus::VmStep))
        };
        let (early, late) = (steps("k00004"), steps("k09900"));
        assert_eq!((&*early.0, &*late.0), ("k00005", "k09901"));
        assert_eq!(late.1, early.1);
    }
}
