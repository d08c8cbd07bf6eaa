//! Leases: one holder, tokens that grow, and nobody who believes too long.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend as _, BucketSpec, Change, DeleteOpts, ErrorKind, Kv, Lease, LeaseOpts, MemoryBackend,
    Open, PutOpts, Scope, Start, Watch,
};

use crate::support::{SOON, bucket, key, next};

/// Long enough that nothing expires while a test runs.
const LONG: Duration = Duration::from_secs(3600);
/// Short enough to see it renewed and lost; long enough for a busy machine to renew it in time.
const SHORT: Duration = Duration::from_millis(900);

async fn bucket_of(store: &MemoryBackend) -> Arc<dyn Kv> {
    store.kv(&bucket("leases"), Open::ensure(BucketSpec::default())).await.unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it happens in time")
}

#[tokio::test]
async fn one_holds_it_and_the_loser_learns_who() {
    let kv = bucket_of(&MemoryBackend::new()).await;
    let ada = LeaseOpts::new(LONG).holder("ada");
    let lease = Lease::acquire(&kv, &key("k"), ada.clone()).await.unwrap();
    assert!(lease.is_held());
    let error = Lease::acquire(&kv, &key("k"), ada).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("holder")), (ErrorKind::Conflict, Some("ada")));
    assert_eq!(error.present_revision(), Some(lease.token()));
    let first = lease.token();
    lease.release().await.unwrap();
    let again = Lease::acquire(&kv, &key("k"), LONG).await.unwrap();
    assert!(again.token() > first);
    assert!(!again.holder().is_empty());
}

#[tokio::test]
async fn a_key_that_is_no_lease_is_taken_by_somebody_unknown() {
    let kv = bucket_of(&MemoryBackend::new()).await;
    kv.put(&key("k"), "x".into(), PutOpts::new()).await.unwrap();
    let error = Lease::acquire(&kv, &key("k"), LONG).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("holder")), (ErrorKind::Conflict, Some("unknown")));
}

#[tokio::test]
async fn it_is_renewed_while_it_is_held() {
    let kv = bucket_of(&MemoryBackend::new()).await;
    let mut watch = kv.watch(Watch::current(Scope::All).start(Start::Now));
    let lease = Lease::acquire(&kv, &key("k"), SHORT).await.unwrap();
    assert_eq!(next(&mut watch).await, Change::CaughtUp);
    let mut expires = Vec::new();
    for _ in 0..5 {
        let Change::Put(entry) = next(&mut watch).await else { panic!("it never expires") };
        expires.push(entry.expires.unwrap());
    }
    assert!(expires.is_sorted(), "{expires:?}");
    assert!(lease.is_held());
}

#[tokio::test]
async fn whoever_loses_it_is_told() {
    let kv = bucket_of(&MemoryBackend::new()).await;
    let lease = Lease::acquire(&kv, &key("k"), SHORT).await.unwrap();
    kv.delete(&key("k"), DeleteOpts::new()).await.unwrap();
    let rival = Lease::acquire(&kv, &key("k"), LONG).await.unwrap();
    soon(lease.lost()).await;
    assert!(!lease.is_held() && rival.is_held());
    assert!(rival.token() > lease.token());
    lease.release().await.unwrap();
    assert!(rival.is_held());
}

#[tokio::test]
async fn a_store_that_is_gone_ends_it_before_it_expires() {
    let store = MemoryBackend::new();
    let kv = bucket_of(&store).await;
    let began = tokio::time::Instant::now();
    let lease = Lease::acquire(&kv, &key("k"), SHORT).await.unwrap();
    assert!(store.close(SOON).await.is_clean());
    soon(lease.lost()).await;
    assert!(!lease.is_held());
    assert!(began.elapsed() >= SHORT / 2, "an outage alone does not end it");
}

#[tokio::test]
async fn who_waits_gets_it_when_it_is_released() {
    let kv = bucket_of(&MemoryBackend::new()).await;
    let lease = Lease::acquire(&kv, &key("k"), LONG).await.unwrap();
    let name = key("k");
    let mut waiting = std::pin::pin!(Lease::wait(&kv, &name, LONG));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    lease.release().await.unwrap();
    assert!(soon(waiting).await.unwrap().is_held());
}

#[tokio::test]
async fn who_waits_gets_it_when_the_holder_vanishes() {
    let kv = bucket_of(&MemoryBackend::new()).await;
    let lease = Lease::acquire(&kv, &key("k"), SHORT).await.unwrap();
    let first = lease.token();
    drop(lease);
    let next = soon(Lease::wait(&kv, &key("k"), LONG)).await.unwrap();
    assert!(next.token() > first);
}
