//! Streams: what keeps the messages of some subjects.

use std::time::{Duration, SystemTime};

use crate::backend::{Placement, Storage};
use crate::bus::Message;
use crate::name::{Pattern, StreamName};

/// How long a stream remembers ids by default, as JetStream does.
const DUPLICATE_WINDOW_DEFAULT: Duration = Duration::from_secs(120);

/// The settings of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StreamSpec {
    /// Its name.
    pub name: StreamName,
    /// Which subjects it keeps.
    pub subjects: Vec<Pattern>,
    /// When a message may go.
    pub retention: Retention,
    /// What happens at a limit.
    pub discard: Discard,
    /// Messages older than this go.
    pub max_age: Option<Duration>,
    /// Bytes kept at most.
    pub max_bytes: Option<u64>,
    /// Messages kept at most.
    pub max_messages: Option<u64>,
    /// Messages kept of each subject at most.
    pub max_messages_per_subject: Option<u64>,
    /// Bytes of one message at most, headers included.
    pub max_message_bytes: Option<u32>,
    /// How long ids are remembered; by default two minutes, or `max_age` if that is shorter.
    pub duplicate_window: Option<Duration>,
    /// Copies; a wish, see [`BucketSpec::replicas`](crate::BucketSpec::replicas).
    pub replicas: u8,
    /// Where the messages are kept.
    pub storage: Storage,
    /// Where the copies go.
    pub placement: Option<Placement>,
    /// A text for people.
    pub description: Option<String>,
}

impl StreamSpec {
    /// Keeps everything on `subjects`, in one file-backed copy.
    pub fn new(name: StreamName, subjects: Vec<Pattern>) -> Self {
        Self {
            name,
            subjects,
            retention: Retention::Limits,
            discard: Discard::Old,
            max_age: None,
            max_bytes: None,
            max_messages: None,
            max_messages_per_subject: None,
            max_message_bytes: None,
            duplicate_window: None,
            replicas: 1,
            storage: Storage::File,
            placement: None,
            description: None,
        }
    }

    /// How long ids are remembered, whether it was said or not.
    pub fn remembers(&self) -> Duration {
        let otherwise = self.max_age.unwrap_or(Duration::MAX).min(DUPLICATE_WINDOW_DEFAULT);
        self.duplicate_window.unwrap_or(otherwise)
    }

    /// True if `present` remembers ids as long as is wanted; who says nothing takes what is there.
    pub fn remembers_as(&self, present: &Self) -> bool {
        self.duplicate_window.is_none() || self.remembers() == present.remembers()
    }
}

/// When a message may go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "JetStream has these three")]
pub enum Retention {
    /// When a limit is reached.
    #[default]
    Limits,
    /// When every consumer has it.
    Interest,
    /// When one consumer has it.
    WorkQueue,
}

/// What happens at a limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "JetStream has these two")]
pub enum Discard {
    /// The new message is refused.
    New,
    /// The oldest go.
    #[default]
    Old,
}

/// A stream and what it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its settings.
    pub spec: StreamSpec,
    /// When it was made.
    pub created: SystemTime,
    /// Messages it holds.
    pub messages: u64,
    /// Bytes it holds.
    pub bytes: u64,
    /// Sequence of the oldest message.
    pub first_sequence: u64,
    /// Sequence of the newest message there ever was.
    pub last_sequence: u64,
    /// Consumers it has.
    pub consumers: u64,
}

impl StreamInfo {
    /// An empty stream, for backends to fill.
    pub fn new(spec: StreamSpec, created: SystemTime) -> Self {
        Self {
            spec,
            created,
            messages: 0,
            bytes: 0,
            first_sequence: 0,
            last_sequence: 0,
            consumers: 0,
        }
    }
}

/// What [`Bus::read_stream`](crate::Bus::read_stream) is to deliver.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadStream {
    /// Only messages on subjects of this pattern.
    pub filter: Option<Pattern>,
    /// Begin behind this sequence; 0 is "from the oldest".
    pub after: u64,
    /// Go on with what comes later; else the stream ends behind what was there at the start.
    pub follow: bool,
}

impl ReadStream {
    /// Everything there is, then the end.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only messages on subjects of `filter`.
    #[must_use]
    pub fn filter(mut self, filter: Pattern) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Begins behind `sequence`.
    #[must_use]
    pub fn after(mut self, sequence: u64) -> Self {
        self.after = sequence;
        self
    }

    /// Goes on with what comes later.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }
}

/// A message as a stream keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StreamMessage {
    /// The message.
    pub message: Message,
    /// Its sequence.
    pub sequence: u64,
    /// When the stream took it, by the store's clock.
    pub stored: SystemTime,
}

impl StreamMessage {
    /// For backends.
    pub fn new(message: Message, sequence: u64, stored: SystemTime) -> Self {
        Self { message, sequence, stored }
    }
}
