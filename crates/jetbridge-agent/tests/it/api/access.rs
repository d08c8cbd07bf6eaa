//! Who may ask for what.

use std::sync::Arc;

use jetbridge_core::{BucketName, Key, MemoryBackend, Open, PutOpts};
use jetbridge_testkit::eventually;

use super::{Events, Served};
use crate::rig::{Rig, WITHIN};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_reaches_a_bucket_that_the_file_does_not_grant() {
    let backend = Arc::new(MemoryBackend::new());
    let served = Served::start(backend, "").await;
    for (method, path, status) in [
        ("GET", "/v1/kv/absent/k", 404),
        ("GET", "/v1/kv/own/k", 404),
        ("PUT", "/v1/kv/own/k", 404),
        ("GET", "/v1/kv/own:watch", 404),
        ("GET", "/v1/kv/b%2F..%2Fown/k", 400),
        ("PUT", "/v1/kv/seen/k", 403),
        ("DELETE", "/v1/kv/seen/k", 403),
        ("POST", "/v1/kv/seen/k:increment", 403),
        ("GET", "/v1/kv/seen", 200),
        ("GET", "/v1/objects/b/k", 404),
        ("GET", "/v1/kv/o/k", 404),
        ("POST", "/v1/publish/$KV.own.k", 403),
        ("POST", "/v1/request/$JS.API.STREAM.PURGE.KV_own", 403),
        ("GET", "/v1/subscribe/$KV.%3E", 403),
        ("POST", "/v1/publish/a..b", 400),
        ("PATCH", "/v1/kv/b/k", 405),
        ("GET", "/v1/kv/b/%ff", 400),
        ("GET", "/v1/kv/b/k?nothing=1", 400),
        ("GET", "/v1/kv/b?limit=0", 400),
        ("PUT", "/v1/kv/b/k?ttl=soon", 400),
    ] {
        let answer = served.ask(method, path, "", b"").await;
        assert_eq!(answer.status, status, "{method} {path} {answer:?}");
        if status >= 400 {
            assert!(answer.json()["message"].is_string(), "{method} {path}");
        }
    }
    for (head, status) in
        [("Origin: http://evil.example\r\n", 403), ("Host: evil.example\r\n", 421)]
    {
        let answer = served.ask("PUT", "/v1/kv/b/k", head, b"x").await;
        assert_eq!(answer.status, status, "{head} {answer:?}");
    }
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_what_it_says() {
    let http = ", token: s3cr3t, max_body: 16, \
                tokens: {reader: {token: r3ad, read: ['b*']}, writer: {token: wr1te, write: [b]}}";
    let served = Served::start(Arc::new(MemoryBackend::new()), http).await;
    let status = async |token: &str, method: &str, path: &str, body: &[u8]| {
        let head = format!("Authorization: Bearer {token}\r\n");
        served.ask(method, path, &head, body).await.status
    };
    assert_eq!(status("wr1te", "PUT", "/v1/kv/b/k", b"x").await, 200);
    assert_eq!(status("wr1te", "GET", "/v1/kv/b/k", b"").await, 403);
    assert_eq!(status("r3ad", "GET", "/v1/kv/b/k", b"").await, 200);
    assert_eq!(status("r3ad", "PUT", "/v1/kv/b/k", b"x").await, 403);
    assert_eq!(status("r3ad", "GET", "/v1/kv/seen/k", b"").await, 403);
    for path in ["/metrics", "/v1/status", "/anything"] {
        assert_eq!(status("r3ad", "GET", path, b"").await, 403, "{path}");
    }
    assert_eq!(status("s3cr3t", "GET", "/v1/kv/seen/k", b"").await, 404);
    for wrong in ["", "s3cr3", "s3cr3tt", "reader"] {
        assert_eq!(status(wrong, "GET", "/v1/kv/b/k", b"").await, 401, "{wrong}");
    }
    assert_eq!(status("s3cr3t", "PUT", "/v1/kv/b/k", &[b'x'; 17]).await, 413);
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_when_its_grant_is_withdrawn() {
    let text = |bucket: &str, read: &str| {
        format!(
            "http: {{listen: '127.0.0.1:0', token: s, tokens: {{r: {{token: r, read: [{read}]}}}}}}\n\
             buckets: {{b: {{{bucket}}}, c: {{}}}}"
        )
    };
    let mut rig = Rig::start(&text("", "b, c")).await;
    let head = "Authorization: Bearer r\r\n";
    let begun = async |rig: &Rig, path: &str| {
        let address = rig.agent.http_address().unwrap();
        eventually("the bucket is there", WITHIN, async || {
            let mut events = Events::of(address, path, head).await;
            events.has_status(200).await.then_some(events)
        })
        .await
    };
    let (mut withdrawn, mut kept) =
        (begun(&rig, "/v1/kv/b:watch").await, begun(&rig, "/v1/kv/c:watch").await);
    withdrawn.named("caught_up").await;
    kept.named("caught_up").await;
    rig.rewrite(&text("http: none", "b, c"));
    rig.agent.reload().await.unwrap();
    assert_eq!(withdrawn.named("error").await.data["kind"], "not found");
    assert!(withdrawn.next().await.is_none());
    let c = BucketName::parse("c").unwrap();
    let kv = rig.backend.kv(&c, Open::existing()).await.unwrap();
    kv.put(&Key::parse("k").unwrap(), "x".into(), PutOpts::new()).await.unwrap();
    kept.named("put").await;
    // Another list of a token is another server, though at the same address.
    rig.rewrite(&text("http: none", "b"));
    rig.agent.reload().await.unwrap();
    assert!(kept.next().await.is_none());
    let mut again = Events::of(rig.agent.http_address().unwrap(), "/v1/kv/c:watch", head).await;
    assert!(again.has_status(403).await);
    assert!(rig.stop().await.0.is_clean());
}
