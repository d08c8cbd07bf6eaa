//! Counters: numbers in keys, added to exactly.
//!
//! Here are the encodings, the trait for buckets of counters, and what the handles of one process
//! share, so that they count as one writer. How an increment stays exact over lost
//! acknowledgements is in [`increment`](self::increment()).

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use self::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{DeleteOpts, Entry, IncrementOpts, Kv, Read};
use crate::name::{BucketName, Key};

mod increment;
mod state;

pub use increment::increment;
pub use state::{WRITERS_HEADER, WRITERS_MAX};

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
    pub fn number(self, entry: &Entry) -> Result<i64> {
        self.decode(&entry.value).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "kv.increment")
                .because("the value is not a number")
                .with("key", &entry.key)
                .with("encoding", format!("{self:?}"))
                .with("revision", entry.revision)
                .hint("count under another key, or put a number there first")
        })
    }
}

impl IncrementOpts {
    /// `number` and `delta` together, if the sum is one that may be written.
    pub fn add(&self, key: &Key, number: i64, delta: i64) -> Result<i64> {
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
        Ok(self.0.delete(key, DeleteOpts::new().with_history()).await?.is_some())
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
}
