//! Keys: names, deletions, conditions, histories, watches, expiry, numbers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Change, DeleteOpts, ErrorKind, IncrementOpts, Kv, PutOpts, Read, Revision, Scope, Watch, codec,
};
use jetbridge_testkit::Release;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Foreign, base64, bytes_of};
use crate::store::{SOON, Store, keeping, key, put, read};

jetbridge_testkit::on_every_server!(
    names_are_the_same,
    headers_are_ours_alone,
    deletions_are_seen,
    histories_are_told_alike,
    revisions_are_conditions_for_both,
    watches_tell_of_the_other,
    what_we_let_expire_is_gone,
    what_the_other_lets_expire_is_gone,
    numbers_are_counted_by_both,
);

/// One bucket `b`, ours and theirs.
async fn both(release: Release, history: u8) -> (Store, Arc<dyn Kv>, Foreign) {
    let store = Store::start(release).await;
    let kv = store.kv(keeping(history)).await;
    let go = Foreign::connect(&store.server.url()).await;
    (store, kv, go)
}

fn set(name: &str, value: &str) -> Value {
    json!({"op": "kv_put", "bucket": "b", "key": name, "value": base64(value)})
}

fn over(name: &str, value: &str, revision: u64) -> Value {
    json!({"op": "kv_update", "bucket": "b", "key": name, "value": base64(value),
        "revision": revision})
}

fn on(op: &str, name: &str) -> Value {
    json!({"op": op, "bucket": "b", "key": name, "value": base64("go")})
}

/// What the other client reads.
async fn theirs(go: &mut Foreign, text: &str) -> String {
    let entry = go.does(on("kv_get", text)).await;
    String::from_utf8(bytes_of(&entry["value"])).unwrap()
}

async fn names_are_the_same(release: Release) {
    let (store, kv, mut go) = both(release, 1).await;
    let ours = ["a/b_c-d.e", "user:1", "a=", "user=3A2", "https://x/y?z=1", "ü", "a..b", "."];
    let foreign = ["go.a", "user=3A3", "go=", "go=zz", "x/y", "=C3=B6", "go=3D1"];
    for name in ours {
        put(&*kv, name, name).await;
        assert_eq!(theirs(&mut go, &codec::encode(name)).await, name);
    }
    for text in foreign {
        go.does(set(text, text)).await;
        assert_eq!(read(&*kv, &codec::decode(text)).await.as_deref(), Some(text));
    }
    let mut texts: Vec<String> = ours.iter().map(|name| codec::encode(name).into()).collect();
    texts.extend(foreign.map(str::to_owned));
    texts.sort();
    let listed = go.does(json!({"op": "kv_keys", "bucket": "b"})).await;
    assert_eq!(listed, json!(texts));
    let mut names: Vec<String> = texts.iter().map(|text| codec::decode(text).into()).collect();
    names.sort();
    let mut keys: Vec<String> =
        kv.keys(Scope::All).map_ok(|key| key.as_str().to_owned()).try_collect().await.unwrap();
    keys.sort();
    assert_eq!(keys, names);
    for name in names {
        assert!(kv.delete(&key(name), DeleteOpts::new()).await.unwrap().is_some());
    }
    assert!(go.fails(json!({"op": "kv_keys", "bucket": "b"})).await.contains("no keys found"));
    store.close().await;
}

/// What we store beside a value, the other client's value does not show, nor does ours.
async fn headers_are_ours_alone(release: Release) {
    let (store, kv, mut go) = both(release, 1).await;
    let headers = jetbridge_core::Headers::new().with("X-Unit", "apples").unwrap();
    let brief = PutOpts::new().headers(headers).ttl(Duration::from_secs(60));
    kv.put(&key("a"), Bytes::from_static(b"1"), brief).await.unwrap();
    assert_eq!(theirs(&mut go, "a").await, "1");
    go.does(set("a", "2")).await;
    let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!((&*entry.value, entry.headers.len(), entry.expires), (&b"2"[..], 0, None));
    store.close().await;
}

async fn deletions_are_seen(release: Release) {
    let (store, kv, mut go) = both(release, 5).await;
    for deletion in ["kv_delete", "kv_purge"] {
        put(&*kv, "a", "1").await;
        go.does(on(deletion, "a")).await;
        assert_eq!(read(&*kv, "a").await, None);
        assert_eq!(kv.get_many(&[key("a")], Read::Fresh).await.unwrap().entries, [None]);
        assert_eq!(kv.delete(&key("a"), DeleteOpts::new()).await.unwrap(), None);
        let again = kv.put(&key("a"), Bytes::from_static(b"2"), PutOpts::create()).await;
        again.unwrap();
        assert_eq!(theirs(&mut go, "a").await, "2");
    }
    for deletion in [DeleteOpts::new(), DeleteOpts::new().with_history()] {
        go.does(set("a", "3")).await;
        assert!(kv.delete(&key("a"), deletion).await.unwrap().is_some());
        assert!(go.fails(on("kv_get", "a")).await.contains("key not found"));
        assert!(go.fails(json!({"op": "kv_keys", "bucket": "b"})).await.contains("no keys"));
        go.does(on("kv_create", "a")).await;
        assert_eq!(read(&*kv, "a").await.as_deref(), Some("go"));
    }
    go.does(set("z", "1")).await;
    assert_eq!(kv.purge(Scope::All).await.unwrap(), 2);
    assert!(go.fails(on("kv_get", "z")).await.contains("key not found"));
    store.close().await;
}

/// The operation, value and revision of every step.
async fn histories(kv: &dyn Kv, go: &mut Foreign) -> [Vec<(String, Vec<u8>, u64)>; 2] {
    let ours = kv.history(&key("a")).await.unwrap().into_iter().map(|change| match change {
        Change::Put(entry) => ("put".to_owned(), entry.value.to_vec(), entry.revision.0),
        Change::Delete { revision, .. } => ("delete".to_owned(), vec![], revision.0),
        Change::CaughtUp => panic!("a history has no end to tell"),
    });
    let entries = go.does(on("kv_history", "a")).await;
    let theirs = entries.as_array().unwrap().iter().map(|entry| {
        let op = entry["op"].as_str().unwrap().replace("purge", "delete");
        (op, bytes_of(&entry["value"]), entry["revision"].as_u64().unwrap())
    });
    [ours.collect(), theirs.collect()]
}

async fn histories_are_told_alike(release: Release) {
    let (store, kv, mut go) = both(release, 10).await;
    put(&*kv, "a", "1").await;
    go.does(set("a", "2")).await;
    kv.delete(&key("a"), DeleteOpts::new()).await.unwrap();
    go.does(set("a", "")).await;
    go.does(on("kv_delete", "a")).await;
    put(&*kv, "a", "").await;
    let [ours, theirs] = histories(&*kv, &mut go).await;
    let steps: Vec<&str> = ours.iter().map(|(op, ..)| op.as_str()).collect();
    assert_eq!(steps, ["put", "put", "delete", "put", "delete", "put"]);
    assert_eq!(ours, theirs);
    go.does(on("kv_purge", "a")).await;
    put(&*kv, "a", "3").await;
    let [ours, theirs] = histories(&*kv, &mut go).await;
    assert_eq!((ours.len(), &ours), (2, &theirs));
    kv.delete(&key("a"), DeleteOpts::new().with_history()).await.unwrap();
    let [ours, theirs] = histories(&*kv, &mut go).await;
    assert_eq!(ours, theirs);
    store.close().await;
}

async fn revisions_are_conditions_for_both(release: Release) {
    let (store, kv, mut go) = both(release, 3).await;
    let first = put(&*kv, "a", "1").await;
    let second = go.does(over("a", "2", first.0)).await.as_u64().unwrap();
    assert!(go.fails(over("a", "x", first.0)).await.contains("wrong last sequence"));
    let write = async |opts| kv.put(&key("a"), Bytes::from_static(b"3"), opts).await;
    let late = write(PutOpts::over(first)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert_eq!(write(PutOpts::create()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let third = write(PutOpts::over(Revision(second))).await.unwrap().revision;
    assert!(go.fails(on("kv_create", "a")).await.contains("key exists"));
    let deletion =
        |revision: u64| json!({"op": "kv_delete", "bucket": "b", "key": "a", "revision": revision});
    assert!(go.fails(deletion(second)).await.contains("wrong last sequence"));
    let deleting = kv.delete(&key("a"), DeleteOpts::exactly(Revision(second))).await;
    assert_eq!(deleting.unwrap_err().kind(), ErrorKind::Conflict);
    go.does(deletion(third.0)).await;
    assert_eq!(write(PutOpts::over(third)).await.unwrap_err().kind(), ErrorKind::Conflict);
    store.close().await;
}

/// The next change that the other client's watch tells: operation and key.
async fn told(go: &mut Foreign) -> (String, String) {
    let entry = go.does(json!({"op": "kv_next"})).await;
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    (text("op"), text("key"))
}

async fn watches_tell_of_the_other(release: Release) {
    let (store, kv, mut go) = both(release, 1).await;
    put(&*kv, "user:0", "1").await;
    go.does(json!({"op": "kv_watch", "bucket": "b"})).await;
    let event = |op: &str, text: &str| (op.to_owned(), text.to_owned());
    assert_eq!(told(&mut go).await, event("put", "user=3A0"));
    assert_eq!(told(&mut go).await, event("", ""), "the end of what was there");
    let mut changes = kv.watch(Watch::current(Scope::All));
    let mut next = async || timeout(SOON, changes.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(next().await, Change::Put(_)));
    assert_eq!(next().await, Change::CaughtUp);

    // A bucket without history tells the last change: each has to be seen before the next.
    for op in ["put", "delete", "put", "purge"] {
        let ours = key("user:1");
        match op {
            "put" => put(&*kv, "user:1", "1").await,
            "delete" => kv.delete(&ours, DeleteOpts::new()).await.unwrap().unwrap(),
            _ => kv.delete(&ours, DeleteOpts::new().with_history()).await.unwrap().unwrap(),
        };
        assert_eq!(told(&mut go).await, event(op, "user=3A1"));
        let is_put = matches!(next().await, Change::Put(_));
        assert_eq!(is_put, op == "put", "{op}");
    }
    for (request, is_put) in [
        (set("user=3A2", "1"), true),
        (on("kv_delete", "user=3A2"), false),
        (set("user=3A2", "2"), true),
        (on("kv_purge", "user=3A2"), false),
    ] {
        go.does(request.clone()).await;
        let change = next().await;
        assert_eq!(change.key(), Some(&key("user:2")), "{request}");
        assert_eq!(matches!(change, Change::Put(_)), is_put, "{request}");
    }
    store.close().await;
}

async fn what_we_let_expire_is_gone(release: Release) {
    let (store, kv, mut go) = both(release, 1).await;
    go.does(json!({"op": "kv_watch", "bucket": "b"})).await;
    assert_eq!(told(&mut go).await.0, "", "the end of what was there");
    let brief = PutOpts::new().ttl(Duration::from_millis(700));
    kv.put(&key("a"), Bytes::from_static(b"1"), brief).await.unwrap();
    assert_eq!(told(&mut go).await.0, "put");
    assert_eq!(told(&mut go).await, ("purge".to_owned(), "a".to_owned()));
    assert!(go.fails(on("kv_get", "a")).await.contains("key not found"));
    assert_eq!(read(&*kv, "a").await, None);
    go.does(on("kv_create", "a")).await;
    assert_eq!(read(&*kv, "a").await.as_deref(), Some("go"));
    store.close().await;
}

async fn what_the_other_lets_expire_is_gone(release: Release) {
    let store = Store::start(release).await;
    let mut go = Foreign::connect(&store.server.url()).await;
    let bucket = json!({"op": "bucket", "bucket": "b", "marker_ttl_ms": 60_000});
    if release == Release::Oldest {
        assert!(go.fails(bucket).await.contains("not supported"));
        return store.close().await;
    }
    go.does(bucket).await;
    let kv = store.kv(keeping(1)).await;
    let mut changes = kv.watch(Watch::current(Scope::All));
    let mut next = async || timeout(SOON, changes.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await, Change::CaughtUp);
    go.does(json!({"op": "kv_create", "bucket": "b", "key": "a", "value": base64("1"),
        "ttl_ms": 2_000}))
        .await;
    let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(entry.expires, entry.written.checked_add(Duration::from_secs(2)));
    assert!(matches!(next().await, Change::Put(_)));
    assert!(matches!(next().await, Change::Delete { .. }), "it has expired");
    assert_eq!(read(&*kv, "a").await, None);
    put(&*kv, "a", "2").await;
    assert_eq!(theirs(&mut go, "a").await, "2");
    store.close().await;
}

async fn numbers_are_counted_by_both(release: Release) {
    let (store, kv, mut go) = both(release, 1).await;
    let add = async || kv.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap();
    go.does(set("n", "41")).await;
    assert_eq!(add().await, 42);
    assert_eq!(theirs(&mut go, "n").await, "42");
    go.does(set("n", "-7")).await;
    assert_eq!(add().await, -6);
    go.does(on("kv_delete", "n")).await;
    assert_eq!(add().await, 1);
    if release == Release::Newest {
        // Counting must not make it stay for ever.
        go.does(json!({"op": "kv_create", "bucket": "b", "key": "m", "value": base64("1"),
            "ttl_ms": 5_400_000}))
            .await;
        kv.increment(&key("m"), 1, IncrementOpts::new()).await.unwrap();
        let entry = kv.get(&key("m"), Read::Fresh).await.unwrap().unwrap();
        let left = entry.ttl(entry.written).expect("still expires");
        assert!(left > Duration::from_secs(5_390) && left < Duration::from_secs(5_410), "{left:?}");
    }
    store.close().await;
}
