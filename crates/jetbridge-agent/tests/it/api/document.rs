//! The OpenAPI document against the server that it describes.

use std::sync::Arc;

use futures_util::StreamExt as _;
use jetbridge_core::{
    Backend, MemoryBackend, Message, Pattern, Received, StreamName, StreamSpec, Subscribe, Tasks,
};
use serde_json::{Value, json};

use super::Served;
use crate::rig::WITHIN;

/// What is wrong with `value` by `schema`, as far as our document says it.
fn differs(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointed = document.pointer(reference.trim_start_matches('#'))?;
        return differs(document, pointed, value);
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("a schema says `{other}`"),
    };
    let fits = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        _ => true,
    };
    let is_among = schema["enum"].as_array().is_none_or(|among| among.contains(value));
    if !fits || !is_among || schema.get("const").is_some_and(|only| only != value) {
        return Some(format!("{value} is not {schema}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return Some(format!("{value} has no {name}"));
        }
    }
    if let (Some(known), Some(values)) = (schema["properties"].as_object(), value.as_object()) {
        let is_whole = schema["properties"].get("sections").is_none();
        for (name, value) in values {
            match known.get(name) {
                Some(schema) => {
                    if let Some(difference) = differs(document, schema, value) {
                        return Some(format!("{name}: {difference}"));
                    }
                }
                None if is_whole => return Some(format!("`{name}` is not in the document")),
                None => {}
            }
        }
    }
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| differs(document, schema.get("items")?, item)).next()
}

/// A request for each operation, in an order in which they find what they need.
const REQUESTS: &[(&str, &str, &[u8], u16)] = &[
    ("healthz", "/healthz", b"", 200),
    ("readyz", "/readyz", b"", 200),
    ("metrics", "/metrics", b"", 200),
    ("status", "/v1/status", b"", 200),
    ("openapi", "/v1/openapi.json", b"", 200),
    ("kvPut", "/v1/kv/b/k", b"7", 200),
    ("kvGet", "/v1/kv/b/k", b"", 200),
    ("kvGet", "/v1/kv/b/k?history=1", b"", 200),
    ("kvIncrement", "/v1/kv/b/k:increment?by=2", b"", 200),
    ("kvList", "/v1/kv/b?prefix=k&limit=5", b"", 200),
    ("kvWatch", "/v1/kv/b:watch", b"", 200),
    ("kvDelete", "/v1/kv/b/k?purge=1", b"", 204),
    ("objectPut", "/v1/objects/o/n", b"body", 200),
    ("objectGet", "/v1/objects/o/n", b"", 200),
    ("objectList", "/v1/objects/o", b"", 200),
    ("objectDelete", "/v1/objects/o/n", b"", 204),
    ("publish", "/v1/publish/orders.a?jetstream=1", b"x", 200),
    ("publish", "/v1/publish/a.b", b"x", 202),
    ("request", "/v1/request/svc", b"x", 200),
    ("subscribe", "/v1/subscribe/orders.a?stream=ORDERS&after=0", b"", 200),
    ("limitPeek", "/v1/limits/api/peek", b"", 200),
    ("limitLook", "/v1/limits/api/peek", b"", 200),
    ("limitAcquire", "/v1/limits/api/acquire", b"", 200),
    ("limitAcquire", "/v1/limits/api/acquire", b"", 429),
    ("limitAcquire", "/v1/limits/slot/acquire", b"", 200),
    ("limitRelease", "/v1/limits/slot/release?permit=PERMIT", b"", 200),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_as_the_document_says() {
    let backend = Arc::new(MemoryBackend::new());
    let bus = backend.bus();
    let subjects = vec![Pattern::parse("orders.>").unwrap()];
    let stream = StreamName::parse("ORDERS").unwrap();
    bus.create_stream(&StreamSpec::new(stream, subjects)).await.unwrap();
    let mut asked = bus.subscribe(Subscribe::to(Pattern::parse("svc").unwrap())).await.unwrap();
    let answering = Tasks::new();
    answering.spawn_until_stop(async move {
        while let Some(Ok(Received::Message(message))) = asked.next().await {
            bus.publish(Message::new(message.reply.unwrap(), "yes")).await.unwrap();
        }
    });
    let limits = "}\nlimiters: {api: {period: 1h, burst: 1}, slot: {max_concurrent: 1}}\nstores: {default: {engine: memory}";
    let served = Served::start(backend, limits).await;
    let document = served.ask("GET", "/v1/openapi.json", "", b"").await.json();
    let mut operations: Vec<(&str, &str, &Value)> = Vec::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((operation["operationId"].as_str().unwrap(), method, operation));
        }
    }
    for (id, ..) in &operations {
        assert!(REQUESTS.iter().any(|(known, ..)| known == id), "nothing asks for {id}");
    }
    let mut permit = String::new();
    for (id, path, body, status) in REQUESTS {
        let (_, method, operation) = operations.iter().find(|(known, ..)| known == id).unwrap();
        let described = &operation["responses"][status.to_string()];
        assert!(described.is_object(), "{id} has no {status}");
        let path = path.replace("PERMIT", &permit);
        if let Some(schema) = described.get("x-event-data") {
            let mut events = served.events(&path, "").await;
            let mut names = vec!["message", "put"];
            let event = events.next().await.unwrap();
            names.retain(|name| *name == event.name);
            assert_eq!((names.len(), differs(&document, schema, &event.data)), (1, None), "{id}");
            continue;
        }
        let answer = served.ask(&method.to_uppercase(), &path, "", body).await;
        assert_eq!(answer.status, *status, "{id} {answer:?}");
        let media = answer.header("content-type").unwrap_or_default();
        let Some(content) = described["content"].as_object() else {
            assert!(answer.body.is_empty(), "{id}");
            continue;
        };
        let described = content.iter().find(|(kind, _)| media.starts_with(&***kind));
        let (kind, content) = described.unwrap_or_else(|| panic!("{id} answers {media}"));
        if kind == "application/json" {
            let json = answer.json();
            assert_eq!(differs(&document, &content["schema"], &json), None, "{id}");
            permit = json["permit"].as_str().unwrap_or(&permit).to_owned();
        }
    }
    refusals_have_their_schema(&served, &document, &operations).await;
    assert_eq!(answering.stop(WITHIN).await, 0);
    assert!(served.rig.stop().await.0.is_clean());
}

/// Each operation, asked with a parameter that there is not.
async fn refusals_have_their_schema(
    served: &Served,
    document: &Value,
    operations: &[(&str, &str, &Value)],
) {
    for (id, method, operation) in operations {
        let (_, path, ..) = REQUESTS.iter().find(|(known, ..)| known == id).unwrap();
        let path = path.split('?').next().unwrap();
        let answer = served.ask(&method.to_uppercase(), &format!("{path}?wrong=1"), "", b"").await;
        assert_eq!(answer.status, 400, "{id}");
        let schema = &operation["responses"]["default"]["content"]["application/json"]["schema"];
        assert_eq!(differs(document, schema, &answer.json()), None, "{id}");
        assert_eq!(answer.json()["kind"], json!("invalid input"), "{id}");
    }
}

/// Schemathesis against the document: thousands of requests that nobody would have thought of.
mod slow {
    use std::path::Path;
    use std::process::Stdio;
    use std::sync::Arc;
    use std::time::Duration;

    use jetbridge_core::MemoryBackend;
    use tokio::process::Command;
    use tokio::time::timeout;

    use super::super::Served;

    /// The release that was tried.
    const RELEASE: &str = "schemathesis==4.32.5";
    /// It is fetched once, and makes some thousand requests.
    const WITHIN: Duration = Duration::from_secs(900);

    /// Runs it in `folder`, where it may leave what it remembers.
    async fn run(folder: &Path, program: &Path, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(WITHIN, command.output()).await.expect("in time").unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{program:?} {arguments:?}\n{shown}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn schemathesis_finds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (venv, settings) = (folder.path().join("venv"), folder.path().join("settings.toml"));
        run(folder.path(), Path::new("python3"), &["-m", "venv", &venv.to_string_lossy()]).await;
        run(folder.path(), &venv.join("bin/pip"), &["install", "--quiet", RELEASE]).await;
        // A request without a responder is 503. What stands under `k:increment` can be read,
        // written and deleted as any key, which the path of the increment does not say. What is
        // not there, or not as a condition wants it, is an answer. Not every text is a subject
        // or a cursor. A list of tags may be empty.
        let text = r#"
            [parameters]
            bucket = "b"
            [checks]
            positive_data_acceptance.expected-statuses = ["2xx", "304", "404", "409", "412", "416"]
            negative_data_rejection.expected-statuses = ["4xx"]
            [[operations]]
            include-operation-id = "request"
            checks.not_a_server_error.enabled = false
            checks.positive_data_acceptance.enabled = false
            [[operations]]
            include-operation-id = "kvGet"
            checks.negative_data_rejection.enabled = false
            [[operations]]
            include-operation-id = "objectGet"
            checks.negative_data_rejection.enabled = false
            [[operations]]
            include-operation-id = "kvList"
            checks.positive_data_acceptance.enabled = false
            [[operations]]
            include-operation-id = "publish"
            checks.positive_data_acceptance.enabled = false
            [[operations]]
            include-operation-id = "kvIncrement"
            checks.allow_header_conformance.enabled = false
            checks.unsupported_method.enabled = false
            [[operations]]
            include-path-regex = "^/v1/objects/"
            parameters.bucket = "o"
        "#;
        std::fs::write(&settings, text).unwrap();
        let served = Served::start(Arc::new(MemoryBackend::new()), "").await;
        let document = format!("http://{}/v1/openapi.json", served.address);
        let settings = settings.to_string_lossy();
        let arguments = [
            &["--config-file", &*settings, "run", &*document][..],
            // Events do not end.
            &["--exclude-operation-id", "kvWatch", "--exclude-operation-id", "subscribe"],
            &["--generation-deterministic", "--max-examples", "50", "--no-color"],
        ];
        run(folder.path(), &venv.join("bin/schemathesis"), &arguments.concat()).await;
        assert!(served.rig.stop().await.0.is_clean());
    }
}
