//! Keys to small values.

use std::fmt::{Debug, Display};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;

use crate::counter::{CounterEncoding, KvShared};
use crate::error::Result;
use crate::headers::Headers;
use crate::name::{BucketName, Key, Pattern};

/// One bucket of keys and values. Every write has a revision; revisions of a bucket only grow.
///
/// An absent, deleted or expired key is `Ok(None)`. A bucket that is not there (any more) is
/// [`NotFound`](crate::ErrorKind::NotFound), a name the credentials do not cover
/// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), a store that does not answer
/// [`Unavailable`](crate::ErrorKind::Unavailable); every method may answer with these. A future
/// dropped in mid-write leaves the bucket consistent and the connection usable.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use futures_util::StreamExt;
/// use jetbridge_core::{
///     Backend, BucketName, BucketSpec, Change, DeleteOpts, Key, MemoryBackend, Open, PutOpts,
///     Scope, Watch,
/// };
///
/// let store = MemoryBackend::new();
/// let kv = store.kv(&BucketName::parse("jobs")?, Open::ensure(BucketSpec::default())).await?;
/// let job = Key::parse("mail/1")?;
/// let first = kv.put(&job, "queued".into(), PutOpts::create()).await?;
///
/// let mut changes = kv.watch(Watch::current(Scope::prefix("mail/")));
/// assert!(matches!(changes.next().await.unwrap()?, Change::Put(entry) if entry.key == job));
/// assert_eq!(changes.next().await.unwrap()?, Change::CaughtUp);
/// let second = kv.put(&job, "done".into(), PutOpts::over(first.revision)).await?;
/// assert_eq!(changes.next().await.unwrap()?.revision(), Some(second.revision));
/// kv.delete(&job, DeleteOpts::exactly(second.revision)).await?;
/// assert!(matches!(changes.next().await.unwrap()?, Change::Delete { key, .. } if key == job));
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[async_trait]
pub trait Kv: Debug + Display + Send + Sync + 'static {
    /// The bucket's name.
    fn bucket(&self) -> &BucketName;

    /// What the handles of this process share for this bucket: see [`KvShared`].
    fn shared(&self) -> &KvShared;

    /// The value under `key`.
    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>>;

    /// As many [`Kv::get`]s, in order; one round trip where the backend can. The answer's
    /// [`revision`](Snapshot::revision) says whether it is one consistent state.
    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot>;

    /// Writes if `opts.expect` holds, else [`Conflict`](crate::ErrorKind::Conflict) with the
    /// present revision. A value or headers over the store's limit are
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded).
    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Result<Written>;

    /// Deletes if `opts.expect` holds; `None` if there was nothing to delete.
    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>>;

    /// Adds `delta` to the number under `key` and returns the sum; an absent key counts as 0.
    ///
    /// Exact over processes, lost acknowledgements and server restarts. A value that is no number
    /// in `opts.encoding` is [`Corrupt`](crate::ErrorKind::Corrupt), a sum outside `i64` is
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded); neither writes anything.
    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64>;

    /// Removes every key in `scope` with its history, and returns how many live keys there were
    /// at most. Watchers are not told, as in NATS.
    async fn purge(&self, scope: Scope) -> Result<u64>;

    /// What is stored of `key`, oldest first: values and deletions, as far as the history goes.
    async fn history(&self, key: &Key) -> Result<Vec<Change>>;

    /// The live keys in `scope`, in no particular order, each at least once.
    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>>;

    /// At most `limit` live keys behind the cursor. A key present throughout a listing is never
    /// missed, whatever is written meanwhile; one that is rewritten may come again. A cursor that
    /// no page returned is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page>;

    /// Changes, in revision order for each key: the last change of every key at least once. Ends
    /// with an error rather than skip one, survives reconnects without replaying the bucket.
    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>>;
}

/// Position of a write in its bucket: opaque, growing. Zero is "no such write".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_structs, reason = "a newtype over the store's number")]
pub struct Revision(pub u64);

impl Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// The condition under which a write happens.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend must handle every condition")]
pub enum Expect {
    /// Unconditional.
    #[default]
    Any,
    /// Only if there is no live value; holds over a deleted or expired one too.
    Absent,
    /// Only if the live value was written by exactly this revision.
    Exactly(Revision),
}

/// Which value a read may return.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend must handle every read")]
pub enum Read {
    /// What the last acknowledged write left, whoever made it. Without the permission for that
    /// it fails naming the subject; it never reads stale.
    #[default]
    Fresh,
    /// Any replica's answer: cheaper, possibly old. Enough to start a compare-and-set.
    MaybeStale,
    /// The value of this key written by exactly this revision, if it is still stored.
    At(Revision),
}

/// A value and what the store knows of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// The bytes as written.
    pub value: Bytes,
    /// The write that left it.
    pub revision: Revision,
    /// When the store took it, by the store's clock.
    pub written: SystemTime,
    /// When its own TTL ends, by the store's clock; `None` if it has none. A bucket's `max_age`
    /// may remove it before.
    pub expires: Option<SystemTime>,
    /// The writer's headers, without those the store adds.
    pub headers: Headers,
}

impl Entry {
    /// An entry without expiry and headers, for backends to fill.
    pub fn new(key: Key, value: Bytes, revision: Revision, written: SystemTime) -> Self {
        Self { key, value, revision, written, expires: None, headers: Headers::new() }
    }

    /// How long it has left at `now`, the store's time; `None` if it has no TTL.
    pub fn ttl(&self, now: SystemTime) -> Option<Duration> {
        self.expires.map(|at| at.duration_since(now).unwrap_or_default())
    }
}

/// What a write left behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// The revision of the write.
    pub revision: Revision,
    /// When the store took it, where it says so.
    pub at: Option<SystemTime>,
}

impl Written {
    /// A write at `revision`, at a time the store did not tell.
    pub const fn new(revision: Revision) -> Self {
        Self { revision, at: None }
    }

    /// Adds when the store took it.
    #[must_use]
    pub const fn at(mut self, at: SystemTime) -> Self {
        self.at = Some(at);
        self
    }
}

/// The answer to [`Kv::get_many`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// One for each key asked for, in order.
    pub entries: Vec<Option<Entry>>,
    /// The bucket's revision at which all of them held at once; `None` if they were read one
    /// after the other.
    pub revision: Option<Revision>,
}

impl Snapshot {
    /// Entries, and the revision at which they held at once.
    pub const fn new(entries: Vec<Option<Entry>>, revision: Option<Revision>) -> Self {
        Self { entries, revision }
    }
}

/// Options of [`Kv::put`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PutOpts {
    /// The condition.
    pub expect: Expect,
    /// Expire after this long; `None` keeps for ever and clears an earlier one. Sub-second
    /// times work. Refused with [`Unsupported`](crate::ErrorKind::Unsupported) where
    /// [`Capabilities::key_ttl`](crate::Capabilities::key_ttl) is `No`, never ignored.
    pub ttl: Option<Duration>,
    /// The writer's headers.
    pub headers: Headers,
}

impl PutOpts {
    /// Unconditional.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if there is no live value.
    pub fn create() -> Self {
        Self { expect: Expect::Absent, ..Self::default() }
    }

    /// Only over that revision.
    pub fn over(revision: Revision) -> Self {
        Self { expect: Expect::Exactly(revision), ..Self::default() }
    }

    /// Sets the condition.
    #[must_use]
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Expire after `ttl`.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Stores `headers` beside the value.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }
}

/// Options of [`Kv::delete`] and [`Objects::delete`](crate::Objects::delete).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DeleteOpts {
    /// The condition; [`Expect::Absent`] is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub expect: Expect,
    /// Also forget the key's history; by default earlier revisions stay as long as the bucket's
    /// history keeps them.
    pub history: bool,
}

impl DeleteOpts {
    /// Unconditional, keeping the history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only the value of that revision.
    pub fn exactly(revision: Revision) -> Self {
        Self { expect: Expect::Exactly(revision), history: false }
    }

    /// Forgets the history too.
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.history = true;
        self
    }
}

/// Options of [`Kv::increment`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct IncrementOpts {
    /// How the number is written.
    pub encoding: CounterEncoding,
    /// Give up, with nothing written, after this long; by default after thirty seconds.
    pub deadline: Option<Duration>,
    /// For this long past the deadline, go on finding out what became of a write that was not
    /// acknowledged, before the outcome is unknown; by default for a minute.
    pub settling: Option<Duration>,
    /// Refuse a sum below this with [`LimitExceeded`](crate::ErrorKind::LimitExceeded).
    pub min: Option<i64>,
}

impl IncrementOpts {
    /// Decimal text, thirty seconds, any sum.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the number is written.
    #[must_use]
    pub fn encoding(mut self, encoding: CounterEncoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets for how long past the deadline an unclear outcome is found out about.
    #[must_use]
    pub fn settling(mut self, settling: Duration) -> Self {
        self.settling = Some(settling);
        self
    }

    /// Refuses sums below `min`.
    #[must_use]
    pub fn min(mut self, min: i64) -> Self {
        self.min = Some(min);
        self
    }
}

/// Which keys or names an operation is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Scope {
    /// All of them.
    #[default]
    All,
    /// Those that begin with this text.
    Prefix(Box<str>),
    /// Exactly this one.
    One(Key),
    /// Exactly these.
    Many(Vec<Key>),
    /// Those whose stored text matches this subject pattern, as the `nats` CLI takes it.
    Matching(Pattern),
}

impl Scope {
    /// Those that begin with `prefix`; all of them if it is empty.
    pub fn prefix(prefix: &str) -> Self {
        if prefix.is_empty() { Self::All } else { Self::Prefix(prefix.into()) }
    }

    /// True if `name`, stored as the subject text `text`, is meant.
    pub fn contains(&self, name: &str, text: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
            Self::One(key) => key.as_str() == name,
            Self::Many(keys) => keys.iter().any(|key| key.as_str() == name),
            Self::Matching(pattern) => pattern.matches(text),
        }
    }
}

/// Where a listing goes on. Only what a page returned is a cursor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor(Box<str>);

impl Cursor {
    /// A cursor from the text of an earlier one.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text, to be handed out and taken back.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One page of [`Kv::page`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// The keys.
    pub keys: Vec<Key>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl Page {
    /// Keys, and where to go on.
    pub const fn new(keys: Vec<Key>, next: Option<Cursor>) -> Self {
        Self { keys, next }
    }
}

/// What [`Kv::watch`] is to deliver.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Watch {
    /// Which keys.
    pub scope: Scope,
    /// From where on.
    pub start: Start,
    /// Leave values out: entries come with empty ones.
    pub keys_only: bool,
}

impl Watch {
    /// The present value of every key in `scope`, then every change.
    pub fn current(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// Starts at `start`.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Leaves values out.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }
}

/// From where on a watch delivers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend must handle every start")]
pub enum Start {
    /// The present value of each key, [`Change::CaughtUp`], then changes.
    #[default]
    Current,
    /// As far back as the history goes, [`Change::CaughtUp`], then changes.
    History,
    /// [`Change::CaughtUp`] at once, then changes from now on.
    Now,
    /// The changes after this revision, as far as they are still the last ones of their key,
    /// [`Change::CaughtUp`], then changes. This is how a broken-off watch is taken up again.
    After(Revision),
}

/// What a watch delivers.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "to ignore a kind of change is a bug")]
pub enum Change {
    /// A value was written.
    Put(Entry),
    /// A key was deleted or has expired.
    Delete {
        /// The key.
        key: Key,
        /// The revision of the deletion.
        revision: Revision,
        /// When, by the store's clock.
        at: SystemTime,
    },
    /// Everything that was there when the watch began has been delivered. Comes exactly once,
    /// on an empty bucket too.
    CaughtUp,
}

impl Change {
    /// The key this change is about; `None` for [`Change::CaughtUp`].
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Put(entry) => Some(&entry.key),
            Self::Delete { key, .. } => Some(key),
            Self::CaughtUp => None,
        }
    }

    /// Its revision; `None` for [`Change::CaughtUp`].
    pub fn revision(&self) -> Option<Revision> {
        match self {
            Self::Put(entry) => Some(entry.revision),
            Self::Delete { revision, .. } => Some(*revision),
            Self::CaughtUp => None,
        }
    }
}
