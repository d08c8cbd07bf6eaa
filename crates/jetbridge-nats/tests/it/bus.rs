//! Subjects, streams, consumers: what the contract does not ask of every store.

use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge_core::{
    AppendOpts, Backend as _, Bus, Consume, ConsumerName, ErrorKind, Message, Pattern, ReadStream,
    Received, StreamName, StreamSpec, Subject, Subscribe,
};
use jetbridge_testkit::{Release, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::store::{GRACE, SOON, Store, connect};

fn name(raw: &str) -> StreamName {
    StreamName::parse(raw).unwrap()
}

async fn make_stream(bus: &dyn Bus) {
    let spec = StreamSpec::new(name("S"), vec![Pattern::parse("s.>").unwrap()]);
    bus.create_stream(&spec).await.unwrap();
}

fn message(subject: &str, n: u64) -> Message {
    Message::new(Subject::parse(subject).unwrap(), n.to_string())
}

async fn append(bus: &dyn Bus, n: u64) {
    // With an id, so that a lost acknowledgement is settled by sending again.
    let opts = AppendOpts::new().id(&n.to_string());
    bus.append(message("s.a", n), opts).await.unwrap();
}

async fn consumers(bus: &dyn Bus) -> u64 {
    bus.stream(&name("S")).await.unwrap().consumers
}

async fn reading_survives_restarts_and_leaves_no_consumer(release: Release) {
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    make_stream(&*bus).await;
    for n in 1..=1000 {
        append(&*bus, n).await;
    }
    let mut reading = bus.read_stream(&name("S"), ReadStream::all().follow());
    for n in 1..=500 {
        assert_eq!(reading.next().await.unwrap().unwrap().sequence, n);
    }
    store.server.kill();
    store.server.restart().await;
    for n in 1001..=1010 {
        append(&*bus, n).await;
    }
    for n in 501..=1010 {
        assert_eq!(reading.next().await.unwrap().unwrap().sequence, n);
    }
    drop(reading);
    eventually("the reader's consumer is gone", Duration::from_secs(20), async || {
        (consumers(&*bus).await == 0).then_some(())
    })
    .await;
    let all: Vec<_> = bus.read_stream(&name("S"), ReadStream::all().after(1000)).collect().await;
    assert_eq!(all.len(), 10);
    store.close().await;
}

async fn an_expected_append_is_exact_over_a_killed_server(release: Release) {
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    make_stream(&*bus).await;
    let writer = store.backend.bus();
    let (sent, mut progress) = tokio::sync::watch::channel(0_u64);
    let writing = async move {
        let mut last = 0;
        for n in 1..=400 {
            let opts = AppendOpts::new().expect_last_on_subject(last);
            last = loop {
                match writer.append(message("s.a", n), opts.clone()).await {
                    Ok(appended) => break appended.sequence,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
                }
            };
            sent.send_replace(n);
        }
    };
    let killing = async {
        for at in [100, 200, 300] {
            progress.wait_for(|n| *n >= at).await.unwrap();
            store.server.kill();
            store.server.restart().await;
        }
    };
    tokio::join!(writing, killing);
    let all: Vec<_> = bus.read_stream(&name("S"), ReadStream::all()).collect().await;
    let payloads: Vec<u64> = all
        .into_iter()
        .map(|read| std::str::from_utf8(&read.unwrap().message.payload).unwrap().parse().unwrap())
        .collect();
    assert_eq!(payloads, (1..=400).collect::<Vec<_>>());
    store.close().await;
}

async fn a_consumer_goes_on_after_a_restart(release: Release) {
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    make_stream(&*bus).await;
    let consume =
        Consume::new(name("S"), ConsumerName::parse("d").unwrap()).ack_wait(Duration::from_secs(2));
    let mut consumer = bus.consume(consume).await.unwrap();
    for n in 1..=20 {
        append(&*bus, n).await;
    }
    for n in 1..=10 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(delivery.sequence, n);
        delivery.ack().await.unwrap();
    }
    store.server.kill();
    store.server.restart().await;
    // A killed server may have forgotten the newest acknowledgements, and an acknowledgement of
    // before the kill may find no delivery to settle: what counts is that everything comes.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 10 {
        let delivery = consumer.next().await.unwrap().unwrap();
        let sequence = delivery.sequence;
        if delivery.ack().await.is_ok() && sequence > 10 {
            seen.insert(sequence);
        }
    }
    consumer.drain();
    assert!(consumer.next().await.is_none());
    store.close().await;
}

async fn a_deleted_durable_ends_with_words(release: Release) {
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    make_stream(&*bus).await;
    let durable = ConsumerName::parse("d").unwrap();
    let mut consumer = bus.consume(Consume::new(name("S"), durable.clone())).await.unwrap();
    let deleting = store.backend.bus();
    let (ended, deleted) = tokio::join!(consumer.next(), async {
        eventually("the consumer waits", Duration::from_secs(10), async || {
            (consumers(&*deleting).await == 1).then_some(())
        })
        .await;
        deleting.delete_consumer(&name("S"), &durable).await.unwrap()
    });
    assert!(deleted);
    assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    store.close().await;
}

async fn what_a_slow_reader_has_not_asked_for_goes_to_others(release: Release) {
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    make_stream(&*bus).await;
    for n in 1..=3 {
        append(&*bus, n).await;
    }
    let consume = || Consume::new(name("S"), ConsumerName::parse("d").unwrap());
    let mut slow = bus.consume(consume()).await.unwrap();
    assert_eq!(slow.next().await.unwrap().unwrap().sequence, 1);
    // The work on the first takes its time: that is what makes the reader slow.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(slow.next().await.unwrap().unwrap().sequence, 2);
    let mut other = bus.consume(consume()).await.unwrap();
    let third = tokio::time::timeout(Duration::from_secs(20), other.next()).await;
    let third = third.expect("nobody sits on it").unwrap().unwrap();
    assert_eq!((third.sequence, third.attempt), (3, 1));
    drop((slow, other));
    store.close().await;
}

/// What the protocol lets a client send, and Rust's client gives a connection up for.
/// Publishes what the seam refuses, as a foreign client can.
async fn publish_raw(store: &Store, messages: &[u8]) {
    let mut raw = tokio::net::TcpStream::connect(store.server.address()).await.unwrap();
    let sent =
        [&b"CONNECT {\"verbose\":false,\"headers\":true}\r\n"[..], messages, b"PING\r\n"].concat();
    raw.write_all(&sent).await.unwrap();
    let mut answered = String::new();
    while !answered.contains("PONG") {
        let mut bytes = [0; 4096];
        let read = raw.read(&mut bytes).await.unwrap();
        assert!(read > 0, "{answered}");
        answered.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

async fn a_subject_that_is_no_text_ends_no_subscription(release: Release) {
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    let mut heard = bus.subscribe(Subscribe::to(Pattern::parse("a.>").unwrap())).await.unwrap();
    publish_raw(&store, b"PUB a.\xff\xfe 1\r\nx\r\n").await;
    // The connection may just be made anew, and what is plain is lost then.
    eventually("what is text arrives", Duration::from_secs(20), async || {
        bus.publish(message("a.b", 7)).await.ok()?;
        let next = tokio::time::timeout(Duration::from_millis(200), heard.next()).await.ok()?;
        let Received::Message(next) = next.expect("it goes on").unwrap() else { return None };
        (next.subject.as_str() == "a.b").then_some(())
    })
    .await;
    store.close().await;
}

async fn a_stored_subject_that_is_no_text_is_named(release: Release) {
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    make_stream(&*bus).await;
    append(&*bus, 1).await;
    publish_raw(&store, b"PUB s.\xff\xfe 1\r\nx\r\n").await;
    append(&*bus, 2).await;
    for read in [ReadStream::all(), ReadStream::all().follow()] {
        let mut reading = bus.read_stream(&name("S"), read);
        assert_eq!(reading.next().await.unwrap().unwrap().sequence, 1);
        let error = reading.next().await.expect("nothing is skipped in silence").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(format!("{error:?}").contains('2'), "it names the sequence: {error:?}");
        assert!(reading.next().await.is_none(), "it ends with that");
    }
    let mut rest = bus.read_stream(&name("S"), ReadStream::all().after(2));
    assert_eq!(rest.next().await.unwrap().unwrap().sequence, 3, "one can go on behind it");
    store.close().await;
}

/// The subject that the only consumer of `S` delivers to, once it waits for its reader with some of
/// `messages` still to come.
async fn stalled_consumer(store: &Store, messages: u64) -> String {
    let client = async_nats::connect(store.server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("S").await.unwrap();
    let mut before = 0;
    eventually("the consumer waits for its reader", Duration::from_secs(20), async || {
        let mut consumers = stream.consumers();
        let consumer = consumers.next().await?.ok()?;
        let delivered = std::mem::replace(&mut before, consumer.delivered.consumer_sequence);
        let is_stalled = delivered > 0 && delivered == before && delivered < messages;
        is_stalled.then_some(consumer.config.deliver_subject?)
    })
    .await
}

async fn an_idle_consumer_with_something_left_is_not_at_the_end(release: Release) {
    const MESSAGES: u64 = 400;
    let store = Store::start(release).await;
    let bus = store.backend.bus();
    make_stream(&*bus).await;
    for n in 1..=MESSAGES {
        let body = Message::new(Subject::parse("s.a").unwrap(), vec![0; 64 * 1024]);
        bus.append(body, AppendOpts::new().id(&n.to_string())).await.unwrap();
    }
    let mut reading = bus.read_stream(&name("S"), ReadStream::all());
    assert_eq!(reading.next().await.unwrap().unwrap().sequence, 1);
    let deliver = stalled_consumer(&store, MESSAGES).await;
    let heartbeat = format!("HPUB {deliver} 31 31\r\nNATS/1.0 100 Idle Heartbeat\r\n\r\n\r\n");
    publish_raw(&store, heartbeat.as_bytes()).await;
    for n in 2..=MESSAGES {
        let read = reading.next().await.expect("it is not at the end").unwrap();
        assert_eq!(read.sequence, n);
    }
    assert!(reading.next().await.is_none());
    store.close().await;
}

async fn a_subscription_ends_under_constant_traffic(release: Release) {
    let store = Store::start(release).await;
    let other = connect(&store.server).await;
    let publisher = other.bus();
    let publishing = async {
        for n in 0.. {
            publisher.publish(message("busy", n)).await.unwrap();
        }
    };
    let subscribe = Subscribe::to(Pattern::parse("busy").unwrap()).capacity(16);
    let mut busy = store.backend.bus().subscribe(subscribe).await.unwrap();
    let reading = async {
        for _ in 0..10_000 {
            busy.next().await.unwrap().unwrap();
        }
        busy.drain();
        while busy.next().await.is_some() {}
    };
    let ended = async {
        tokio::select! {
            () = reading => {}
            () = publishing => unreachable!("it never ends"),
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("what is drained ends, whatever still comes");
    assert!(other.close(GRACE).await.is_clean());
    store.close().await;
}

jetbridge_testkit::on_every_server!(
    a_subscription_ends_under_constant_traffic,
    a_subject_that_is_no_text_ends_no_subscription,
    a_stored_subject_that_is_no_text_is_named,
    an_idle_consumer_with_something_left_is_not_at_the_end,
    reading_survives_restarts_and_leaves_no_consumer,
    an_expected_append_is_exact_over_a_killed_server,
    a_consumer_goes_on_after_a_restart,
    a_deleted_durable_ends_with_words,
    what_a_slow_reader_has_not_asked_for_goes_to_others,
);
