//! The bytes at rest, by what a limiter leaves in its bucket and what it makes of them: every kind
//! of value of `docs/formats/limits.md`, written at one moment of the store's clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jetbridge_core::{
    Backend, BucketName, Key, Kv, ManualClock, MemoryBackend, Open, PutOpts, Read,
};
use jetbridge_limit::{LimiterOpts, Limits, Policy};

use crate::rig::{open, strict};

/// One line for each kind of value, as 0.1.0 wrote it; the holder's name is made up anew by each
/// process.
const GOLDEN: &str = include_str!("../golden/limits-at-rest-0.1.0.jsonl");
const HOLDER: &str = "HOLDER";
const NOW: Duration = Duration::from_secs(1_750_000_000);
const LEASE: Duration = Duration::from_secs(20);

fn policies() -> Vec<Policy> {
    let (rate, minute) = (Policy::per_second(100.0).unwrap(), Duration::from_secs(60));
    vec![
        rate.burst(20).unwrap(),
        Policy::fixed_window(10, minute).unwrap(),
        Policy::sliding_window(2000, minute).unwrap(),
        Policy::sliding_log(3, minute).unwrap(),
        Policy::concurrent(5).unwrap(),
        rate.burst(20).unwrap().max_concurrent(5).unwrap(),
    ]
}

fn opts() -> LimiterOpts {
    strict().lease(LEASE)
}

struct Desk {
    limits: Limits,
    kv: Arc<dyn Kv>,
}

async fn desk() -> Desk {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + NOW);
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::with_clock(Arc::new(clock)));
    let limits = open(Arc::clone(&store)).await;
    let kv = store.kv(&BucketName::parse("rate_limits").unwrap(), Open::existing()).await.unwrap();
    Desk { limits, kv }
}

/// With the name of a holder as the golden lines have it.
fn named(value: &str) -> String {
    let Some((before, rest)) = value.split_once("\"id\":\"") else { return value.to_owned() };
    let (id, after) = rest.split_once('"').unwrap();
    assert!(id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    format!("{before}\"id\":\"{HOLDER}\"{after}")
}

#[tokio::test]
async fn what_is_written_is_what_is_documented() {
    let desk = desk().await;
    let mut written = String::new();
    for (number, policy) in policies().into_iter().enumerate() {
        let id = format!("l{number}");
        let limiter = desk.limits.limiter_with(&id, policy, opts()).unwrap();
        let held = limiter.acquire_n(2).await.unwrap();
        assert!(held.allowed);
        let entry = desk.kv.get(&Key::parse(id).unwrap(), Read::Fresh).await.unwrap().unwrap();
        written.push_str(&named(std::str::from_utf8(&entry.value).unwrap()));
        written.push('\n');
    }
    assert_eq!(written, GOLDEN);
}

#[tokio::test]
async fn what_was_written_counts() {
    let desk = desk().await;
    let left = [18, 8, 1998, 1, 3, 4];
    for ((policy, line), left) in policies().into_iter().zip(GOLDEN.lines()).zip(left) {
        let value = Bytes::copy_from_slice(line.as_bytes());
        desk.kv.put(&Key::parse("old").unwrap(), value, PutOpts::new()).await.unwrap();
        let limiter = desk.limits.limiter_with("old", policy, opts()).unwrap();
        let seen = limiter.peek().await.unwrap();
        assert_eq!((seen.allowed, seen.remaining), (true, left), "{policy:?}");
    }
}

/// A lease that another process wrote ends when it says, and not before.
#[tokio::test]
async fn a_lease_at_rest_ends_when_it_says() {
    for (until, left) in [(NOW, 5), (NOW + LEASE, 3), (NOW + LEASE * 1000, 5)] {
        let desk = desk().await;
        let line = GOLDEN.lines().nth(4).unwrap();
        let ends = (NOW + LEASE).as_nanos().to_string();
        assert!(line.contains(&ends), "{line}");
        let value = line.replace(&ends, &until.as_nanos().to_string());
        desk.kv.put(&Key::parse("db").unwrap(), value.into(), PutOpts::new()).await.unwrap();
        let limiter = desk.limits.limiter_with("db", Policy::concurrent(5).unwrap(), opts());
        assert_eq!(limiter.unwrap().peek().await.unwrap().remaining, left, "{until:?}");
    }
}
