//! Watches over large buckets, slow readers, connections that break and servers that restart.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend as _, BucketSpec, Change, DeleteOpts, Key, PutOpts, Result, Revision, Scope, Start,
    Watch,
};
use jetbridge_testkit::{Proxy, Release, eventually};
use tokio::time::timeout;

use crate::store::{
    SOON, Store, away_while_a_deletion_is_forgotten, connect, forgetful_bucket, key, put,
};

jetbridge_testkit::on_every_server!(
    a_reconnect_replays_nothing,
    a_watch_that_delivered_nothing_replays_nothing_either,
    what_happens_during_an_outage_is_delivered,
    a_watch_outlives_restarts_of_its_server,
    a_slow_reader_of_a_large_bucket_misses_nothing,
    several_keys_are_watched_as_one,
    a_watch_is_caught_up_under_constant_writes,
    a_listing_under_constant_rewrites_misses_no_key,
    keys_only_leaves_values_out,
);

type Changes = BoxStream<'static, Result<Change>>;

async fn next(changes: &mut Changes) -> Change {
    timeout(SOON, changes.next()).await.unwrap().unwrap().unwrap()
}

async fn caught_up(changes: &mut Changes) -> usize {
    let mut before = 0;
    while next(changes).await != Change::CaughtUp {
        before += 1;
    }
    before
}

/// Fills the bucket by the client itself, which is fast.
async fn fill(store: &Store, count: usize, bytes: usize) {
    let client = store.backend.client();
    let value = Bytes::from(vec![b'x'; bytes]);
    for n in 0..count {
        client.publish(format!("$KV.b.k{n}"), value.clone()).await.unwrap();
    }
    eventually("the bucket is full", Duration::from_secs(60), async || {
        (store.messages_and_consumers().await.0 == count as u64).then_some(())
    })
    .await;
}

/// Cuts the connection and waits until there is another one.
async fn cut(store: &Store, proxy: &Proxy) {
    let connections = async || {
        let status = store.backend.status().await.ok()?;
        status.facts.into_iter().find(|(name, _)| *name == "connections").map(|(_, n)| n)
    };
    let before = eventually("a connection", SOON, connections).await;
    proxy.reset();
    eventually("another connection", SOON, async || {
        connections().await.filter(|now| *now != before)
    })
    .await;
}

async fn a_reconnect_replays_nothing(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    fill(&store, 1000, 8).await;
    let mut changes = kv.watch(Watch::default());
    assert_eq!(caught_up(&mut changes).await, 1000);
    for _ in 0..3 {
        cut(&store, &proxy).await;
        let revision = put(&*kv, "k7", "new").await;
        assert_eq!(next(&mut changes).await.revision(), Some(revision));
    }
    drop(changes);
    store.close().await;
}

/// The defect: a watch that has not delivered anything yet replays the whole bucket.
async fn a_watch_that_delivered_nothing_replays_nothing_either(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    fill(&store, 1000, 8).await;
    let mut new = kv.watch(Watch::default().start(Start::Now));
    let mut other = kv.watch(Watch::current(Scope::One(key("other"))));
    let mut behind = kv.watch(Watch::default().start(Start::After(Revision(1000))));
    let mut ahead = kv.watch(Watch::default().start(Start::After(Revision(1001))));
    for watch in [&mut new, &mut other, &mut behind, &mut ahead] {
        assert_eq!(caught_up(watch).await, 0);
    }
    cut(&store, &proxy).await;
    let revision = put(&*kv, "other", "1").await;
    for watch in [&mut new, &mut other, &mut behind] {
        assert_eq!(next(watch).await.revision(), Some(revision));
    }
    let revision = put(&*kv, "other", "2").await;
    assert_eq!(next(&mut ahead).await.revision(), Some(revision));
    drop((new, other, behind, ahead));
    store.close().await;
}

async fn what_happens_during_an_outage_is_delivered(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "deleted", "1").await;
    let mut changes = kv.watch(Watch::default());
    assert_eq!(caught_up(&mut changes).await, 1);
    proxy.refuse();
    proxy.reset();
    let peer = connect(&store.server).await;
    let theirs = peer.kv(kv.bucket(), jetbridge_core::Open::existing()).await.unwrap();
    let mut expected = vec![put(&*theirs, "a", "1").await, put(&*theirs, "b", "1").await];
    let deleted = theirs.delete(&key("deleted"), DeleteOpts::new()).await.unwrap();
    expected.extend(deleted);
    proxy.accept();
    let mut seen: Vec<Option<Revision>> = Vec::new();
    for _ in 0..3 {
        seen.push(next(&mut changes).await.revision());
    }
    assert_eq!(seen, expected.into_iter().map(Some).collect::<Vec<_>>());
    assert!(peer.close(crate::store::GRACE).await.is_clean());
    drop(changes);
    store.close().await;
}

async fn a_watch_outlives_restarts_of_its_server(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let mut changes = kv.watch(Watch::default());
    assert_eq!(caught_up(&mut changes).await, 0);
    for round in 0..3 {
        store.server.restart().await;
        for n in 0..10 {
            let revision = put(&*kv, &format!("k{n}"), &round.to_string()).await;
            assert_eq!(next(&mut changes).await.revision(), Some(revision));
        }
    }
    drop(changes);
    store.close().await;
}

/// The defect: more than 65 536 keys overflow the subscription, and messages are dropped.
async fn a_slow_reader_of_a_large_bucket_misses_nothing(release: Release) {
    const KEYS: usize = 80_000;
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    fill(&store, KEYS, 128).await;
    let mut changes = kv.watch(Watch::default());
    next(&mut changes).await;
    // Everything the server may send meanwhile has to wait somewhere.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut seen = 1;
    loop {
        match next(&mut changes).await {
            Change::CaughtUp => break,
            Change::Put(entry) => {
                seen += 1;
                assert_eq!(entry.value.len(), 128);
            }
            Change::Delete { key, .. } => panic!("nobody deleted {key}"),
        }
    }
    assert_eq!(seen, KEYS);
    drop(changes);
    store.close().await;
}

async fn several_keys_are_watched_as_one(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    for count in [3, 40] {
        let keys: Vec<_> = (0..count).map(|n| key(format!("many.{n}"))).collect();
        put(&*kv, keys[1].as_str(), "1").await;
        put(&*kv, "unwatched", "1").await;
        let mut changes = kv.watch(Watch::current(Scope::Many(keys.clone())));
        assert!(caught_up(&mut changes).await >= 1);
        put(&*kv, "unwatched", "2").await;
        for watched in [&keys[0], &keys[count - 1]] {
            let revision = put(&*kv, watched.as_str(), "2").await;
            assert_eq!(next(&mut changes).await.revision(), Some(revision), "{watched}");
        }
    }
    eventually("no consumer is left", SOON, async || {
        (store.messages_and_consumers().await.1 == 0).then_some(())
    })
    .await;
    store.close().await;
}

async fn a_watch_is_caught_up_under_constant_writes(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    fill(&store, 2000, 32).await;
    let writing = async {
        for n in 0_usize.. {
            put(&*kv, &format!("k{}", (n * 37) % 2000), "new").await;
        }
    };
    let reading = async {
        for _ in 0..5 {
            let mut last: HashMap<String, Revision> = HashMap::new();
            let mut changes = kv.watch(Watch::default());
            loop {
                match next(&mut changes).await {
                    Change::CaughtUp => break,
                    Change::Put(entry) => {
                        let before = last.insert(entry.key.to_string(), entry.revision);
                        assert!(before.is_none_or(|before| before <= entry.revision));
                    }
                    Change::Delete { key, .. } => panic!("nobody deleted {key}"),
                }
            }
            assert_eq!(last.len(), 2000, "every key was there all along");
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
    store.close().await;
}

/// The defect: a server counts what an overwriting removes before what it adds, so that a consumer
/// says for a moment that nothing is left.
async fn a_listing_under_constant_rewrites_misses_no_key(release: Release) {
    const KEYS: usize = 200;
    const WRITERS: usize = 16;
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    fill(&store, KEYS, 32).await;
    let writing = futures_util::future::join_all((0..WRITERS).map(|at| {
        let kv = &kv;
        async move {
            for n in at.. {
                put(&**kv, &format!("k{}", (n * 37) % KEYS), "new").await;
            }
        }
    }));
    let reading = async {
        for round in 0..100 {
            let keys: HashSet<Key> = kv.keys(Scope::All).try_collect().await.unwrap();
            assert_eq!(keys.len(), KEYS, "keys, round {round}");
            let (mut keys, mut after) = (HashSet::new(), None);
            while keys.len() < KEYS {
                let page = kv.page(Scope::All, after, KEYS / 2).await.unwrap();
                keys.extend(page.keys);
                after = page.next;
                assert!(after.is_some() || keys.len() == KEYS, "pages, round {round}");
            }
        }
    };
    tokio::select! {
        _ = writing => {}
        () = reading => {}
    }
    store.close().await;
}

async fn keys_only_leaves_values_out(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "a", "long").await;
    let brief = PutOpts::new().ttl(Duration::from_secs(60));
    kv.put(&key("b"), Bytes::from_static(b"long"), brief).await.unwrap();
    kv.delete(&key("a"), DeleteOpts::new()).await.unwrap();
    let changes = kv.watch(Watch::default().keys_only());
    let seen: Vec<Change> = changes
        .try_take_while(|it| std::future::ready(Ok(*it != Change::CaughtUp)))
        .try_collect()
        .await
        .unwrap();
    let [Change::Put(entry), Change::Delete { key: deleted, .. }] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((entry.value.len(), entry.expires.is_some()), (0, true));
    assert_eq!(*deleted, key("a"));
    store.close().await;
}

/// A deletion that is forgotten while nobody listens cannot be told, and is not passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_was_away_too_long_ends() {
    let (store, proxy) = Store::start_behind_proxy(Release::Newest).await;
    let kv = forgetful_bucket(&store).await;
    put(&*kv, "a", "1").await;
    let mut changes = kv.watch(Watch::default());
    assert_eq!(caught_up(&mut changes).await, 1);
    away_while_a_deletion_is_forgotten(&store, &proxy, &*kv).await;
    let next = timeout(SOON, changes.next()).await.unwrap().expect("an error before the end");
    let error = next.expect_err("the deletion is left out");
    assert_eq!(error.kind(), jetbridge_core::ErrorKind::Unavailable, "{error:?}");
    assert!(error.hint_text().is_some());
    store.close().await;
}
