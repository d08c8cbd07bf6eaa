//! What was taken and must not be charged goes back once, and all of it.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend, MemoryBackend};
use jetbridge_limit::{Composite, Limiter, Policy};
use jetbridge_testkit::{Fault, Faults};

use crate::rig::{open, strict};

const HOUR: Duration = Duration::from_secs(3600);

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
