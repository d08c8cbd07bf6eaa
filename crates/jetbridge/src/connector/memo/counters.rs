//! Numbers: adding to them, and counting keys.

use std::time::{Duration, SystemTime};

use jetbridge_core::{
    CounterEncoding, Entry, Error, ErrorKind, IncrementOpts, Key, KvExt as _, Result, Update,
};

use super::call::{Call, Operation, Target};
use super::compete;

const ENCODING: CounterEncoding = CounterEncoding::Decimal;

/// See [`Memo::increment`](super::Memo::increment).
#[derive(Debug)]
pub struct Increment {
    pub(super) key: String,
    pub(super) delta: i64,
}

impl Call<Increment> {
    /// Changes nothing if there is no value, and is `None` then.
    pub fn if_present(self) -> Call<IncrementPresent> {
        self.map(IncrementPresent)
    }
}

impl Increment {
    pub(super) fn less(key: String, n: i64) -> Result<Self> {
        match n.checked_neg() {
            Some(delta) => Ok(Self { key, delta }),
            None => Err(out_of_range(&key).with("delta", format_args!("-{n}"))),
        }
    }
}

impl Operation for Increment {
    type Output = i64;

    async fn run(&self, target: &Target<'_>) -> Result<i64> {
        let key = target.key(&self.key)?;
        let opts = IncrementOpts::new().encoding(ENCODING);
        target.kv().increment(&key, self.delta, opts).await.map_err(|error| match error.kind() {
            ErrorKind::Corrupt => error.hint(NUMBERS_HINT),
            _ => error,
        })
    }
}

/// See [`Call::if_present`].
#[derive(Debug)]
pub struct IncrementPresent(Increment);

impl Operation for IncrementPresent {
    type Output = Option<i64>;

    async fn run(&self, target: &Target<'_>) -> Result<Option<i64>> {
        let key = target.key(&self.0.key)?;
        let (delta, now) = (self.0.delta, target.backend().now().await?.now);
        compete::change(target, &key, |entry| {
            let sum = add(entry, &key, delta)?;
            let update = Update::Put {
                value: ENCODING.encode(sum),
                ttl: entry.expires.map(|at| remaining(at, now)),
                // They keep the table of writers, by which increments of other processes find
                // out what became of them.
                headers: entry.headers.clone(),
            };
            Ok((update, sum))
        })
        .await
    }
}

/// The time left to a value that was just read, which is never none, whatever the estimate of
/// the store's time says.
fn remaining(expires: SystemTime, now: SystemTime) -> Duration {
    expires.duration_since(now).unwrap_or_default().max(Duration::from_millis(1))
}

const NUMBERS_HINT: &str =
    "increment and decrement work on numbers that they, or `set` with an integer, have written";

fn add(entry: &Entry, key: &Key, delta: i64) -> Result<i64> {
    let Some(number) = ENCODING.decode(&entry.value) else {
        return Err(Error::new(ErrorKind::Corrupt, "kv.increment")
            .because("the value is not a number")
            .with("key", key)
            .with("revision", entry.revision)
            .hint(NUMBERS_HINT));
    };
    number
        .checked_add(delta)
        .ok_or_else(|| out_of_range(key.as_str()).with("value", number).with("delta", delta))
}

fn out_of_range(key: &str) -> Error {
    Error::new(ErrorKind::LimitExceeded, "kv.increment")
        .because("the sum is out of range")
        .with("key", key)
}

/// See [`Memo::item_count`](super::Memo::item_count).
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a call without arguments")]
pub struct ItemCount;

impl Operation for ItemCount {
    type Output = u64;

    async fn run(&self, target: &Target<'_>) -> Result<u64> {
        target.kv().count(target.scope()).await
    }
}
