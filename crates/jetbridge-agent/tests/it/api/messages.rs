//! Messages: sent, kept, asked and heard.

use std::sync::Arc;

use futures_util::StreamExt as _;
use jetbridge_core::{
    Backend, BucketName, Key, Message, Open, Pattern, PutOpts, Received, StreamName, StreamSpec,
    Subscribe, Tasks,
};
use serde_json::json;

use super::{Served, on_every_store};
use crate::rig::WITHIN;

on_every_store!(messages_are_sent_kept_and_heard, requests_are_answered);

async fn messages_are_sent_kept_and_heard(backend: Arc<dyn Backend>) {
    let bus = backend.bus();
    let orders = vec![Pattern::parse("orders.>").unwrap()];
    let spec = StreamSpec::new(StreamName::parse("ORDERS").unwrap(), orders);
    bus.create_stream(&spec).await.unwrap();
    let served = Served::start(Arc::clone(&backend), "").await;
    let nobody = served.ask("POST", "/v1/publish/other?jetstream=1", "", b"x").await;
    assert_eq!((nobody.status, &nobody.json()["kind"]), (404, &json!("not found")));
    let mut all = served.events("/v1/subscribe/%3E", "").await;
    all.begun().await;
    // What a wildcard hears of the buckets is nobody's.
    let own = BucketName::parse("own").unwrap();
    let kv = backend.kv(&own, Open::existing()).await.unwrap();
    kv.put(&Key::parse("k").unwrap(), "secret".into(), PutOpts::new()).await.unwrap();
    assert_eq!(served.ask("POST", "/v1/publish/news.a", "", b"one").await.status, 202);
    let heard = all.named("message").await;
    assert_eq!((&heard.data["subject"], &heard.data["payload"]), (&json!("news.a"), &json!("one")));
    assert_eq!(heard.id, None);

    let first = served.ask("POST", "/v1/publish/orders.new?jetstream=1&id=o1", "", b"1").await;
    assert_eq!((first.status, &first.json()["sequence"]), (200, &json!(1)));
    let again = served.ask("POST", "/v1/publish/orders.new?jetstream=1&id=o1", "", b"1").await;
    assert_eq!(again.json()["duplicate"], true);
    let lost = "/v1/publish/orders.new?jetstream=1&expect_last=7";
    assert_eq!(served.ask("POST", lost, "", b"x").await.status, 412);
    // Whoever says what only a stream can do wants one.
    assert_eq!(served.ask("POST", "/v1/publish/orders.b?id=o2", "", b"x").await.status, 200);
    served.ask("POST", "/v1/publish/orders.new?jetstream=1", "", b"2").await;

    let path = "/v1/subscribe/orders.%3E?stream=ORDERS";
    let mut kept = served.events(path, "Last-Event-ID: 2\r\n").await;
    let second = kept.named("message").await;
    let seen = second.id.unwrap();
    assert!(seen.ends_with("-3") && second.data["payload"] == "2", "{seen}");
    served.ask("POST", "/v1/publish/orders.late?jetstream=1", "", b"3").await;
    assert!(kept.named("message").await.id.unwrap().ends_with("-4"));
    let mut ahead = served.events(path, "Last-Event-ID: 999\r\n").await;
    ahead.named("reset").await;
    assert!(ahead.named("message").await.id.unwrap().ends_with("-1"));
    let known = format!("Last-Event-ID: {seen}\r\n");
    let mut known = served.events(path, &known).await;
    assert!(known.named("message").await.id.unwrap().ends_with("-4"));
    let mut other = served.events(path, "Last-Event-ID: 1f-3\r\n").await;
    other.named("reset").await;
    assert_eq!(other.named("message").await.data["sequence"], 1);
    let plain = served.ask("GET", "/v1/subscribe/a", "Last-Event-ID: 1\r\n", b"").await;
    assert_eq!(plain.status, 400);
    for own in ["KV_own", "OBJ_o"] {
        let hidden = format!("/v1/subscribe/%3E?stream={own}&after=0");
        assert_eq!(served.ask("GET", &hidden, "", b"").await.status, 403);
    }
    assert!(served.rig.stop().await.0.is_clean());
    assert!(kept.next().await.is_none());
}

async fn requests_are_answered(backend: Arc<dyn Backend>) {
    let bus = backend.bus();
    let echo = Subscribe::to(Pattern::parse("svc.echo").unwrap());
    let mut asked = bus.subscribe(echo).await.unwrap();
    let answering = Tasks::new();
    answering.spawn_until_stop(async move {
        while let Some(Ok(Received::Message(message))) = asked.next().await {
            let reply = message.reply.clone().unwrap();
            bus.publish(Message::new(reply, message.payload)).await.unwrap();
        }
    });
    let served = Served::start(backend, "").await;
    let answer = served.ask("POST", "/v1/request/svc.echo", "", b"hello").await;
    assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
    let nobody = served.ask("POST", "/v1/request/svc.none?timeout=10s", "", b"x").await;
    assert_eq!((nobody.status, nobody.header("retry-after")), (503, Some("1")), "{nobody:?}");
    assert_eq!(answering.stop(WITHIN).await, 0);
    assert!(served.rig.stop().await.0.is_clean());
}
