//! Exact counters over compare-and-set.
//!
//! An increment whose acknowledgement is lost may or may not have landed, and sending it again
//! may count twice. Message ids do not settle it: a restarted server rebuilds them from what it
//! still stores, and an overwritten message is not stored. So each counter value carries a table
//! of its last writers in a header: one writer is one process and bucket, and its entry names the
//! last operation of that writer that the value includes. After an unclear write that expected
//! revision R:
//!
//! * the table holds our operation: it landed;
//! * the revision is still R: it has not, and the same condition makes sending again safe;
//! * the revision moved and the table lacks our operation: it can never land, start over;
//! * a foreign writer replaced the value and with it the table: nobody can tell, and the error
//!   says so.
//!
//! `docs/formats/counters.md` has the bytes.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::headers::Headers;
use crate::kv::{Entry, IncrementOpts, Kv, PutOpts, Read, Revision};
use crate::name::{BucketName, Key};

/// The header that carries the table of writers: `writer=operation`, newest first, by commas.
pub const WRITERS_HEADER: &str = "Jetbridge-Writers";
/// Writers remembered in a counter. Must not be below the number of processes that write one
/// counter at once; 32 entries take under 1 KiB.
pub const WRITERS_MAX: usize = 32;
/// How long an increment competes by default before it gives up with nothing written.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// Counters whose last state is remembered, and whose writers queue, per bucket and process.
const SLOTS_MAX: usize = 4096;

/// How a counter's number is written.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a bucket's encoding is one of these")]
pub enum CounterEncoding {
    /// Eight bytes, two's complement, big-endian.
    Be64,
    /// Decimal text, as Redis and other NATS clients write it.
    #[default]
    Decimal,
    /// Eight bytes, two's complement, little-endian.
    Le64,
}

impl CounterEncoding {
    /// `number` as bytes.
    pub fn encode(self, number: i64) -> Bytes {
        match self {
            Self::Be64 => Bytes::copy_from_slice(&number.to_be_bytes()),
            Self::Decimal => Bytes::from(number.to_string()),
            Self::Le64 => Bytes::copy_from_slice(&number.to_le_bytes()),
        }
    }

    /// The number that `bytes` are; `None` if they are none. Strict: no white space, no sign but
    /// a leading `-`, exactly eight bytes for the binary forms.
    pub fn decode(self, bytes: &[u8]) -> Option<i64> {
        match self {
            Self::Be64 => bytes.try_into().ok().map(i64::from_be_bytes),
            Self::Le64 => bytes.try_into().ok().map(i64::from_le_bytes),
            Self::Decimal => {
                let text = std::str::from_utf8(bytes).ok()?;
                let digits = text.strip_prefix('-').unwrap_or(text);
                let strict = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
                if strict { text.parse().ok() } else { None }
            }
        }
    }
}

impl CounterEncoding {
    /// The number that `entry` holds.
    pub(crate) fn number(self, entry: &Entry) -> Result<i64> {
        self.decode(&entry.value).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "kv.increment")
                .because("the value is not a number")
                .with("key", &entry.key)
                .with("encoding", format!("{self:?}"))
                .with("revision", entry.revision)
        })
    }
}

impl IncrementOpts {
    /// `number` and `delta` together, if the sum is one that may be written.
    pub(crate) fn add(&self, key: &Key, number: i64, delta: i64) -> Result<i64> {
        let sum = number.checked_add(delta).filter(|sum| self.min.is_none_or(|min| *sum >= min));
        sum.ok_or_else(|| {
            Error::new(ErrorKind::LimitExceeded, "kv.increment")
                .because("the sum is out of range")
                .with("key", key)
                .with("value", number)
                .with("delta", delta)
        })
    }
}

/// A bucket of numbers to add to, where reading first is not needed.
#[async_trait]
pub trait Counters: Debug + Display + Send + Sync + 'static {
    /// The bucket's name.
    fn bucket(&self) -> &BucketName;

    /// Adds `n` to the number under `key`, absent being 0, and returns the sum: no two calls that
    /// add get the same answer. Errors as [`Kv::increment`].
    async fn fetch_add(&self, key: &Key, n: i64) -> Result<i64>;

    /// The number under `key`.
    async fn value(&self, key: &Key) -> Result<Option<i64>>;

    /// Forgets `key`; `false` if it was not there.
    async fn remove(&self, key: &Key) -> Result<bool>;
}

/// [`Counters`] kept in a bucket of keys.
#[derive(Clone, Debug)]
pub struct KvCounters(Arc<dyn Kv>);

impl KvCounters {
    /// Counts in `kv`.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self(kv)
    }
}

impl Display for KvCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "counters in {}", self.0)
    }
}

#[async_trait]
impl Counters for KvCounters {
    fn bucket(&self) -> &BucketName {
        self.0.bucket()
    }

    async fn fetch_add(&self, key: &Key, n: i64) -> Result<i64> {
        self.0.increment(key, n, IncrementOpts::new()).await
    }

    async fn value(&self, key: &Key) -> Result<Option<i64>> {
        let Some(entry) = self.0.get(key, Read::Fresh).await? else { return Ok(None) };
        CounterEncoding::Decimal.number(&entry).map(Some)
    }

    async fn remove(&self, key: &Key) -> Result<bool> {
        Ok(self.0.delete(key, crate::kv::DeleteOpts::new().with_history()).await?.is_some())
    }
}

/// What the handles that one process has on one bucket share, so that they count as one writer
/// and their increments of one key queue here instead of competing at the store.
#[derive(Clone, Debug)]
pub struct KvShared(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Box<str>,
    operations: AtomicU64,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    flights: crate::flight::Flights,
}

/// The last known state of a counter; held locked while one increment is under way.
type Slot = tokio::sync::Mutex<Option<State>>;

impl Default for KvShared {
    fn default() -> Self {
        Self::new()
    }
}

impl KvShared {
    /// A new writer.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            writer: format!("{:016x}", crate::random::u64()).into(),
            operations: AtomicU64::new(0),
            slots: Mutex::default(),
            flights: crate::flight::Flights::default(),
        }))
    }

    /// Loads of absent keys under way, for [`KvExt`](crate::KvExt).
    pub(crate) fn flights(&self) -> &crate::flight::Flights {
        &self.0.flights
    }

    /// The name of this writer, which nobody else has.
    pub(crate) fn writer(&self) -> &str {
        &self.0.writer
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SLOTS_MAX {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }

    fn next_operation(&self) -> u64 {
        self.0.operations.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A counter as it was last seen.
#[derive(Clone, Debug)]
struct State {
    /// `None` if it was absent.
    revision: Option<Revision>,
    number: i64,
    expires: Option<SystemTime>,
    headers: Headers,
    writers: Vec<(Box<str>, u64)>,
}

impl State {
    fn read(encoding: CounterEncoding, entry: Option<&Entry>) -> Result<Self> {
        let Some(entry) = entry else {
            return Ok(Self {
                revision: None,
                number: 0,
                expires: None,
                headers: Headers::new(),
                writers: Vec::new(),
            });
        };
        Ok(Self {
            revision: Some(entry.revision),
            number: encoding.number(entry)?,
            expires: entry.expires,
            headers: entry.headers.clone(),
            writers: entry.headers.get(WRITERS_HEADER).map(parse_writers).unwrap_or_default(),
        })
    }

    /// The state after `operation` of `writer` has added `delta`.
    fn plus(
        &self,
        key: &Key,
        delta: i64,
        opts: IncrementOpts,
        writer: &str,
        operation: u64,
    ) -> Result<Self> {
        let mut next = self.clone();
        next.number = opts.add(key, self.number, delta)?;
        next.writers.retain(|(known, _)| **known != *writer);
        next.writers.insert(0, (writer.into(), operation));
        next.writers.truncate(WRITERS_MAX);
        next.headers.set(WRITERS_HEADER, &print_writers(&next.writers))?;
        Ok(next)
    }

    fn includes(&self, writer: &str, operation: u64) -> bool {
        self.writers.iter().any(|(known, last)| **known == *writer && *last == operation)
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

/// [`Kv::increment`] for backends that have nothing better than compare-and-set. `now` is the
/// store's time, to carry a key's expiry over.
pub async fn increment(
    kv: &dyn Kv,
    now: &(dyn Fn() -> SystemTime + Send + Sync),
    key: &Key,
    delta: i64,
    opts: IncrementOpts,
) -> Result<i64> {
    let deadline = Instant::now() + opts.deadline.unwrap_or(DEADLINE_DEFAULT);
    let shared = kv.shared().clone();
    let slot = shared.slot(key);
    let Ok(mut seen) = tokio::time::timeout_at(deadline, slot.lock()).await else {
        return Err(gave_up(key, deadline));
    };
    let operation = shared.next_operation();
    let mut backoff = Backoff::contention();
    loop {
        let state = match seen.take() {
            Some(state) => state,
            None => State::read(opts.encoding, kv.get(key, Read::Fresh).await?.as_ref())?,
        };
        let next = state.plus(key, delta, opts, &shared.0.writer, operation)?;
        match attempt(kv, now, key, &state, &next, opts).await {
            Ok(revision) => {
                let number = next.number;
                *seen = Some(State { revision: Some(revision), ..next });
                return Ok(number);
            }
            Err(lost) if lost.kind() == ErrorKind::Conflict => {}
            Err(unclear) if unclear.outcome() == Outcome::Unknown => {
                let before = Before { state: &state, writer: &shared.0.writer, operation, unclear };
                match settle(kv, key, opts.encoding, before, deadline).await? {
                    Settled::Landed => return Ok(next.number),
                    Settled::Again(state) => *seen = state,
                }
            }
            Err(waiting) if waiting.is_retryable() && Instant::now() < deadline => {
                *seen = Some(state)
            }
            Err(final_error) => return Err(final_error),
        }
        if Instant::now() >= deadline {
            return Err(gave_up(key, deadline));
        }
        backoff.wait().await;
    }
}

fn gave_up(key: &Key, deadline: Instant) -> Error {
    let late = deadline.elapsed();
    Error::new(ErrorKind::Unavailable, "kv.increment")
        .because("too many writers compete for this key: the deadline passed with nothing written")
        .with("key", key)
        .with("late_ms", late.as_millis())
}

async fn attempt(
    kv: &dyn Kv,
    now: &(dyn Fn() -> SystemTime + Send + Sync),
    key: &Key,
    state: &State,
    next: &State,
    opts: IncrementOpts,
) -> Result<Revision> {
    let mut put = state.revision.map_or_else(PutOpts::create, PutOpts::over);
    put.headers = next.headers.clone();
    put.ttl = match next.expires.map(|at| at.duration_since(now())) {
        None => None,
        Some(Ok(left)) if !left.is_zero() => Some(left),
        // It expired just now: to the store the key is absent, which the conflict will tell.
        Some(_past) => {
            return Err(Error::new(ErrorKind::Conflict, "kv.increment").with("key", key));
        }
    };
    kv.put(key, opts.encoding.encode(next.number), put).await.map(|written| written.revision)
}

/// What was known before a write whose answer was lost.
struct Before<'a> {
    state: &'a State,
    writer: &'a str,
    operation: u64,
    unclear: Error,
}

enum Settled {
    Landed,
    /// It did not land: go on from this state, or from a fresh read.
    Again(Option<State>),
}

/// Finds out whether an unclear write landed; see the module's head.
async fn settle(
    kv: &dyn Kv,
    key: &Key,
    encoding: CounterEncoding,
    before: Before<'_>,
    deadline: Instant,
) -> Result<Settled> {
    let mut backoff = Backoff::outage();
    let entry = loop {
        match kv.get(key, Read::Fresh).await {
            Ok(entry) => break entry,
            Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < deadline => {
                backoff.wait().await;
            }
            Err(_still_unclear) => return Err(before.unclear),
        }
    };
    if entry.as_ref().map(|entry| entry.revision) == before.state.revision {
        return Ok(Settled::Again(Some(before.state.clone())));
    }
    let Some(entry) = entry else { return Err(before.unclear) };
    let foreign = entry.headers.get(WRITERS_HEADER).is_none();
    if foreign {
        return Err(before.unclear);
    }
    let state = State::read(encoding, Some(&entry))?;
    if state.includes(before.writer, before.operation) {
        return Ok(Settled::Landed);
    }
    Ok(Settled::Again(Some(state)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_strict_and_reversible() {
        for encoding in [CounterEncoding::Be64, CounterEncoding::Decimal, CounterEncoding::Le64] {
            for number in [0, 1, -1, i64::MAX, i64::MIN] {
                assert_eq!(encoding.decode(&encoding.encode(number)), Some(number));
            }
        }
        for bad in ["", " 1", "1 ", "+1", "1.0", "--1", "9223372036854775808", "x"] {
            assert_eq!(CounterEncoding::Decimal.decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(CounterEncoding::Be64.decode(b"1234567"), None);
    }

    #[test]
    fn the_table_keeps_the_newest_writers() {
        let key = Key::parse("k").unwrap();
        let mut state = State::read(CounterEncoding::Decimal, None).unwrap();
        for writer in 0..40_u64 {
            let name = format!("w{writer}");
            state = state.plus(&key, 1, IncrementOpts::new(), &name, writer).unwrap();
        }
        assert_eq!(state.number, 40);
        assert_eq!(state.writers.len(), WRITERS_MAX);
        assert!(state.includes("w39", 39) && !state.includes("w0", 0));
        assert_eq!(parse_writers(&print_writers(&state.writers)), state.writers);
    }
}
