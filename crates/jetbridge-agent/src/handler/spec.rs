//! One entry of `handlers:`, parsed. What it means is in `docs/guide/up.md`.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::{ConsumerName, GroupName, Pattern, Secret, StreamName};

use super::url::origin;

/// Messages that one handler works on at once, if the file does not say.
pub(crate) const CONCURRENCY_DEFAULT: usize = 1;
/// Most messages that one handler may work on at once: each may be a process.
pub(crate) const CONCURRENCY_MAX: usize = 1024;
/// Time for one attempt, if the file does not say.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Attempts for one message before it becomes a dead letter, if the file does not say.
pub(crate) const ATTEMPTS_DEFAULT: u32 = 5;
/// Where dead letters are kept, if the file does not say.
pub(crate) const DEAD_LETTERS_DEFAULT: &str = "JETBRIDGE_DEAD_LETTERS";

/// A handler: which messages, what is done with each, and what if that fails.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HandlerSpec {
    /// What status, metrics and logs call it.
    pub name: String,
    /// Which messages.
    pub subject: Pattern,
    /// Where they come from.
    pub source: Source,
    /// What is done with one.
    pub target: Target,
    /// How many at once.
    pub concurrency: usize,
    /// Which of them wait for each other.
    pub order: Order,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Attempts for one message, the first included.
    pub attempts: u32,
    /// Waits between attempts: the first, doubling up to the second.
    pub backoff: (Duration, Duration),
    /// The stream of those that were given up.
    pub dead_letters: StreamName,
}

impl HandlerSpec {
    /// Which messages, from where, and to what.
    pub(crate) fn words(&self) -> String {
        let from = match &self.source {
            Source::Stream { stream, durable } => format!("stream {stream} as {durable}"),
            Source::Subject { queue: Some(queue) } => format!("plain messages, in group {queue}"),
            Source::Subject { queue: None } => "plain messages".to_owned(),
        };
        format!("{} from {from} → {}", self.subject, self.target)
    }
}

/// Where a handler's messages come from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// Plain subscription: at most once.
    Subject {
        /// Shares the messages with the other members of this group.
        queue: Option<GroupName>,
    },
    /// A durable consumer: at least once.
    Stream {
        /// The stream; made, keeping the handler's subject, if it is missing.
        stream: StreamName,
        /// The consumer's name.
        durable: ConsumerName,
    },
}

/// What is done with a message.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// A process: the payload is its standard input.
    Run {
        /// The program and its arguments.
        command: Vec<String>,
        /// Where it runs.
        directory: PathBuf,
    },
    /// An HTTP request: the payload is its body. Its user, path and query may be secrets.
    Url(Secret<String>),
}

impl Display for Target {
    /// The command, or where the request goes, without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { command, .. } => f.write_str(&command.join(" ")),
            Self::Url(url) => f.write_str(&origin(url.expose())),
        }
    }
}

/// Which messages must not overtake each other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Order {
    /// None.
    #[default]
    Free,
    /// Those with the same value of this header.
    Header(String),
    /// Those on the same subject.
    Subject,
    /// Those with the same token of the subject at this place, counted from 1.
    Token(usize),
}
