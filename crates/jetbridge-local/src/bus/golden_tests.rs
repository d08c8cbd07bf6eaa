//! Streams as every released version has written them, which this one must read and go on with.
//!
//! `tests/golden/README.md` says how they were made.

use std::time::SystemTime;

use jetbridge_core::{Discard, Headers, ManualClock, Retention};

use super::tests::{Process, append, message, name, pattern, spec};
use super::*;
use crate::child::DEADLINE;

/// When the golden stream was written, after 1970, by its own clock.
const WRITTEN: Duration = Duration::from_secs(1_750_000_000);

/// The settings of the golden stream.
fn settings() -> StreamSpec {
    let mut spec = spec("GOLDEN", &["golden.>", "also"]);
    spec.retention = Retention::Limits;
    spec.discard = Discard::Old;
    spec.max_messages = Some(1_000);
    spec.duplicate_window = Some(Duration::from_secs(100 * 365 * 86_400));
    spec.description = Some("written by 0.1.0: ü".to_owned());
    spec
}

fn consume() -> Consume {
    Consume::new(name("GOLDEN"), ConsumerName::parse("durable").unwrap())
        .filter(pattern("golden.*"))
        .deliver_max(9)
}

/// What is done to the stream to make a golden one; see the README.
async fn write(bus: &LocalBus) {
    bus.create_stream(&settings()).await.unwrap();
    let headers = Headers::new().with("Name", "value: ü").unwrap();
    let first = message("golden.a", "first").headers(headers);
    bus.append(first, AppendOpts::new().id("an id")).await.unwrap();
    append(bus, "also", "second").await;
    append(bus, "golden.b", "third").await;
    append(bus, "golden.c", "fourth").await;
    let mut deliveries = bus.consume(consume()).await.unwrap();
    let unsettled = deliveries.next().await.unwrap().unwrap();
    let settled = deliveries.next().await.unwrap().unwrap();
    settled.ack().await.unwrap();
    unsettled.nak(Duration::ZERO).await.unwrap();
    bus.purge_stream(&name("GOLDEN"), Some(&pattern("also"))).await.unwrap();
}

/// Reads what [`write()`] left and goes on with it.
async fn read(bus: &LocalBus) {
    let info = bus.stream(&name("GOLDEN")).await.unwrap();
    assert_eq!(info.spec, settings());
    assert_eq!((info.messages, info.first_sequence, info.last_sequence), (3, 1, 4));
    assert_eq!(info.consumers, 1);
    let stored: Vec<StreamMessage> =
        bus.read_stream(&name("GOLDEN"), ReadStream::all()).try_collect().await.unwrap();
    let texts: Vec<&[u8]> = stored.iter().map(|it| &*it.message.payload).collect();
    assert_eq!(texts, [&b"first"[..], b"third", b"fourth"]);
    assert_eq!(stored[0].message.headers.get("Name"), Some("value: ü"));
    assert_eq!(stored[0].stored, SystemTime::UNIX_EPOCH + WRITTEN);
    let again = bus.append(message("golden.a", "first"), AppendOpts::new().id("an id"));
    assert_eq!((again.await.unwrap().sequence, info.bytes), (1, 69));
    let mut deliveries = bus.consume(consume()).await.unwrap();
    for (sequence, attempt) in [(1, 2), (4, 1)] {
        let next = tokio::time::timeout(DEADLINE, deliveries.next()).await;
        let delivery = next.unwrap().unwrap().unwrap();
        assert_eq!((delivery.sequence, delivery.attempt), (sequence, attempt));
        delivery.ack().await.unwrap();
    }
    assert_eq!(append(bus, "also", "fifth").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_0_1_0_wrote_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stream-0.1.0.db");
    let dir = tempfile::tempdir().unwrap();
    let stream = dir.path().join(STREAMS_DIRECTORY).join("GOLDEN.0123456789abcdef");
    std::fs::create_dir_all(&stream).unwrap();
    std::fs::copy(golden, stream.join("stream.db")).unwrap();
    let process = Process::start(dir.path()).await;
    read(&process.bus).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_version_writes_is_read_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + WRITTEN);
    let process = Process::start_at(dir.path(), Arc::new(clock)).await;
    write(&process.bus).await;
    process.stop().await;
    let process = Process::start(dir.path()).await;
    read(&process.bus).await;
    process.stop().await;
}
