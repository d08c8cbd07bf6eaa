//! What a stream refuses and what it lets go, inside the transaction that takes a message.

use jetbridge_core::{Discard, Error, ErrorKind, Message, Result, Retention, StreamSpec};
use rusqlite::Connection;

use super::schema;
use crate::commit::Tx;
use crate::db::{signed, unsigned};
use crate::fault::JobResult;

/// Messages that one transaction lets go because of their age, so that the first write after a
/// long pause does not hold up everybody. Readers do not see the others either.
const AGED_MAX: usize = 1000;

/// Whether a message fits, by what the stream holds now. Nothing has been written yet.
pub(super) fn check_room(tx: &Tx<'_>, spec: &StreamSpec, message: &Message) -> Result<()> {
    let refuse = |what: &str, is: u64, max: u64| {
        Err(Error::new(ErrorKind::LimitExceeded, "bus.append")
            .because(format!("the {what} would be larger than the stream's settings allow"))
            .with("stream", &spec.name)
            .with("size", is)
            .with("max", max))
    };
    let body = message.headers.wire_bytes() + message.payload.len();
    let body = u64::try_from(body).unwrap_or(u64::MAX);
    if let Some(max) = spec.max_message_bytes.map(u64::from).filter(|max| body > *max) {
        return refuse("message", body, max);
    }
    let bytes = schema::message_bytes(message);
    if let Some(max) = spec.max_bytes {
        let held = if spec.discard == Discard::New { tx.state.bytes } else { 0 };
        if held + bytes > max {
            return refuse("stream", held + bytes, max);
        }
    }
    match spec.max_messages {
        Some(max) if spec.discard == Discard::New && tx.state.entries >= max => {
            refuse("number of messages", tx.state.entries + 1, max)
        }
        _ => Ok(()),
    }
}

/// Lets the messages go that are over the stream's age, at most [`AGED_MAX`]; true if there are
/// no more.
pub(crate) fn trim_aged(tx: &mut Tx<'_>, spec: &StreamSpec, now: i64) -> JobResult<bool> {
    if spec.max_age.is_none() {
        return Ok(true);
    }
    let cutoff = schema::cutoff(now, spec.max_age);
    for _ in 0..AGED_MAX {
        match schema::oldest(tx.sql())? {
            Some((sequence, stored)) if stored <= cutoff => remove(tx, sequence)?,
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Lets the oldest messages go until the stream holds no more than it may.
pub(super) fn trim_surplus(tx: &mut Tx<'_>, spec: &StreamSpec) -> JobResult<()> {
    while is_over(tx, spec)
        && let Some((sequence, _)) = schema::oldest(tx.sql())?
    {
        remove(tx, sequence)?;
    }
    Ok(())
}

fn is_over(tx: &Tx<'_>, spec: &StreamSpec) -> bool {
    spec.max_messages.is_some_and(|max| tx.state.entries > max)
        || spec.max_bytes.is_some_and(|max| tx.state.bytes > max)
}

/// Lets the oldest messages on `subject` go until there are no more than one subject may have.
pub(super) fn trim_subject(tx: &mut Tx<'_>, spec: &StreamSpec, subject: &str) -> JobResult<()> {
    let Some(max) = spec.max_messages_per_subject else { return Ok(()) };
    const SQL: &str = "SELECT sequence FROM messages WHERE subject = ?1 \
                       ORDER BY sequence DESC LIMIT -1 OFFSET ?2";
    for sequence in sequences(tx.sql(), SQL, (subject, signed(max)))? {
        remove(tx, sequence)?;
    }
    Ok(())
}

/// [`trim_subject`] for every subject: the settings have changed.
pub(super) fn trim_subjects(tx: &mut Tx<'_>, spec: &StreamSpec) -> JobResult<()> {
    let Some(max) = spec.max_messages_per_subject else { return Ok(()) };
    const SQL: &str = "SELECT subject FROM messages GROUP BY subject HAVING count(*) > ?1";
    let crowded: Vec<String> = {
        let mut statement = tx.sql().prepare_cached(SQL)?;
        let subjects = statement.query_map([signed(max)], |row| row.get(0))?;
        subjects.collect::<rusqlite::Result<_>>()?
    };
    crowded.iter().try_for_each(|subject| trim_subject(tx, spec, subject))
}

/// Removes a message, if it is there, with what is counted of it.
pub(crate) fn remove(tx: &mut Tx<'_>, sequence: u64) -> JobResult<()> {
    const SQL: &str = "DELETE FROM messages WHERE sequence = ?1 RETURNING bytes";
    let removed = sequences(tx.sql(), SQL, [signed(sequence)])?;
    for bytes in removed {
        tx.state.entries = tx.state.entries.saturating_sub(1);
        tx.state.bytes = tx.state.bytes.saturating_sub(bytes);
    }
    Ok(())
}

/// The numbers of the first column.
fn sequences(
    sql: &Connection,
    text: &str,
    parameters: impl rusqlite::Params,
) -> JobResult<Vec<u64>> {
    let mut statement = sql.prepare_cached(text)?;
    let numbers = statement.query_map(parameters, |row| row.get(0).map(unsigned))?;
    Ok(numbers.collect::<rusqlite::Result<_>>()?)
}

/// True if some consumer wants messages on `subject`; what none wants, a stream that keeps by
/// interest does not keep.
pub(super) fn is_kept(sql: &Connection, spec: &StreamSpec, subject: &str) -> JobResult<bool> {
    if spec.retention != Retention::Interest {
        return Ok(true);
    }
    let wants = crate::consumer::filters(sql)?;
    Ok(wants.iter().any(|filter| filter.as_ref().is_none_or(|filter| filter.matches(subject))))
}
