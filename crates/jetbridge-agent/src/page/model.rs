//! What a page shows, before it is HTML.

use std::time::{Duration, SystemTime};

use jetbridge_core::{BucketKind, BucketName, ConnectionState, StreamName};

use crate::board::{SectionId, SectionStatus};
use crate::file::UpFile;

/// What the files name, as far as the store is asked about it for a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    pub(crate) buckets: Vec<(BucketKind, BucketName)>,
    pub(crate) handlers: Vec<NamedHandler>,
}

impl UpFile {
    /// What of it the status page asks the store about.
    pub(crate) fn named(&self) -> Named {
        let handlers = self.handlers.iter().map(|it| NamedHandler {
            name: it.name.clone(),
            words: it.words(),
            concurrency: it.concurrency,
            dead_letters: it.dead_letters.clone(),
        });
        Named {
            buckets: self.buckets.iter().map(|it| (it.kind, it.name.clone())).collect(),
            handlers: handlers.collect(),
        }
    }
}

/// A handler of the files.
#[derive(Clone, Debug)]
pub(crate) struct NamedHandler {
    pub(crate) name: String,
    /// Which messages, from where, and what is done with each.
    pub(crate) words: String,
    pub(crate) concurrency: usize,
    pub(crate) dead_letters: StreamName,
}

/// Everything on the page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) now: SystemTime,
    pub(super) up: Duration,
    pub(super) ready: bool,
    pub(super) connection: ConnectionState,
    pub(super) store: Store,
    /// Why the files, as they are now, were not taken.
    pub(super) files_error: Option<String>,
    pub(super) cards: Vec<Card>,
}

/// What the store said of itself.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Answers {
        backend: &'static str,
        location: String,
        version: String,
        round_trip: Duration,
        facts: Vec<(&'static str, String)>,
    },
    Silent(String),
}

/// One section.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub(super) id: SectionId,
    pub(super) status: SectionStatus,
    pub(super) figures: Figures,
}

/// What there is to say about one kind of section.
#[derive(Clone, Debug)]
pub(super) enum Figures {
    None,
    Bucket(Bucket),
    Handler(Handler),
    Limiter(Limiter),
    Databases(Vec<Database>),
    Template(Template),
    Component(Component),
}

/// What a bucket holds.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) bytes: u64,
    /// Of the file or the store, if there is one.
    pub(super) bytes_max: Option<u64>,
    pub(super) messages: u64,
    pub(super) history: u8,
    pub(super) max_age: Option<Duration>,
    pub(super) replicas: u8,
}

/// What a handler does.
#[derive(Clone, Debug)]
pub(super) struct Handler {
    pub(super) words: String,
    pub(super) in_flight: u64,
    pub(super) concurrency: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) dead: u64,
    pub(super) dead_letters: StreamName,
    /// Letters in that stream, if it could be asked.
    pub(super) letters: Option<u64>,
}

/// How much of a limit is used.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    pub(super) policy: String,
    pub(super) limit: u32,
    /// `None` if the store could not be asked.
    pub(super) remaining: Option<u32>,
    pub(super) waiting: u64,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    pub(super) without_store: u64,
    /// Slots that callers of this process hold; of limits without slots nothing.
    pub(super) slots: Option<u64>,
    pub(super) longest_wait: Duration,
}

/// How the replica of a database does.
#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) path: String,
    pub(super) replica: String,
    pub(super) state: &'static str,
    pub(super) txid: String,
    pub(super) caught_up: bool,
    /// `None` if nobody can tell.
    pub(super) lag: Option<Duration>,
    /// The lag in seconds at equal distances, oldest first, where it was known.
    pub(super) lags: Vec<Option<f64>>,
    /// The oldest and the newest state that can be restored.
    pub(super) window: Option<(SystemTime, SystemTime)>,
    pub(super) files: usize,
    pub(super) error: Option<String>,
    /// When a restore was tried, and why it failed, if it did.
    pub(super) verified: Option<(SystemTime, Option<String>)>,
}

/// What became of a file.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) written: u64,
    pub(super) same: u64,
    pub(super) failed: u64,
    pub(super) reloads: u64,
    pub(super) last_written: Option<SystemTime>,
    /// What the last writing changed, without secrets.
    pub(super) diff: String,
}

/// What a component was asked.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) requests_done: u64,
    pub(super) requests_failed: u64,
    pub(super) changes_done: u64,
    pub(super) changes_failed: u64,
    pub(super) changes_passed_over: u64,
}
