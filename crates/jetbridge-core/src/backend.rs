//! Where buckets live.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_core::stream::BoxStream;

use crate::bus::Bus;
use crate::clock::{StoreClock, StoreTime};
use crate::codec::KeyEncoding;
use crate::counter::Counters;
use crate::error::Result;
use crate::kv::Kv;
use crate::name::BucketName;
use crate::object::Objects;

/// A store: one NATS account, one directory, or this process. Cheap to share; no global state.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::time::Duration;
/// use jetbridge_core::{Backend, BucketKind, BucketName, BucketSpec, ErrorKind, MemoryBackend, Open};
///
/// let store = MemoryBackend::new();
/// let name = BucketName::parse("config")?;
/// let absent = store.kv(&name, Open::existing()).await.unwrap_err();
/// assert_eq!(absent.kind(), ErrorKind::NotFound);
/// let mut spec = BucketSpec::default();
/// spec.history = 5;
/// store.create_bucket(BucketKind::Kv, &name, &spec).await?;
/// assert_eq!(store.buckets(BucketKind::Kv).await?[0].spec.history, 5);
/// assert!(store.close(Duration::from_secs(5)).await.is_clean());
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[async_trait]
pub trait Backend: Debug + Display + Send + Sync + 'static {
    /// What *this connection* can do: asked of the server, never decided by a Cargo feature.
    fn capabilities(&self) -> Capabilities;

    /// Opens a bucket of keys. An existing one is never altered; one that is missing is made if
    /// `open` says so, else it is [`NotFound`](crate::ErrorKind::NotFound).
    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>>;

    /// As [`Backend::kv`], for objects.
    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>>;

    /// A bucket of numbers to add to, made if missing: native where
    /// [`Capabilities::counters`] says so, else kept in a bucket of keys.
    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>>;

    /// Subjects and streams.
    fn bus(&self) -> Arc<dyn Bus>;

    /// Makes a bucket. One that is there with the same settings is fine, with others it is
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) naming the differences.
    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo>;

    /// Changes what may be changed of a bucket; what may not is
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming it.
    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo>;

    /// The buckets of one kind, by name.
    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>>;

    /// One bucket; [`NotFound`](crate::ErrorKind::NotFound) if it is not there.
    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo>;

    /// Deletes a bucket and what it holds; `false` if there was none.
    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool>;

    /// The estimate of the store's time that reads and acknowledgements feed.
    fn clock(&self) -> &StoreClock;

    /// The store's time, asked for anew if the last sample is over a minute old.
    async fn now(&self) -> Result<StoreTime>;

    /// The state of the connection now, then every change of it.
    fn connection(&self) -> BoxStream<'static, ConnectionState>;

    /// Asks the store who it is and how it does; one round trip.
    async fn status(&self) -> Result<StoreStatus>;

    /// Checks what people trip over (connection, login, encryption, permissions, clock), each
    /// with what to do about it. Never fails as a whole.
    async fn diagnose(&self) -> Vec<Check>;

    /// Flushes what was acknowledged to nobody yet, joins every task and closes, within `grace`.
    async fn close(&self, grace: Duration) -> StopReport;
}

/// Whether and how a capability is there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "callers branch on all three")]
pub enum Support {
    /// The store does it.
    Native,
    /// This library does it on top of the store, with the same promises.
    Emulated,
    /// Nobody does it: the option is refused with [`Unsupported`](crate::ErrorKind::Unsupported).
    #[default]
    No,
}

/// What a connection can do. A field exists only where a caller branches on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Expiry of single keys.
    pub key_ttl: Support,
    /// Adding to a number without reading it first.
    pub counters: Support,
    /// [`Kv::get_many`] of one consistent state.
    pub snapshot_reads: Support,
    /// Bytes of a value or message at most.
    pub value_bytes_max: u64,
    /// Other processes see the same store.
    pub shared: bool,
    /// What is acknowledged survives the end of this process.
    pub durable: bool,
    /// Copies the store can keep; 1 for the embedded one.
    pub replicas_max: u8,
}

/// Keys or objects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_enums, reason = "there are two kinds of bucket")]
pub enum BucketKind {
    /// Keys to small values.
    Kv,
    /// Names to large values.
    Object,
}

impl BucketKind {
    /// `kv` or `object`, as in files and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Object => "object",
        }
    }
}

impl Display for BucketKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a bucket is opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Open {
    /// Make it with these settings if it is missing.
    pub create: Option<BucketSpec>,
    /// How keys are written; only for buckets of keys.
    pub keys: KeyEncoding,
}

impl Open {
    /// A bucket that must be there.
    pub fn existing() -> Self {
        Self::default()
    }

    /// A bucket that is made with `spec` if it is missing.
    pub fn ensure(spec: BucketSpec) -> Self {
        Self { create: Some(spec), keys: KeyEncoding::default() }
    }

    /// Takes keys as they are, for buckets shared with clients that write what the codec would
    /// not.
    #[must_use]
    pub fn raw_keys(mut self) -> Self {
        self.keys = KeyEncoding::Raw;
        self
    }
}

/// The settings of a bucket.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BucketSpec {
    /// Revisions kept of each key, 1 to 64; only for buckets of keys.
    pub history: u8,
    /// Everything older than this expires.
    pub max_age: Option<Duration>,
    /// Bytes the bucket holds at most.
    pub max_bytes: Option<u64>,
    /// Bytes of one value at most; only for buckets of keys.
    pub max_value_bytes: Option<u32>,
    /// Copies. A wish: the embedded store keeps one and says so in status; a server that cannot
    /// place them refuses with its own words.
    pub replicas: u8,
    /// Where it is kept.
    pub storage: Storage,
    /// Where the copies go.
    pub placement: Option<Placement>,
    /// Store compressed where the store can.
    pub compression: bool,
    /// A text for people.
    pub description: Option<String>,
    /// Facts for programs, where the store keeps any.
    pub metadata: BTreeMap<String, String>,
}

impl Default for BucketSpec {
    fn default() -> Self {
        Self {
            history: 1,
            max_age: None,
            max_bytes: None,
            max_value_bytes: None,
            replicas: 1,
            storage: Storage::File,
            placement: None,
            compression: false,
            description: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// Most revisions of a key that JetStream keeps.
pub const HISTORY_MAX: u8 = 64;

/// Where data is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "JetStream has these two")]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory: gone with the server.
    Memory,
}

/// Where copies go: a cluster, and tags its servers must have.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "JetStream's own two fields")]
pub struct Placement {
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Tags that every chosen server has.
    pub tags: Vec<String>,
}

/// A bucket and what it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BucketInfo {
    /// Its name.
    pub name: BucketName,
    /// Keys or objects.
    pub kind: BucketKind,
    /// Its settings as the store has them.
    pub spec: BucketSpec,
    /// When it was made.
    pub created: SystemTime,
    /// Messages in its stream, or rows: keys with their history, or chunks and objects.
    pub messages: u64,
    /// Bytes it holds.
    pub bytes: u64,
    /// The newest revision.
    pub last_revision: u64,
    /// Sealed: no further writes.
    pub sealed: bool,
    /// Whether single keys can expire in this bucket, and how.
    pub key_ttl: Support,
}

impl BucketInfo {
    /// An empty bucket, for backends to fill.
    pub fn new(name: BucketName, kind: BucketKind, spec: BucketSpec, created: SystemTime) -> Self {
        Self {
            name,
            kind,
            spec,
            created,
            messages: 0,
            bytes: 0,
            last_revision: 0,
            sealed: false,
            key_ttl: Support::No,
        }
    }
}

/// The state of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Closed for good: by us, or after the last attempt.
    Closed,
    /// Connected.
    Connected,
    /// Not connected, trying.
    Reconnecting {
        /// What the last attempt failed with.
        reason: String,
    },
}

/// Who a store is and how it does.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreStatus {
    /// `nats`, `local` or `memory`.
    pub backend: &'static str,
    /// Where it is, without secrets.
    pub location: String,
    /// The server's version, or this library's layout version.
    pub version: String,
    /// The time of one round trip.
    pub round_trip: Duration,
    /// Further facts by name, in order.
    pub facts: Vec<(&'static str, String)>,
}

impl StoreStatus {
    /// A status without further facts.
    pub fn new(
        backend: &'static str,
        location: String,
        version: String,
        round_trip: Duration,
    ) -> Self {
        Self { backend, location, version, round_trip, facts: Vec::new() }
    }
}

/// One finding of [`Backend::diagnose`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Check {
    /// A finding without a hint.
    pub fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { name, verdict, detail: detail.into(), hint: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "callers map all three to words")]
pub enum Verdict {
    /// It does not work.
    Fails,
    /// It works.
    Passes,
    /// It works, with a reservation.
    Warns,
}

/// What stopping left undone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StopReport {
    /// Background tasks that did not end in time.
    pub tasks_abandoned: usize,
    /// Writes whose acknowledgement was still out.
    pub writes_unacknowledged: usize,
}

impl StopReport {
    /// A report of these numbers.
    pub const fn new(tasks_abandoned: usize, writes_unacknowledged: usize) -> Self {
        Self { tasks_abandoned, writes_unacknowledged }
    }

    /// True if nothing was left.
    pub const fn is_clean(&self) -> bool {
        self.tasks_abandoned == 0 && self.writes_unacknowledged == 0
    }
}
