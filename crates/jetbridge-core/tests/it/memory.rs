//! The store in memory: the contract, and what only this store can show, time to the instant.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{
    AppendOpts, Backend as _, BucketKind, BucketSpec, Bus, Change, ConnectionState, Consume,
    ConsumerName, Cursor, DeleteOpts, Discard, ErrorKind, Kv, Link, ManualClock, MemoryBackend,
    Message, ObjectChange, ObjectPut, Objects, Open, Pattern, PutOpts, Read, ReadStream, Received,
    Retention, Revision, Scope, Start, StreamName, StreamSpec, Subject, Subscribe, Watch,
};
use jetbridge_testkit::Fixture;

use crate::support::{bucket, is_quiet, key, kv_with, next, object, store};

async fn open() -> Fixture {
    let backend = Arc::new(MemoryBackend::new());
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::contract!(open);

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

async fn put(kv: &Arc<dyn Kv>, name: &str, value: &'static str) -> Revision {
    kv.put(&key(name), value.into(), PutOpts::new()).await.unwrap().revision
}

#[tokio::test]
async fn a_key_expires_to_the_instant_and_a_watcher_sees_it() {
    let (kv, clock) = kv_with(|spec| spec.history = 5).await;
    let mut watch = kv.watch(Watch::current(Scope::All));
    assert_eq!(next(&mut watch).await, Change::CaughtUp);
    let written = kv.put(&key("a"), "1".into(), PutOpts::new().ttl(20 * MILLI)).await.unwrap();
    let Change::Put(entry) = next(&mut watch).await else { panic!("a value comes first") };
    assert_eq!(entry.expires, Some(entry.written + 20 * MILLI));

    clock.advance(19 * MILLI);
    assert!(kv.get(&key("a"), Read::Fresh).await.unwrap().is_some());
    assert!(is_quiet(&mut watch));

    clock.advance(MILLI);
    let Change::Delete { key: name, revision, at } = next(&mut watch).await else {
        panic!("a deletion comes")
    };
    assert_eq!((name, Some(at)), (key("a"), entry.expires));
    assert!(revision > written.revision);
    assert_eq!(kv.get(&key("a"), Read::Fresh).await.unwrap(), None);
    let history = kv.history(&key("a")).await.unwrap();
    assert!(matches!(&history[..], [Change::Delete { .. }]), "{history:?}");
}

#[tokio::test]
async fn overwriting_without_a_ttl_clears_it() {
    let (kv, clock) = kv_with(|_| {}).await;
    kv.put(&key("a"), "1".into(), PutOpts::new().ttl(SECOND)).await.unwrap();
    put(&kv, "a", "2").await;
    clock.advance(10 * SECOND);
    assert_eq!(kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap().value, "2");
}

#[tokio::test]
async fn everything_goes_at_the_buckets_age() {
    let (kv, clock) = kv_with(|spec| spec.max_age = Some(10 * SECOND)).await;
    put(&kv, "a", "1").await;
    clock.advance(9 * SECOND);
    put(&kv, "b", "2").await;
    clock.advance(SECOND);
    let keys: Vec<_> = kv.keys(Scope::All).try_collect().await.unwrap();
    assert_eq!(keys, [key("b")]);
}

#[tokio::test]
async fn a_watcher_that_sleeps_through_deletions_is_told_so() {
    let (kv, clock) = kv_with(|spec| spec.max_age = Some(SECOND)).await;
    put(&kv, "a", "1").await;
    let mut watch = kv.watch(Watch::current(Scope::All).start(Start::Now));
    assert_eq!(next(&mut watch).await, Change::CaughtUp);
    kv.delete(&key("a"), DeleteOpts::new()).await.unwrap();
    clock.advance(2 * SECOND);
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_page_cursor_is_one_that_a_page_returned() {
    let (kv, _clock) = kv_with(|_| {}).await;
    for name in ["a", "b", "c"] {
        put(&kv, name, "1").await;
    }
    let first = kv.page(Scope::All, None, 2).await.unwrap();
    assert_eq!(first.keys, [key("a"), key("b")]);
    let rest = kv.page(Scope::All, first.next.clone(), 2).await.unwrap();
    assert_eq!((rest.keys, rest.next), (vec![key("c")], None));
    for forged in ["", "2", "2.0000000000000000", "x"] {
        let error = kv.page(Scope::All, Some(Cursor::new(forged)), 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{forged}");
    }
}

#[tokio::test]
async fn raw_and_escaped_handles_see_the_same_bucket() {
    let (store, _clock) = store();
    let spec = Open::ensure(BucketSpec::default());
    let escaped = store.kv(&bucket("b"), spec.clone()).await.unwrap();
    let raw = store.kv(&bucket("b"), spec.raw_keys()).await.unwrap();
    put(&escaped, "user:1", "x").await;
    assert!(raw.get(&key("user=3A1"), Read::Fresh).await.unwrap().is_some());
    let error = raw.get(&key("user:1"), Read::Fresh).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn body(parts: &[&'static str]) -> jetbridge_core::Body {
    stream::iter(parts.iter().map(|it| Ok(Bytes::from_static(it.as_bytes()))).collect::<Vec<_>>())
        .boxed()
}

#[tokio::test]
async fn an_object_replaced_in_mid_read_is_a_conflict() {
    let (store, _clock) = store();
    let objects: Arc<dyn Objects> =
        store.objects(&bucket("o"), Open::ensure(BucketSpec::default())).await.unwrap();
    let two = ObjectPut::new().chunk_bytes(2);
    objects.put(&object("a"), body(&["abc", "d"]), two.clone()).await.unwrap();
    let mut read = objects.get(&object("a"), None).await.unwrap().unwrap();
    assert_eq!((read.info.chunks, next(&mut read.body).await), (2, Bytes::from("ab")));
    objects.put(&object("a"), body(&["x"]), ObjectPut::new()).await.unwrap();
    let error = read.body.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(read.body.next().await.is_none());
}

#[tokio::test]
async fn a_range_a_link_and_a_seal() {
    let (store, _clock) = store();
    let objects = store.objects(&bucket("o"), Open::ensure(BucketSpec::default())).await.unwrap();
    let mut watch = objects.watch(Scope::All, Start::Current);
    objects.put(&object("a"), body(&["abcdef"]), ObjectPut::new().chunk_bytes(2)).await.unwrap();
    objects.link(&object("l"), Link::object(bucket("o"), object("a"))).await.unwrap();
    let part = objects.get(&object("l"), Some(1..5)).await.unwrap().unwrap();
    let bytes: Vec<Bytes> = part.body.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"bcde");
    for range in [0..7, std::ops::Range { start: 3, end: 2 }] {
        let error = objects.get(&object("a"), Some(range)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    objects.delete(&object("l"), DeleteOpts::new()).await.unwrap().unwrap();
    assert_eq!(next(&mut watch).await, ObjectChange::CaughtUp);
    assert!(matches!(next(&mut watch).await, ObjectChange::Put(info) if info.size == 6));
    assert!(
        matches!(next(&mut watch).await, ObjectChange::Delete { name, .. } if name == object("l"))
    );
    objects.seal().await.unwrap();
    let error = objects.put(&object("b"), body(&[]), ObjectPut::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(store.bucket(BucketKind::Object, &bucket("o")).await.unwrap().sealed);
}

fn message(subject: &str, payload: &'static str) -> Message {
    Message::new(Subject::parse(subject).unwrap(), payload)
}

fn spec(change: impl FnOnce(&mut StreamSpec)) -> StreamSpec {
    let name = StreamName::parse("S").unwrap();
    let mut spec = StreamSpec::new(name, vec![Pattern::parse("s.>").unwrap()]);
    change(&mut spec);
    spec
}

async fn bus_with(change: impl FnOnce(&mut StreamSpec)) -> (Arc<dyn Bus>, ManualClock) {
    let (store, clock) = store();
    let bus = store.bus();
    bus.create_stream(&spec(change)).await.unwrap();
    (bus, clock)
}

fn consume(durable: &str) -> Consume {
    let (stream, durable) = (StreamName::parse("S"), ConsumerName::parse(durable));
    Consume::new(stream.unwrap(), durable.unwrap()).ack_wait(SECOND)
}

async fn append(bus: &Arc<dyn Bus>, subject: &str) -> u64 {
    bus.append(message(subject, "x"), AppendOpts::new()).await.unwrap().sequence
}

async fn kept(bus: &Arc<dyn Bus>) -> Vec<u64> {
    let stream = bus.read_stream(&StreamName::parse("S").unwrap(), ReadStream::all());
    stream.map_ok(|message| message.sequence).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_full_buffer_drops_the_newest_and_says_how_many() {
    let (store, _clock) = store();
    let bus = store.bus();
    let wants = Subscribe::to(Pattern::parse("a").unwrap()).capacity(2);
    let mut held = bus.subscribe(wants).await.unwrap();
    for payload in ["1", "2", "3", "4"] {
        bus.publish(message("a", payload)).await.unwrap();
    }
    for payload in ["1", "2"] {
        assert_eq!(next(&mut held).await, Received::Message(message("a", payload)));
    }
    assert_eq!(next(&mut held).await, Received::Dropped(2));
    bus.publish(message("a", "5")).await.unwrap();
    held.drain();
    bus.publish(message("a", "6")).await.unwrap();
    assert_eq!(next(&mut held).await, Received::Message(message("a", "5")));
    assert!(held.next().await.is_none());
}

#[tokio::test]
async fn unsettled_deliveries_come_again_as_often_as_allowed() {
    let (bus, clock) = bus_with(|_| {}).await;
    append(&bus, "s.a").await;
    let mut deliveries = bus.consume(consume("d").deliver_max(3)).await.unwrap();
    let first = next(&mut deliveries).await;
    assert_eq!((first.sequence, first.attempt), (1, 1));
    clock.advance(SECOND / 2);
    first.in_progress().await.unwrap();
    clock.advance(SECOND / 2);
    assert!(is_quiet(&mut deliveries));
    clock.advance(SECOND / 2);
    let second = next(&mut deliveries).await;
    assert_eq!(second.attempt, 2);
    second.nak(5 * SECOND).await.unwrap();
    clock.advance(4 * SECOND);
    assert!(is_quiet(&mut deliveries));
    clock.advance(SECOND);
    assert_eq!(next(&mut deliveries).await.attempt, 3);
    clock.advance(100 * SECOND);
    assert!(is_quiet(&mut deliveries));
}

#[tokio::test]
async fn those_who_share_a_durable_share_its_window() {
    let (bus, _clock) = bus_with(|_| {}).await;
    for _ in 0..3 {
        append(&bus, "s.a").await;
    }
    let mut one = bus.consume(consume("d").in_flight_max(2)).await.unwrap();
    let mut two = bus.consume(consume("d").in_flight_max(2)).await.unwrap();
    let first = next(&mut one).await;
    let second = next(&mut two).await;
    assert_eq!((first.sequence, second.sequence), (1, 2));
    assert!(is_quiet(&mut one) && is_quiet(&mut two));
    first.term().await.unwrap();
    assert_eq!(next(&mut two).await.sequence, 3);
    let error = bus.consume(consume("d").in_flight_max(9)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_work_queue_forgets_what_is_acknowledged() {
    let (bus, _clock) = bus_with(|spec| spec.retention = Retention::WorkQueue).await;
    for subject in ["s.a", "s.b"] {
        append(&bus, subject).await;
    }
    let mut all = bus.consume(consume("d")).await.unwrap();
    next(&mut all).await.ack().await.unwrap();
    assert_eq!(kept(&bus).await, [2]);
    let error = bus.consume(consume("e")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn interest_keeps_what_somebody_waits_for() {
    let (bus, _clock) = bus_with(|spec| spec.retention = Retention::Interest).await;
    append(&bus, "s.a").await;
    assert_eq!(kept(&bus).await, [] as [u64; 0]);
    let mut one = bus.consume(consume("one")).await.unwrap();
    let two = bus.consume(consume("two").filter(Pattern::parse("s.b").unwrap())).await.unwrap();
    append(&bus, "s.a").await;
    append(&bus, "s.b").await;
    for _ in 0..2 {
        next(&mut one).await.ack().await.unwrap();
    }
    assert_eq!(kept(&bus).await, [3]);
    drop(two);
    let (stream, durable) = (StreamName::parse("S").unwrap(), ConsumerName::parse("two").unwrap());
    assert!(bus.delete_consumer(&stream, &durable).await.unwrap());
    assert_eq!(kept(&bus).await, [] as [u64; 0]);
}

#[tokio::test]
async fn a_full_stream_drops_the_oldest_or_refuses_the_newest() {
    let (old, _clock) = bus_with(|spec| spec.max_messages = Some(2)).await;
    for _ in 0..3 {
        append(&old, "s.a").await;
    }
    assert_eq!(kept(&old).await, [2, 3]);

    let full = |spec: &mut StreamSpec| {
        spec.max_messages = Some(2);
        spec.discard = Discard::New;
    };
    let (new, _clock) = bus_with(full).await;
    for _ in 0..2 {
        append(&new, "s.a").await;
    }
    let error = new.append(message("s.a", "x"), AppendOpts::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(kept(&new).await, [1, 2]);
}

#[tokio::test]
async fn ids_are_remembered_for_the_window() {
    let (bus, clock) = bus_with(|spec| spec.duplicate_window = Some(SECOND)).await;
    let once = AppendOpts::new().id("i");
    for duplicate in [false, true] {
        let appended = bus.append(message("s.a", "x"), once.clone()).await.unwrap();
        assert_eq!((appended.sequence, appended.duplicate), (1, duplicate));
    }
    clock.advance(SECOND);
    assert!(!bus.append(message("s.a", "x"), once).await.unwrap().duplicate);
}

#[tokio::test]
async fn closing_ends_every_reader_and_every_operation() {
    let (store, _clock) = store();
    let kv = store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap();
    let bus = store.bus();
    let mut watch = kv.watch(Watch::current(Scope::All));
    assert_eq!(next(&mut watch).await, Change::CaughtUp);
    let mut heard = bus.subscribe(Subscribe::to(Pattern::parse("a").unwrap())).await.unwrap();
    let mut states = store.connection();
    assert_eq!(states.next().await, Some(ConnectionState::Connected));
    assert!(store.close(SECOND).await.is_clean());
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(heard.next().await.is_none());
    assert_eq!(states.next().await, Some(ConnectionState::Closed));
    let error = kv.get(&key("a"), Read::Fresh).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
