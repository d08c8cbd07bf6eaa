//! Buckets of keys: what one client makes, the other takes for its own.

use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    Backend as _, BucketKind, BucketSpec, ErrorKind, Open, PutOpts, Storage, Support,
};
use jetbridge_testkit::Release;
use serde_json::{Value, json};

use super::Foreign;
use crate::store::{SOON, Store, bucket, keeping, key, put, read};

jetbridge_testkit::on_every_server!(
    what_we_make_the_other_takes,
    what_the_other_makes_we_take,
    in_a_bucket_without_markers_keys_expire_too,
);

/// Settings in which nothing is the default.
fn spec() -> BucketSpec {
    let mut spec = keeping(7);
    spec.max_age = Some(Duration::from_secs(3600));
    spec.max_bytes = Some(1 << 20);
    spec.max_value_bytes = Some(1000);
    spec.storage = Storage::Memory;
    spec.description = Some("What it is for".to_owned());
    spec
}

/// The same as the other client has it; `op` makes it.
fn settings(op: &str, release: Release) -> Value {
    // Markers are how deletions and expired keys are told of where the server can.
    let markers = if release == Release::Newest { 120_000 } else { 0 };
    json!({"op": op, "bucket": "b", "history": 7, "ttl_ms": 3_600_000, "max_bytes": 1 << 20,
        "max_value_bytes": 1000, "memory": true, "description": "What it is for",
        "marker_ttl_ms": markers})
}

async fn what_we_make_the_other_takes(release: Release) {
    let store = Store::start(release).await;
    let mut go = Foreign::connect(&store.server.url()).await;
    store.backend.create_bucket(BucketKind::Kv, &bucket(), &spec()).await.unwrap();
    let status = go.does(json!({"op": "bucket_status", "bucket": "b"})).await;
    let expected = settings("bucket", release);
    for name in [
        "history",
        "ttl_ms",
        "max_bytes",
        "max_value_bytes",
        "memory",
        "description",
        "marker_ttl_ms",
    ] {
        assert_eq!(status[name], expected[name], "{name}");
    }
    go.does(expected.clone()).await;
    let mut update = expected;
    update["update"] = true.into();
    go.does(update.clone()).await;
    let info = store.backend.bucket(BucketKind::Kv, &bucket()).await.unwrap();
    assert_eq!(info.spec, spec(), "nothing was changed");
    let mut plain = update.clone();
    plain["marker_ttl_ms"] = 0.into();
    if release == Release::Newest {
        // Without its markers a bucket could not be told of what expired: the server refuses.
        assert!(go.fails(plain).await.contains("TTL"));
    } else {
        go.does(plain).await;
    }
    update["history"] = 9.into();
    update["ttl_ms"] = 60_000.into();
    go.does(update).await;
    let info = store.backend.bucket(BucketKind::Kv, &bucket()).await.unwrap();
    assert_eq!((info.spec.history, info.spec.max_age), (9, Some(Duration::from_secs(60))));
    assert_eq!(info.key_ttl == Support::Native, release == Release::Newest);
    store.close().await;
}

async fn what_the_other_makes_we_take(release: Release) {
    let store = Store::start(release).await;
    let mut go = Foreign::connect(&store.server.url()).await;
    go.does(settings("bucket", release)).await;
    let ours = store.backend.bucket(BucketKind::Kv, &bucket()).await.unwrap();
    assert_eq!(ours.spec, spec());
    store.backend.create_bucket(BucketKind::Kv, &bucket(), &spec()).await.unwrap();
    let other = store.backend.create_bucket(BucketKind::Kv, &bucket(), &keeping(2)).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut changed = spec();
    changed.history = 3;
    changed.description = None;
    changed.max_age = Some(Duration::from_secs(30));
    let info = store.backend.update_bucket(BucketKind::Kv, &bucket(), &changed).await.unwrap();
    assert_eq!(info.spec, changed);
    let status = go.does(json!({"op": "bucket_status", "bucket": "b"})).await;
    assert_eq!((&status["history"], &status["ttl_ms"]), (&json!(3), &json!(30_000)));
    assert_eq!(status["description"], "");
    let names: Vec<_> = store.backend.buckets(BucketKind::Kv).await.unwrap();
    assert_eq!(names.len(), 1);
    store.close().await;
}

/// The other client's plain buckets have no expiry of single keys on any server: we bring it.
async fn in_a_bucket_without_markers_keys_expire_too(release: Release) {
    let store = Store::start(release).await;
    let mut go = Foreign::connect(&store.server.url()).await;
    go.does(json!({"op": "bucket", "bucket": "b"})).await;
    let kv = store.backend.kv(&bucket(), Open::ensure(BucketSpec::default())).await.unwrap();
    let info = store.backend.bucket(BucketKind::Kv, &bucket()).await.unwrap();
    assert_eq!(info.key_ttl, Support::Emulated);
    go.does(json!({"op": "kv_watch", "bucket": "b"})).await;
    assert_eq!(go.does(json!({"op": "kv_next"})).await, Value::Null);
    let brief = PutOpts::new().ttl(Duration::from_millis(300));
    kv.put(&key("a"), Bytes::from_static(b"1"), brief).await.unwrap();
    put(&*kv, "b", "1").await;
    for (op, name) in [("put", "a"), ("put", "b"), ("purge", "a")] {
        let next = go.does(json!({"op": "kv_next"}));
        let entry = tokio::time::timeout(SOON, next).await.unwrap();
        assert_eq!((entry["op"].as_str(), entry["key"].as_str()), (Some(op), Some(name)));
    }
    assert_eq!((read(&*kv, "a").await, read(&*kv, "b").await.as_deref()), (None, Some("1")));
    let keys = go.does(json!({"op": "kv_keys", "bucket": "b"})).await;
    assert_eq!(keys, json!(["b"]));
    store.close().await;
}
