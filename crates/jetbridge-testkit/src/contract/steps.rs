//! The steps that cases are written in.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Change, DeleteOpts, ErrorKind, Key, Kv, PutOpts, Read, Result, Revision, Scope, Start, Watch,
};

pub(crate) use super::run::patience;

/// What `future` comes to, in time.
#[track_caller]
pub(crate) fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let patience = patience();
        match tokio::time::timeout(patience, future).await {
            Ok(answer) => answer,
            Err(_late) => panic!("{caller}: not within {patience:?}: {what}"),
        }
    }
}

/// The next item of a stream that must not have ended.
#[track_caller]
pub(crate) fn next<T>(stream: &mut BoxStream<'static, Result<T>>) -> impl Future<Output = T> {
    let item = within("the next item", stream.next());
    async { item.await.expect("the stream goes on").unwrap() }
}

/// Everything up to the end of the stream.
#[track_caller]
pub(crate) fn all<T>(stream: BoxStream<'static, Result<T>>) -> impl Future<Output = Vec<T>> {
    let items = within("the end of the stream", stream.try_collect());
    async { items.await.unwrap() }
}

/// What kind of error this is.
#[track_caller]
pub(crate) fn kind<T: Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

pub(crate) fn key(raw: impl AsRef<str>) -> Key {
    Key::parse(raw).unwrap()
}

pub(crate) fn bytes(text: impl AsRef<str>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref().as_bytes())
}

/// Puts without a condition.
pub(crate) async fn put(kv: &Arc<dyn Kv>, name: &str, value: &str) -> Revision {
    kv.put(&key(name), bytes(value), PutOpts::new()).await.unwrap().revision
}

/// The present value, as text.
pub(crate) async fn read(kv: &Arc<dyn Kv>, name: &str) -> Option<String> {
    let entry = kv.get(&key(name), Read::Fresh).await.unwrap()?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

/// Deletes a key that must be there.
pub(crate) async fn delete(kv: &Arc<dyn Kv>, name: &str) -> Revision {
    kv.delete(&key(name), DeleteOpts::new()).await.unwrap().expect("something to delete")
}

/// The live keys in `scope`.
pub(crate) async fn names(kv: &Arc<dyn Kv>, scope: Scope) -> BTreeSet<String> {
    all(kv.keys(scope)).await.into_iter().map(|key| key.as_str().to_owned()).collect()
}

pub(crate) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Fills a bucket with `count` keys `prefix0000`…, many at a time; the value is the key.
pub(crate) async fn fill(kv: &Arc<dyn Kv>, prefix: &str, count: usize) -> Vec<Key> {
    /// Enough to hide the round trips, few enough not to be refused.
    const AT_ONCE: usize = 64;
    let keys: Vec<Key> = (0..count).map(|n| key(format!("{prefix}{n:04}"))).collect();
    let puts = keys.iter().map(|key| kv.put(key, bytes(key), PutOpts::new()));
    let written: Vec<_> =
        futures_util::stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await.unwrap();
    assert_eq!(written.len(), count);
    keys
}

/// A watch with its deadline.
pub(crate) struct Watching(BoxStream<'static, Result<Change>>);

impl Watching {
    pub(crate) fn new(kv: &Arc<dyn Kv>, watch: Watch) -> Self {
        Self(kv.watch(watch))
    }

    /// All keys from `start` on.
    pub(crate) fn from(kv: &Arc<dyn Kv>, start: Start) -> Self {
        Self::new(kv, Watch::current(Scope::All).start(start))
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = Change> {
        next(&mut self.0)
    }

    /// Everything before [`Change::CaughtUp`], as text.
    pub(crate) async fn initial(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.next().await {
                Change::CaughtUp => return seen,
                change => seen.push(show(&change)),
            }
        }
    }

    /// The next `count` changes as text, sorted: only the changes of one key have an order.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(show(&self.next().await));
        }
        seen.sort();
        seen
    }

    /// Waits for this change, passing over those of the same key that came before it.
    pub(crate) async fn until(&mut self, expected: &str) {
        loop {
            let change = self.next().await;
            let name = change.key().map(ToString::to_string).unwrap_or_default();
            let shown = show(&change);
            if shown == expected {
                return;
            }
            let same = !name.is_empty() && expected.trim_start_matches('-').starts_with(&name);
            assert!(same, "{shown:?} instead of {expected:?}");
        }
    }

    /// How the stream ends: its error, or `None` if it just ends.
    pub(crate) async fn end(mut self) -> Option<ErrorKind> {
        loop {
            match within("the end of the watch", self.0.next()).await? {
                Ok(_change) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    }
}

/// `key=value`, `-key` for a deletion, `caught up`.
pub(crate) fn show(change: &Change) -> String {
    match change {
        Change::Put(entry) => format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value)),
        Change::Delete { key, .. } => format!("-{key}"),
        Change::CaughtUp => "caught up".to_owned(),
    }
}
