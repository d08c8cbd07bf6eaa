//! `limiters:` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jetbridge::settings::Environment;
use jetbridge_agent::{Agent, UpFile};
use jetbridge_core::{Backend, BucketKind, BucketName, BucketSpec, ErrorKind, MemoryBackend};
use jetbridge_testkit::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{Rig, WITHIN};

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

async fn post(address: SocketAddr, path: &str) -> Answer {
    ask(address, "POST", path).await
}

/// A rig whose sections all run.
async fn running(text: &str) -> (Rig, SocketAddr) {
    let rig = Rig::start(&format!("http: {{listen: '127.0.0.1:0'}}\n{text}")).await;
    let address = rig.agent.http_address().unwrap();
    eventually("everything runs", WITHIN, async || {
        (ask(address, "GET", "/readyz").await.status == 200).then_some(())
    })
    .await;
    (rig, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_are_given_until_there_are_none() {
    let (rig, address) = running(
        "stores: {s: {engine: nats, auto_create: true}}\n\
         limiters: {api: {store: s, period: 1h, burst: 3}}",
    )
    .await;
    let peek = async |id: &str| post(address, &format!("/v1/limits/{id}/peek")).await;
    assert_eq!(peek("api").await.json()["remaining"], 3);
    let first = post(address, "/v1/limits/api/acquire?cost=2").await;
    assert_eq!(first.status, 200, "{}", first.body);
    let body = first.json();
    assert_eq!(
        (&body["allowed"], &body["limit"], &body["remaining"]),
        (&true.into(), &3.into(), &1.into())
    );
    assert_eq!((&body["source"], body.get("permit")), (&"store".into(), None));
    assert_eq!(first.header("RateLimit-Policy"), Some("\"api\";q=3;w=10800"));
    assert_eq!(first.header("X-RateLimit-Remaining"), Some("1"));
    assert_eq!(post(address, "/v1/limits/api/acquire").await.status, 200);

    let denied = post(address, "/v1/limits/api/acquire").await;
    assert_eq!((denied.status, denied.json()["allowed"].as_bool()), (429, Some(false)));
    let retry: u64 = denied.header("Retry-After").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&retry), "{retry}");
    assert_eq!(denied.header("RateLimit"), Some(format!("\"api\";r=0;t={retry}").as_str()));
    assert!(denied.json()["retry_after_ms"].as_u64().unwrap() > 3_500_000);
    let peeked = peek("api").await;
    assert_eq!((peeked.status, peeked.json()["allowed"].as_bool()), (200, Some(false)));

    // What stands behind the first colon is a key of the limiter.
    for key in ["user:42", "%3A%3A1", "%C3%A9%2F..%2Fx", "*"] {
        assert_eq!(
            post(address, &format!("/v1/limits/api:{key}/acquire")).await.status,
            200,
            "{key}"
        );
    }
    for id in ["other", "other:api", "%20"] {
        assert_eq!(post(address, &format!("/v1/limits/{id}/acquire")).await.status, 404, "{id}");
    }
    for query in ["cost=0", "cost=4", "cost=x", "cost=-1", "wait=soon", "wait=-1", "kost=1"] {
        let refused = post(address, &format!("/v1/limits/api/acquire?{query}")).await;
        assert_eq!((refused.status, refused.json()["kind"].as_str()), (400, Some("invalid input")));
    }
    assert_eq!(post(address, "/v1/limits/api:/acquire").await.status, 400);
    assert_eq!(ask(address, "GET", "/v1/limits/api/acquire").await.status, 405);

    let metrics = ask(address, "GET", "/metrics").await.body;
    for line in [
        "ratesync_acquisitions_total{group_id=\"api\",engine=\"nats\"} 6",
        "ratesync_timeouts_total{group_id=\"api\",engine=\"nats\"} 1",
        "ratesync_circuit_breaker_state{group_id=\"api\",engine=\"nats\"} 0",
        "ratesync_acquisition_duration_seconds_count{group_id=\"api\",engine=\"nats\"} 6",
        "jetbridge_limit_policy_mismatches_total{limiter=\"api\"} 0",
        "jetbridge_section_state{kind=\"limiter\",name=\"api\",state=\"running\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(metrics.matches("# EOF").count(), 1);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_released_once_and_ends_with_its_lease() {
    let (rig, address) =
        running("limiters: {db: {max_concurrent: 1, lease: 1s}, job: {max_concurrent: 1}}").await;
    let acquire = async |query: &str| post(address, &format!("/v1/limits/db/acquire{query}")).await;
    let permit = acquire("").await.json()["permit"].as_str().unwrap().to_owned();
    assert_eq!(acquire("").await.status, 429);
    let release = async |id: &str, permit: &str| {
        post(address, &format!("/v1/limits/{id}/release?permit={permit}")).await.status
    };
    assert_eq!(release("job", &permit).await, 409, "it is another limiter's");
    assert_eq!(release("db", &permit).await, 200);
    assert_eq!(release("db", &permit).await, 409);
    assert_eq!(release("db", "x").await, 409);
    assert_eq!(release("other", &permit).await, 404);
    assert_eq!(post(address, "/v1/limits/db/release").await.status, 400);
    // Nobody releases this one.
    let left = acquire("").await.json()["permit"].as_str().unwrap().to_owned();
    let next = acquire("?wait=20s").await;
    assert_eq!(next.status, 200, "{}", next.body);
    assert_eq!(release("db", &left).await, 409, "its lease has ended");
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_slot() {
    let (rig, address) = running("limiters: {db: {max_concurrent: 1, lease: 2s}}").await;
    let first = post(address, "/v1/limits/db/acquire").await.json();
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let request = "POST /v1/limits/db/acquire?wait=30s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    waiting.write_all(request.as_bytes()).await.unwrap();
    drop(waiting);
    let permit = first["permit"].as_str().unwrap();
    let released = post(address, &format!("/v1/limits/db/release?permit={permit}")).await;
    assert_eq!(released.status, 200);
    let next = post(address, "/v1/limits/db/acquire?wait=20s").await;
    assert_eq!(next.status, 200, "{}", next.body);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_limiter_leaves_the_others_and_their_slots_alone() {
    let text = |burst: u32| {
        format!(
            "http: {{listen: '127.0.0.1:0'}}\nlimiters:\n  api: {{period: 1h, burst: {burst}}}\n  \
             db: {{max_concurrent: 1}}\n"
        )
    };
    let (mut rig, _) = running(&text(2).replace("http: {listen: '127.0.0.1:0'}\n", "")).await;
    let address = rig.agent.http_address().unwrap();
    let permit = post(address, "/v1/limits/db/acquire").await.json();
    rig.rewrite(&text(5));
    let reloaded = rig.agent.reload().await.unwrap();
    let changed: Vec<String> = reloaded.changed.iter().map(ToString::to_string).collect();
    assert_eq!((changed.as_slice(), reloaded.started.len()), (&["limiter api".to_owned()][..], 0));
    eventually("the new policy", WITHIN, async || {
        let peek = post(address, "/v1/limits/api/peek").await;
        (peek.status == 200 && peek.json()["limit"] == 5).then_some(())
    })
    .await;
    assert_eq!(post(address, "/v1/limits/db/acquire").await.status, 429, "it is still held");
    let permit = permit["permit"].as_str().unwrap();
    let released = post(address, &format!("/v1/limits/db/release?permit={permit}")).await;
    assert_eq!(released.status, 200);
    rig.rewrite("http: {listen: '127.0.0.1:0'}\n");
    assert_eq!(rig.agent.reload().await.unwrap().stopped.len(), 3);
    assert_eq!(post(address, "/v1/limits/api/peek").await.status, 404);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_is_no_outage() {
    let text = "http: {listen: '127.0.0.1:0'}\n\
                stores: {s: {engine: nats, auto_create: false}}\n\
                limiters: {api: {store: s, period: 1h, on_error: open}}";
    let rig = Rig::start(text).await;
    let address = rig.agent.http_address().unwrap();
    eventually("the store's refusal", WITHIN, async || {
        let refused = post(address, "/v1/limits/api/acquire").await;
        (refused.status == 503 && refused.json()["kind"] == "not found").then_some(())
    })
    .await;
    assert_eq!(post(address, "/v1/limits/api/peek").await.json()["kind"], "not found");

    let bucket = BucketName::parse("rate_limits").unwrap();
    rig.backend.create_bucket(BucketKind::Kv, &bucket, &BucketSpec::default()).await.unwrap();
    eventually("the store decides", WITHIN, async || {
        let decided = post(address, "/v1/limits/api/acquire").await;
        (decided.json()["source"] == "store").then_some(())
    })
    .await;
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn a_bucket_that_forgets_too_soon_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.yml");
    std::fs::write(&path, "limiters: {slow: {period: 1h}}").unwrap();
    let environment = Environment::default();
    let file = UpFile::read(std::slice::from_ref(&path), &environment).unwrap();
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let mut spec = BucketSpec::default();
    spec.max_age = Some(Duration::from_secs(10));
    let bucket = BucketName::parse("rate_limits").unwrap();
    store.create_bucket(BucketKind::Kv, &bucket, &spec).await.unwrap();
    let refused = Agent::start(file, vec![path], environment, store).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let words = refused.message().unwrap();
    assert!(words.contains("10s") && words.contains("3600s"), "{words}");
}
