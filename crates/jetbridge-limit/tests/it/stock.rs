//! Permits that a process takes ahead of its callers, while no other one is met.

use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_limit::Policy;
use jetbridge_testkit::eventually;
use tokio::time::Instant;

use crate::rig::Fleet;

const SOON: Duration = Duration::from_secs(20);
const RATE: u32 = 10_000;
const BURST: u32 = 20_000;
const CALLS: u32 = 20_000;

/// One caller that comes again and again needs far fewer requests than calls, and when it has
/// gone everything that it did not use is there again.
pub(crate) async fn a_hot_caller_takes_ahead_and_the_rest_comes_back(fleet: &Fleet) {
    // A permit takes an hour: what is missing afterwards is what was lost.
    let policy = Policy::per_period(1, Duration::from_secs(3600)).unwrap().burst(5000).unwrap();
    let limiters = fleet.limiters(policy);
    let begun = Instant::now();
    for _ in 0..2000 {
        assert!(limiters[0].try_acquire().await.unwrap().allowed);
    }
    let requests = limiters[0].metrics().store_requests;
    assert!(requests < 1000, "{requests} in {:?}", begun.elapsed());
    let whole = async || (limiters[1].peek().await.unwrap().remaining == 3000).then_some(());
    eventually("what was not used is back", SOON, whole).await;
    let one = limiters[2].acquire_n(3000).await.unwrap();
    assert!(one.allowed && !limiters[3].try_acquire().await.unwrap().allowed);
}

/// However it is divided, no more than the promise is given.
pub(crate) async fn hot_callers_of_a_fleet_get_no_more_than_the_rate(fleet: &Fleet) {
    let policy = Policy::per_second(f64::from(RATE)).unwrap().burst(BURST).unwrap();
    let limiters = fleet.limiters(policy);
    let begun = Instant::now();
    let call = async |limiter| {
        let limiter: &jetbridge_limit::Limiter = limiter;
        let mut granted = 0_u32;
        for _ in 0..CALLS {
            granted += u32::from(limiter.try_acquire().await.unwrap().allowed);
        }
        granted
    };
    let granted: u32 = join_all(limiters.iter().map(call)).await.into_iter().sum();
    let most = begun.elapsed().as_secs_f64() * f64::from(RATE) + f64::from(BURST) + 1.0;
    assert!(f64::from(granted) <= most, "{granted} of {most}");
    assert!(granted >= BURST - BURST / 20, "{granted}");
}
