//! A limiter that was reset by another process is found out by those who keep asking.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend, MemoryBackend};
use jetbridge_limit::{Limits, Policy};
use tokio::time::sleep;

use crate::rig::{open, strict};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a denial may be believed, with a second for the pace at which it is asked.
const ASKED_AT_MOST: u32 = 12;

/// Two processes over one store.
async fn pair() -> (Limits, Limits) {
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    (open(Arc::clone(&store)).await, open(store).await)
}

/// Calls of the first process, one each `pause`, until one is granted after the other's reset.
async fn asked_after_reset(policy: Policy, (cost, pause): (u32, Duration)) -> u32 {
    let (asking, other) = pair().await;
    let limiter = asking.limiter_with("api", policy, strict()).unwrap();
    assert!(limiter.acquire_n(100).await.unwrap().allowed);
    let ask = async || limiter.acquire_n_timeout(cost, Duration::ZERO).await.unwrap().allowed;
    for _ in 0..5 {
        assert!(!ask().await);
        sleep(pause).await;
    }
    assert!(other.reset("api").await.unwrap());
    let mut asked = 1;
    while !ask().await {
        asked += 1;
        assert!(pause * asked < DAY / 24, "never granted");
        sleep(pause).await;
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_each_second_hears_of_a_reset() {
    let policy = Policy::fixed_window(100, DAY * 300).unwrap();
    assert!(asked_after_reset(policy, (2, Duration::from_secs(1))).await <= ASKED_AT_MOST);
}

#[tokio::test(start_paused = true)]
async fn a_limiter_under_attack_hears_of_a_reset() {
    let policy = Policy::fixed_window(100, DAY * 300).unwrap();
    let pause = Duration::from_millis(20);
    assert!(asked_after_reset(policy, (1, pause)).await <= ASKED_AT_MOST * 50);
}
