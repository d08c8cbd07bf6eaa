//! What a reader is to read, and what it brings.

use std::time::Duration;

use crate::api::Stored;

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct ReaderSpec {
    /// What errors call it.
    pub(crate) operation: &'static str,
    pub(crate) stream: String,
    /// Subject patterns; none is everything. More than one needs a server of 2.10.
    pub(crate) filters: Vec<String>,
    pub(crate) from: Begin,
    /// Leave payloads out.
    pub(crate) headers_only: bool,
    /// How long the stream remembers deletions; a reader that falls behind for longer ends.
    pub(crate) away_max: Option<Duration>,
    /// When the stream was made, if that is known.
    pub(crate) created: Option<String>,
    /// Asks the leader whether the end is one: needed where messages are overwritten.
    pub(crate) asks_for_end: bool,
    /// How many messages the server sends at first without being asked for more, where that is not
    /// as many as it can: for who wants a few of many.
    pub(crate) window: Option<u32>,
    /// The pattern of everything that readers like this one may want of the stream, where those
    /// of this process may share a consumer.
    pub(crate) shared: Option<String>,
}

impl ReaderSpec {
    /// Messages of `stream` on subjects of `filter`, with their payloads.
    pub(crate) fn new(
        operation: &'static str,
        stream: impl Into<String>,
        filter: impl Into<String>,
        from: Begin,
    ) -> Self {
        Self {
            operation,
            stream: stream.into(),
            filters: vec![filter.into()],
            from,
            headers_only: false,
            away_max: None,
            created: None,
            asks_for_end: false,
            window: None,
            shared: None,
        }
    }

    /// Leaves payloads out.
    pub(crate) fn headers_only(self) -> Self {
        Self { headers_only: true, ..self }
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Begin {
    /// Behind this sequence; 0 is the oldest message.
    After(u64),
    /// With the last message of each subject.
    LastPerSubject,
    /// With the next message that comes.
    Now,
}

/// What a reader brings.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Message(Stored),
    /// What was there when the reader began has been brought. Comes exactly once.
    CaughtUp,
}

/// Whether a reader goes on behind what was there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Follow {
    No,
    Yes,
}
