//! Races that a process loses against another one, at a store that answers every time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_core::{Backend, BucketName, Key, MemoryBackend, Open, PutOpts, Read};
use jetbridge_limit::{LimiterOpts, OnError, Policy, Source};
use jetbridge_testkit::{Faults, Odds};
use tokio::time::Instant;

use crate::rig::open;

/// How long the process loses every race: four of its deadlines.
const LOSES: Duration = Duration::from_millis(400);
const DEADLINE: Duration = Duration::from_millis(100);
const CALLERS: usize = 8;

#[tokio::test]
async fn a_lost_race_is_an_answer_and_opens_no_circuit() {
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let odds = Odds { delay: 1000, delay_max: Duration::from_millis(20), ..Odds::default() };
    let faults = Faults::seeded(3, odds).only(&["kv.put"]);
    let limits = open(faults.around(Arc::clone(&store))).await;
    let policy = Policy::per_second(1000.0).unwrap().burst(100).unwrap();
    let opts = LimiterOpts::default().on_error(OnError::Open).deadline(DEADLINE);
    let limiter = limits.limiter_with("api", policy, opts).unwrap();
    assert!(limiter.try_acquire().await.unwrap().allowed);

    // Another process writes the same again and again, faster than this one ever can.
    let rival = async {
        let bucket = BucketName::parse("rate_limits").unwrap();
        let kv = store.kv(&bucket, Open::existing()).await.unwrap();
        let key = Key::parse("api").unwrap();
        let end = Instant::now() + LOSES;
        while Instant::now() < end {
            let entry = kv.get(&key, Read::Fresh).await.unwrap().unwrap();
            kv.put(&key, entry.value, PutOpts::new()).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let calls = join_all((0..CALLERS).map(|_| limiter.acquire()));
    let (calls, ()) = tokio::join!(calls, rival);
    let sources: Vec<Source> = calls.into_iter().map(|call| call.unwrap().source).collect();
    assert_eq!(sources, [Source::Store; CALLERS]);
    let metrics = limiter.metrics();
    assert_eq!(metrics.circuit_breaker_state, 0, "{metrics:?}");
}
