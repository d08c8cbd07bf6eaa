//! Keys: conditions, history, expiry, and events that are taken up again.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend, BucketKind, BucketName, BucketSpec, Key, MemoryBackend, Open, PutOpts,
};
use jetbridge_testkit::{Fault, Faults, eventually};
use serde_json::json;

use super::{Served, on_every_store};
use crate::rig::WITHIN;

on_every_store!(
    values_and_conditions,
    tags_mean_what_http_says,
    events_are_taken_up_again,
    a_bucket_made_anew_is_told_of
);

async fn values_and_conditions(backend: Arc<dyn Backend>) {
    let served = Served::start(backend, "").await;
    let put = served.ask("PUT", "/v1/kv/b/a%2Fb%20%C3%A9", "If-None-Match: *\r\n", b"one").await;
    assert_eq!(put.status, 200, "{put:?}");
    let first = put.header("etag").unwrap().to_owned();
    assert_eq!(first, format!("\"{}\"", put.json()["revision"]));
    let got = served.ask("GET", "/v1/kv/b/a/b%20%C3%A9", "", b"").await;
    assert_eq!((got.status, &*got.body, got.header("etag")), (200, &b"one"[..], Some(&*first)));
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    let known = format!("If-None-Match: {first}\r\n");
    let known = served.ask("GET", "/v1/kv/b/a/b%20%C3%A9", &known, b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));

    let again = served.ask("PUT", "/v1/kv/b/a/b%20%C3%A9", "If-None-Match: *\r\n", b"x").await;
    assert_eq!((again.status, again.json()["kind"].as_str()), (412, Some("conflict")));
    assert_eq!(again.header("etag"), Some(&*first));
    let over = format!("If-Match: {first}\r\n");
    let second = served.ask("PUT", "/v1/kv/b/a/b%20%C3%A9", &over, b"two").await;
    assert_eq!(second.status, 200);
    assert_eq!(served.ask("PUT", "/v1/kv/b/a/b%20%C3%A9", &over, b"x").await.status, 412);
    assert_eq!(served.ask("DELETE", "/v1/kv/b/a/b%20%C3%A9", &over, b"").await.status, 412);
    assert_eq!(served.ask("PUT", "/v1/kv/b/none", "If-Match: *\r\n", b"x").await.status, 412);
    let history = served.ask("GET", "/v1/kv/b/a/b%20%C3%A9?history=1", "", b"").await.json();
    let values = history["changes"].as_array().unwrap().iter().map(|change| &change["value"]);
    assert_eq!(values.collect::<Vec<_>>(), ["one", "two"]);
    let before = put.json()["revision"].to_string();
    let before = format!("/v1/kv/b/a/b%20%C3%A9?revision={before}");
    assert_eq!(served.ask("GET", &before, "", b"").await.body, b"one");
    assert_eq!(served.ask("DELETE", "/v1/kv/b/a/b%20%C3%A9", "", b"").await.status, 204);
    let absent = served.ask("GET", "/v1/kv/b/a/b%20%C3%A9", "", b"").await;
    assert_eq!((absent.status, absent.json()["kind"].as_str()), (404, Some("not found")));

    let sum = served.ask("POST", "/v1/kv/b/n:increment?by=-3", "", b"").await;
    assert_eq!((sum.status, sum.json()), (200, json!({"value": -3})));
    served.ask("PUT", "/v1/kv/b/n", "", b"many").await;
    assert_eq!(served.ask("POST", "/v1/kv/b/n:increment", "", b"").await.status, 409);
    served.ask("PUT", "/v1/kv/b/brief?ttl=50ms", "", b"x").await;
    eventually("it expires", WITHIN, async || {
        (served.ask("GET", "/v1/kv/b/brief", "", b"").await.status == 404).then_some(())
    })
    .await;
    let page = served.ask("GET", "/v1/kv/b?prefix=n&limit=1", "", b"").await.json();
    assert_eq!(page["keys"], json!(["n"]));
    assert!(served.rig.stop().await.0.is_clean());
}

async fn events_are_taken_up_again(backend: Arc<dyn Backend>) {
    let served = Served::start(backend, "").await;
    served.ask("PUT", "/v1/kv/b/k/1", "", b"one").await;
    let mut events = served.events("/v1/kv/b:watch?prefix=k/", "").await;
    let put = events.named("put").await;
    assert_eq!(
        (&put.data["key"], &put.data["value"], put.id),
        (&json!("k/1"), &json!("one"), None)
    );
    assert!(events.named("caught_up").await.id.is_some());
    served.ask("PUT", "/v1/kv/b/other", "", b"x").await;
    served.ask("PUT", "/v1/kv/b/k/2", "", b"\xff").await;
    let put = events.named("put").await;
    assert_eq!(put.data["value_base64"], "/w==");
    drop(events);
    served.ask("DELETE", "/v1/kv/b/k/1", "", b"").await;
    let seen = format!("Last-Event-ID: {}\r\n", put.id.unwrap());
    let mut events = served.events("/v1/kv/b:watch?prefix=k/", &seen).await;
    assert_eq!(events.named("delete").await.data["key"], "k/1");
    events.named("caught_up").await;
    // A number alone is what `revision` was: of this bucket, as far as anybody can tell.
    let mut ahead = served.events("/v1/kv/b:watch", "Last-Event-ID: 999999\r\n").await;
    ahead.named("reset").await;
    ahead.named("put").await;
    // Streams that are open do not keep the server from stopping.
    let report = served.rig.stop().await.0;
    assert!(report.is_clean(), "{report:?}");
    assert!(events.next().await.is_none());
}

async fn tags_mean_what_http_says(backend: Arc<dyn Backend>) {
    let served = Served::start(backend, "").await;
    let status = async |method: &str, key: &str, head: &str| {
        let head = format!("{head}\r\n");
        served.ask(method, &format!("/v1/kv/b/{key}"), &head, b"x").await.status
    };
    // Nothing has no tag.
    for head in ["If-Match: *", "If-Match: \"0\"", "If-Match: \"7\", \"8\"", "If-Match: \"x\""] {
        assert_eq!(status("PUT", "none", head).await, 412, "{head}");
        assert_eq!(status("DELETE", "none", head).await, 412, "{head}");
        // A read without them would find nothing: that is the answer.
        assert_eq!(status("GET", "none", head).await, 404, "{head}");
    }
    let absent = served.ask("PUT", "/v1/kv/b/none", "If-Match: \"7\"\r\n", b"x").await;
    assert_eq!((absent.header("etag"), absent.json().get("revision")), (None, None), "{absent:?}");
    assert_eq!(status("DELETE", "none", "If-None-Match: *").await, 204);

    let put = served.ask("PUT", "/v1/kv/b/k", "", b"x").await;
    let tag = put.header("etag").unwrap().to_owned();
    for (head, read, written) in [
        (format!("If-Match: \"x\", {tag}"), 200, true),
        (format!("If-Match: W/{tag}"), 412, false),
        (format!("If-Match: \"0{}", &tag[1..]), 412, false),
        (format!("If-None-Match: {tag}"), 304, false),
        (format!("If-None-Match: \"x\", W/{tag}"), 304, false),
        ("If-None-Match: *".to_owned(), 304, false),
        ("If-None-Match: \"x\"".to_owned(), 200, true),
        (format!("If-Match: \"x\"\r\nIf-None-Match: {tag}"), 412, false),
        (format!("If-Match: {tag}\r\nIf-None-Match: {tag}"), 304, false),
        (format!("If-Match: {tag}\r\nIf-None-Match: \"x\""), 200, true),
    ] {
        assert_eq!(status("GET", "k", &head).await, read, "GET {head}");
        assert_eq!(status("HEAD", "k", &head).await, read, "HEAD {head}");
        if written {
            continue;
        }
        assert_eq!(status("PUT", "k", &head).await, 412, "PUT {head}");
        assert_eq!(status("DELETE", "k", &head).await, 412, "DELETE {head}");
    }
    assert_eq!(status("PUT", "k", "If-None-Match: \"x\"").await, 200);
    let now = served.ask("HEAD", "/v1/kv/b/k", "", b"").await.header("etag").unwrap().to_owned();
    let both = format!("If-Match: {now}\r\nIf-None-Match: {tag}");
    assert_eq!(status("PUT", "k", &both).await, 200);
    assert_eq!(status("PUT", "new", &format!("If-None-Match: {tag}")).await, 200);
    assert_eq!(status("PUT", "k", "If-Match: 7").await, 400);
    assert_eq!(status("GET", "k", "If-Match: \"7").await, 400);
    assert!(served.rig.stop().await.0.is_clean());
}

/// A write over one of several revisions meets another of them, because somebody else was faster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_holds_all_the_time_is_no_lost_race() {
    const PAUSE: Duration = Duration::from_millis(500);
    for (operation, method) in [("kv.put", "PUT"), ("kv.delete", "DELETE")] {
        for (head, expected) in [("If-Match: *\r\n", 200), ("If-Match: \"1\"\r\n", 412)] {
            let faults = Faults::script([(0, Fault::Delay(PAUSE))]).only(&[operation]);
            let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
            let served = Served::start(faults.around(Arc::clone(&backend)), "").await;
            let (bucket, key) = (BucketName::parse("b").unwrap(), Key::parse("k").unwrap());
            let kv = backend.kv(&bucket, Open::existing()).await.unwrap();
            kv.put(&key, "1".into(), PutOpts::new()).await.unwrap();
            let faster = async {
                eventually("it has looked", WITHIN, async || {
                    (!faults.injected().is_empty()).then_some(())
                })
                .await;
                kv.put(&key, "2".into(), PutOpts::new()).await.unwrap();
            };
            let (answer, ()) = tokio::join!(served.ask(method, "/v1/kv/b/k", head, b"3"), faster);
            let expected = if method == "DELETE" && expected == 200 { 204 } else { expected };
            assert_eq!(answer.status, expected, "{method} {head} {answer:?}");
            assert!(served.rig.stop().await.0.is_clean());
        }
    }
}

async fn a_bucket_made_anew_is_told_of(backend: Arc<dyn Backend>) {
    let served = Served::start(Arc::clone(&backend), "").await;
    let mut events = served.events("/v1/kv/b:watch", "").await;
    events.named("caught_up").await;
    served.ask("PUT", "/v1/kv/b/old", "", b"x").await;
    let seen = events.named("put").await.id.unwrap();
    let (made, number) = seen.split_once('-').unwrap();
    assert!(u64::from_str_radix(made, 16).is_ok() && number == "1", "{seen}");
    drop(events);
    let b = BucketName::parse("b").unwrap();
    assert!(backend.delete_bucket(BucketKind::Kv, &b).await.unwrap());
    let kv = backend.kv(&b, Open::ensure(BucketSpec::default())).await.unwrap();
    // As many writes as were seen, and more: no number gives it away.
    for key in ["a", "b"] {
        kv.put(&Key::parse(key).unwrap(), "y".into(), PutOpts::new()).await.unwrap();
    }
    for path in ["/v1/kv/b:watch".to_owned(), format!("/v1/kv/b:watch?after={seen}")] {
        let head = match path.contains('?') {
            true => String::new(),
            false => format!("Last-Event-ID: {seen}\r\n"),
        };
        let mut events = served.events(&path, &head).await;
        events.named("reset").await;
        assert_eq!(events.named("put").await.data["key"], "a");
        assert_eq!(events.named("put").await.data["key"], "b");
        let now = events.named("caught_up").await.id.unwrap();
        assert!(!now.starts_with(made) && now.ends_with("-2"), "{now}");
    }
    for wrong in ["x", "-1", "1-", "1-2-3", "xyz-1", "+1", "1-+1"] {
        let head = format!("Last-Event-ID: {wrong}\r\n");
        assert_eq!(served.ask("GET", "/v1/kv/b:watch", &head, b"").await.status, 400, "{wrong}");
    }
    assert!(served.rig.stop().await.0.is_clean());
}
