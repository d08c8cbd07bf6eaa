//! A counter as it is stored: the number, and the table of its last writers.

use std::time::SystemTime;

use super::CounterEncoding;
use crate::error::Result;
use crate::headers::Headers;
use crate::kv::{Entry, IncrementOpts, Revision};
use crate::name::Key;

/// The header that carries the table of writers: `writer=operation`, newest first, by commas.
pub const WRITERS_HEADER: &str = "Jetbridge-Writers";
/// Writers remembered in a counter. Must not be below the number of processes that write one
/// counter at once; 32 entries take under 1 KiB.
pub const WRITERS_MAX: usize = 32;

/// One increment of one process: the operations of a writer are numbered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub(super) writer: &'a str,
    pub(super) number: u64,
}

/// A counter as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// `None` if it was absent.
    pub(super) revision: Option<Revision>,
    pub(super) number: i64,
    pub(super) expires: Option<SystemTime>,
    pub(super) headers: Headers,
    encoding: CounterEncoding,
    writers: Vec<(Box<str>, u64)>,
}

impl State {
    pub(super) fn read(encoding: CounterEncoding, entry: Option<&Entry>) -> Result<Self> {
        let Some(entry) = entry else {
            return Ok(Self {
                revision: None,
                number: 0,
                expires: None,
                headers: Headers::new(),
                encoding,
                writers: Vec::new(),
            });
        };
        Ok(Self {
            revision: Some(entry.revision),
            number: encoding.number(entry)?,
            expires: entry.expires,
            headers: entry.headers.clone(),
            encoding,
            writers: entry.headers.get(WRITERS_HEADER).map(parse_writers).unwrap_or_default(),
        })
    }

    /// True if the number was read in this encoding.
    pub(super) fn is_read_as(&self, encoding: CounterEncoding) -> bool {
        self.encoding == encoding
    }

    /// The state after `operation` has added `delta`.
    pub(super) fn plus(
        &self,
        key: &Key,
        delta: i64,
        opts: IncrementOpts,
        operation: Operation<'_>,
    ) -> Result<Self> {
        let mut next = self.clone();
        next.number = opts.add(key, self.number, delta)?;
        next.writers.retain(|(known, _)| **known != *operation.writer);
        next.writers.insert(0, (operation.writer.into(), operation.number));
        next.writers.truncate(WRITERS_MAX);
        next.headers.set(WRITERS_HEADER, &print_writers(&next.writers))?;
        Ok(next)
    }

    /// The same, as stored by the write `revision`.
    pub(super) fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// True if the number includes `operation`.
    pub(super) fn includes(&self, operation: Operation<'_>) -> bool {
        let Operation { writer, number } = operation;
        self.writers.iter().any(|(known, last)| **known == *writer && *last == number)
    }

    /// True if the table says who wrote last. Whoever writes without it hides the others.
    pub(super) fn names_its_writer(&self) -> bool {
        !self.writers.is_empty()
    }
}

fn parse_writers(text: &str) -> Vec<(Box<str>, u64)> {
    text.split(',')
        .filter_map(|item| item.split_once('='))
        .filter_map(|(writer, operation)| Some((writer.into(), operation.parse().ok()?)))
        .take(WRITERS_MAX)
        .collect()
}

fn print_writers(writers: &[(Box<str>, u64)]) -> String {
    let items: Vec<String> =
        writers.iter().map(|(writer, last)| format!("{writer}={last}")).collect();
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_keeps_the_newest_writers() {
        let key = Key::parse("k").unwrap();
        let mut state = State::read(CounterEncoding::Decimal, None).unwrap();
        for number in 0..40_u64 {
            let writer = &*format!("w{number}");
            let operation = Operation { writer, number };
            state = state.plus(&key, 1, IncrementOpts::new(), operation).unwrap();
        }
        assert_eq!(state.number, 40);
        assert_eq!(state.writers.len(), WRITERS_MAX);
        assert!(state.includes(Operation { writer: "w39", number: 39 }));
        assert!(!state.includes(Operation { writer: "w0", number: 0 }));
        assert_eq!(parse_writers(&print_writers(&state.writers)), state.writers);
    }
}
