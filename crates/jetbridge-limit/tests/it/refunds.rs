//! What was taken and must not be charged goes back once, and all of it.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend, MemoryBackend};
use jetbridge_limit::{Composite, Limiter, Limits, Policy};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{
    AckLoss, Fault, Faults, NatsServer, Proxy, Release, ServerOptions, eventually,
};

use crate::rig::{open, strict};

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(20);

async fn left(limiter: &Limiter) -> u32 {
    limiter.peek().await.unwrap().remaining
}

#[tokio::test]
async fn a_refund_whose_answer_is_lost_is_not_put_back_twice() {
    // Writes: five calls of `a`, one that exhausts `b`, the charge of `a`, and its refund.
    let faults = Faults::script([(7, Fault::AckLost)]).only(&["kv.put"]);
    let limits = open(faults.around(Arc::new(MemoryBackend::new()) as Arc<dyn Backend>)).await;
    let ten = Policy::sliding_window(10, HOUR * 24).unwrap();
    let a = limits.limiter_with("a", ten, strict()).unwrap();
    let one = Policy::per_period(1, HOUR).unwrap();
    let b = limits.limiter_with("b", one, strict()).unwrap();
    for _ in 0..5 {
        assert!(a.try_acquire().await.unwrap().allowed);
    }
    assert!(b.try_acquire().await.unwrap().allowed);
    let denied = Composite::all([a.clone(), b]).try_acquire().await.unwrap();
    assert!(!denied.decision.allowed);
    assert_eq!(faults.injected(), [("kv.put", Fault::AckLost)]);
    // Whatever the task still does about the refund comes before this call.
    assert!(a.try_acquire().await.unwrap().allowed);
    assert_eq!(left(&a).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_that_the_end_cuts_off_is_not_put_back_twice() {
    let server = NatsServer::start(Release::Newest, ServerOptions::default()).await;
    let proxy = Proxy::start(server.address()).await;
    let (limits, other) = (connect(proxy.url()).await, connect(server.url()).await);
    let ten = Policy::fixed_window(10, HOUR * 24 * 300).unwrap().max_concurrent(20).unwrap();
    let a = limits.limiter_with("a", ten, strict()).unwrap();
    let one = Policy::per_period(1, HOUR).unwrap();
    let b = limits.limiter_with("b", one, strict()).unwrap();
    let held = a.acquire_n(5).await.unwrap();
    assert!(held.allowed && b.try_acquire().await.unwrap().allowed);
    // The charge of `a` is acknowledged, and its refund is not.
    proxy.lose_acks(AckLoss::These(vec![1]));
    let denied = Composite::all([a, b]);
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(async move { denied.try_acquire().await.map(|_| ()) });
    let lost = async || (proxy.acks_lost() == 1).then_some(());
    eventually("the acknowledgement of the refund is lost", SOON, lost).await;
    assert_eq!(limits.close(SOON).await, 0);
    calls.join_next().await.unwrap().unwrap().unwrap();
    let a = other.limiter_with("a", ten, strict()).unwrap();
    assert_eq!(left(&a).await, 5);
}

async fn connect(url: String) -> Limits {
    let mut options = ConnectOptions::default();
    options.servers = vec![url];
    open(Arc::new(NatsBackend::connect(&options).await.unwrap())).await
}
