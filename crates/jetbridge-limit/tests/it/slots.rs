//! Calls under way, over several processes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use jetbridge_core::{Backend, ErrorKind, MemoryBackend};
use jetbridge_limit::{Limiter, LimiterOpts, OnError, Policy};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{Faults, NatsServer, Odds, Proxy, Release, ServerOptions, eventually};
use tokio::time::{Instant, timeout};

use crate::rig::{Fleet, open, strict};

const SOON: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn slots_hold_over_a_fleet(fleet: &Fleet) {
    let limiters = fleet.limiters(Policy::concurrent(3).unwrap());
    let tries = limiters.iter().flat_map(|l| (0..3).map(|_| l.try_acquire()));
    let admissions: Vec<_> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
    let allowed = admissions.iter().filter(|admission| admission.allowed).count();
    assert_eq!(allowed, 3);
    let denied = limiters[1].try_acquire().await.unwrap();
    assert!(!denied.allowed && denied.remaining == 0 && denied.limit == 3, "{denied:?}");
    assert!(denied.retry_after > Duration::ZERO && denied.permit.is_none());
    let seen = limiters[2].peek().await.unwrap();
    assert!(!seen.allowed && seen.remaining == 0, "{seen:?}");
    drop(admissions);
    let free = async || (limiters[3].peek().await.unwrap().remaining == 3).then_some(());
    eventually("all slots are free", SOON, free).await;
}

/// At no time more calls than slots, and everybody gets one.
pub(crate) async fn whoever_waits_for_a_slot_gets_one(fleet: &Fleet) {
    const CALLERS: usize = 4;
    let limiters = fleet.limiters(Policy::concurrent(2).unwrap());
    let under_way = Arc::new(tokio::sync::Semaphore::new(2));
    let call = async |limiter: &Limiter| {
        let admission = limiter.acquire().await.unwrap();
        assert!(admission.allowed);
        let permit = admission.permit.unwrap();
        assert!(permit.is_held() && permit.token().is_some());
        let guard = Arc::clone(&under_way).try_acquire_owned().unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await; // The call.
        drop(guard);
        permit.release().await.unwrap();
    };
    let calls = limiters.iter().flat_map(|limiter| (0..CALLERS).map(|_| call(limiter)));
    timeout(SOON, join_all(calls)).await.unwrap();
    assert_eq!(limiters[0].peek().await.unwrap().remaining, 2);
}

/// More callers wait than one write serves: whoever asks behind them is answered, and the store is
/// not asked over and over.
pub(crate) async fn a_crowd_that_waits_keeps_nobody_from_an_answer(fleet: &Fleet) {
    const CROWD: usize = 1_100;
    let limiter = &fleet.limiters(Policy::concurrent(1).unwrap())[0];
    let held = limiter.acquire().await.unwrap();
    let call = async || drop(limiter.acquire().await.unwrap());
    let mut crowd = pin!(join_all((0..CROWD).map(|_| call())));
    assert!(poll_immediate(&mut crowd).await.is_none());
    for _ in 0..3 {
        let denied = timeout(SOON, limiter.try_acquire()).await.expect("an answer").unwrap();
        assert!(!denied.allowed, "{denied:?}");
    }
    let asked = limiter.metrics().store_requests;
    assert!(asked <= 20, "{asked} requests");
    drop(held);
    timeout(SOON, crowd).await.expect("everybody gets a slot");
}

pub(crate) async fn a_slot_that_comes_back_wakes_another_process(fleet: &Fleet) {
    let limiters = fleet.limiters(Policy::concurrent(1).unwrap());
    let first = limiters[0].acquire().await.unwrap().permit.unwrap();
    let token = first.token().unwrap();
    let waiting = async { limiters[1].acquire().await.unwrap().permit.unwrap() };
    let release = async {
        let looked = async || (limiters[1].metrics().store_requests > 0).then_some(());
        eventually("the waiter's look at the store", SOON, looked).await;
        first.release().await.unwrap();
    };
    let (second, ()) = timeout(SOON, async { tokio::join!(waiting, release) }).await.unwrap();
    assert!(second.token().unwrap() > token, "fencing tokens grow");
}

pub(crate) async fn the_slots_of_a_dead_process_come_back(fleet: &Fleet) {
    let lease = Duration::from_millis(800);
    let policy = Policy::concurrent(1).unwrap();
    let opts = strict().lease(lease);
    let limiter = |process: usize| fleet.limits[process].limiter_with("api", policy, opts).unwrap();
    let dead = limiter(0).acquire().await.unwrap().permit.unwrap();
    // As kill -9 does: nobody renews any more, and nobody gives back.
    fleet.limits[0].close(SOON).await;
    let begun = Instant::now();
    let admission = timeout(SOON, limiter(1).acquire()).await.unwrap().unwrap();
    assert!(admission.allowed && begun.elapsed() <= lease * 4, "{:?}", begun.elapsed());
    timeout(SOON, dead.lost()).await.unwrap();
    assert!(!dead.is_held());
    // One that lives keeps its slot beyond the lease.
    tokio::time::sleep(lease * 2).await; // The lease's own time is the matter here.
    assert!(admission.permit.as_ref().unwrap().is_held());
    assert!(!limiter(2).try_acquire().await.unwrap().allowed);
}

pub(crate) async fn a_denial_of_either_charges_neither(fleet: &Fleet) {
    let policy = Policy::per_period(1, HOUR).unwrap().burst(2).unwrap();
    let limiters = fleet.limiters(policy.max_concurrent(1).unwrap());
    let first = limiters[0].try_acquire().await.unwrap();
    assert!(first.allowed);
    for limiter in &limiters {
        assert!(!limiter.try_acquire().await.unwrap().allowed, "there is no slot");
    }
    first.permit.unwrap().release().await.unwrap();
    // Another process may take the store's time to be some milliseconds earlier.
    let second = timeout(SOON, limiters[1].acquire()).await.expect("the denials cost nothing");
    let second = second.unwrap();
    assert!(second.allowed, "{second:?}");
    second.permit.unwrap().release().await.unwrap();
    let denied = limiters[2].try_acquire().await.unwrap();
    assert!(!denied.allowed && denied.retry_after > SOON, "{denied:?}");
    let seen = fleet.limits[3].limiter_with("api", Policy::concurrent(1).unwrap(), strict());
    let seen = seen.unwrap().peek().await.unwrap();
    assert_eq!(seen.remaining, 1, "the denied call left no slot taken");
}

pub(crate) async fn cancelled_calls_leave_no_slot(fleet: &Fleet) {
    let limiters = fleet.limiters(Policy::concurrent(2).unwrap());
    let held = limiters[0].acquire().await.unwrap();
    for call in 0..200_u64 {
        let limiter = &limiters[usize::try_from(call).unwrap() % limiters.len()];
        let patience = Duration::from_micros(call * 17);
        if let Ok(admission) = timeout(patience, limiter.acquire()).await {
            drop(admission.unwrap());
        }
    }
    drop(held);
    let free = async || (limiters[0].peek().await.unwrap().remaining == 2).then_some(());
    eventually("all slots are free", SOON, free).await;
}

#[tokio::test]
async fn lost_acknowledgements_leak_no_slot_and_give_none_twice() {
    for seed in 0..20 {
        let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let odds = Odds { ack_lost: 200, before_apply: 100, ..Odds::default() };
        let faults = Faults::seeded(seed, odds).only(&["kv.put"]);
        let limits = [open(faults.around(Arc::clone(&store))).await, open(store).await];
        let policy = Policy::concurrent(3).unwrap();
        let limiters = limits.each_ref().map(|l| l.limiter_with("api", policy, strict()).unwrap());
        for _ in 0..10 {
            let tries = limiters.iter().flat_map(|l| (0..4).map(|_| l.try_acquire()));
            let admissions = join_all(tries).await;
            let allowed = admissions.iter().filter(|a| a.as_ref().unwrap().allowed).count();
            assert!(allowed <= 3, "seed {seed}: {allowed} of 3");
            drop(admissions);
            let free = async || (limiters[1].peek().await.unwrap().remaining == 3).then_some(());
            eventually("all slots are free", SOON, free).await;
        }
    }
}

#[tokio::test]
async fn a_share_of_the_slots_is_given_without_the_store() {
    let faults = Faults::seeded(1, Odds { before_apply: 1000, ..Odds::default() });
    let limits = open(faults.only(&["kv.get", "kv.put"]).around(Arc::new(MemoryBackend::new())));
    let opts = LimiterOpts::default()
        .on_error(OnError::Local { share: 0.5 })
        .deadline(Duration::from_millis(100));
    let limits = limits.await;
    let limiter = limits.limiter_with("api", Policy::concurrent(4).unwrap(), opts).unwrap();
    let tries = [limiter.try_acquire().await, limiter.try_acquire().await];
    assert!(tries.iter().all(|it| it.as_ref().unwrap().allowed));
    assert!(!limiter.try_acquire().await.unwrap().allowed);
    drop(tries);
    assert!(limiter.try_acquire().await.unwrap().allowed);
}

/// 60 ms from the store, its time is known to 30 ms at best.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_the_clocks_cannot_tell_is_refused() {
    let server = NatsServer::start(Release::Newest, ServerOptions::default()).await;
    let proxy = Proxy::start(server.address()).await;
    proxy.latency(Duration::from_millis(60));
    let mut options = ConnectOptions::default();
    options.servers = vec![proxy.url()];
    let limits = open(Arc::new(NatsBackend::connect(&options).await.unwrap())).await;
    let policy = Policy::concurrent(1).unwrap();
    let short = strict().lease(Duration::from_millis(200));
    let refused = limits.limiter_with("short", policy, short).unwrap().acquire().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    let long = limits.limiter_with("long", policy, strict()).unwrap();
    assert!(long.acquire().await.unwrap().allowed);
}
