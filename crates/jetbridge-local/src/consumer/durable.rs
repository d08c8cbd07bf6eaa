//! The rows of one durable consumer.
//!
//! `unsettled` holds what has been delivered and not settled: with the time at which it is
//! delivered again, or with none if it has been delivered as often as it may.

use jetbridge_core::{Consume, ConsumerName, Error, ErrorKind, Pattern};
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::db::{signed, unsigned};
use crate::fault::JobResult;
use crate::stream::schema;

/// A durable consumer.
#[derive(Debug)]
pub(super) struct Durable {
    /// Unlike the name, never used again.
    pub(super) id: i64,
    /// Which messages it wants; `None` is all.
    pub(super) filter: Option<Pattern>,
    /// How long a delivery may stay unsettled, in nanoseconds.
    pub(super) ack_wait: i64,
    /// How often a message is delivered.
    pub(super) deliver_max: u64,
    /// Unsettled deliveries at once.
    pub(super) in_flight_max: u64,
    /// What is behind this has never been delivered.
    pub(super) looked_at: u64,
}

const COLUMNS: &str = "SELECT id, filter, ack_wait, deliver_max, in_flight_max, looked_at \
                       FROM consumers";

impl Durable {
    pub(super) fn by_name(sql: &Connection, name: &ConsumerName) -> JobResult<Option<Self>> {
        let mut statement = sql.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?;
        let found = statement.query_row([name.as_str()], |row| Ok(Self::read(row))).optional()?;
        found.transpose()
    }

    pub(super) fn by_id(sql: &Connection, id: i64) -> JobResult<Option<Self>> {
        let mut statement = sql.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?;
        let found = statement.query_row([id], |row| Ok(Self::read(row))).optional()?;
        found.transpose()
    }

    pub(super) fn all(sql: &Connection) -> JobResult<Vec<Self>> {
        let mut statement = sql.prepare_cached(COLUMNS)?;
        let rows = statement.query_map([], |row| Ok(Self::read(row)))?;
        rows.map(|row| row?).collect()
    }

    fn read(row: &Row<'_>) -> JobResult<Self> {
        let filter: Option<String> = row.get(1)?;
        let deliver_max: Option<i64> = row.get(3)?;
        Ok(Self {
            id: row.get(0)?,
            filter: filter.map(Pattern::parse).transpose()?,
            ack_wait: row.get(2)?,
            deliver_max: deliver_max.map_or(u64::MAX, unsigned),
            in_flight_max: unsigned(row.get(4)?),
            looked_at: unsigned(row.get(5)?),
        })
    }

    /// Makes a consumer of what is `behind` a sequence; returns its id.
    pub(super) fn insert(sql: &Connection, wanted: &Consume, behind: u64) -> JobResult<i64> {
        const SQL: &str = "INSERT INTO consumers \
            (name, filter, ack_wait, deliver_max, in_flight_max, looked_at) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        sql.prepare_cached(SQL)?.execute((
            wanted.durable.as_str(),
            wanted.filter.as_ref().map(Pattern::as_str),
            schema::span(wanted.ack_wait),
            wanted.deliver_max,
            wanted.in_flight_max,
            signed(behind),
        ))?;
        Ok(sql.last_insert_rowid())
    }

    pub(super) fn delete(&self, sql: &Connection) -> JobResult<()> {
        sql.prepare_cached("DELETE FROM unsettled WHERE consumer = ?1")?.execute([self.id])?;
        sql.prepare_cached("DELETE FROM consumers WHERE id = ?1")?.execute([self.id])?;
        Ok(())
    }

    /// Those who share a consumer must want the same.
    pub(super) fn check_same(&self, wanted: &Consume) -> Result<(), Error> {
        let deliver_max = wanted.deliver_max.map_or(u64::MAX, u64::from);
        let fields = [
            ("filter", self.filter != wanted.filter),
            ("ack_wait", self.ack_wait != schema::span(wanted.ack_wait)),
            ("deliver_max", self.deliver_max != deliver_max),
            ("in_flight_max", self.in_flight_max != u64::from(wanted.in_flight_max)),
        ];
        let differing: Vec<_> =
            fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, "bus.consume")
            .because("the consumer is there with other settings")
            .with("stream", &wanted.stream)
            .with("durable", &wanted.durable)
            .with("differs", differing.join(","))
            .hint("use the same settings, another name, or delete the consumer"))
    }

    /// True if some message is wanted by both.
    pub(super) fn overlaps(&self, other: &Consume) -> bool {
        match (&self.filter, &other.filter) {
            (Some(mine), Some(theirs)) => mine.overlaps(theirs),
            _ => true,
        }
    }

    /// True if the consumer still has to be done with the message.
    pub(super) fn needs(&self, sql: &Connection, sequence: u64, subject: &str) -> JobResult<bool> {
        if !self.filter.as_ref().is_none_or(|filter| filter.matches(subject)) {
            return Ok(false);
        }
        const SQL: &str = "SELECT 1 FROM unsettled WHERE sequence = ?1 AND consumer = ?2";
        Ok(sequence > self.looked_at
            || sql.prepare_cached(SQL)?.exists((signed(sequence), self.id))?)
    }

    /// Unsettled deliveries now.
    pub(super) fn in_flight(&self, sql: &Connection) -> JobResult<u64> {
        const SQL: &str = "SELECT in_flight FROM consumers WHERE id = ?1";
        Ok(sql.prepare_cached(SQL)?.query_row([self.id], |row| row.get(0).map(unsigned))?)
    }

    /// The delivery that has been due for the longest, and how often it was made.
    pub(super) fn first_due(&self, sql: &Connection, now: i64) -> JobResult<Option<(u64, u64)>> {
        const SQL: &str = "SELECT sequence, attempt FROM unsettled \
                           WHERE consumer = ?1 AND due <= ?2 ORDER BY due, sequence LIMIT 1";
        let first = sql
            .prepare_cached(SQL)?
            .query_row((self.id, now), |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))));
        Ok(first.optional()?)
    }

    /// When the next delivery will be due.
    pub(super) fn next_due(&self, sql: &Connection) -> JobResult<Option<i64>> {
        const SQL: &str = "SELECT min(due) FROM unsettled WHERE consumer = ?1 AND due IS NOT NULL";
        Ok(sql.prepare_cached(SQL)?.query_row([self.id], |row| row.get(0))?)
    }

    /// Notes that everything up to `sequence` was looked at.
    pub(super) fn look_at(&self, sql: &Connection, sequence: u64) -> JobResult<()> {
        if sequence > self.looked_at {
            sql.prepare_cached("UPDATE consumers SET looked_at = ?2 WHERE id = ?1")?
                .execute((self.id, signed(sequence)))?;
        }
        Ok(())
    }

    /// Notes the first delivery of a message.
    pub(super) fn deliver(&self, sql: &Connection, sequence: u64, now: i64) -> JobResult<()> {
        const SQL: &str = "INSERT INTO unsettled (sequence, consumer, attempt, due) \
                           VALUES (?1, ?2, 1, ?3)";
        let due = now.saturating_add(self.ack_wait);
        sql.prepare_cached(SQL)?.execute((signed(sequence), self.id, due))?;
        Ok(())
    }

    /// Notes another delivery of a message.
    pub(super) fn deliver_again(&self, sql: &Connection, sequence: u64, now: i64) -> JobResult<()> {
        const SQL: &str = "UPDATE unsettled SET attempt = attempt + 1, due = ?3 \
                           WHERE sequence = ?1 AND consumer = ?2";
        let due = now.saturating_add(self.ack_wait);
        sql.prepare_cached(SQL)?.execute((signed(sequence), self.id, due))?;
        Ok(())
    }

    /// Sets when an attempt is due again. A word about one that has been overtaken by the next
    /// changes nothing.
    pub(super) fn postpone(
        &self,
        sql: &Connection,
        sequence: u64,
        attempt: u64,
        due: i64,
    ) -> JobResult<()> {
        const SQL: &str = "UPDATE unsettled SET due = ?4 \
            WHERE sequence = ?1 AND consumer = ?2 AND attempt = ?3 AND due IS NOT NULL";
        sql.prepare_cached(SQL)?.execute((signed(sequence), self.id, signed(attempt), due))?;
        Ok(())
    }

    /// Notes that a message has been delivered as often as it may.
    pub(super) fn give_up(&self, sql: &Connection, sequence: u64) -> JobResult<()> {
        const SQL: &str = "UPDATE unsettled SET due = NULL WHERE sequence = ?1 AND consumer = ?2";
        sql.prepare_cached(SQL)?.execute((signed(sequence), self.id))?;
        Ok(())
    }

    /// Notes that the consumer is done with a message.
    pub(super) fn forget(&self, sql: &Connection, sequence: u64) -> JobResult<()> {
        const SQL: &str = "DELETE FROM unsettled WHERE sequence = ?1 AND consumer = ?2";
        sql.prepare_cached(SQL)?.execute((signed(sequence), self.id))?;
        Ok(())
    }
}
