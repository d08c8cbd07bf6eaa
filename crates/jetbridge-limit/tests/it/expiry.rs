//! The value of one user goes when nobody has anything to remember by it, and not before.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jetbridge_core::{
    Backend, BucketName, Entry, Key, Kv, ManualClock, MemoryBackend, Open, PutOpts, Read,
};
use jetbridge_limit::{Limiter, Policy};

use crate::rig::{Fleet, open, strict};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
const START: Duration = Duration::from_secs(1_750_000_000);
const KEY: &str = "api:42";

/// The store's clock, and a connection to the store.
struct Desk {
    clock: Arc<ManualClock>,
    store: Arc<dyn Backend>,
    kv: Arc<dyn Kv>,
}

async fn desk() -> Desk {
    let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH + START));
    let store: Arc<dyn Backend> =
        Arc::new(MemoryBackend::with_clock(Arc::<ManualClock>::clone(&clock)));
    open(Arc::clone(&store)).await;
    let kv = store.kv(&BucketName::parse("rate_limits").unwrap(), Open::existing()).await.unwrap();
    Desk { clock, store, kv }
}

impl Desk {
    /// The user's limiter in a process of its own.
    async fn process(&self, policy: Policy) -> Limiter {
        let limits = open(Arc::clone(&self.store)).await;
        limits.limiter_with("api", policy, strict()).unwrap().key("42").unwrap()
    }

    async fn entry(&self) -> Option<Entry> {
        self.kv.get(&Key::parse(KEY).unwrap(), Read::Fresh).await.unwrap()
    }
}

fn daily() -> Policy {
    Policy::fixed_window(3, DAY).unwrap()
}

fn brisk() -> Policy {
    Policy::per_second(100.0).unwrap()
}

/// `calls` permits, each a while after the last.
async fn take(desk: &Desk, limiter: &Limiter, calls: usize) {
    for _ in 0..calls {
        desk.clock.advance(Duration::from_secs(1));
        assert!(limiter.try_acquire().await.unwrap().allowed);
    }
}

#[tokio::test]
async fn a_value_of_two_policies_stays_as_long_as_either_must_remember() {
    let desk = desk().await;
    take(&desk, &desk.process(daily()).await, 3).await;
    let ends = desk.entry().await.unwrap().expires.unwrap();
    for _ in 0..2 {
        // The second process finds a value that is of its own policy already.
        take(&desk, &desk.process(brisk()).await, 2).await;
    }
    desk.clock.advance(MINUTE * 3);
    let replaced = desk.process(daily()).await;
    assert!(!replaced.try_acquire().await.unwrap().allowed, "three more on the same day");
    let kept = desk.entry().await.unwrap().expires.unwrap();
    let longer = kept.duration_since(ends).unwrap();
    assert!(longer < MINUTE, "it is kept for {longer:?} too long");
    desk.clock.advance(DAY * 2);
    assert!(desk.entry().await.is_none(), "it stays for ever");
}

#[tokio::test]
async fn a_value_that_was_to_stay_stays() {
    let desk = desk().await;
    take(&desk, &desk.process(daily()).await, 1).await;
    let own = desk.entry().await.unwrap();
    let key = Key::parse(KEY).unwrap();
    desk.kv.put(&key, Bytes::clone(&own.value), PutOpts::new()).await.unwrap();
    for _ in 0..2 {
        take(&desk, &desk.process(brisk()).await, 2).await;
        assert_eq!(desk.entry().await.unwrap().expires, None);
    }
    // As good as for ever: some store would refuse it.
    let mut long = PutOpts::new();
    long.ttl = Some(DAY * 365 * 90);
    desk.kv.put(&key, own.value, long).await.unwrap();
    take(&desk, &desk.process(brisk()).await, 2).await;
    assert_eq!(desk.entry().await.unwrap().expires, None);
}

/// Each store says of a value when it ends, whether it is read or followed.
pub(crate) async fn a_value_in_use_is_kept_no_longer_than_it_is_of_use(fleet: &Fleet) {
    let policy = Policy::per_second(1000.0).unwrap().burst(10).unwrap();
    let mut users = Vec::new();
    for limiter in fleet.limiters(policy) {
        users.push(limiter.key("42").unwrap());
    }
    let calls = users.iter().map(|user| async {
        for _ in 0..20 {
            assert!(user.acquire().await.unwrap().allowed);
        }
    });
    futures_util::future::join_all(calls).await;
    let entry = fleet.entry(KEY).await.unwrap();
    let lasts = entry.expires.unwrap().duration_since(entry.written).unwrap();
    assert!(lasts < MINUTE + Duration::from_secs(10), "{lasts:?}");
}
