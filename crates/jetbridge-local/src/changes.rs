//! The journal of a bucket: the names of what each commit changed, one row per commit.
//!
//! It is how watchers find what they have not seen. One row for a whole group costs a write next to
//! nothing, where an index of rows by revision would cost as much as the rows themselves. The
//! journal is a short cut, not the truth: what is older than [`KEPT`] goes, and who is further
//! behind looks through the rows instead.

use jetbridge_core::Revision;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::db::{signed, unsigned};
use crate::fault::JobResult;

/// Revisions whose names are kept: more than a watcher that is awake is ever behind.
const KEPT: u64 = 16_384;
/// The journal is cut once in so many revisions.
const CUT_EVERY: u64 = 1_024;

/// The names that one commit has changed, in the order of their revisions, which are consecutive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    names: Vec<u8>,
    count: u64,
}

/// How far [`Changes`] had come; see [`Changes::cut_back`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    bytes: usize,
    count: u64,
}

impl Changes {
    /// Notes that the next revision changed `name`, which has at most 65,535 bytes.
    pub(crate) fn push(&mut self, name: &str) {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.names.extend_from_slice(&length.to_le_bytes());
        self.names.extend_from_slice(&name.as_bytes()[..usize::from(length)]);
        self.count += 1;
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { bytes: self.names.len(), count: self.count }
    }

    /// Forgets what came after `mark`.
    pub(crate) fn cut_back(&mut self, mark: Mark) {
        self.names.truncate(mark.bytes);
        self.count = mark.count;
    }

    /// Writes the row of a commit whose last revision is `last`.
    pub(crate) fn store(&self, sql: &Connection, last: u64) -> rusqlite::Result<()> {
        const SQL: &str = "INSERT INTO changes (last, first, names) VALUES (?1, ?2, ?3)";
        const CUT: &str = "DELETE FROM changes WHERE last <= ?1";
        if self.count == 0 {
            return Ok(());
        }
        let first = last + 1 - self.count;
        sql.prepare_cached(SQL)?.execute(params![signed(last), signed(first), self.names])?;
        if first / CUT_EVERY != (last + 1) / CUT_EVERY {
            sql.prepare_cached(CUT)?.execute([signed(last.saturating_sub(KEPT))])?;
        }
        Ok(())
    }
}

/// What [`since`] found.
#[derive(Debug)]
pub(crate) enum Since {
    /// Names and the revisions that changed them, in order; and up to which revision that is all.
    Known(Vec<(Revision, String)>, Revision),
    /// The journal does not reach back that far.
    Forgotten,
}

/// What changed after `seen`, of at most `rows_max` commits. `newest` is the newest revision, of
/// the same state.
pub(crate) fn since(
    sql: &Connection,
    seen: Revision,
    newest: Revision,
    rows_max: usize,
) -> JobResult<Since> {
    const SQL: &str =
        "SELECT last, first, names FROM changes WHERE last > ?1 ORDER BY last LIMIT ?2";
    if seen >= newest {
        return Ok(Since::Known(Vec::new(), seen));
    }
    if oldest(sql)?.is_none_or(|oldest| seen.0 + 1 < oldest) {
        return Ok(Since::Forgotten);
    }
    let mut statement = sql.prepare_cached(SQL)?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![signed(seen.0), limit])?;
    let (mut changed, mut reached) = (Vec::new(), seen);
    while let Some(row) = rows.next()? {
        let first = unsigned(row.get(1)?);
        let named = names(row.get_ref(2)?.as_blob().unwrap_or_default());
        let named = named.zip(first..).map(|(name, revision)| (Revision(revision), name));
        changed.extend(named.filter(|(revision, _)| *revision > seen));
        reached = Revision(unsigned(row.get(0)?));
    }
    Ok(Since::Known(changed, reached))
}

/// The first revision whose name is known.
fn oldest(sql: &Connection) -> JobResult<Option<u64>> {
    const SQL: &str = "SELECT first FROM changes ORDER BY last LIMIT 1";
    let first: Option<i64> = sql.prepare_cached(SQL)?.query_row([], |row| row.get(0)).optional()?;
    Ok(first.map(unsigned))
}

fn names(mut bytes: &[u8]) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (name, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some(String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Connection {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(crate::bucket::rows::MIGRATIONS[0]).unwrap();
        sql
    }

    fn write(sql: &Connection, last: u64, names: &[&str]) {
        let mut changes = Changes::default();
        names.iter().for_each(|name| changes.push(name));
        changes.store(sql, last).unwrap();
    }

    #[track_caller]
    fn check(sql: &Connection, seen: u64, newest: u64, expected: &[(u64, &str)]) {
        let Since::Known(found, reached) =
            since(sql, Revision(seen), Revision(newest), 100).unwrap()
        else {
            panic!("the journal reaches back to {seen}")
        };
        let found: Vec<_> = found.iter().map(|(at, name)| (at.0, name.as_str())).collect();
        assert_eq!((found.as_slice(), reached.0), (expected, newest));
    }

    #[test]
    fn names_come_back_with_their_revisions() {
        let sql = journal();
        write(&sql, 2, &["a", "b"]);
        write(&sql, 3, &["\0"]);
        check(&sql, 0, 3, &[(1, "a"), (2, "b"), (3, "\0")]);
        check(&sql, 1, 3, &[(2, "b"), (3, "\0")]);
        check(&sql, 3, 3, &[]);
    }

    #[test]
    fn what_a_refused_job_noted_is_cut_back() {
        let mut changes = Changes::default();
        changes.push("a");
        let mark = changes.mark();
        changes.push("b");
        changes.cut_back(mark);
        changes.push("c");
        let sql = journal();
        changes.store(&sql, 2).unwrap();
        check(&sql, 0, 2, &[(1, "a"), (2, "c")]);
    }

    #[test]
    fn the_journal_is_cut_and_says_so() {
        let sql = journal();
        for last in 1..=KEPT + 2 * CUT_EVERY {
            write(&sql, last, &["a"]);
        }
        let newest = Revision(KEPT + 2 * CUT_EVERY);
        let forgotten = since(&sql, Revision(1), newest, 1).unwrap();
        assert!(matches!(forgotten, Since::Forgotten));
        let kept = since(&sql, Revision(3 * CUT_EVERY), newest, 1).unwrap();
        assert!(matches!(kept, Since::Known(..)));
        let rows: i64 =
            sql.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
        assert!(unsigned(rows) < KEPT + 2 * CUT_EVERY);
    }
}
