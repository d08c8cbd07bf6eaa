//! Short words for what most tests say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{
    Backend as _, Body, BucketName, BucketSpec, Key, Kv, ObjectName, ObjectPut, Objects, Open,
};
use jetbridge_local::{LocalBackend, LocalOptions};

/// What nobody should ever wait for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn open(directory: &Path) -> LocalBackend {
    LocalBackend::open(directory, LocalOptions::default()).await.unwrap()
}

pub(crate) async fn close(store: LocalBackend) {
    let report = store.close(DEADLINE).await;
    assert!(report.is_clean(), "{report:?}");
}

pub(crate) fn bucket(name: &str) -> BucketName {
    BucketName::parse(name).unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

pub(crate) fn object(name: &str) -> ObjectName {
    ObjectName::parse(name).unwrap()
}

pub(crate) async fn kv(store: &LocalBackend, name: &str) -> Arc<dyn Kv> {
    store.kv(&bucket(name), Open::ensure(BucketSpec::default())).await.unwrap()
}

pub(crate) async fn objects(store: &LocalBackend, name: &str) -> Arc<dyn Objects> {
    store.objects(&bucket(name), Open::ensure(BucketSpec::default())).await.unwrap()
}

/// `bytes` in pieces of 100 KiB.
pub(crate) fn body(bytes: Vec<u8>) -> Body {
    let bytes = Bytes::from(bytes);
    let pieces: Vec<_> = (0..bytes.len())
        .step_by(100 << 10)
        .map(|at| Ok(bytes.slice(at..bytes.len().min(at + (100 << 10)))))
        .collect();
    stream::iter(pieces).boxed()
}

pub(crate) async fn store_object(objects: &Arc<dyn Objects>, name: &str, bytes: Vec<u8>) {
    objects.put(&object(name), body(bytes), ObjectPut::new()).await.unwrap();
}

/// The whole object, its digest checked.
pub(crate) async fn fetch(objects: &Arc<dyn Objects>, name: &str) -> Option<Vec<u8>> {
    let found = objects.get(&object(name), None).await.unwrap()?;
    let pieces: Vec<Bytes> = found.body.try_collect().await.unwrap();
    Some(pieces.concat())
}

/// The next item, in time.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    let next = tokio::time::timeout(DEADLINE, stream.next()).await;
    next.expect("an item in time").expect("the stream goes on")
}

/// Bytes that differ from those of another seed.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The files in `directory` and below, as paths within it.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
