//! What the tests share: names without ceremony, and waiting with a deadline.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt as _};
use jetbridge_core::{
    Backend as _, BucketName, BucketSpec, Key, Kv, ManualClock, MemoryBackend, ObjectName, Open,
    Result,
};

/// How long a test waits for what must come; far more than it takes.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) fn object(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

pub(crate) fn bucket(text: &str) -> BucketName {
    BucketName::parse(text).unwrap()
}

/// A store in memory and the clock it lives by.
pub(crate) fn store() -> (MemoryBackend, ManualClock) {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    (MemoryBackend::with_clock(Arc::new(clock.clone())), clock)
}

/// A bucket of keys in a store of its own.
pub(crate) async fn kv_with(change: impl FnOnce(&mut BucketSpec)) -> (Arc<dyn Kv>, ManualClock) {
    let (store, clock) = store();
    let mut spec = BucketSpec::default();
    change(&mut spec);
    (store.kv(&bucket("b"), Open::ensure(spec)).await.unwrap(), clock)
}

/// The next item, which must come soon.
pub(crate) async fn next<T>(stream: &mut (impl Stream<Item = Result<T>> + Unpin)) -> T {
    let item = tokio::time::timeout(SOON, stream.next()).await.expect("an item comes in time");
    item.expect("the stream goes on").expect("the item is no error")
}

/// True if nothing is there right now.
pub(crate) fn is_quiet<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    stream.poll_next_unpin(&mut context).is_pending()
}
