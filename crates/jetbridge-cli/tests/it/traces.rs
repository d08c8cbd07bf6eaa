//! Traces of `up`, as a collector sees them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use jetbridge_testkit::eventually;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::binary::{Running, Store};
use crate::up::note;

const WITHIN: Duration = Duration::from_secs(60);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const FILE: &str = "http: {listen: '127.0.0.1:0', token: s3cr3t-token}\n\
    buckets: {config: {}}\n\
    handlers: [{name: mailer, subject: 'mail.>', stream: MAIL, durable: d, \
    run: [sh, -c, 'echo $TRACEPARENT >> seen; test \"$JETBRIDGE_ATTEMPT\" = 2'], backoff: 1ms..1ms}]";

/// How a collector answers.
#[derive(Clone, Copy)]
enum Answers {
    Ok,
    Unavailable,
    Never,
}

/// A collector, and what it was sent.
struct Collector {
    endpoint: String,
    sent: Arc<Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>>,
}

/// A span in plain words.
#[derive(Debug)]
struct Seen {
    name: String,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, String>,
    failed: bool,
}

impl Collector {
    async fn start(answers: Answers) -> Self {
        let sent: Arc<Mutex<Vec<_>>> = Arc::default();
        let keep = Arc::clone(&sent);
        let take = async move |headers: HeaderMap, body: Bytes| {
            keep.lock().unwrap().push((headers, ExportTraceServiceRequest::decode(body).unwrap()));
            match answers {
                Answers::Ok => StatusCode::OK,
                Answers::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                Answers::Never => std::future::pending().await,
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        // It ends with the test's runtime.
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, sent }
    }

    fn spans(&self) -> Vec<Seen> {
        let sent = self.sent.lock().unwrap();
        let scopes = sent.iter().flat_map(|(_, request)| &request.resource_spans);
        let spans = scopes.flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        spans
            .map(|span| Seen {
                name: span.name.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: attributes(&span.attributes),
                failed: span.status.as_ref().is_some_and(|status| status.code == 2),
            })
            .collect()
    }

    fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| pair.value.as_ref()?.value.as_ref().map(text);
    pairs.iter().map(|pair| (pair.key.clone(), value(pair).unwrap_or_default())).collect()
}

/// Starts `up`; where HTTP listens.
async fn start(store: &Store, endpoint: &str, more: &[(&str, &str)]) -> (Running, String) {
    std::fs::write(store.path("up.yml"), FILE).unwrap();
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
    variables.extend(more);
    let mut up = store.start_with(&["up", "up.yml"], &variables);
    let address = note(&mut up, "http: ").await.trim_start_matches("http: http://").to_owned();
    eventually("everything runs", WITHIN, async || {
        send(&address, "GET", "/readyz", "").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    (up, address)
}

async fn send(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cr3t-token\r\n\
         traceparent: {PARENT}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[track_caller]
fn found<'a>(spans: &'a [Seen], name: &str, attributes: &[(&str, &str)]) -> &'a Seen {
    let has = |span: &&Seen| {
        let said = |name: &str| span.attributes.get(name).map_or("", String::as_str);
        span.name == name && attributes.iter().all(|(name, value)| said(name) == *value)
    };
    let found = spans.iter().find(has);
    found.unwrap_or_else(|| panic!("no span {name} {attributes:?} among {spans:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_attempts_and_what_is_asked_of_the_store_are_spans() {
    let (store, collector) = (Store::local(), Collector::start(Answers::Ok).await);
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cr3t-login");
    let named = ("OTEL_SERVICE_NAME", "shop");
    let (mut up, address) = start(&store, &collector.endpoint, &[headers, named]).await;
    let written = send(&address, "PUT", "/v1/kv/config/a?ttl=1h", "s3cr3t-value").await;
    assert!(written.starts_with("HTTP/1.1 200"), "{written}");
    let conflict = "/v1/publish/mail.x?jetstream=1&expect_last=9";
    assert!(send(&address, "POST", conflict, "").await.starts_with("HTTP/1.1 412"));
    send(&address, "POST", "/v1/publish/mail.x?jetstream=1", "s3cr3t-letter").await;
    let seen = eventually("the message is handled", WITHIN, async || {
        let seen = std::fs::read_to_string(store.path("seen")).unwrap_or_default();
        (seen.lines().count() == 2).then_some(seen)
    })
    .await;
    // The last spans are sent when it ends.
    up.signal(Signal::TERM);
    note(&mut up, "stopped, nothing was left").await;
    assert_eq!(up.end().await.1, 0);

    let spans = collector.spans();
    let path = [("bucket", "config"), ("key", "a"), ("http.route", "/v1/kv/{bucket}/{key}")];
    let request = found(&spans, "kvPut", &path);
    let ended = [("http.request.method", "PUT"), ("http.response.status_code", "200")];
    for (name, value) in ended.into_iter().chain([("revision", "1")]) {
        assert_eq!(request.attributes[name], value, "{request:?}");
    }
    let (_, rest) = PARENT.split_once('-').unwrap();
    assert!(rest.starts_with(&format!("{}-{}-", request.trace, request.parent)), "{request:?}");
    let on_store = [("bucket", "config"), ("name", "a"), ("revision", "1"), ("outcome", "ok")];
    let put = found(&spans, "kv.put", &on_store);
    assert_eq!((&put.trace, &put.parent), (&request.trace, &request.id));
    assert!(found(&spans, "bus.append", &[("name", "mail.x"), ("outcome", "conflict")]).failed);
    let of = [("handler", "mailer"), ("subject", "mail.x"), ("stream", "MAIL"), ("sequence", "1")];
    for (number, outcome, failed) in [("1", "failed", true), ("2", "done", false)] {
        let more = [("attempt", number), ("outcome", outcome)];
        let of: Vec<_> = of.into_iter().chain(more).collect();
        let attempt = found(&spans, "attempt mailer", &of);
        assert_eq!(attempt.failed, failed);
        let told = format!("00-{}-{}-01", attempt.trace, attempt.id);
        assert!(seen.lines().any(|line| line == told), "{told} was not told: {seen}");
    }
    let sent = collector.sent.lock().unwrap();
    for (headers, request) in sent.iter() {
        assert_eq!(headers["authorization"], "Bearer s3cr3t-login");
        let resource = request.resource_spans[0].resource.as_ref().unwrap();
        assert_eq!(attributes(&resource.attributes)["service.name"], "shop");
        assert!(!format!("{request:?}").contains("s3cr3t"), "{request:?}");
    }
}

/// More spans than are kept, then the end.
async fn works_all_the_same(endpoint: &str, more: &[(&str, &str)], complains: bool) {
    let store = Store::local();
    let (mut up, address) = start(&store, endpoint, more).await;
    for number in 0..2500 {
        let path = format!("/v1/kv/config/k{}", number % 7);
        let written = send(&address, "PUT", &path, "x").await;
        assert!(written.starts_with("HTTP/1.1 200"), "{written}");
    }
    if complains {
        note(&mut up, "the collector takes no traces").await;
    }
    up.signal(Signal::TERM);
    note(&mut up, "stopped, nothing was left").await;
    assert_eq!(up.end().await.1, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_is_nothing_to_wait_for() {
    // Nobody listens on the discard port.
    works_all_the_same("http://127.0.0.1:9", &[], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_is_nothing_to_wait_for() {
    let collector = Collector::start(Answers::Unavailable).await;
    works_all_the_same(&collector.endpoint, &[], true).await;
    assert!(collector.count() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_is_nothing_to_wait_for() {
    let collector = Collector::start(Answers::Never).await;
    // The last spans are not waited for as long as one batch may take.
    let hour = ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000");
    works_all_the_same(&collector.endpoint, &[hour], false).await;
    assert_eq!(collector.count(), 1, "one batch, which is not over");
}

#[tokio::test]
async fn a_collector_that_cannot_be_had_is_an_error_that_names_the_variable() {
    let store = Store::local();
    std::fs::write(store.path("up.yml"), FILE).unwrap();
    let mut command = store.command(&["up", "up.yml"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let said = crate::binary::finish(command, b"").await;
    assert_eq!(said.code, 2);
    assert!(said.err.contains("`OTEL_EXPORTER_OTLP_PROTOCOL`: `grpc` is not spoken"), "{said:?}");
    assert!(said.err.contains("hint: set `http/protobuf`"), "{said:?}");
}
