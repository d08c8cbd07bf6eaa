//! What callers have beside `acquire` and `try_acquire`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{ErrorKind, MemoryBackend};
use jetbridge_limit::{Limiter, LimiterOpts, OnError, Policy};
use jetbridge_testkit::{Faults, Odds, eventually};
use tokio::time::{Instant, timeout};

use crate::rig::{Fleet, open, strict};

const SOON: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

fn every(period: Duration, burst: u32) -> Policy {
    Policy::per_period(1, period).unwrap().burst(burst).unwrap()
}

/// `until_ready` and `throttle` wait for their turn, and items keep their order.
pub(crate) async fn a_stream_is_throttled(fleet: &Fleet) {
    let period = Duration::from_millis(50);
    let limiter = fleet.limiters(every(period, 1)).remove(0);
    let begun = Instant::now();
    assert!(limiter.until_ready().await.unwrap().is_none(), "there are no slots here");
    let items: Vec<u32> = limiter.throttle(stream::iter(0..5)).try_collect().await.unwrap();
    assert_eq!(items, [0, 1, 2, 3, 4]);
    let waited = begun.elapsed();
    assert!(waited + Duration::from_millis(20) >= period * 5, "six permits in {waited:?}");
}

/// An item that cannot be decided about is an error in its place, and the next one may pass.
#[tokio::test]
async fn a_throttled_stream_says_what_could_not_be_decided() {
    let faults = Faults::seeded(1, Odds { before_apply: 1000, ..Odds::default() });
    let faults = faults.only(&["kv.get", "kv.put"]);
    let limits = open(faults.around(Arc::new(MemoryBackend::new()))).await;
    let opts = LimiterOpts::default().on_error(OnError::Closed).deadline(Duration::from_millis(50));
    let limiter = limits.limiter_with("api", every(HOUR, 5), opts).unwrap();
    let throttled = limiter.throttle(stream::iter(["a", "b"]));
    let mut throttled = std::pin::pin!(throttled);
    let error = throttled.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    faults.change(Odds::default());
    assert_eq!(throttled.next().await.unwrap().unwrap(), "b");
}

/// Permits that are taken together are taken together or not at all.
pub(crate) async fn several_permits_are_taken_together(fleet: &Fleet) {
    let limiters = fleet.limiters(every(HOUR, 5));
    assert_eq!(limiters[0].acquire_n(3).await.unwrap().remaining, 2);
    let denied = limiters[1].acquire_n_timeout(3, Duration::ZERO).await.unwrap();
    assert!(!denied.allowed && denied.remaining == 2, "{denied:?}");
    assert!(denied.retry_after <= HOUR && denied.retry_after > HOUR / 2, "{denied:?}");
    assert!(limiters[2].acquire_n(2).await.unwrap().allowed, "nothing was taken by the denial");
    let slots = fleet.limits[0].limiter_with("slots", Policy::concurrent(3).unwrap(), strict());
    let slots = slots.unwrap();
    let two = slots.acquire_n(2).await.unwrap();
    assert!(!slots.acquire_n_timeout(2, Duration::ZERO).await.unwrap().allowed);
    two.permit.unwrap().release().await.unwrap();
    assert!(slots.acquire_n_timeout(3, Duration::ZERO).await.unwrap().allowed);
}

/// Whoever would wait longer than they may is told at once; whoever would not waits.
pub(crate) async fn a_wait_that_is_too_short_is_denied_at_once(fleet: &Fleet) {
    let period = Duration::from_secs(2);
    let limiter = fleet.limiters(every(period, 1)).remove(0);
    let first = Instant::now();
    assert!(limiter.acquire().await.unwrap().allowed);
    let asked = Instant::now();
    let denied = limiter.acquire_timeout(period / 4).await.unwrap();
    assert!(!denied.allowed && asked.elapsed() < period / 4, "{:?}", asked.elapsed());
    assert!(limiter.acquire_timeout(period * 5).await.unwrap().allowed);
    assert!(first.elapsed() + Duration::from_millis(20) >= period);
}

/// A permit is a guard: it says whether it is held, and dropping it gives the slot back.
pub(crate) async fn a_permit_is_a_guard(fleet: &Fleet) {
    let limiters = fleet.limiters(Policy::concurrent(1).unwrap());
    let ready = limiters[0].until_ready().await.unwrap().unwrap();
    assert!(ready.is_held() && ready.token().is_some());
    assert_eq!(limiters[0].metrics().current_concurrent, 1);
    let fail = |_permit| Err::<(), _>("the call failed");
    fail(ready).unwrap_err();
    let next = timeout(SOON, limiters[1].acquire()).await.unwrap().unwrap();
    assert!(next.allowed);
    let metrics = limiters[0].metrics();
    let counted = (metrics.current_concurrent, metrics.max_concurrent_reached);
    assert_eq!((counted, metrics.total_releases), ((0, 1), 1));
}

/// Within a process, whoever asked first is served first.
pub(crate) async fn waiters_are_served_in_order(fleet: &Fleet) {
    let rate = fleet.limiters(every(Duration::from_millis(30), 1)).remove(0);
    let slot = fleet.limits[0].limiter_with("slot", Policy::concurrent(1).unwrap(), strict());
    for limiter in [rate, slot.unwrap()] {
        let first = limiter.acquire().await.unwrap();
        let order = AtomicUsize::new(0);
        let calls = (0..12).map(|number| {
            let (limiter, order) = (&limiter, &order);
            async move {
                let admission = limiter.acquire().await.unwrap();
                assert!(admission.allowed);
                (number, order.fetch_add(1, SeqCst))
            }
        });
        let release = async { drop(first) };
        let (served, ()) =
            timeout(SOON, async { tokio::join!(join_all(calls), release) }).await.unwrap();
        for (number, place) in served {
            assert_eq!(number, place, "{}", limiter.id());
        }
    }
}

/// A slot that a cancelled waiter was given on its way out goes to the next in the process.
pub(crate) async fn a_cancelled_waiters_slot_goes_to_the_next(fleet: &Fleet) {
    let limiter = fleet.limiters(Policy::concurrent(1).unwrap()).remove(0);
    let held = limiter.acquire().await.unwrap();
    let mut waiters = tokio::task::JoinSet::new();
    let mut first = None;
    for _ in 0..3 {
        let limiter = limiter.clone();
        let waiter =
            waiters.spawn(async move { drop(limiter.acquire().await.unwrap().permit.unwrap()) });
        first.get_or_insert(waiter);
    }
    drop(held);
    first.unwrap().abort();
    let mut served = 0;
    while let Some(waiter) = timeout(SOON, waiters.join_next()).await.unwrap() {
        served += u32::from(waiter.is_ok());
    }
    assert!(served >= 2, "{served} of two");
    let free = async || (limiter.peek().await.unwrap().remaining == 1).then_some(());
    eventually("the slot is free", SOON, free).await;
}

/// The waiter behind one that goes away moves up.
pub(crate) async fn a_cancelled_waiters_permit_goes_to_the_next(fleet: &Fleet) {
    let period = Duration::from_secs(3);
    let limiter = fleet.limiters(every(period, 1)).remove(0);
    assert!(limiter.acquire().await.unwrap().allowed);
    let begun = Instant::now();
    let mut waiters = tokio::task::JoinSet::new();
    let wait = |limiter: Limiter| async move { limiter.acquire().await.unwrap().allowed };
    let first = waiters.spawn(wait(limiter.clone()));
    reserved(&limiter, period).await;
    waiters.spawn(wait(limiter.clone()));
    reserved(&limiter, period * 2).await;
    first.abort();
    assert!(waiters.join_next().await.unwrap().unwrap_err().is_cancelled());
    assert!(timeout(SOON, waiters.join_next()).await.unwrap().unwrap().unwrap());
    let waited = begun.elapsed();
    assert!(waited < period + period / 2, "it took its own turn and not the free one: {waited:?}");
}

/// Waits until the limiter is reserved for more than `ahead` from now on.
async fn reserved(limiter: &Limiter, ahead: Duration) {
    let seen = async || (limiter.peek().await.unwrap().reset_after > ahead).then_some(());
    eventually("the waiter's reservation", SOON, seen).await;
}

/// However long they have waited: the limiter is in use as long as somebody does.
#[tokio::test(start_paused = true)]
async fn who_has_waited_long_leaves_its_turn_too() {
    let limits = open(Arc::new(MemoryBackend::new())).await;
    let period = Duration::from_secs(120);
    let limiter = limits.limiter_with("api", every(period, 1), strict()).unwrap();
    assert!(limiter.acquire().await.unwrap().allowed);
    let begun = Instant::now();
    let pause = || tokio::time::sleep(period / 4);
    let first = async {
        let first = timeout(period / 2, limiter.acquire()).await;
        assert!(first.is_err(), "it was not made to wait: {first:?}");
    };
    let second = async {
        pause().await;
        assert!(limiter.acquire().await.unwrap().allowed);
        begun.elapsed()
    };
    let ((), waited) = tokio::join!(first, second);
    assert!(waited < period + period / 2, "it took its own turn and not the free one: {waited:?}");
}
