//! Several processes, several callers each, one limiter.

use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_limit::{Limiter, Policy};
use jetbridge_testkit::eventually;
use tokio::time::Instant;

use crate::rig::{Fleet, PROCESSES};

const SOON: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);
/// What the processes' estimates of the store's time may differ by on one busy machine.
const CLOCK_ERROR: Duration = Duration::from_millis(20);

/// How many of `tries` calls at once in each process are allowed.
async fn storm(limiters: &[Limiter], tries: usize) -> usize {
    let calls = limiters.iter().flat_map(|limiter| (0..tries).map(|_| limiter.try_acquire()));
    let decisions = join_all(calls).await;
    decisions.into_iter().filter(|decision| decision.as_ref().unwrap().allowed).count()
}

pub(crate) async fn a_fleet_of_tries_gets_the_burst_and_no_more(fleet: &Fleet) {
    let policy = Policy::per_period(1, HOUR).unwrap().burst(10).unwrap();
    let limiters = fleet.limiters(policy);
    assert_eq!(storm(&limiters, 20).await, 10);
    let denied = limiters[0].try_acquire().await.unwrap();
    assert!(!denied.allowed && denied.remaining == 0 && denied.limit == 10, "{denied:?}");
    assert!(denied.retry_after > HOUR / 2 && denied.retry_after <= HOUR, "{denied:?}");
    assert!(denied.reset_after > HOUR * 9 && denied.reset_after <= HOUR * 10, "{denied:?}");
    let other = join_all(limiters.iter().map(|l| async { l.key("user:42").unwrap() })).await;
    assert_eq!(storm(&other, 5).await, 10, "a key has a limit of its own");
}

pub(crate) async fn a_log_holds_over_a_fleet(fleet: &Fleet) {
    let limiters = fleet.limiters(Policy::sliding_log(7, HOUR).unwrap());
    assert_eq!(storm(&limiters, 10).await, 7);
}

pub(crate) async fn a_fleet_of_waiters_keeps_the_rate(fleet: &Fleet) {
    const CALLERS: usize = 4;
    const EACH: usize = 4;
    const BURST: u32 = 5;
    let policy = Policy::per_second(50.0).unwrap().burst(BURST).unwrap();
    let limiters = fleet.limiters(policy);
    let begin = Instant::now();
    let caller = async |limiter: &Limiter| {
        let mut grants = Vec::new();
        for _ in 0..EACH {
            assert!(limiter.acquire().await.unwrap().allowed);
            grants.push(begin.elapsed());
        }
        grants
    };
    let callers = limiters.iter().flat_map(|limiter| (0..CALLERS).map(|_| caller(limiter)));
    let mut grants: Vec<Duration> = join_all(callers).await.concat();
    grants.sort_unstable();
    assert_eq!(grants.len(), PROCESSES * CALLERS * EACH);
    for (index, at) in grants.iter().enumerate() {
        let behind = u32::try_from(index).unwrap().saturating_sub(BURST - 1);
        let earliest = Duration::from_millis(20) * behind;
        assert!(*at + CLOCK_ERROR >= earliest, "grant {index} at {at:?}, before {earliest:?}");
    }
}

pub(crate) async fn a_cancelled_waiter_leaves_its_slot(fleet: &Fleet) {
    let period = Duration::from_secs(4);
    let limiter = fleet.limiters(Policy::per_period(1, period).unwrap()).remove(0);
    assert!(limiter.try_acquire().await.unwrap().allowed);
    // With the waiter's slot taken, the limiter is full again one period later.
    let reserved = async || (limiter.peek().await.unwrap().reset_after > period).then_some(());
    tokio::select! {
        decision = limiter.acquire() => panic!("the waiter was not made to wait: {decision:?}"),
        () = eventually("the waiter's reservation", SOON, reserved) => {}
    }
    // A leaked slot would put the next one beyond this wait, and deny at once.
    let next = limiter.acquire_timeout(period).await.unwrap();
    assert!(next.allowed, "{next:?}");
}

pub(crate) async fn a_peek_takes_nothing(fleet: &Fleet) {
    let policy = Policy::fixed_window(2, HOUR * 24 * 300).unwrap();
    let limiters = fleet.limiters(policy);
    for left in [2, 1] {
        for limiter in &limiters {
            let seen = limiter.peek().await.unwrap();
            assert_eq!((seen.allowed, seen.remaining), (true, left));
        }
        assert!(limiters[0].try_acquire().await.unwrap().allowed);
    }
    assert!(!limiters[1].peek().await.unwrap().allowed);
}
