//! A store of which little is asked at once.

use std::sync::Arc;

use futures_util::StreamExt as _;
use jetbridge_core::wrap::{Layered, Limit};
use jetbridge_core::{
    Backend as _, BucketSpec, KvExt as _, MemoryBackend, ObjectPut, ObjectsExt as _, Open, PutOpts,
    Read, Scope,
};
use jetbridge_testkit::Fixture;

use crate::support::{bucket, key, next, object};

/// Few enough that the contract's cases, which run up to 64 operations at once, have to wait.
const PLACES: usize = 3;

async fn open() -> Fixture {
    let backend = Arc::new(Layered::new(Arc::new(MemoryBackend::new()), Limit::in_flight(PLACES)));
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::contract!(open);

#[tokio::test]
async fn a_body_keeps_its_place_until_it_is_dropped() {
    let store = Layered::new(Arc::new(MemoryBackend::new()), Limit::in_flight(1));
    let objects = store.objects(&bucket("o"), Open::ensure(BucketSpec::default())).await.unwrap();
    let (name, small) = (object("a"), ObjectPut::new().chunk_bytes(1));
    objects.put_bytes(&name, "ab", small).await.unwrap();
    let mut read = objects.get(&name, None).await.unwrap().unwrap();
    assert_eq!(store.layer().free(), 1);
    next(&mut read.body).await;
    assert_eq!(store.layer().free(), 0);
    let waiting = objects.info(&name);
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(read);
    assert!(waiting.await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_listed_can_be_worked_on_meanwhile() {
    let store = Layered::new(Arc::new(MemoryBackend::new()), Limit::in_flight(1));
    let kv = store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap();
    for name in ["a", "b"] {
        kv.put(&key(name), "1".into(), PutOpts::new()).await.unwrap();
    }
    let mut keys = kv.keys(Scope::All);
    while let Some(key) = keys.next().await {
        assert!(kv.get(&key.unwrap(), Read::Fresh).await.unwrap().is_some());
    }
    assert_eq!(kv.count(Scope::All).await.unwrap(), 2);
}
