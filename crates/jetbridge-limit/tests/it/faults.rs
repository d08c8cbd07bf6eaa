//! Stores that lose answers, do not answer, or forget.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_core::{Backend, BucketName, BucketSpec, ErrorKind, MemoryBackend, Open};
use jetbridge_limit::{LimiterOpts, Limits, OnError, Policy, Source};
use jetbridge_testkit::{Faults, Odds};

use crate::rig::{open, strict};

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for a store in memory on a busy machine, short enough for a test.
const DEADLINE: Duration = Duration::from_millis(200);

fn hourly(burst: u32) -> Policy {
    Policy::per_period(1, HOUR).unwrap().burst(burst).unwrap()
}

#[tokio::test]
async fn lost_acknowledgements_never_give_a_permit_twice() {
    for seed in 0..20 {
        let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let odds = Odds { ack_lost: 200, before_apply: 100, ..Odds::default() };
        let faults = Faults::seeded(seed, odds).only(&["kv.put"]);
        let (a, b) = (open(faults.around(Arc::clone(&store))).await, open(store).await);
        let limiters = [a, b].map(|l| l.limiter_with("api", hourly(20), strict()).unwrap());
        let mut granted = 0;
        for _ in 0..30 {
            let calls = join_all(limiters.iter().map(|l| l.try_acquire())).await;
            granted += calls.into_iter().filter(|call| call.as_ref().unwrap().allowed).count();
        }
        assert!(granted <= 20, "seed {seed}: {granted} of 20");
        assert!(granted + faults.injected().len() * 2 >= 20, "seed {seed}: only {granted}");
    }
}

#[tokio::test]
async fn without_the_store_the_policy_decides_and_an_error_is_no_denial() {
    let faults = Faults::seeded(1, Odds { before_apply: 1000, ..Odds::default() });
    let faults = faults.only(&["kv.get", "kv.put"]);
    let limits = open(faults.around(Arc::new(MemoryBackend::new()))).await;
    let opts = |on_error| LimiterOpts::default().on_error(on_error).deadline(DEADLINE);
    let limiter = |on_error| limits.limiter_with("api", hourly(8), opts(on_error)).unwrap();

    let open = limiter(OnError::Open).try_acquire().await.unwrap();
    assert_eq!((open.allowed, open.source), (true, Source::Open));

    let closed = limiter(OnError::Closed).try_acquire().await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable);

    let local = limiter(OnError::Local { share: 0.25 });
    let mut allowed = Vec::new();
    for _ in 0..3 {
        let decision = local.try_acquire().await.unwrap();
        assert_eq!((decision.source, decision.limit), (Source::Local, 2));
        allowed.push(decision.allowed);
    }
    assert_eq!(allowed, [true, true, false]);

    faults.change(Odds::default());
    let back = local.try_acquire().await.unwrap();
    assert_eq!((back.allowed, back.source), (true, Source::Store));
}

#[tokio::test]
async fn a_denied_try_asks_the_store_nothing() {
    let faults = Faults::script([]).only(&["kv.get", "kv.put", "kv.get_many"]);
    let limits = open(faults.around(Arc::new(MemoryBackend::new()))).await;
    let limiter = limits.limiter_with("api", hourly(1), strict()).unwrap();
    assert!(limiter.try_acquire().await.unwrap().allowed);
    let requests = faults.seen();
    assert_eq!(requests, 2, "one read and one write");
    for _ in 0..1000 {
        assert!(!limiter.try_acquire().await.unwrap().allowed);
    }
    assert_eq!(faults.seen(), requests);
}

#[tokio::test]
async fn callers_share_a_write() {
    let faults = Faults::script([]).only(&["kv.get", "kv.put"]);
    let limits = open(faults.around(Arc::new(MemoryBackend::new()))).await;
    let limiter = limits.limiter_with("api", hourly(500), strict()).unwrap();
    let decisions = join_all((0..500).map(|_| limiter.try_acquire())).await;
    assert!(decisions.iter().all(|decision| decision.as_ref().unwrap().allowed));
    assert!(faults.seen() <= 10, "{} requests for 500 callers", faults.seen());
}

#[tokio::test]
async fn two_hundred_calls_cancelled_anywhere_leave_no_task_and_no_excess() {
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let odds = Odds { delay: 1000, delay_max: Duration::from_millis(3), ..Odds::default() };
    let limits = open(Faults::seeded(7, odds).around(store)).await;
    let limiter = limits.limiter_with("api", hourly(250), strict()).unwrap();
    let mut finished = 0;
    for call in 0..200_u64 {
        let patience = Duration::from_micros(call * 40);
        if let Ok(decision) = tokio::time::timeout(patience, limiter.try_acquire()).await {
            finished += u32::from(decision.unwrap().allowed);
        }
    }
    let mut rest = 0;
    while limiter.try_acquire().await.unwrap().allowed {
        rest += 1;
    }
    assert!(finished + rest <= 250, "{finished} and {rest} of 250");
    assert!(rest >= 50, "each cancelled call takes one permit at most: {rest}");
    assert_eq!(limits.close(HOUR).await, 0);
    let closed = limiter.try_acquire().await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_once() {
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let bucket = BucketName::parse("rate_limits").unwrap();
    let missing = Limits::open(Arc::clone(&store), &bucket, Open::existing()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    let mut spec = BucketSpec::default();
    spec.max_age = Some(Duration::from_secs(10));
    let limits = Limits::open(store, &bucket, Open::ensure(spec)).await.unwrap();
    let forgets = limits.limiter("api", hourly(1)).unwrap_err();
    assert_eq!(forgets.fact("max_age_seconds"), Some("10"));
    assert_eq!(forgets.fact("memory_seconds"), Some("3600"));
    assert_eq!(limits.limiter("api:x", hourly(1)).unwrap_err().kind(), ErrorKind::InvalidInput);

    let limiter = limits.limiter("api", Policy::per_second(10.0).unwrap().burst(3).unwrap());
    let limiter = limiter.unwrap();
    for cost in [0, 4] {
        let refused = limiter.acquire_n(cost).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    for hostile in ["user:42", "::1", "*", ">", "a.b", "é \0", "../x"] {
        assert!(limiter.key(hostile).unwrap().acquire_n(3).await.unwrap().allowed, "{hostile}");
    }
    assert!(limiter.key("").is_err());
}
