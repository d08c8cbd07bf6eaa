//! The tables of a stream, and the rows as the seam knows them.
//!
//! Times are nanoseconds since 1970 and durations nanoseconds. Messages removed for whatever
//! reason take their unsettled deliveries with them, and what a consumer has in flight is counted
//! as rows come and go: both by triggers, so that no statement can forget it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jetbridge_core::{Message, Pattern, StreamMessage, Subject};
use rusqlite::{Connection, OptionalExtension as _, Row, Rows};

use crate::db::{signed, unsigned};
use crate::fault::JobResult;
use crate::headers;

/// Rows that one scan looks at, so that it does not hold its transaction for long where few
/// messages are wanted: a few milliseconds.
const SCAN_ROWS_MAX: usize = 4096;
/// Bytes of payload that one scan collects, one message more or less.
const SCAN_BYTES_MAX: usize = 1 << 20;

/// See [`DbOptions::migrations`](crate::db::DbOptions::migrations).
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE stream (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        created INTEGER NOT NULL,
        spec TEXT NOT NULL
    );
    CREATE TABLE messages (
        sequence INTEGER PRIMARY KEY,
        stored INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        subject TEXT NOT NULL,
        headers TEXT,
        payload BLOB NOT NULL
    );
    CREATE INDEX messages_by_subject ON messages (subject, sequence);
    CREATE TABLE ids (
        id TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        stored INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX ids_by_age ON ids (stored);
    CREATE TABLE consumers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        filter TEXT,
        ack_wait INTEGER NOT NULL,
        deliver_max INTEGER,
        in_flight_max INTEGER NOT NULL,
        looked_at INTEGER NOT NULL,
        in_flight INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE unsettled (
        sequence INTEGER NOT NULL,
        consumer INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        due INTEGER,
        PRIMARY KEY (sequence, consumer)
    ) WITHOUT ROWID;
    CREATE INDEX unsettled_by_due ON unsettled (consumer, due);
    CREATE TRIGGER message_removed AFTER DELETE ON messages BEGIN
        DELETE FROM unsettled WHERE sequence = old.sequence;
    END;
    CREATE TRIGGER delivered AFTER INSERT ON unsettled WHEN new.due IS NOT NULL BEGIN
        UPDATE consumers SET in_flight = in_flight + 1 WHERE id = new.consumer;
    END;
    CREATE TRIGGER settled AFTER DELETE ON unsettled WHEN old.due IS NOT NULL BEGIN
        UPDATE consumers SET in_flight = in_flight - 1 WHERE id = old.consumer;
    END;
    CREATE TRIGGER given_up AFTER UPDATE OF due ON unsettled
        WHEN old.due IS NOT NULL AND new.due IS NULL BEGIN
        UPDATE consumers SET in_flight = in_flight - 1 WHERE id = new.consumer;
    END;
"];

/// `time` as it is stored.
pub(crate) fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    span(since)
}

/// `duration` as it is stored.
pub(crate) fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The inverse of [`nanos`].
pub(crate) fn time(nanos: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + duration(nanos)
}

/// The inverse of [`span`].
pub(crate) fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(unsigned(nanos))
}

/// What was stored at this time or before is over `age` at `now`.
pub(crate) fn cutoff(now: i64, age: Option<Duration>) -> i64 {
    age.map_or(i64::MIN, |age| now.saturating_sub(span(age)))
}

/// What counts of a message against a stream's bytes.
pub(super) fn message_bytes(message: &Message) -> u64 {
    let bytes =
        message.subject.as_str().len() + message.headers.wire_bytes() + message.payload.len();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Adds a message under `sequence`.
pub(super) fn insert(
    sql: &Connection,
    sequence: u64,
    stored: i64,
    message: &Message,
) -> JobResult<()> {
    const SQL: &str = "INSERT INTO messages (sequence, stored, bytes, subject, headers, payload) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (bytes, headers) = (signed(message_bytes(message)), headers::to_json(&message.headers));
    let row =
        (signed(sequence), stored, bytes, message.subject.as_str(), headers, &message.payload[..]);
    sql.prepare_cached(SQL)?.execute(row)?;
    Ok(())
}

/// The newest sequence on `subject`, of those stored after `cutoff`.
pub(super) fn last_on_subject(
    sql: &Connection,
    subject: &str,
    cutoff: i64,
) -> JobResult<Option<u64>> {
    const SQL: &str = "SELECT sequence FROM messages WHERE subject = ?1 AND stored > ?2 \
                       ORDER BY sequence DESC LIMIT 1";
    let found = sql.prepare_cached(SQL)?.query_row((subject, cutoff), |row| row.get(0));
    Ok(found.optional()?.map(unsigned))
}

/// The sequence that the message called `id` got, if that was after `cutoff`.
pub(super) fn find_id(sql: &Connection, id: &str, cutoff: i64) -> JobResult<Option<u64>> {
    const SQL: &str = "SELECT sequence FROM ids WHERE id = ?1 AND stored > ?2";
    let found = sql.prepare_cached(SQL)?.query_row((id, cutoff), |row| row.get(0));
    Ok(found.optional()?.map(unsigned))
}

/// Remembers `id`, and forgets those as old as `cutoff`.
pub(super) fn remember_id(
    sql: &Connection,
    id: &str,
    sequence: u64,
    stored: i64,
    cutoff: i64,
) -> JobResult<()> {
    sql.prepare_cached("DELETE FROM ids WHERE stored <= ?1")?.execute([cutoff])?;
    sql.prepare_cached("INSERT OR REPLACE INTO ids (id, sequence, stored) VALUES (?1, ?2, ?3)")?
        .execute((id, signed(sequence), stored))?;
    Ok(())
}

/// The oldest message: its sequence and when it was stored.
pub(super) fn oldest(sql: &Connection) -> JobResult<Option<(u64, i64)>> {
    const SQL: &str = "SELECT sequence, stored FROM messages ORDER BY sequence LIMIT 1";
    let found = sql
        .prepare_cached(SQL)?
        .query_row([], |row| Ok((unsigned(row.get(0)?), row.get(1)?)))
        .optional()?;
    Ok(found)
}

/// The sequences of all messages.
pub(crate) fn sequences(sql: &Connection) -> JobResult<Vec<u64>> {
    let mut statement = sql.prepare_cached("SELECT sequence FROM messages ORDER BY sequence")?;
    let all = statement.query_map([], |row| row.get(0).map(unsigned))?;
    Ok(all.collect::<rusqlite::Result<_>>()?)
}

/// The subject of a message, if it is there.
pub(crate) fn subject(sql: &Connection, sequence: u64) -> JobResult<Option<String>> {
    let mut statement = sql.prepare_cached("SELECT subject FROM messages WHERE sequence = ?1")?;
    Ok(statement.query_row([signed(sequence)], |row| row.get(0)).optional()?)
}

/// Which messages [`scan`] is to find.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a> {
    /// Behind this sequence.
    pub(crate) after: u64,
    /// None behind this one.
    pub(crate) end: u64,
    /// Stored after this time.
    pub(crate) cutoff: i64,
    /// On subjects of this pattern.
    pub(crate) filter: Option<&'a Pattern>,
    /// So many at most.
    pub(crate) count: usize,
}

/// What [`scan`] found.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// In order.
    pub(crate) messages: Vec<StreamMessage>,
    /// Up to here all that is wanted has been found, and nothing behind it looked at.
    pub(crate) looked_at: u64,
    /// There may be more: the scan ended because it was long enough.
    pub(crate) more: bool,
}

/// Finds the next messages, in order, without taking too long.
pub(crate) fn scan(sql: &Connection, scan: &Scan<'_>) -> JobResult<Scanned> {
    const ALL: &str = "SELECT sequence, subject, headers, payload, stored FROM messages \
                       WHERE sequence > ?1 AND sequence <= ?2 AND stored > ?3 ORDER BY sequence";
    const ONE_SUBJECT: &str = "SELECT sequence, subject, headers, payload, stored FROM messages \
         WHERE subject = ?4 AND sequence > ?1 AND sequence <= ?2 AND stored > ?3 ORDER BY sequence";
    let (after, end) = (signed(scan.after), signed(scan.end));
    match scan.filter.filter(|filter| is_literal(filter)) {
        None => {
            let mut statement = sql.prepare_cached(ALL)?;
            collect(scan, statement.query((after, end, scan.cutoff))?)
        }
        Some(subject) => {
            let mut statement = sql.prepare_cached(ONE_SUBJECT)?;
            collect(scan, statement.query((after, end, scan.cutoff, subject.as_str()))?)
        }
    }
}

fn collect(scan: &Scan<'_>, mut rows: Rows<'_>) -> JobResult<Scanned> {
    let mut found = Scanned { looked_at: scan.after, ..Scanned::default() };
    let (mut looked, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let subject = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        found.looked_at = unsigned(row.get(0)?);
        looked += 1;
        if scan.filter.is_none_or(|filter| filter.matches(subject)) {
            let message = message(row, subject)?;
            bytes += message.message.payload.len();
            found.messages.push(message);
        }
        if found.messages.len() >= scan.count || bytes >= SCAN_BYTES_MAX || looked >= SCAN_ROWS_MAX
        {
            found.more = true;
            break;
        }
    }
    Ok(found)
}

fn is_literal(pattern: &Pattern) -> bool {
    pattern.tokens().all(|token| token != "*" && token != ">")
}

fn message(row: &Row<'_>, subject: &str) -> JobResult<StreamMessage> {
    let sequence = unsigned(row.get(0)?);
    let subject = Subject::from_wire(Bytes::copy_from_slice(subject.as_bytes()))?;
    let headers = row.get_ref(2)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    let headers = headers::from_json(headers)?;
    let payload = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
    let message = Message::new(subject, Bytes::copy_from_slice(payload)).headers(headers);
    Ok(StreamMessage::new(message, sequence, time(row.get(4)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were() {
        let later = SystemTime::UNIX_EPOCH + Duration::new(2_000_000_000, 123_456_789);
        assert_eq!(time(nanos(later)), later);
        assert_eq!(nanos(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(cutoff(5, None), i64::MIN);
        assert_eq!(cutoff(5, Some(Duration::from_nanos(2))), 3);
    }
}
