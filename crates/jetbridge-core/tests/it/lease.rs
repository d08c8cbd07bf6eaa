//! Leases: one holder, tokens that grow, and nobody who believes too long.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend as _, BucketSpec, Change, DeleteOpts, ErrorKind, Kv, Lease, LeaseOpts, MemoryBackend,
    Open, PutOpts, Read, Scope, Start, Watch,
};

use jetbridge_testkit::{Fault, Faults};

use crate::process::Process;
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

/// A bucket whose operations of one kind lose their answers at these places.
async fn losing(store: &MemoryBackend, operation: &'static str, places: &[usize]) -> Arc<dyn Kv> {
    let faults = Faults::script(places.iter().map(|at| (*at, Fault::AckLost))).only(&[operation]);
    let store = faults.around(Arc::new(store.clone()));
    store.kv(&bucket("leases"), Open::ensure(BucketSpec::default())).await.unwrap()
}

#[tokio::test]
async fn a_lost_answer_to_taking_it_is_settled() {
    let store = MemoryBackend::new();
    let kv = losing(&store, "kv.put", &[0]).await;
    let lease = Lease::acquire(&kv, &key("k"), LONG).await.unwrap();
    let entry = kv.get(&key("k"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(lease.token(), entry.revision);

    let late = Process::with_late_write(&kv, std::time::SystemTime::UNIX_EPOCH);
    let other = Lease::acquire(&late, &key("late"), LONG).await.unwrap();
    assert!(other.is_held() && other.token() > lease.token());
}

#[tokio::test]
async fn a_lost_answer_loses_to_a_rival_that_was_first() {
    let store = MemoryBackend::new();
    let rival = Lease::acquire(&bucket_of(&store).await, &key("k"), LONG).await.unwrap();
    let kv = losing(&store, "kv.put", &[0, 1, 2]).await;
    let error = Lease::acquire(&kv, &key("k"), LONG).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("holder")), (ErrorKind::Conflict, Some(rival.holder())));
}

#[tokio::test]
async fn it_stays_held_while_answers_to_renewals_are_lost() {
    let store = MemoryBackend::new();
    let kv = losing(&store, "kv.put", &[1, 3, 5]).await;
    let plain = bucket_of(&store).await;
    let mut watch = plain.watch(Watch::current(Scope::All).start(Start::Now));
    assert_eq!(next(&mut watch).await, Change::CaughtUp);
    let lease = Lease::acquire(&kv, &key("k"), SHORT).await.unwrap();
    for _ in 0..8 {
        assert!(matches!(next(&mut watch).await, Change::Put(_)), "it never expires");
    }
    assert!(lease.is_held());
}

#[tokio::test]
async fn a_lost_answer_to_giving_it_back_is_settled() {
    let store = MemoryBackend::new();
    let kv = losing(&store, "kv.delete", &[0]).await;
    let lease = Lease::acquire(&kv, &key("k"), LONG).await.unwrap();
    lease.release().await.unwrap();
    assert_eq!(kv.get(&key("k"), Read::Fresh).await.unwrap(), None);
}
