//! Buckets of keys as their streams have them: what a server is asked for, and what is left.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend as _, BucketName, BucketSpec, Change, DeleteOpts, Key, Kv, Open, PutOpts, Read, Scope,
    Support, Watch,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use serde_json::{Value, json};

use crate::store::{GRACE, SOON, Store, bucket, connect, keeping, key, options_as, put, read};

jetbridge_testkit::on_every_server!(
    a_new_bucket_is_what_every_client_expects,
    an_existing_bucket_is_never_altered,
    a_bucket_that_cannot_expire_keys_expires_them_all_the_same,
    expired_values_leave_nothing_behind,
    deletions_are_forgotten_where_the_server_can,
    tombstones_and_empty_values_do_not_cut_an_answer_short,
    more_keys_than_one_question_takes,
    a_full_bucket_can_be_emptied,
    foreign_keys_are_usable_under_their_listed_names,
    foreign_expiry_is_obeyed,
    a_mirror_is_read_and_written_through,
    a_fed_bucket_is_read_under_its_own_keys,
    a_bucket_made_anew_is_another_one,
    reads_leave_no_consumer,
    a_page_takes_little_more_than_it_holds,
    a_page_is_read_where_an_account_bounds_what_is_not_acknowledged,
);

async fn listed(kv: &dyn Kv) -> Vec<Key> {
    let mut keys: Vec<Key> = kv.keys(Scope::All).try_collect().await.unwrap();
    keys.sort();
    keys
}

fn foreign(name: &str) -> Value {
    json!({
        "name": format!("KV_{name}"), "subjects": [format!("$KV.{name}.>")], "discard": "new",
        "max_msgs_per_subject": 1, "allow_direct": true, "allow_rollup_hdrs": true,
        "num_replicas": 1,
    })
}

/// The defect: the client's own call fails on servers before 2.10.8, and old servers ignore what
/// they do not know.
async fn a_new_bucket_is_what_every_client_expects(release: Release) {
    let store = Store::start(release).await;
    let mut spec = keeping(5);
    spec.max_age = Some(Duration::from_secs(60));
    store.kv(spec).await;
    let config = &store.stream().await["config"];
    for (field, expected) in [
        ("subjects", json!(["$KV.b.>"])),
        ("max_msgs_per_subject", json!(5)),
        ("allow_rollup_hdrs", json!(true)),
        ("deny_delete", json!(true)),
        ("allow_direct", json!(true)),
        ("discard", json!("new")),
        ("max_age", json!(60_000_000_000_u64)),
        ("duplicate_window", json!(60_000_000_000_u64)),
    ] {
        assert_eq!(config[field], expected, "{field}");
    }
    let expires = release == Release::Newest;
    assert_eq!(config["allow_msg_ttl"].as_bool().unwrap_or_default(), expires);
    let info = store.backend.bucket(jetbridge_core::BucketKind::Kv, &bucket()).await.unwrap();
    let expected = if expires { Support::Native } else { Support::Emulated };
    assert_eq!((info.key_ttl, store.backend.capabilities().key_ttl), (expected, expected));
    store.close().await;
}

async fn an_existing_bucket_is_never_altered(release: Release) {
    let store = Store::start(release).await;
    store.make_stream(foreign("b")).await;
    let before = store.stream().await["config"].clone();
    let kv = store.kv(keeping(9)).await;
    put(&*kv, "a", "1").await;
    kv.put(&key("b"), Bytes::new(), PutOpts::new().ttl(Duration::from_secs(9))).await.unwrap();
    kv.delete(&key("a"), DeleteOpts::new()).await.unwrap();
    assert_eq!(store.stream().await["config"], before);
    store.close().await;
}

/// The defect: a TTL is silently ignored where the server, or the bucket, does not know it.
async fn a_bucket_that_cannot_expire_keys_expires_them_all_the_same(release: Release) {
    let store = Store::start(release).await;
    store.make_stream(foreign("b")).await;
    let kv = store.kv(BucketSpec::default()).await;
    let brief = PutOpts::new().ttl(Duration::from_millis(300));
    kv.put(&key("a"), Bytes::from_static(b"1"), brief).await.unwrap();
    eventually("the value expires", SOON, async || read(&*kv, "a").await.is_none().then_some(()))
        .await;
    assert_eq!(listed(&*kv).await, []);
    kv.put(&key("a"), Bytes::from_static(b"2"), PutOpts::create()).await.unwrap();
    store.close().await;
}

async fn expired_values_leave_nothing_behind(release: Release) {
    let store = Store::start(release).await;
    // As a new bucket is, but for how long a deletion is remembered.
    let mut config = foreign("b");
    config["allow_msg_ttl"] = json!(true);
    config["subject_delete_marker_ttl"] = json!(1_000_000_000);
    if release == Release::Oldest {
        config = foreign("b");
    }
    store.make_stream(config).await;
    let kv = store.kv(BucketSpec::default()).await;
    for n in 0..10 {
        let brief = PutOpts::new().ttl(Duration::from_millis(100 + n * 20));
        kv.put(&key(format!("k{n}")), Bytes::from_static(b"1"), brief).await.unwrap();
    }
    eventually("nothing is left", SOON, async || {
        (store.messages_and_consumers().await.0 == 0).then_some(())
    })
    .await;
    store.close().await;
}

async fn deletions_are_forgotten_where_the_server_can(release: Release) {
    let store = Store::start(release).await;
    let mut config = foreign("b");
    if release == Release::Newest {
        config["allow_msg_ttl"] = json!(true);
        config["subject_delete_marker_ttl"] = json!(1_000_000_000);
    }
    store.make_stream(config).await;
    let kv = store.kv(BucketSpec::default()).await;
    for opts in [DeleteOpts::new(), DeleteOpts::new().with_history()] {
        put(&*kv, "a", "1").await;
        kv.delete(&key("a"), opts).await.unwrap();
        assert_eq!(store.messages_and_consumers().await.0, 1, "a tombstone tells watchers");
        if release == Release::Newest {
            eventually("the tombstone goes", SOON, async || {
                (store.messages_and_consumers().await.0 == 0).then_some(())
            })
            .await;
        }
    }
    store.close().await;
}

/// The defect: a deleted key or an empty value ends the answer for many, and what follows is lost.
async fn tombstones_and_empty_values_do_not_cut_an_answer_short(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    for name in ["a", "deleted", "z"] {
        put(&*kv, name, name).await;
    }
    put(&*kv, "empty", "").await;
    put(&*kv, "zz", "zz").await;
    kv.delete(&key("deleted"), DeleteOpts::new()).await.unwrap();
    put(&*kv, "last", "last").await;
    let keys = ["a", "deleted", "absent", "empty", "z", "zz", "last"].map(key);
    let found = kv.get_many(&keys, Read::Fresh).await.unwrap();
    let values: Vec<Option<&[u8]>> =
        found.entries.iter().map(|entry| entry.as_ref().map(|entry| &*entry.value)).collect();
    let expected: [Option<&[u8]>; 7] =
        [Some(b"a"), None, None, Some(b""), Some(b"z"), Some(b"zz"), Some(b"last")];
    assert_eq!(values, expected);
    assert_eq!(found.revision.is_some(), release == Release::Newest);
    store.close().await;
}

async fn more_keys_than_one_question_takes(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let keys: Vec<Key> = (0..2500).map(|n| key(format!("k{n}"))).collect();
    let puts = keys.iter().map(|key| kv.put(key, Bytes::from(key.to_string()), PutOpts::new()));
    futures_util::stream::iter(puts).buffer_unordered(256).try_collect::<Vec<_>>().await.unwrap();
    let found = kv.get_many(&keys, Read::Fresh).await.unwrap();
    for (key, entry) in keys.iter().zip(&found.entries) {
        assert_eq!(entry.as_ref().unwrap().value, key.as_str(), "{key}");
    }
    assert_eq!(found.revision.is_some(), release == Release::Newest);
    store.close().await;
}

async fn a_full_bucket_can_be_emptied(release: Release) {
    let store = Store::start(release).await;
    let mut spec = BucketSpec::default();
    spec.max_bytes = Some(32 << 10);
    let kv = store.kv(spec).await;
    let value = Bytes::from(vec![b'x'; 4 << 10]);
    let mut stored = 0;
    while kv.put(&key(format!("k{stored}")), value.clone(), PutOpts::new()).await.is_ok() {
        stored += 1;
    }
    for n in 0..stored {
        let name = key(format!("k{n}"));
        assert!(kv.delete(&name, DeleteOpts::new()).await.unwrap().is_some(), "{name}");
        assert_eq!(kv.get(&name, Read::Fresh).await.unwrap(), None);
    }
    kv.put(&key("again"), value, PutOpts::new()).await.unwrap();
    store.close().await;
}

async fn foreign_keys_are_usable_under_their_listed_names(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let mut names = ["a#b", "user:1", "50%", "k@host", "grün", "x=y", "=C3"].map(key);
    for name in &names {
        let stored = store.ask(&format!("$KV.b.{name}"), json!("1")).await;
        assert!(stored["error"].is_null(), "{name}: {stored}");
    }
    names.sort();
    assert_eq!(listed(&*kv).await, names);
    for name in &names {
        assert!(kv.get(name, Read::Fresh).await.unwrap().is_some(), "{name:?}");
        assert!(kv.delete(name, DeleteOpts::new()).await.unwrap().is_some(), "{name:?}");
    }
    assert_eq!(listed(&*kv).await, []);
    store.close().await;
}

/// Another writer's TTL is read as what it is, also where the server does not know it.
async fn foreign_expiry_is_obeyed(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-TTL", "1");
    let client = store.backend.client();
    let put = client.request_with_headers("$KV.b.a", headers, "1".into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&put.payload).contains("error"), "{put:?}");
    let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(entry.expires, Some(entry.written + Duration::from_secs(1)));
    eventually("the value expires", SOON, async || read(&*kv, "a").await.is_none().then_some(()))
        .await;
    store.close().await;
}

async fn a_mirror_is_read_and_written_through(release: Release) {
    let store = Store::start(release).await;
    let origin = store.kv(BucketSpec::default()).await;
    put(&*origin, "a", "1").await;
    store
        .make_stream(json!({
            "name": "KV_m", "mirror": { "name": "KV_b" }, "allow_direct": true,
            "mirror_direct": true, "num_replicas": 1,
        }))
        .await;
    let name = BucketName::parse("m").unwrap();
    let mirror = store.backend.kv(&name, Open::existing()).await.unwrap();
    assert_eq!(read(&*mirror, "a").await.as_deref(), Some("1"), "fresh: the origin is asked");
    put(&*mirror, "b", "2").await;
    assert_eq!(read(&*origin, "b").await.as_deref(), Some("2"), "writes go to the origin");
    assert_eq!(read(&*mirror, "b").await.as_deref(), Some("2"));
    eventually("the mirror catches up", SOON, async || {
        let entry = mirror.get(&key("b"), Read::MaybeStale).await.unwrap();
        (entry.is_some() && listed(&*mirror).await == ["a", "b"].map(key)).then_some(())
    })
    .await;
    // The origin has a mirror now, which answers for it and may lag: a fresh read avoids it.
    let ours = connect(&store.server).await;
    let origin = ours.kv(&bucket(), Open::existing()).await.unwrap();
    for n in 0..100 {
        put(&*origin, "c", &n.to_string()).await;
        assert_eq!(read(&*origin, "c").await, Some(n.to_string()));
    }
    assert!(ours.close(GRACE).await.is_clean());
    store.close().await;
}

/// The defect: a bucket that is fed from another is neither readable nor writable under its own
/// keys.
async fn a_fed_bucket_is_read_under_its_own_keys(release: Release) {
    let store = Store::start(release).await;
    let origin = store.kv(BucketSpec::default()).await;
    put(&*origin, "a", "1").await;
    let mut config = foreign("fed");
    config["sources"] = json!([{ "name": "KV_b" }]);
    store.make_stream(config).await;
    let name = BucketName::parse("fed").unwrap();
    let fed = store.backend.kv(&name, Open::existing()).await.unwrap();
    eventually("the bucket is fed", SOON, async || read(&*fed, "a").await).await;
    put(&*fed, "own", "2").await;
    assert_eq!(listed(&*fed).await, ["a", "own"].map(key));
    put(&*fed, "a", "3").await;
    assert_eq!(read(&*fed, "a").await.as_deref(), Some("3"), "the newer of the two");
    assert_eq!(read(&*origin, "a").await.as_deref(), Some("1"));
    store.close().await;
}

/// What was learnt of a bucket does not outlive it.
async fn a_bucket_made_anew_is_another_one(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let old = put(&*kv, "a", "1").await;
    put(&*kv, "b", "1").await;
    let mut watching = kv.watch(Watch::default());
    while watching.next().await.unwrap().unwrap() != Change::CaughtUp {}
    let peer = connect(&store.server).await;
    assert!(peer.delete_bucket(jetbridge_core::BucketKind::Kv, &bucket()).await.unwrap());
    peer.kv(&bucket(), Open::ensure(keeping(3))).await.unwrap();
    let again = put(&*kv, "c", "1").await;
    assert_eq!(again, old, "sequences begin anew");
    let end = async {
        loop {
            if let Err(error) = watching.next().await.expect("an error before the end") {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(SOON, end).await.unwrap();
    assert_eq!(error.kind(), jetbridge_core::ErrorKind::NotFound, "{error:?}");
    assert!(peer.close(GRACE).await.is_clean());
    store.close().await;
}

/// The defect: every listing and every watch leaves a consumer behind for 30 s, of which a stream
/// may have 1000.
async fn reads_leave_no_consumer(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(keeping(3)).await;
    put(&*kv, "a", "1").await;
    for _ in 0..50 {
        assert_eq!(listed(&*kv).await.len(), 1);
        kv.history(&key("a")).await.unwrap();
        kv.page(Scope::All, None, 1).await.unwrap();
        let mut watching = kv.watch(Watch::default());
        watching.next().await.unwrap().unwrap();
    }
    eventually("no consumer is left", SOON, async || {
        (store.messages_and_consumers().await.1 == 0).then_some(())
    })
    .await;
    store.close().await;
}

async fn a_page_takes_little_more_than_it_holds(release: Release) {
    const KEYS: usize = 3000;
    const LIMIT: usize = 100;
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let kv = &kv;
    let putting = (0..KEYS).map(|n| async move { put(&**kv, &format!("k{n}"), "1").await });
    futures_util::future::join_all(putting).await;
    let statistics = store.backend.client().statistics();
    let mut cursor = None;
    for expected in 1..=KEYS / LIMIT {
        let before = statistics.in_messages.load(Ordering::Relaxed);
        let page = kv.page(Scope::All, cursor, LIMIT).await.unwrap();
        let taken = statistics.in_messages.load(Ordering::Relaxed) - before;
        assert_eq!(page.keys.len(), LIMIT);
        assert!(taken < 2 * LIMIT as u64, "page {expected} took {taken} messages");
        cursor = page.next;
        assert_eq!(cursor.is_some(), expected < KEYS / LIMIT);
    }
    store.close().await;
}

async fn a_page_is_read_where_an_account_bounds_what_is_not_acknowledged(release: Release) {
    let accounts = "accounts { A { jetstream: { max_ack_pending: 10 }, \
                    users: [{ user: user, password: secret }] } }";
    let server = NatsServer::start(release, ServerOptions::new().config(accounts)).await;
    let user = NatsBackend::connect(&options_as(&server.url(), "user")).await.unwrap();
    let kv = user.kv(&bucket(), Open::ensure(BucketSpec::default())).await.unwrap();
    for n in 0..30 {
        put(&*kv, &format!("k{n}"), "1").await;
    }
    let page = kv.page(Scope::All, None, 20).await.unwrap();
    assert_eq!((page.keys.len(), page.next.is_some()), (20, true));
    let rest = kv.page(Scope::All, page.next, 20).await.unwrap();
    assert_eq!((rest.keys.len(), rest.next), (10, None));
    assert!(user.close(GRACE).await.is_clean());
}
