//! Several limiters as one.

use std::time::Duration;

use jetbridge_limit::{Composite, Limiter, Policy};

use crate::rig::{Fleet, strict};

const HOUR: Duration = Duration::from_secs(3600);

fn hourly(fleet: &Fleet, id: &str, burst: u32) -> Limiter {
    let policy = Policy::per_period(1, HOUR).unwrap().burst(burst).unwrap();
    fleet.limits[0].limiter_with(id, policy, strict()).unwrap()
}

async fn left(limiter: &Limiter) -> u32 {
    limiter.peek().await.unwrap().remaining
}

pub(crate) async fn nothing_is_charged_unless_all_agree(fleet: &Fleet) {
    let (user, global) = (hourly(fleet, "user", 3), hourly(fleet, "global", 1));
    let window = Policy::sliding_window(5, HOUR).unwrap();
    let window = fleet.limits[1].limiter_with("window", window, strict()).unwrap();
    let slot = Policy::concurrent(2).unwrap();
    let slot = fleet.limits[1].limiter_with("slot", slot, strict()).unwrap();
    let all = [user.clone(), global.clone(), window.clone(), slot.clone()];
    for composite in [Composite::all(all.clone()), Composite::most_restrictive(all)] {
        let (before, was) = ((left(&user).await, left(&window).await), left(&global).await);
        let passed = composite.try_acquire().await.unwrap();
        assert_eq!(passed.decision.allowed, was == 1);
        let charged = u32::from(passed.decision.allowed);
        assert_eq!((left(&user).await + charged, left(&window).await + charged), before);
        assert_eq!(passed.permits.len(), usize::from(passed.decision.allowed));
        for permit in passed.permits {
            permit.release().await.unwrap();
        }
        let denied = composite.try_acquire().await.unwrap();
        assert!(!denied.decision.allowed && denied.decision.limit == 1, "{denied:?}");
        assert_eq!((left(&user).await, left(&window).await), (2, 4), "a denial is charged to none");
        assert_eq!(left(&slot).await, 2);
    }
}

pub(crate) async fn one_of_several_is_enough(fleet: &Fleet) {
    let (paid, free) = (hourly(fleet, "paid", 1), hourly(fleet, "free", 1));
    let any = Composite::any([paid.clone(), free.clone()]);
    assert!(any.try_acquire().await.unwrap().decision.allowed);
    assert_eq!((left(&paid).await, left(&free).await), (0, 1));
    assert!(any.try_acquire().await.unwrap().decision.allowed);
    let denied = any.try_acquire().await.unwrap();
    assert!(!denied.decision.allowed);
    assert!(Composite::all([]).try_acquire().await.is_err());
}
