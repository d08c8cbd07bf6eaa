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
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_no_page_of_elsewhere_is_answered() {
    let served = Served::start(Arc::new(MemoryBackend::new()), ", names: [jet.example]").await;
    served.ask("PUT", "/v1/kv/b/k", "", b"x").await;
    let paths = [
        ("PUT", "/v1/kv/b/k"),
        ("GET", "/v1/kv/b/k"),
        ("GET", "/v1/kv/b:watch"),
        ("GET", "/v1/subscribe/a"),
        ("POST", "/v1/publish/a"),
        ("GET", "/v1/status"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
        ("GET", "/v1/openapi.json"),
        ("GET", "/"),
        ("GET", "/events/page"),
        ("GET", "/dead/JETBRIDGE_DEAD_LETTERS"),
    ];
    for (method, path) in paths {
        for (head, status) in [
            ("Origin: http://evil.example\r\n", 403),
            ("Origin: null\r\n", 403),
            ("Sec-Fetch-Site: cross-site\r\n", 403),
            ("Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:3000\r\n", 403),
            (
                "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
                403,
            ),
            ("Host: evil.example\r\n", 421),
            ("Host: localhost.evil.example\r\n", 421),
        ] {
            let answer = served.ask(method, path, head, b"").await;
            assert_eq!(answer.status, status, "{method} {path} {head} {answer:?}");
            let refusal = answer.json();
            assert_eq!(refusal["kind"], "permission denied", "{method} {path}");
            assert!(refusal["hint"].is_string(), "{method} {path}");
            assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        }
    }
    let own = format!("Origin: http://{0}\r\nHost: {0}\r\n", served.address);
    for head in [
        "",
        "Host: LOCALHOST:80\r\n",
        "Host: jet.example:80\r\n",
        "Host: a.localhost\r\n",
        "Host: [::1]:4280\r\n",
        "Sec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\n",
        &own,
    ] {
        let answer = served.ask("PUT", "/v1/kv/b/k", head, b"x").await;
        assert_eq!(answer.status, 200, "{head} {answer:?}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(served.ask("GET", "/", head, b"").await.status, 200, "{head}");
    }
    // Somebody who follows a link looks himself, and the page that it stood on sees nothing.
    let link =
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(served.ask("GET", "/", link, b"").await.status, 200);
    assert_eq!(served.ask("PUT", "/v1/kv/b/k", link, b"x").await.status, 403);
    assert_eq!(served.ask("GET", "/v1/kv/b/k", "", b"").await.body, b"x");
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_a_password_where_a_browser_only_looks() {
    let http = ", token: s3cr3t, tokens: {reader: {token: r3ad, read: ['b*']}}";
    let served = Served::start(Arc::new(MemoryBackend::new()), http).await;
    let basic = "Authorization: Basic bWU6czNjcjN0\r\n";
    for path in ["/", "/metrics", "/v1/status"] {
        assert_eq!(served.ask("GET", path, basic, b"").await.status, 200, "{path}");
        let foreign = format!("{basic}Sec-Fetch-Site: cross-site\r\n");
        assert_eq!(served.ask("GET", path, &foreign, b"").await.status, 403, "{path}");
        let answer = served.ask("GET", path, "", b"").await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Basic realm="), "{path}");
        let wrong = "Authorization: Basic bWU6d3Jvbmc=\r\n";
        assert_eq!(served.ask("GET", path, wrong, b"").await.status, 401, "{path}");
    }
    // What a browser sends by itself changes nothing, and is no scoped token.
    assert_eq!(served.ask("PUT", "/v1/kv/b/k", basic, b"x").await.status, 401);
    let reader = "Authorization: Basic bWU6cjNhZA==\r\n";
    assert_eq!(served.ask("GET", "/v1/kv/b/k", reader, b"").await.status, 401);
    // Who has a token may ask by any name: a proxy does.
    let bearer = "Authorization: Bearer s3cr3t\r\nHost: jet.example\r\n";
    assert_eq!(served.ask("PUT", "/v1/kv/b/k", bearer, b"x").await.status, 200);
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
    let head = "Authorization: Bearer r\r\nConnection: close\r\n";
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
