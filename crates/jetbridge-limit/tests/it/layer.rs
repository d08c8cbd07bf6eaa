//! Requests through the layer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use jetbridge_core::{Backend, Clock as _, MemoryBackend, SystemClock};
use jetbridge_limit::http::{ByClient, ByHeader, ByPeer, Everybody, KeyOf, LimitLayer};
use jetbridge_limit::{LimiterOpts, OnError, Policy};
use jetbridge_testkit::{Faults, Odds};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::rig::{open, strict};

const HOUR: Duration = Duration::from_secs(3600);

fn request(key: &str) -> Request<()> {
    Request::builder().header("x-api-key", key).body(()).unwrap()
}

fn header<'a>(response: &'a Response<String>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn each_key_has_a_limit_of_its_own_and_a_denial_says_when() {
    let limits = open(Arc::new(MemoryBackend::new())).await;
    let policy = Policy::per_period(1, HOUR).unwrap().burst(2).unwrap();
    let limiter = limits.limiter_with("api", policy, strict()).unwrap();
    let inner = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new("inside".to_owned()))
    });
    let mut service = LimitLayer::new(limiter, ByHeader::new("X-Api-Key").unwrap()).layer(inner);
    for left in ["1", "0"] {
        let answer = service.ready().await.unwrap().call(request("ann")).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, "inside"));
        assert_eq!(header(&answer, "x-ratelimit-remaining"), Some(left));
    }
    let denied = service.ready().await.unwrap().call(request("ann")).await.unwrap();
    assert_eq!((denied.status().as_u16(), denied.body().as_str()), (429, ""));
    let retry = header(&denied, "retry-after").unwrap();
    assert_eq!(header(&denied, "ratelimit"), Some(format!("\"api\";r=0;t={retry}").as_str()));
    let other = service.ready().await.unwrap().call(request("bob")).await.unwrap();
    assert_eq!(other.status(), 200);
    let long = request(&"x".repeat(2000));
    assert_eq!(service.ready().await.unwrap().call(long).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_slot_is_held_until_the_service_answers_and_without_a_store_it_is_503() {
    let faults = Faults::seeded(1, Odds::default()).only(&["kv.get", "kv.put"]);
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let limits = open(faults.around(store)).await;
    let opts = LimiterOpts::default().on_error(OnError::Closed).deadline(Duration::from_secs(1));
    let limiter = limits.limiter_with("db", Policy::concurrent(1).unwrap(), opts).unwrap();
    let (go, wait) = tokio::sync::watch::channel(false);
    let inner = service_fn(move |_: Request<()>| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let service = LimitLayer::new(limiter.clone(), Everybody).layer(inner);
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(service.clone().oneshot(request("")));
    jetbridge_testkit::eventually("the slot is taken", HOUR, async || {
        (limiter.peek().await.unwrap().remaining == 0).then_some(())
    })
    .await;
    assert_eq!(service.clone().oneshot(request("")).await.unwrap().status(), 429);
    go.send_replace(true);
    assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap().status(), 200);
    jetbridge_testkit::eventually("the slot is free", HOUR, async || {
        (limiter.peek().await.unwrap().remaining == 1).then_some(())
    })
    .await;
    faults.change(Odds { before_apply: 1000, ..Odds::default() });
    assert_eq!(service.clone().oneshot(request("")).await.unwrap().status(), 503);
}

/// How many of the requests, each from a peer and through proxies, are answered, with one permit
/// for each client.
async fn answered(keys: impl KeyOf, requests: &[(&str, &str)]) -> Vec<u16> {
    let limits = open(Arc::new(MemoryBackend::new())).await;
    let limiter = limits.limiter_with("api", Policy::per_period(1, HOUR).unwrap(), strict());
    let inner =
        service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let service = LimitLayer::new(limiter.unwrap(), keys).layer(inner);
    let mut answered = Vec::new();
    for (peer, forwarded) in requests {
        let mut request = Request::builder().extension(peer.parse::<SocketAddr>().unwrap());
        if !forwarded.is_empty() {
            request = request.header("x-forwarded-for", *forwarded);
        }
        let request = request.body(()).unwrap();
        answered.push(service.clone().oneshot(request).await.unwrap().status().as_u16());
    }
    answered
}

#[tokio::test]
async fn requests_are_counted_by_peer_or_by_the_client_that_a_trusted_proxy_names() {
    let requests = [
        ("10.0.0.1:1000", "203.0.113.1"),
        ("10.0.0.1:2000", "203.0.113.2"),
        ("10.0.0.2:1000", "203.0.113.1"),
        // Nobody's proxy: what it says about others is its own invention.
        ("198.51.100.7:1000", "203.0.113.3"),
        ("198.51.100.7:2000", "203.0.113.4"),
    ];
    let by_peer = answered(ByPeer, &requests).await;
    assert_eq!(by_peer, [200, 429, 200, 200, 429]);
    let by_client = ByClient::behind(["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(answered(by_client, &requests).await, [200, 200, 429, 200, 429]);
    assert_eq!(answered(Everybody, &requests).await, [200, 429, 429, 429, 429]);
}

#[tokio::test]
async fn every_answer_has_both_kinds_of_fields() {
    let limits = open(Arc::new(MemoryBackend::new())).await;
    let policy = Policy::per_period(6, Duration::from_secs(60)).unwrap().burst(3).unwrap();
    let limiter = limits.limiter_with("api", policy, strict()).unwrap();
    let inner =
        service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let service = LimitLayer::new(limiter, Everybody).cost(3).layer(inner);
    let unix = || {
        let now = SystemClock.now();
        now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    for (status, after) in [(200, 30), (429, 30)] {
        let before = unix();
        let answer = service.clone().oneshot(request("")).await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "ratelimit-policy"), Some("\"api\";q=3;w=30"));
        assert_eq!(header(&answer, "ratelimit"), Some(format!("\"api\";r=0;t={after}").as_str()));
        assert_eq!(header(&answer, "x-ratelimit-limit"), Some("3"));
        assert_eq!(header(&answer, "x-ratelimit-remaining"), Some("0"));
        let reset: u64 = header(&answer, "x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((before + after - 1..=unix() + after + 1).contains(&reset), "{reset}, {before}");
        let retry = (status == 429).then(|| after.to_string());
        assert_eq!(header(&answer, "retry-after"), retry.as_deref());
    }
}
