//! rate-sync's page about its NATS engine: every file, command and metric as printed there. Only
//! the server's address is the test's.

use jetbridge_testkit::{NatsCluster, NatsServer, Release, ServerOptions, eventually};
use rustix::process::Signal;
use serde_json::Value;

use crate::binary::{Said, Store, finish};
use crate::limit::WITHIN;

const BASIC: &str = r#"[stores.nats]
engine = "nats"
url = "nats://localhost:4222"

[limiters.api]
store = "nats"
rate_per_second = 100.0
timeout = 30.0
"#;

const FULL: &str = r#"[stores.nats]
engine = "nats"
url = "nats://localhost:4222"
token = "${NATS_TOKEN:-}"        # Optional auth token
bucket_name = "rate_limits"       # KV bucket name
auto_create = false               # Create bucket if missing
retry_interval = 0.05             # CAS retry interval (seconds)
max_retries = 100                 # Max CAS retries
timing_margin_ms = 10.0           # Timing safety margin
"#;

const DEVELOPMENT: &str = r#"[stores.nats]
engine = "nats"
url = "nats://localhost:4222"
auto_create = true
"#;

const PRODUCTION: &str = r#"[stores.nats]
engine = "nats"
url = "nats://localhost:4222"
auto_create = false  # Requires pre-created bucket
"#;

const LIMITER: &str = "
[limiters.api]
store = \"nats\"
rate_per_second = 100.0
timeout = 30.0
";

/// A directory with the page's file, for a server somewhere else than the page's.
fn with_file(url: &str, blocks: &[&str]) -> Store {
    let store = Store::at("nats://127.0.0.1:9");
    write(&store, url, blocks);
    store
}

fn write(store: &Store, url: &str, blocks: &[&str]) {
    let text = blocks.concat().replace("nats://localhost:4222", url);
    std::fs::write(store.path("rate-sync.toml"), text).unwrap();
}

async fn acquire(store: &Store) -> Said {
    store.run(&["limit", "acquire", "api"]).await
}

/// The page's `nats …` commands, in our words.
async fn kv_add(store: &Store, url: &str, words: &[&str]) -> Said {
    store.run(&[&["--store", url, "kv", "add", "rate_limits"], words].concat()).await
}

async fn the_files_of_the_page_work(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let url = server.url();
    let store = with_file(&url, &[BASIC]);
    let said = acquire(&store).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.starts_with("error: Bucket not found: rate_limits"), "{said:?}");
    assert!(said.err.contains("auto_create = true"), "{said:?}");
    let command = format!("`jetbridge kv add rate_limits --store {url}`");
    assert!(said.err.contains(&command), "the bucket is made where the limiter looks: {said:?}");

    assert_eq!(kv_add(&store, &url, &[]).await.code, 0);
    for blocks in [&[BASIC][..], &[FULL, LIMITER], &[PRODUCTION, LIMITER]] {
        write(&store, &url, blocks);
        let said = store.run(&["limit", "acquire", "api", "--wait", "5"]).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{blocks:?}: {said:?}");
        assert_eq!(said.text(), "api: allowed, 0 of 1 left\n");
    }
    store.run(&["--store", &url, "kv", "rm", "rate_limits", "-f"]).await;
    write(&store, &url, &[DEVELOPMENT, LIMITER]);
    // `async with acquire("api"):` is a command that holds the permit.
    let said = store.run(&["limit", "run", "api", "--", "echo", "inside"]).await;
    assert_eq!((said.code, said.text().as_str()), (0, "inside\n"), "{said:?}");
    let buckets = store.run(&["--store", &url, "kv", "ls", "--names"]).await.text();
    assert!(buckets.contains("rate_limits"), "{buckets}");
}

async fn what_the_page_explains_begins_with_its_words(release: Release) {
    let plain = NatsServer::start(release, ServerOptions::new().without_jetstream()).await;
    let store = with_file(&plain.url(), &[BASIC]);
    let said = acquire(&store).await;
    assert!(said.err.starts_with("error: JetStream not enabled"), "{said:?}");
    assert!(said.err.contains("nats-server -js") && said.code == 2, "{said:?}");
    plain.kill();
    let said = acquire(&store).await;
    assert!(said.err.starts_with("error: Connection refused"), "{said:?}");
    assert!(said.err.contains("jetbridge doctor") && said.code == 3, "{said:?}");
}

async fn the_token_is_the_environments_or_none(release: Release) {
    let options = ServerOptions::new().config("authorization { token: t0psecret }");
    let server = NatsServer::start(release, options).await;
    let store = with_file(
        &server.url(),
        &[&FULL.replace("auto_create = false", "auto_create = true"), LIMITER],
    );
    let said = acquire(&store).await;
    assert_eq!(said.code, 2, "no token: {said:?}");
    assert!(!said.err.contains("${"), "the default is empty, not these words: {said:?}");
    let mut command = store.command(&["limit", "acquire", "api"]);
    command.env("NATS_TOKEN", "t0psecret");
    let said = finish(command, b"").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.err.contains("t0psecret"));
}

async fn the_metrics_of_the_page_are_there(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let http = "[http]\nlisten = \"127.0.0.1:0\"\n\n";
    let store = with_file(&server.url(), &[http, DEVELOPMENT, LIMITER]);
    let mut up = store.start(&["up", "rate-sync.toml"]);
    let address = crate::limit::address(&mut up).await;
    eventually("the store decides", WITHIN, async || {
        let said = crate::up::ask(&address, "POST", "/v1/limits/api/acquire?wait=1").await;
        said.contains("\"source\":\"store\"").then_some(())
    })
    .await;
    let metrics = crate::up::ask(&address, "GET", "/metrics").await;
    for name in [
        "acquisitions_total",
        "acquisition_duration_seconds_count",
        "timeouts_total",
        "fallback_activations_total",
        "circuit_breaker_state",
        "cas_failures_total",
    ] {
        let line = format!("\nratesync_{name}{{group_id=\"api\",engine=\"nats\"}} ");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    for name in ["store_requests_total", "store_failures_total", "policy_mismatches_total", "slots"]
    {
        let line = format!("\njetbridge_limit_{name}{{limiter=\"api\"}} ");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    up.signal(Signal::TERM);
    assert_eq!(up.end().await.1, 0);
}

jetbridge_testkit::on_every_server! {
    the_files_of_the_page_work,
    what_the_page_explains_begins_with_its_words,
    the_token_is_the_environments_or_none,
    the_metrics_of_the_page_are_there,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_three_replicas_is_made_as_the_page_says() {
    let cluster = NatsCluster::start(Release::Newest, 3).await;
    let url = cluster.url();
    let store = with_file(&url, &[PRODUCTION, LIMITER]);
    let made = kv_add(&store, &url, &["--replicas", "3"]).await;
    assert_eq!(made.code, 0, "{made:?}");
    let said = store.run(&["limit", "acquire", "api", "--wait", "5"]).await;
    assert_eq!((said.code, said.text().as_str()), (0, "api: allowed, 0 of 1 left\n"), "{said:?}");
}

#[tokio::test]
async fn check_says_what_has_no_effect_and_what_is_wrong() {
    let store = with_file("nats://127.0.0.1:9", &[FULL, LIMITER]);
    let plan = store.does("check rate-sync.toml").await;
    for (line, key) in [(7, "retry_interval"), (8, "max_retries")] {
        assert!(
            plan.contains(&format!("rate-sync.toml:{line}:1: `{key}` has no effect")),
            "{plan}"
        );
    }
    for (from, to, words) in [
        ("auto_create", "auto_creat", "rate-sync.toml:6:1: unknown key `auto_creat`"),
        ("10.0", "\"ten\"", "rate-sync.toml:9:1: `timing_margin_ms`: `ten` is not"),
        ("100.0", "\"fast\"", "rate-sync.toml:13:19: `rate_per_second`: is not a number"),
        ("\"nats\"\nurl", "\"redis\"\nurl", "there is no engine `redis`"),
        ("\"nats\"\nurl", "\"postgres\"\nurl", "there is no engine `postgres`"),
    ] {
        let text = [FULL, LIMITER].concat().replace(from, to);
        std::fs::write(store.path("rate-sync.toml"), text).unwrap();
        for line in ["check rate-sync.toml", "limit acquire api"] {
            let said = store.fails(2, line).await;
            assert!(said.contains(words), "{line}, {to}: {said}");
            let engine = words.contains("no engine");
            assert!(!engine || said.contains("engine = \"nats\""), "what to write instead: {said}");
        }
    }
}

#[tokio::test]
async fn a_process_alone_needs_no_server() {
    let store = Store::at("nats://127.0.0.1:9");
    let text =
        "[stores.m]\nengine = \"memory\"\n[limiters.api]\nstore = \"m\"\nrate_per_second = 5\n";
    std::fs::write(store.path("rate-sync.toml"), text).unwrap();
    let words = ["--json", "limit", "bench", "api", "--callers", "2", "--for", "1s"];
    let figures: Value = serde_json::from_str(&store.run(&words).await.text()).unwrap();
    assert!((3..=7).contains(&figures["granted"].as_u64().unwrap()), "{figures}");
}
