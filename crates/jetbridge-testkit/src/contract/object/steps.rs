//! The steps that cases about objects are written in.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Body, BucketKind, Object, ObjectChange, ObjectInfo, ObjectName, ObjectPut, Objects, Result,
    Scope, Start,
};

use crate::Fixture;
use crate::contract::steps::{all, next, within};

/// Small enough that short bodies have several chunks, large enough for every backend.
pub(crate) const CHUNK: u32 = 64 << 10;

pub(crate) fn name(raw: impl AsRef<str>) -> ObjectName {
    ObjectName::parse(raw).unwrap()
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut data = Vec::with_capacity(size + 8);
    while data.len() < size {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        data.extend_from_slice(&state.to_be_bytes());
    }
    data.truncate(size);
    data.into()
}

/// A body of one piece.
pub(crate) fn whole(data: &Bytes) -> Body {
    pieces(vec![data.clone()])
}

/// A body that comes in these pieces.
pub(crate) fn pieces(pieces: Vec<Bytes>) -> Body {
    stream::iter(pieces.into_iter().map(Ok)).boxed()
}

pub(crate) fn chunked() -> ObjectPut {
    ObjectPut::new().chunk_bytes(CHUNK)
}

/// Stores `data` without a condition, in chunks of [`CHUNK`].
pub(crate) async fn store(objects: &Arc<dyn Objects>, raw: &str, data: &Bytes) -> ObjectInfo {
    within("the put", objects.put(&name(raw), whole(data), chunked())).await.unwrap()
}

/// Everything a body has.
pub(crate) async fn collect(body: Body) -> Result<Vec<u8>> {
    let read = body.try_fold(Vec::new(), async |mut data, piece| {
        data.extend_from_slice(&piece);
        Ok(data)
    });
    within("the body", read).await
}

/// Says where two bodies differ, not what they are.
#[track_caller]
pub(crate) fn same(read: &[u8], expected: &[u8]) {
    let (lengths, limits) = ((read.len(), expected.len()), read.iter().zip(expected));
    let differs = limits.into_iter().position(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "the first byte that differs; lengths {lengths:?}");
    assert_eq!(lengths.0, lengths.1, "bytes read and expected");
}

/// The whole object.
pub(crate) async fn fetch(objects: &Arc<dyn Objects>, raw: &str) -> Option<Vec<u8>> {
    let Object { body, .. } = objects.get(&name(raw), None).await.unwrap()?;
    Some(collect(body).await.unwrap())
}

/// A range of an object that is there.
pub(crate) async fn fetch_range(
    objects: &Arc<dyn Objects>,
    raw: &str,
    range: Range<u64>,
) -> Result<Vec<u8>> {
    collect(objects.get(&name(raw), Some(range)).await?.unwrap().body).await
}

/// The names of the live objects in `scope`.
pub(crate) async fn listed(objects: &Arc<dyn Objects>, scope: Scope) -> BTreeSet<String> {
    let infos = all(objects.list(scope)).await;
    let names: BTreeSet<String> = infos.iter().map(|info| info.name.as_str().to_owned()).collect();
    assert_eq!(names.len(), infos.len(), "an object is listed twice");
    names
}

/// Bytes that the bucket holds, through the other connection.
pub(crate) async fn held(f: &Fixture, objects: &Arc<dyn Objects>) -> u64 {
    f.peer.bucket(BucketKind::Object, objects.bucket()).await.unwrap().bytes
}

/// A watch with its deadline.
pub(crate) struct Watching(BoxStream<'static, Result<ObjectChange>>);

impl Watching {
    pub(crate) fn new(objects: &Arc<dyn Objects>, scope: Scope, start: Start) -> Self {
        Self(objects.watch(scope, start))
    }

    pub(crate) async fn next(&mut self) -> ObjectChange {
        next(&mut self.0).await
    }

    /// Everything before [`ObjectChange::CaughtUp`], as text, sorted.
    pub(crate) async fn initial(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.next().await {
                ObjectChange::CaughtUp => {
                    seen.sort();
                    return seen;
                }
                change => seen.push(show(&change)),
            }
        }
    }

    /// The next `count` changes as text, sorted: only the changes of one object have an order.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(show(&self.next().await));
        }
        seen.sort();
        seen
    }

    /// How the stream ends: its error, or `None` if it just ends.
    pub(crate) async fn end(mut self) -> Option<jetbridge_core::ErrorKind> {
        loop {
            match within("the end of the watch", self.0.next()).await? {
                Ok(_change) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    }
}

/// `name:size`, `-name` for a deletion, `caught up`.
fn show(change: &ObjectChange) -> String {
    match change {
        ObjectChange::Put(info) => format!("{}:{}", info.name, info.size),
        ObjectChange::Delete { name, .. } => format!("-{name}"),
        ObjectChange::CaughtUp => "caught up".to_owned(),
    }
}
