//! Several processes that write one limiter all the time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_core::{Backend, MemoryBackend};
use jetbridge_limit::{Limiter, Policy};
use jetbridge_testkit::{Faults, Odds};
use tokio::time::Instant;

use crate::rig::{open, strict};

const PROCESSES: usize = 4;
const CALLERS: usize = 8;
const RATE: u32 = 1500;
const BURST: u32 = 10;
const TIME: Duration = Duration::from_secs(3);

/// Grants of one caller until the end.
async fn call(limiter: Limiter, end: Instant) -> u32 {
    let mut granted = 0;
    while Instant::now() < end {
        let left = end - Instant::now();
        match limiter.acquire_timeout(left).await.unwrap().allowed {
            true => granted += 1,
            false => break,
        }
    }
    granted
}

/// A write takes 10 ms on average, in which 15 permits pass: without reserving ahead, most of them
/// would be lost to conflicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_far_from_its_store_shares_the_whole_rate_and_no_more() {
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let odds = Odds { delay: 1000, delay_max: Duration::from_millis(20), ..Odds::default() };
    let policy = Policy::per_second(f64::from(RATE)).unwrap().burst(BURST).unwrap();
    let mut limiters = Vec::new();
    for seed in 0..PROCESSES {
        let faults = Faults::seeded(seed as u64, odds).only(&["kv.put", "kv.get"]);
        let limits = open(faults.around(Arc::clone(&store))).await;
        limiters.push(limits.limiter_with("api", policy, strict()).unwrap());
    }
    let begin = Instant::now();
    let end = begin + TIME;
    let processes = limiters.iter().map(|limiter| async {
        let calls = (0..CALLERS).map(|_| call(limiter.clone(), end));
        join_all(calls).await.into_iter().sum::<u32>()
    });
    let granted = join_all(processes).await;
    let (sum, seconds) = (granted.iter().sum::<u32>(), begin.elapsed().as_secs_f64());
    let most = f64::from(RATE) * seconds + f64::from(BURST) + 1.0;
    assert!(f64::from(sum) <= most, "{sum} of {most}: {granted:?}");
    assert!(f64::from(sum) >= most * 0.8, "{sum} of {most}: {granted:?}");
    let squares: f64 = granted.iter().map(|it| f64::from(*it).powi(2)).sum();
    let jain = f64::from(sum).powi(2) / (squares * granted.len() as f64);
    assert!(jain >= 0.95, "{jain}: {granted:?}");
}
