//! Messages, requests, streams and durable consumers between the two clients.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    AppendOpts, Backend as _, Consume, ConsumerName, ErrorKind, Headers, Message, Pattern,
    ReadStream, Received, StreamName, StreamSpec, Subject, Subscribe,
};
use jetbridge_testkit::Release;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Foreign, base64, bytes_of};
use crate::store::{SOON, Store};

jetbridge_testkit::on_every_server!(
    messages_and_requests_pass,
    streams_are_taken_by_both,
    ids_are_kept_once_whoever_sends,
    a_durable_consumer_is_shared,
    durables_of_another_kind_are_told_apart,
);

async fn both(release: Release) -> (Store, Foreign) {
    let store = Store::start(release).await;
    let go = Foreign::connect(&store.server.url()).await;
    (store, go)
}

fn message(subject: &str, text: &str) -> Message {
    let headers = Headers::new().with("X-From", "ours").unwrap();
    Message::new(Subject::parse(subject).unwrap(), text.to_owned()).headers(headers)
}

fn theirs(op: &str, subject: &str, text: &str) -> Value {
    json!({"op": op, "subject": subject, "value": base64(text),
        "headers": {"X-From": ["theirs"]}})
}

async fn messages_and_requests_pass(release: Release) {
    let (store, mut go) = both(release).await;
    let bus = store.backend.bus();
    let pattern = Pattern::parse("ask.*").unwrap();
    let mut asked = bus.subscribe(Subscribe::to(pattern)).await.unwrap();
    let mut next = async || {
        let received = timeout(SOON, asked.next()).await.unwrap().unwrap().unwrap();
        let Received::Message(message) = received else { panic!("nothing was dropped") };
        message
    };
    go.does(theirs("publish", "ask.nobody", "told")).await;
    let told = next().await;
    assert_eq!((&*told.payload, told.headers.get("X-From")), (&b"told"[..], Some("theirs")));
    let answering = async {
        let question = next().await;
        let mut answer = message(question.reply.as_ref().unwrap().as_str(), "answer");
        answer.headers = answer.headers.with("X-Asked", question.subject.as_str()).unwrap();
        bus.publish(answer).await.unwrap();
        question
    };
    let asking = go.does(theirs("ask", "ask.us", "question"));
    let (question, answer) = futures_util::future::join(answering, asking).await;
    assert_eq!(question.payload, "question");
    assert_eq!(bytes_of(&answer["value"]), b"answer");
    assert_eq!(answer["headers"], json!({"X-From": ["ours"], "X-Asked": ["ask.us"]}));
    go.does(json!({"op": "answer", "subject": "echo"})).await;
    let echoed = bus.request(message("echo", "hello"), SOON).await.unwrap();
    assert_eq!((&*echoed.payload, echoed.headers.get("X-From")), (&b"hello"[..], Some("ours")));
    assert!(go.fails(theirs("ask", "nobody", "")).await.contains("no responders"));
    store.close().await;
}

fn stream() -> StreamName {
    StreamName::parse("ORDERS").unwrap()
}

fn spec() -> StreamSpec {
    let mut spec = StreamSpec::new(stream(), vec![Pattern::parse("orders.>").unwrap()]);
    spec.max_age = Some(Duration::from_secs(3600));
    spec.max_bytes = Some(1 << 20);
    spec.description = Some("What it is for".to_owned());
    spec
}

fn settings() -> Value {
    json!({"op": "stream", "stream": "ORDERS", "subjects": ["orders.>"], "ttl_ms": 3_600_000,
        "max_bytes": 1 << 20, "description": "What it is for", "direct": true})
}

async fn streams_are_taken_by_both(release: Release) {
    let (store, mut go) = both(release).await;
    let bus = store.backend.bus();
    bus.create_stream(&spec()).await.unwrap();
    go.does(settings()).await;
    let mut update = settings();
    update["update"] = true.into();
    // What we add to a stream for our own reads, others may take away.
    update["direct"] = false.into();
    go.does(update).await;
    let status = go.does(json!({"op": "stream_status", "stream": "ORDERS"})).await;
    for name in ["subjects", "ttl_ms", "max_bytes", "description"] {
        assert_eq!(status[name], settings()[name], "{name}");
    }
    assert!(bus.delete_stream(&stream()).await.unwrap());
    go.does(settings()).await;
    bus.create_stream(&spec()).await.unwrap();
    let mut other = spec();
    other.max_age = None;
    let differing = bus.create_stream(&other).await.unwrap_err();
    assert_eq!(differing.kind(), ErrorKind::AlreadyExists);
    bus.update_stream(&other).await.unwrap();
    let status = go.does(json!({"op": "stream_status", "stream": "ORDERS"})).await;
    assert_eq!(status["ttl_ms"], 0);
    store.close().await;
}

async fn ids_are_kept_once_whoever_sends(release: Release) {
    let (store, mut go) = both(release).await;
    let bus = store.backend.bus();
    bus.create_stream(&spec()).await.unwrap();
    let send = async |text: &str, id: &str| {
        bus.append(message("orders.ours", text), AppendOpts::new().id(id)).await.unwrap()
    };
    let theirs = |text: &str, id: &str| {
        let mut request = theirs("append", "orders.theirs", text);
        request["id"] = id.into();
        request
    };
    assert!(!send("1", "a").await.duplicate);
    let again = go.does(theirs("1", "a")).await;
    assert_eq!((&again["duplicate"], &again["sequence"]), (&json!(true), &json!(1)));
    assert_eq!(go.does(theirs("2", "b")).await["duplicate"], false);
    assert!(send("2", "b").await.duplicate);
    let read = bus.read_stream(&stream(), ReadStream::all());
    let kept: Vec<_> = read.try_collect().await.unwrap();
    let told: Vec<_> = kept
        .iter()
        .map(|kept| (&*kept.message.payload, kept.message.headers.get("X-From"), kept.sequence))
        .collect();
    assert_eq!(told, [(&b"1"[..], Some("ours"), 1), (&b"2"[..], Some("theirs"), 2)]);
    store.close().await;
}

async fn a_durable_consumer_is_shared(release: Release) {
    let (store, mut go) = both(release).await;
    let bus = store.backend.bus();
    bus.create_stream(&spec()).await.unwrap();
    // One that we made, then one that the other client made.
    for durable in ["ours", "theirs"] {
        for text in ["1", "2", "3", "4"] {
            let appended = bus.append(message("orders.new", text), AppendOpts::new()).await;
            appended.unwrap();
        }
        let fetch = json!({"op": "fetch", "stream": "ORDERS", "durable": durable, "count": 2});
        let mut fetched = Vec::new();
        if durable == "theirs" {
            fetched.push(go.does(fetch.clone()).await);
        }
        let consume = Consume::new(stream(), ConsumerName::parse(durable).unwrap());
        let mut consumer = bus.consume(consume).await.unwrap();
        for _ in 0..2 {
            let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
            let text = std::str::from_utf8(&delivery.message.payload).unwrap();
            fetched.push(json!([{"value": base64(text)}]));
            delivery.ack().await.unwrap();
        }
        // What was sent ahead is the other's to have.
        consumer.drain();
        while let Some(ahead) = timeout(SOON, consumer.next()).await.unwrap() {
            ahead.unwrap().nak(Duration::ZERO).await.unwrap();
        }
        fetched.push(go.does(fetch).await);
        let values: Vec<Bytes> = fetched
            .iter()
            .flat_map(|batch| batch.as_array().unwrap())
            .map(|message| Bytes::from(bytes_of(&message["value"])))
            .collect();
        assert_eq!(values[..4], ["1", "2", "3", "4"]);
    }
    store.close().await;
}

async fn durables_of_another_kind_are_told_apart(release: Release) {
    let (store, mut go) = both(release).await;
    let bus = store.backend.bus();
    bus.create_stream(&spec()).await.unwrap();
    bus.append(message("orders.new", "1"), AppendOpts::new()).await.unwrap();
    let make = |durable: &str| json!({"op": "consumer", "stream": "ORDERS", "durable": durable, "description": "Mine"});
    let consume = |durable: &str| Consume::new(stream(), ConsumerName::parse(durable).unwrap());

    go.does(make("mine")).await;
    let mut consumer = bus.consume(consume("mine").deliver_max(5)).await.unwrap();
    let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    delivery.ack().await.unwrap();
    let status = json!({"op": "consumer_status", "stream": "ORDERS", "durable": "mine"});
    let left = json!({"description": "Mine", "backoff": [60_000_000_000_u64, 3_600_000_000_000_u64],
        "max_deliver": 5});
    assert_eq!(go.does(status).await, left, "what we do not know stays");

    let mut without_values = make("headers");
    without_values["headers_only"] = true.into();
    go.does(without_values).await;
    let refused = bus.consume(consume("headers")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    let mut filtered = make("filtered");
    filtered["subjects"] = json!(["orders.a", "orders.b"]);
    if release == Release::Newest {
        go.does(filtered).await;
        let refused = bus.consume(consume("filtered")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    }
    store.close().await;
}
