//! Writes whose acknowledgements are lost, over connections that break and servers that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use jetbridge_core::{
    Backend as _, BucketSpec, Change, DeleteOpts, ErrorKind, IncrementOpts, Kv, Open, Outcome,
    PutOpts, Read,
};
use jetbridge_testkit::{AckLoss, Proxy, Release};

use crate::store::{Store, bucket, connect_to, keeping, key, put, read};

jetbridge_testkit::on_every_server!(
    a_put_whose_acknowledgement_is_lost_is_settled,
    a_creation_does_not_lose_against_itself,
    an_update_whose_acknowledgement_is_lost_is_settled,
    a_deletion_whose_acknowledgement_is_lost_is_settled,
    increments_are_exact_over_lost_acknowledgements,
    increments_are_exact_over_a_killed_server,
    puts_are_told_apart_over_a_killed_server,
    puts_are_told_apart_over_broken_connections,
);

async fn values(kv: &dyn Kv, name: &str) -> Vec<String> {
    let text = |change| match change {
        Change::Put(entry) => String::from_utf8_lossy(&entry.value).into_owned(),
        Change::Delete { .. } => "deleted".to_owned(),
        Change::CaughtUp => "caught up".to_owned(),
    };
    kv.history(&key(name)).await.unwrap().into_iter().map(text).collect()
}

/// A bucket with a long history, its first write done, and the next acknowledgement lost.
async fn losing_one(release: Release) -> (Store, Proxy, Arc<dyn Kv>) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(keeping(10)).await;
    put(&*kv, "a", "0").await;
    proxy.lose_acks(AckLoss::These(vec![0]));
    (store, proxy, kv)
}

async fn a_put_whose_acknowledgement_is_lost_is_settled(release: Release) {
    let (store, proxy, kv) = losing_one(release).await;
    let revision = put(&*kv, "a", "1").await;
    assert_eq!(proxy.acks_lost(), 1);
    assert_eq!(kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap().revision, revision);
    assert_eq!(values(&*kv, "a").await, ["0", "1"], "it was not written twice");
    store.close().await;
}

async fn a_creation_does_not_lose_against_itself(release: Release) {
    let (store, proxy, kv) = losing_one(release).await;
    let written = kv.put(&key("new"), Bytes::from_static(b"1"), PutOpts::create()).await.unwrap();
    assert_eq!(proxy.acks_lost(), 1);
    let entry = kv.get(&key("new"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(entry.revision, written.revision);
    store.close().await;
}

async fn an_update_whose_acknowledgement_is_lost_is_settled(release: Release) {
    let (store, _proxy, kv) = losing_one(release).await;
    let seen = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap().revision;
    let over = kv.put(&key("a"), Bytes::from_static(b"1"), PutOpts::over(seen)).await.unwrap();
    assert_eq!(values(&*kv, "a").await, ["0", "1"]);
    let stale = kv.put(&key("a"), Bytes::from_static(b"2"), PutOpts::over(seen)).await.unwrap_err();
    assert_eq!(stale.present_revision(), Some(over.revision), "{stale:?}");
    store.close().await;
}

async fn a_deletion_whose_acknowledgement_is_lost_is_settled(release: Release) {
    let (store, _proxy, kv) = losing_one(release).await;
    assert!(kv.delete(&key("a"), DeleteOpts::new()).await.unwrap().is_some());
    assert_eq!(values(&*kv, "a").await, ["0", "deleted"]);
    store.close().await;
}

/// Adds one `times` times from each of `kvs`; what is told is distinct.
async fn count(kvs: &[Arc<dyn Kv>], times: usize) -> Vec<i64> {
    let writers = kvs.iter().map(|kv| async move {
        let mut told = Vec::new();
        for _ in 0..times {
            let opts = IncrementOpts::new().deadline(Duration::from_secs(60));
            told.push(kv.increment(&key("n"), 1, opts).await.unwrap());
        }
        told
    });
    let mut told = join_all(writers).await.concat();
    told.sort_unstable();
    told
}

async fn increments_are_exact_over_lost_acknowledgements(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let ours = store.kv(BucketSpec::default()).await;
    let peer = connect_to(&proxy.url()).await;
    let theirs = peer.kv(&bucket(), Open::existing()).await.unwrap();
    put(&*ours, "warm", "1").await;
    proxy.lose_acks(AckLoss::Seeded { seed: 7, per_mille: 100 });
    let told = count(&[ours, theirs], 20).await;
    assert!(proxy.acks_lost() > 0);
    assert_eq!(told, (1..=40).collect::<Vec<i64>>());
    store.close().await;
}

async fn increments_are_exact_over_a_killed_server(release: Release) {
    let store = Store::start(release).await;
    let ours = store.kv(BucketSpec::default()).await;
    let peer = connect_to(&store.server.url()).await;
    let theirs = peer.kv(&bucket(), Open::existing()).await.unwrap();
    let kvs = [ours, theirs];
    let done = AtomicBool::new(false);
    let counting = async {
        let told = count(&kvs, 300).await;
        done.store(true, Ordering::Relaxed);
        told
    };
    let (told, restarts) = futures_util::future::join(counting, killing(&store, &done)).await;
    assert!(restarts > 0, "nothing was tried");
    assert_eq!(told, (1..=600).collect::<Vec<i64>>());
    assert_eq!(read(&*kvs[0], "n").await.as_deref(), Some("600"));
    assert!(peer.close(crate::store::GRACE).await.is_clean());
    store.close().await;
}

/// Kills the server again and again until `done`.
async fn killing(store: &Store, done: &AtomicBool) -> usize {
    let mut restarts = 0;
    while !done.load(Ordering::Relaxed) && restarts < 5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        store.server.restart().await;
        restarts += 1;
    }
    restarts
}

/// Puts numbers under their own keys and one shared key; what each call said is what is there.
async fn puts_are_told_apart(kv: &dyn Kv, done: &AtomicBool) {
    let mut unknown = 0;
    for n in 0..300 {
        let (name, value) = (key(format!("k{n}")), Bytes::from(n.to_string()));
        let result = kv.put(&name, value, PutOpts::new()).await;
        let stored = loop {
            match kv.get(&name, Read::Fresh).await {
                Ok(stored) => break stored,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
        };
        match result {
            Ok(written) => assert_eq!(stored.unwrap().revision, written.revision),
            Err(error) if error.outcome() == Outcome::NotApplied => {
                assert_eq!(stored, None, "{error:?}");
            }
            Err(_) => unknown += 1,
        }
    }
    done.store(true, Ordering::Relaxed);
    assert!(unknown <= 3, "{unknown} of 300 writes could not be settled");
}

async fn puts_are_told_apart_over_a_killed_server(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let done = AtomicBool::new(false);
    let putting = puts_are_told_apart(&*kv, &done);
    let ((), restarts) = futures_util::future::join(putting, killing(&store, &done)).await;
    assert!(restarts > 0, "nothing was tried");
    store.close().await;
}

async fn puts_are_told_apart_over_broken_connections(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(keeping(5)).await;
    put(&*kv, "warm", "1").await;
    let done = AtomicBool::new(false);
    let breaking = async {
        let mut cuts = 0;
        while !done.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.reset();
            cuts += 1;
        }
        cuts
    };
    let (_, cuts) = futures_util::future::join(puts_are_told_apart(&*kv, &done), breaking).await;
    assert!(cuts > 0, "nothing was tried");
    for n in 0..300 {
        let stored = values(&*kv, &format!("k{n}")).await;
        assert!(stored.len() <= 1, "k{n} was written more than once: {stored:?}");
    }
    store.close().await;
}
