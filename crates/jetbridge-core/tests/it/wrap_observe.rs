//! A store that is watched at work.

use std::sync::Arc;

use futures_util::StreamExt as _;
use jetbridge_core::wrap::{Layered, Observed};
use jetbridge_core::{
    Backend as _, BucketSpec, KvExt as _, MemoryBackend, Open, PutOpts, Read, Scope, Watch,
};
use jetbridge_testkit::Fixture;

use crate::support::{bucket, key};

async fn open() -> Fixture {
    let backend = Arc::new(Layered::new(Arc::new(MemoryBackend::new()), Observed::new()));
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::kv_contract!(open);
jetbridge_testkit::object_contract!(open);
jetbridge_testkit::bus_contract!(open);
jetbridge_testkit::backend_contract!(open);

#[tokio::test]
async fn calls_and_errors_are_counted_by_operation() {
    let observed = Observed::new();
    let store = Layered::new(Arc::new(MemoryBackend::new()), observed.clone());
    let kv = store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap();
    kv.put(&key("a"), "1".into(), PutOpts::create()).await.unwrap();
    kv.put(&key("a"), "1".into(), PutOpts::create()).await.unwrap_err();
    assert_eq!(kv.count(Scope::All).await.unwrap(), 1);
    store.delete_bucket(jetbridge_core::BucketKind::Kv, kv.bucket()).await.unwrap();
    kv.get(&key("a"), Read::Fresh).await.unwrap_err();
    kv.watch(Watch::current(Scope::All)).next().await.unwrap().unwrap_err();

    let seen = observed.snapshot();
    let line = |operation: &str| {
        let stats = &seen[operation];
        let errors: Vec<_> = stats.errors.iter().map(|(kind, count)| (*kind, *count)).collect();
        (stats.calls, errors)
    };
    assert_eq!(line("bucket.open"), (1, vec![]));
    assert_eq!(line("kv.put"), (2, vec![("conflict", 1)]));
    assert_eq!(line("kv.keys"), (1, vec![]));
    assert_eq!(line("kv.get"), (1, vec![("not found", 1)]));
    assert_eq!(line("kv.watch"), (1, vec![("not found", 1)]));
}
