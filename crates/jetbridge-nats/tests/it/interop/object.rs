//! Objects that we write and the other client reads.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend as _, BucketKind, BucketName, BucketSpec, DeleteOpts, ErrorKind, Headers, Link,
    ObjectChange, ObjectName, ObjectPut, Objects, Open, Scope, Start, body_of,
};
use jetbridge_testkit::Release;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Foreign, base64, bytes_of};
use crate::store::{SOON, Store, bucket};

jetbridge_testkit::on_every_server!(
    ours_are_read_whole,
    deletions_and_replacements_are_seen,
    watches_tell_of_the_other,
    our_links_are_followed,
    buckets_are_taken_by_both,
);

/// One bucket `b`, ours and theirs.
pub(super) async fn both(release: Release) -> (Store, Arc<dyn Objects>, Foreign) {
    let store = Store::start(release).await;
    let objects = open(&store, "b").await;
    let go = Foreign::connect(&store.server.url()).await;
    (store, objects, go)
}

pub(super) async fn open(store: &Store, bucket: &str) -> Arc<dyn Objects> {
    let bucket = BucketName::parse(bucket).unwrap();
    store.backend.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap()
}

pub(super) fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

/// Bytes in which no two pieces are alike.
pub(super) fn sample(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * at + at / 251) % 256).unwrap()).collect()
}

pub(super) async fn store_ours(objects: &dyn Objects, text: &str, data: &[u8]) {
    let body = body_of(Bytes::copy_from_slice(data));
    objects.put(&name(text), body, ObjectPut::new()).await.unwrap();
}

pub(super) async fn read_ours(objects: &dyn Objects, text: &str) -> Option<Vec<u8>> {
    let found = objects.get(&name(text), None).await.unwrap()?;
    let parts: Vec<Bytes> = found.body.try_collect().await.unwrap();
    Some(parts.concat())
}

pub(super) fn of(op: &str, text: &str) -> Value {
    json!({"op": op, "bucket": "b", "name": text})
}

pub(super) fn put(text: &str, data: &[u8]) -> Value {
    json!({"op": "object_put", "bucket": "b", "name": text, "value": base64(data)})
}

pub(super) async fn read_theirs(go: &mut Foreign, text: &str) -> Vec<u8> {
    bytes_of(&go.does(of("object_get", text)).await)
}

async fn ours_are_read_whole(release: Release) {
    let (store, objects, mut go) = both(release).await;
    let headers = Headers::new().with("X-Kind", "first").unwrap().with("Accept", "*/*").unwrap();
    for (chunk_bytes, sizes) in
        [(Some(1000), vec![0, 1, 999, 1000, 1001, 3000, 3333]), (None, vec![0, 5, 400_000])]
    {
        for size in sizes {
            let data = sample(size);
            let mut opts = ObjectPut::new().headers(headers.clone()).description("What it is");
            opts.chunk_bytes = chunk_bytes;
            let text = format!("of {size} bytes/ü.{chunk_bytes:?}*>");
            let body = body_of(Bytes::from(data.clone()));
            let info = objects.put(&name(&text), body, opts).await.unwrap();
            assert!(read_theirs(&mut go, &text).await == data, "{text}");
            let theirs = go.does(of("object_info", &text)).await;
            assert_eq!(theirs["name"], text);
            assert_eq!(theirs["size"], size);
            assert_eq!(theirs["chunks"], info.chunks);
            assert_eq!(theirs["digest"], info.digest.unwrap().to_string());
            assert_eq!(theirs["description"], "What it is");
            assert_eq!(theirs["headers"], json!({"X-Kind": ["first"], "Accept": ["*/*"]}));
            assert_eq!(theirs["timed"], true);
        }
    }
    let listed = go.does(json!({"op": "object_list", "bucket": "b"})).await;
    let ours: Vec<_> = objects.list(Scope::All).try_collect().await.unwrap();
    assert_eq!((listed.as_array().unwrap().len(), ours.len()), (10, 10));
    store.close().await;
}

async fn deletions_and_replacements_are_seen(release: Release) {
    let (store, objects, mut go) = both(release).await;
    store_ours(&*objects, "a", &sample(300_000)).await;
    go.does(put("a", b"replaced")).await;
    assert_eq!(read_ours(&*objects, "a").await.as_deref(), Some(&b"replaced"[..]));
    store_ours(&*objects, "a", b"and again").await;
    assert_eq!(read_theirs(&mut go, "a").await, b"and again");
    go.does(of("object_delete", "a")).await;
    assert_eq!(read_ours(&*objects, "a").await, None);
    assert_eq!(objects.info(&name("a")).await.unwrap(), None);
    assert_eq!(objects.delete(&name("a"), DeleteOpts::new()).await.unwrap(), None);
    assert_eq!(objects.list(Scope::All).count().await, 0);
    let opts = ObjectPut::new().expect(jetbridge_core::Expect::Absent);
    objects.put(&name("a"), body_of("new"), opts).await.unwrap();
    assert_eq!(read_theirs(&mut go, "a").await, b"new");
    assert!(objects.delete(&name("a"), DeleteOpts::new()).await.unwrap().is_some());
    assert!(go.fails(of("object_get", "a")).await.contains("object not found"));
    assert!(go.fails(json!({"op": "object_list", "bucket": "b"})).await.contains("no objects"));
    go.does(put("a", b"last")).await;
    assert_eq!(read_ours(&*objects, "a").await.as_deref(), Some(&b"last"[..]));
    assert_eq!(objects.sweep(std::time::Duration::ZERO).await.unwrap(), 0, "no orphans");
    store.close().await;
}

async fn watches_tell_of_the_other(release: Release) {
    let (store, objects, mut go) = both(release).await;
    store_ours(&*objects, "old", b"1").await;
    go.does(json!({"op": "object_watch", "bucket": "b"})).await;
    let told = async |go: &mut Foreign| {
        let info = go.does(json!({"op": "object_next"})).await;
        (info["name"].as_str().unwrap_or_default().to_owned(), info["deleted"].as_bool())
    };
    assert_eq!(told(&mut go).await, ("old".to_owned(), Some(false)));
    assert_eq!(told(&mut go).await, (String::new(), None), "the end of what was there");
    let mut changes = objects.watch(Scope::All, Start::Current);
    let mut next = async || timeout(SOON, changes.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(next().await, ObjectChange::Put(_)));
    assert_eq!(next().await, ObjectChange::CaughtUp);

    store_ours(&*objects, "a", b"1").await;
    assert_eq!(told(&mut go).await, ("a".to_owned(), Some(false)));
    assert!(matches!(next().await, ObjectChange::Put(info) if info.name == name("a")));
    objects.delete(&name("a"), DeleteOpts::new()).await.unwrap();
    assert_eq!(told(&mut go).await, ("a".to_owned(), Some(true)));
    assert!(matches!(next().await, ObjectChange::Delete { name: gone, .. } if gone == name("a")));
    go.does(put("z", b"1")).await;
    assert!(matches!(next().await, ObjectChange::Put(info) if info.name == name("z")));
    go.does(of("object_delete", "z")).await;
    assert!(matches!(next().await, ObjectChange::Delete { name: gone, .. } if gone == name("z")));
    store.close().await;
}

async fn our_links_are_followed(release: Release) {
    let (store, objects, mut go) = both(release).await;
    let other = open(&store, "other").await;
    store_ours(&*objects, "target", b"here").await;
    store_ours(&*other, "target", b"there").await;
    let elsewhere = BucketName::parse("other").unwrap();
    objects.link(&name("here"), Link::object(bucket(), name("target"))).await.unwrap();
    objects.link(&name("there"), Link::object(elsewhere.clone(), name("target"))).await.unwrap();
    objects.link(&name("all"), Link::bucket(elsewhere)).await.unwrap();
    assert_eq!(read_theirs(&mut go, "here").await, b"here");
    assert_eq!(read_theirs(&mut go, "there").await, b"there");
    assert!(go.fails(of("object_get", "all")).await.contains("is a link to a bucket"));
    for (text, to_bucket, to) in
        [("here", "b", "target"), ("there", "other", "target"), ("all", "other", "")]
    {
        let info = go.does(of("object_info", text)).await;
        assert_eq!((&info["to_bucket"], &info["to"]), (&json!(to_bucket), &json!(to)), "{text}");
    }
    go.does(json!({"op": "object_link", "bucket": "b", "name": "here", "to_bucket": "other",
        "key": "target"}))
        .await;
    assert_eq!(read_ours(&*objects, "here").await.as_deref(), Some(&b"there"[..]));
    store.close().await;
}

async fn buckets_are_taken_by_both(release: Release) {
    let store = Store::start(release).await;
    let mut go = Foreign::connect(&store.server.url()).await;
    let mut spec = BucketSpec::default();
    spec.max_age = Some(std::time::Duration::from_secs(3600));
    spec.max_bytes = Some(1 << 20);
    spec.description = Some("What it is for".to_owned());
    let theirs = |bucket: &str, update: bool| {
        json!({"op": "object_bucket", "bucket": bucket, "ttl_ms": 3_600_000, "max_bytes": 1 << 20,
            "description": "What it is for", "update": update})
    };
    store.backend.create_bucket(BucketKind::Object, &bucket(), &spec).await.unwrap();
    go.does(theirs("b", false)).await;
    go.does(theirs("b", true)).await;
    let info = store.backend.bucket(BucketKind::Object, &bucket()).await.unwrap();
    assert_eq!(info.spec.max_age, spec.max_age);
    let status = go.does(json!({"op": "object_bucket_status", "bucket": "b"})).await;
    assert_eq!((&status["ttl_ms"], &status["sealed"]), (&json!(3_600_000), &json!(false)));

    go.does(theirs("go", false)).await;
    let name_of = BucketName::parse("go").unwrap();
    store.backend.create_bucket(BucketKind::Object, &name_of, &spec).await.unwrap();
    let objects = store.backend.objects(&name_of, Open::existing()).await.unwrap();
    store_ours(&*objects, "a", b"1").await;
    go.does(json!({"op": "object_seal", "bucket": "go"})).await;
    let sealed = objects.put(&name("b"), body_of("1"), ObjectPut::new()).await.unwrap_err();
    assert_eq!(sealed.kind(), ErrorKind::InvalidInput);
    assert_eq!(read_ours(&*objects, "a").await.as_deref(), Some(&b"1"[..]));
    assert!(store.backend.bucket(BucketKind::Object, &name_of).await.unwrap().sealed);
    store.close().await;
}
