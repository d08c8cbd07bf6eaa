//! Changes of a bucket's rows, inside one transaction.
//!
//! A [`Writer`] is a transaction with the settings and the time it holds at. It keeps the counts of
//! the database's [`State`](crate::db::State) in step, moves what a history keeps, turns what is
//! due into deletions, and tells which bodies nobody refers to any more. It reads no clock and
//! touches no file.

use std::time::Duration;

use jetbridge_core::{Expect, Revision};
use rusqlite::{OptionalExtension as _, Row as SqlRow, params};

use super::rows::{Op, bodies, later, nanos_of};
use super::settings::Settings;
use crate::commit::Tx;
use crate::db::{signed, unsigned};
use crate::fault::JobResult;

/// How long the deletion that an expiry leaves is remembered: watchers that read at least this
/// often miss none, and a bucket of short-lived keys does not grow for ever.
const MARKER_AGE: Duration = Duration::from_secs(3600);
/// Rows that one write collects beside its own work, so that none is held up by many.
pub(crate) const COLLECT_ROWS_MAX: usize = 64;

/// A row to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    pub(crate) op: Op,
    /// Bytes it counts as.
    pub(crate) size: u64,
    pub(crate) expires: Option<i64>,
    pub(crate) body: Option<&'a str>,
    pub(crate) headers: Option<&'a str>,
    pub(crate) value: &'a [u8],
}

impl New<'_> {
    /// A deletion of this kind that counts as `size` bytes.
    pub(crate) fn deletion(op: Op, size: u64) -> Self {
        Self { op, size, expires: None, body: None, headers: None, value: &[] }
    }
}

/// What a write needs to know of the present row.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    revision: Revision,
    op: Op,
    size: u64,
    due: Option<i64>,
    body: Option<String>,
}

/// A transaction, with the settings and the time it holds at.
pub(crate) struct Writer<'a, 'c> {
    pub(crate) tx: &'a mut Tx<'c>,
    pub(crate) settings: &'a Settings,
    pub(crate) now: i64,
    /// Bodies that no row refers to once this is committed.
    pub(crate) freed: Vec<String>,
}

impl Writer<'_, '_> {
    /// The present row of `name`; one that has expired is as good as none.
    pub(crate) fn present(&self, name: &str) -> JobResult<Option<Present>> {
        const SQL: &str = "SELECT revision, op, size, due, body FROM latest WHERE name = ?1";
        let row = |row: &SqlRow<'_>| {
            Ok(Present {
                revision: Revision(unsigned(row.get(0)?)),
                op: Op::from_code(row.get(1)?),
                size: unsigned(row.get(2)?),
                due: row.get(3)?,
                body: row.get(4)?,
            })
        };
        Ok(self.tx.sql().prepare_cached(SQL)?.query_row([name], row).optional()?)
    }

    /// The revision of the live value that `present` is, if it is one.
    pub(crate) fn live(&self, present: Option<&Present>) -> Option<Revision> {
        present
            .filter(|row| row.op == Op::Put && row.due.is_none_or(|due| due > self.now))
            .map(|row| row.revision)
    }

    /// Whether a write under `expect` may happen; else the present revision, 0 if there is none.
    pub(crate) fn check(
        &self,
        present: Option<&Present>,
        expect: Expect,
    ) -> Result<Option<Revision>, Revision> {
        let live = self.live(present);
        match expect {
            Expect::Any => Ok(live),
            Expect::Absent if live.is_none() => Ok(live),
            Expect::Exactly(wanted) if live == Some(wanted) => Ok(live),
            Expect::Absent | Expect::Exactly(_) => Err(live.unwrap_or_default()),
        }
    }

    /// Bytes the bucket would hold with a new value of `size` bytes, if that is too many.
    pub(crate) fn excess(
        &mut self,
        name: &str,
        present: Option<&Present>,
        size: u64,
    ) -> JobResult<Option<u64>> {
        let Some(max) = self.settings.spec.max_bytes else { return Ok(None) };
        let replaced = self.replaced_bytes(name, present)?;
        let after = |writer: &Self| writer.tx.state.bytes.saturating_sub(replaced) + size;
        // What has expired takes no room.
        while after(self) > max && self.collect(COLLECT_ROWS_MAX)? > 0 {}
        Ok(Some(after(self)).filter(|after| *after > max))
    }

    /// Bytes that the next row of `name` frees.
    fn replaced_bytes(&self, name: &str, present: Option<&Present>) -> JobResult<u64> {
        const SQL: &str = "SELECT size FROM older WHERE name = ?1 ORDER BY revision LIMIT 1";
        const COUNT: &str = "SELECT count(*) FROM older WHERE name = ?1";
        let Some(present) = present else { return Ok(0) };
        let kept = i64::from(self.settings.spec.history) - 1;
        if kept == 0 || !self.is_kept(present) {
            return Ok(present.size);
        }
        let sql = self.tx.sql();
        if sql.prepare_cached(COUNT)?.query_row([name], |row| row.get::<_, i64>(0))? < kept {
            return Ok(0);
        }
        let oldest = sql.prepare_cached(SQL)?.query_row([name], |row| row.get(0)).optional()?;
        Ok(oldest.map_or(0, unsigned))
    }

    /// True if the row has a place in the history.
    fn is_kept(&self, present: &Present) -> bool {
        present.op != Op::Marker && present.due.is_none_or(|due| due > self.now)
    }

    /// Writes a row over `present`, which is that of `name`, and returns its revision.
    pub(crate) fn append(
        &mut self,
        name: &str,
        present: Option<&Present>,
        new: New<'_>,
    ) -> JobResult<Revision> {
        if let Some(present) = present {
            if self.settings.spec.history > 1 && self.is_kept(present) {
                self.archive(name)?;
            } else {
                self.uncount(present.op, present.size);
                self.freed.extend(present.body.clone());
                if self.settings.spec.history > 1 {
                    self.erase_older(name)?;
                }
            }
        }
        let state = &mut self.tx.state;
        state.sequence += 1;
        state.entries += new.op.entries();
        state.bytes += new.size;
        let revision = Revision(state.sequence);
        self.tx.changes.push(name);
        self.store(name, present.is_some(), revision, new)?;
        Ok(revision)
    }

    fn store(&self, name: &str, replaces: bool, revision: Revision, new: New<'_>) -> JobResult<()> {
        const INSERT: &str = "INSERT INTO latest (name, revision, op, size, written, expires, due, \
                              body, headers, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        const UPDATE: &str = "UPDATE latest SET revision = ?2, op = ?3, size = ?4, written = ?5, \
                              expires = ?6, due = ?7, body = ?8, headers = ?9, value = ?10 \
                              WHERE name = ?1";
        let due = match new.op {
            Op::Put | Op::Delete => self.settings.due(new.expires, self.now),
            Op::Marker => Some(later(self.now, MARKER_AGE)),
        };
        let (number, op) = (signed(revision.0), new.op.code());
        let sql = if replaces { UPDATE } else { INSERT };
        self.tx.sql().prepare_cached(sql)?.execute(params![
            name,
            number,
            op,
            signed(new.size),
            self.now,
            new.expires,
            due,
            new.body,
            new.headers,
            new.value
        ])?;
        Ok(())
    }

    /// Copies the newest row of `name` into its history, which the oldest may have to leave.
    fn archive(&mut self, name: &str) -> JobResult<()> {
        const COPY: &str = "INSERT INTO older SELECT * FROM latest WHERE name = ?1";
        const TRIM: &str = "DELETE FROM older WHERE name = ?1 AND revision <= \
                            (SELECT revision FROM older WHERE name = ?1 \
                            ORDER BY revision DESC LIMIT 1 OFFSET ?2) RETURNING op, size";
        self.tx.sql().prepare_cached(COPY)?.execute([name])?;
        let kept = i64::from(self.settings.spec.history) - 1;
        self.remove(TRIM, params![name, kept])
    }

    /// Forgets every row of `name`, without a trace.
    pub(crate) fn erase(&mut self, name: &str) -> JobResult<()> {
        const SQL: &str = "DELETE FROM latest WHERE name = ?1";
        if let Some(present) = self.present(name)? {
            self.uncount(present.op, present.size);
            self.freed.extend(present.body);
            self.tx.sql().prepare_cached(SQL)?.execute([name])?;
        }
        self.erase_older(name)
    }

    /// Forgets the history of `name`.
    pub(crate) fn erase_older(&mut self, name: &str) -> JobResult<()> {
        self.remove("DELETE FROM older WHERE name = ?1 RETURNING op, size", params![name])
    }

    /// Forgets every row there is.
    pub(crate) fn erase_all(&mut self) -> JobResult<()> {
        self.freed.extend(bodies(self.tx.sql())?);
        self.tx.sql().execute_batch("DELETE FROM latest; DELETE FROM older")?;
        (self.tx.state.entries, self.tx.state.bytes) = (0, 0);
        Ok(())
    }

    /// Forgets what exceeds the settings' history, and dates anew what exceeds their age.
    pub(crate) fn apply_settings(&mut self) -> JobResult<()> {
        const TRIM: &str = "DELETE FROM older WHERE (SELECT count(*) FROM older AS newer WHERE \
                            newer.name = older.name AND newer.revision >= older.revision) > ?1 \
                            RETURNING op, size";
        let kept = i64::from(self.settings.spec.history) - 1;
        self.remove(TRIM, params![kept])?;
        let age = self.settings.spec.max_age.map(nanos_of);
        for table in ["latest", "older"] {
            let sql = format!(
                "UPDATE {table} SET due = CASE WHEN ?1 IS NULL THEN expires \
                 ELSE min(coalesce(expires, {max}), min({max} - ?1, written) + ?1) END \
                 WHERE op < 2",
                max = i64::MAX
            );
            self.tx.sql().execute(&sql, [age])?;
        }
        Ok(())
    }

    /// Removes at most `limit` rows that are due, and returns how many. A name whose last value
    /// goes is deleted by a new row.
    pub(crate) fn collect(&mut self, limit: usize) -> JobResult<usize> {
        const LATEST: &str = "SELECT name, revision, op, size, due, body FROM latest \
                              WHERE due <= ?1 ORDER BY due LIMIT ?2";
        const OLDER: &str = "DELETE FROM older WHERE (name, revision) IN (SELECT name, revision \
                             FROM older WHERE due <= ?1 ORDER BY due LIMIT ?2) RETURNING op, size";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let before = self.tx.sql().total_changes();
        let row = |row: &SqlRow<'_>| {
            let present = Present {
                revision: Revision(unsigned(row.get(1)?)),
                op: Op::from_code(row.get(2)?),
                size: unsigned(row.get(3)?),
                due: row.get(4)?,
                body: row.get(5)?,
            };
            Ok((row.get::<_, String>(0)?, present))
        };
        let due = {
            let mut statement = self.tx.sql().prepare_cached(LATEST)?;
            let rows = statement.query_map(params![self.now, limit], row)?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        for (name, present) in due {
            self.expire(&name, present)?;
        }
        let now = self.now;
        self.remove(OLDER, params![now, limit])?;
        let changed = self.tx.sql().total_changes() - before;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    fn expire(&mut self, name: &str, present: Present) -> JobResult<()> {
        const MARK: &str = "UPDATE latest SET written = ?2 WHERE name = ?1";
        const FORGET: &str = "UPDATE settings SET forgotten = max(forgotten, ?1) WHERE id = 0";
        if present.op == Op::Put {
            self.append(name, Some(&present), New::deletion(Op::Marker, 0))?;
            self.erase_older(name)?;
            // The deletion happened when the value became due.
            self.tx.sql().prepare_cached(MARK)?.execute(params![name, present.due])?;
            return Ok(());
        }
        self.erase(name)?;
        self.tx.sql().prepare_cached(FORGET)?.execute([signed(present.revision.0)])?;
        Ok(())
    }

    /// Runs a deletion that returns the `op` and `size` of what it removes.
    fn remove(&mut self, sql: &str, parameters: impl rusqlite::Params) -> JobResult<()> {
        let removed = {
            let mut statement = self.tx.sql().prepare_cached(sql)?;
            let rows = statement.query_map(parameters, |row| {
                Ok((Op::from_code(row.get(0)?), unsigned(row.get(1)?)))
            })?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        for (op, size) in removed {
            self.uncount(op, size);
        }
        Ok(())
    }

    fn uncount(&mut self, op: Op, size: u64) {
        let state = &mut self.tx.state;
        state.entries = state.entries.saturating_sub(op.entries());
        state.bytes = state.bytes.saturating_sub(size);
    }
}
