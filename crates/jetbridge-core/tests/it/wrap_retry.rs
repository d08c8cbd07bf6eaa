//! A store whose users are patient.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::wrap::{Layered, Retry};
use jetbridge_core::{
    Backend as _, BucketSpec, ErrorKind, Kv, MemoryBackend, Message, ObjectPut, ObjectsExt as _,
    Open, Outcome, PutOpts, Read, Subject,
};
use jetbridge_testkit::{Fault, Faults, Fixture, Odds};

use crate::support::{SOON, bucket, key, object};

async fn open() -> Fixture {
    let backend = Arc::new(Layered::new(
        Arc::new(MemoryBackend::new()),
        Retry::within(Duration::from_secs(5)),
    ));
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::contract!(open);

const MILLI: Duration = Duration::from_millis(1);

/// A patient store around one that breaks, and what breaks it.
fn patient(faults: &Faults, within: Duration) -> Layered<Retry> {
    Layered::new(faults.around(Arc::new(MemoryBackend::new())), Retry::within(within))
}

async fn kv(store: &Layered<Retry>) -> Arc<dyn Kv> {
    store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap()
}

#[tokio::test]
async fn what_was_not_applied_is_tried_again() {
    let outage = [0, 1, 2].map(|at| (at, Fault::BeforeApply));
    let faults = Faults::script(outage).only(&["kv.put"]);
    let kv = kv(&patient(&faults, SOON)).await;
    kv.put(&key("a"), "1".into(), PutOpts::create()).await.unwrap();
    assert_eq!(faults.seen(), 4);
    assert!(kv.get(&key("a"), Read::Fresh).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lost_answer_is_handed_on() {
    let faults = Faults::script([(0, Fault::AckLost)]).only(&["kv.put"]);
    let kv = kv(&patient(&faults, SOON)).await;
    let lost = kv.put(&key("a"), "1".into(), PutOpts::new()).await.unwrap_err();
    assert_eq!((lost.outcome(), faults.seen()), (Outcome::Unknown, 1));
    let refused = kv.put(&key("a"), "2".into(), PutOpts::create()).await.unwrap_err();
    assert_eq!((refused.kind(), faults.seen()), (ErrorKind::Conflict, 2));
}

#[tokio::test]
async fn it_gives_up_at_its_deadline() {
    let faults = Faults::seeded(1, Odds { before_apply: 1000, ..Odds::default() });
    let store = patient(&faults.only(&["store.now"]), 50 * MILLI);
    let error = tokio::time::timeout(SOON, store.now()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_can_be_started_once_is_started_once() {
    let faults = Faults::script([(0, Fault::BeforeApply), (1, Fault::BeforeApply)]);
    let faults = faults.only(&["object.put", "bus.request"]);
    let store = patient(&faults, SOON);
    let open = Open::ensure(BucketSpec::default());
    let objects = store.objects(&bucket("o"), open).await.unwrap();
    let put = objects.put_bytes(&object("a"), "1", ObjectPut::new()).await;
    assert_eq!(put.unwrap_err().kind(), ErrorKind::Unavailable);
    let question = Message::new(Subject::parse("q").unwrap(), "?");
    let asked = store.bus().request(question, SOON).await;
    assert_eq!((asked.unwrap_err().kind(), faults.seen()), (ErrorKind::Unavailable, 2));
}
