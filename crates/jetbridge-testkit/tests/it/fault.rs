//! Faults hit what they are aimed at, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend, BucketName, BucketSpec, ErrorKind, IncrementOpts, Key, Kv, MemoryBackend, Open,
    Outcome, PutOpts, Read, Scope, SystemClock, Watch, increment,
};
use jetbridge_testkit::{Fault, Faults, Odds};
use tokio::time::Instant;

async fn bucket(store: &dyn Backend) -> Arc<dyn Kv> {
    let name = BucketName::parse("b").unwrap();
    store.kv(&name, Open::ensure(BucketSpec::default())).await.unwrap()
}

fn key() -> Key {
    Key::parse("k").unwrap()
}

#[tokio::test]
async fn a_script_breaks_the_operations_it_names() {
    let memory: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let faults = Faults::script([(0, Fault::BeforeApply), (1, Fault::AckLost)]).only(&["kv.put"]);
    let (broken, whole) =
        (bucket(&*faults.around(Arc::clone(&memory))).await, bucket(&*memory).await);
    let put = async |value: &'static str| broken.put(&key(), value.into(), PutOpts::new()).await;
    let value = async || {
        let entry = whole.get(&key(), Read::Fresh).await.unwrap();
        entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    };
    let first = put("1").await.unwrap_err();
    assert_eq!((first.kind(), first.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert_eq!(value().await, None);
    let second = put("2").await.unwrap_err();
    assert_eq!((second.kind(), second.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    assert_eq!(value().await.as_deref(), Some("2"));
    put("3").await.unwrap();
    assert_eq!(faults.seen(), 3);
    assert_eq!(faults.injected(), [("kv.put", Fault::BeforeApply), ("kv.put", Fault::AckLost)]);
}

#[tokio::test]
async fn a_lost_answer_to_a_read_leaves_nothing_unknown() {
    let faults = Faults::script([(0, Fault::AckLost)]).only(&["kv.get"]);
    let kv = bucket(&*faults.around(Arc::new(MemoryBackend::new()))).await;
    let lost = kv.get(&key(), Read::Fresh).await.unwrap_err();
    assert!(lost.is_retryable(), "{lost:?}");
}

#[tokio::test]
async fn streams_break_at_the_start_or_behind_the_first_item() {
    let script = [(0, Fault::BeforeApply), (1, Fault::AckLost)];
    let faults = Faults::script(script).only(&["kv.keys", "kv.watch"]);
    let kv = bucket(&*faults.around(Arc::new(MemoryBackend::new()))).await;
    for name in ["a", "b"] {
        kv.put(&Key::parse(name).unwrap(), "1".into(), PutOpts::new()).await.unwrap();
    }
    assert!(kv.keys(Scope::All).try_collect::<Vec<_>>().await.is_err());
    let mut watch = kv.watch(Watch::current(Scope::All));
    assert!(watch.next().await.unwrap().is_ok());
    assert!(watch.next().await.unwrap().is_err());
    assert!(watch.next().await.is_none());
    assert_eq!(kv.keys(Scope::All).try_collect::<Vec<_>>().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_delay_is_waited_for() {
    let wait = Duration::from_millis(50);
    let faults = Faults::script([(0, Fault::Delay(wait))]).only(&["kv.put"]);
    let kv = bucket(&*faults.around(Arc::new(MemoryBackend::new()))).await;
    let start = Instant::now();
    kv.put(&key(), "1".into(), PutOpts::new()).await.unwrap();
    assert!(start.elapsed() >= wait);
}

#[tokio::test]
async fn a_seed_repeats_its_faults() {
    let odds = Odds { ack_lost: 200, before_apply: 200, ..Odds::default() };
    let run = async |seed| {
        let faults = Faults::seeded(seed, odds).only(&["kv.put"]);
        let kv = bucket(&*faults.around(Arc::new(MemoryBackend::new()))).await;
        for _ in 0..100 {
            drop(kv.put(&key(), "1".into(), PutOpts::new()).await);
        }
        faults.injected()
    };
    let once = run(1).await;
    assert!((20..60).contains(&once.len()), "{} faults of 100 at two fifths", once.len());
    assert_eq!(run(1).await, once);
    assert_ne!(run(2).await, once);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_is_exact_through_lost_answers() {
    let odds = Odds { ack_lost: 200, before_apply: 200, ..Odds::default() };
    for seed in 0..10 {
        let memory: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let faults = Faults::seeded(seed, odds).only(&["kv.put", "kv.get"]);
        let kv = bucket(&*faults.around(Arc::clone(&memory))).await;
        let now = || jetbridge_core::Clock::now(&SystemClock);
        let mut told = 0;
        while told < 50 {
            match increment(&*kv, &now, &key(), 1, IncrementOpts::new()).await {
                Ok(sum) => {
                    told += 1;
                    assert_eq!(sum, told, "seed {seed}");
                }
                Err(failed) => assert!(failed.is_retryable(), "seed {seed}: {failed:?}"),
            }
        }
        assert!(faults.injected().len() > 10);
    }
}
