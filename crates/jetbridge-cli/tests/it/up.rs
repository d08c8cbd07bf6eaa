//! `up` and `check`, as somebody with two terminals uses them.

use std::path::Path;
use std::time::Duration;

use jetbridge_testkit::{Release, eventually};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::binary::{Running, Store};

const WITHIN: Duration = Duration::from_secs(60);

/// Puts the quickstart into the directory of `store`, on a free port.
fn lay_out(store: &Store) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart");
    for file in ["jetbridge.yml", "handle-order.sh"] {
        std::fs::copy(examples.join(file), store.path(file)).unwrap();
    }
    let text = std::fs::read_to_string(store.path("jetbridge.yml")).unwrap();
    std::fs::write(store.path("jetbridge.yml"), text.replace(":4280", ":0")).unwrap();
}

/// Reads notes until one holds `words`.
pub(crate) async fn note(up: &mut Running, words: &str) -> String {
    loop {
        let note = up.note().await;
        if note.contains(words) {
            return note;
        }
    }
}

async fn get(address: &str, path: &str) -> String {
    ask(address, "GET", path).await
}

/// The whole answer to a request without a body.
pub(crate) async fn ask(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn the_quickstart_does_what_the_readme_says(store: Store) {
    lay_out(&store);
    let mut up = store.start(&["up", "jetbridge.yml"]);
    let address = note(&mut up, "http: ").await;
    let address = address.trim_start_matches("http: http://");
    eventually("everything runs", WITHIN, async || {
        get(address, "/readyz").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    for number in 0..5 {
        store.does(&format!("pub orders.eu.c{number} chair-{number} --jetstream")).await;
    }
    let log = store.path("handled.log");
    let handled = eventually("the orders are handled", WITHIN, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() == 5).then_some(text)
    })
    .await;
    assert!(handled.contains("orders.eu.c3 #4 (attempt 1): chair-3"), "{handled}");
    eventually("they are counted", WITHIN, async || {
        let metrics = get(address, "/metrics").await;
        let done = "jetbridge_handler_attempts_total{handler=\"invoicing\",outcome=\"done\"} 5";
        metrics.contains(done).then_some(())
    })
    .await;
    assert!(store.does("req quickstart.time").await.contains("UTC"));

    // A broken order becomes a dead letter; meanwhile a changed file is taken.
    store.does("pub orders.eu.c1 broken --jetstream").await;
    let text = std::fs::read_to_string(store.path("jetbridge.yml")).unwrap();
    let more = "  - {subject: echo, name: echo, run: [cat]}\n";
    std::fs::write(store.path("jetbridge.yml"), format!("{text}{more}")).unwrap();
    note(&mut up, "reload: started handler echo").await;
    let answer = eventually("the new handler answers", WITHIN, async || {
        let said = store.run(&["req", "echo", "hello"]).await;
        (said.code == 0).then(|| said.text())
    })
    .await;
    assert_eq!(answer, "hello");
    let letter = eventually("the dead letter", WITHIN, async || {
        let said = store.run(&["stream", "get", "JETBRIDGE_DEAD_LETTERS", "1"]).await;
        (said.code == 0).then(|| said.text())
    })
    .await;
    assert_eq!(letter, "broken");

    up.signal(Signal::TERM);
    note(&mut up, "stopped, nothing was left").await;
    assert_eq!(up.end().await.1, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quickstart_on_the_embedded_store() {
    the_quickstart_does_what_the_readme_says(Store::local()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quickstart_on_the_oldest_server() {
    the_quickstart_does_what_the_readme_says(Store::nats(Release::Oldest).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quickstart_on_the_newest_server() {
    the_quickstart_does_what_the_readme_says(Store::nats(Release::Newest).await).await;
}

#[tokio::test]
async fn up_starts_without_a_server_and_says_what_it_waits_for() {
    // Nobody listens on the discard port.
    let store = Store::at("nats://127.0.0.1:9");
    std::fs::write(store.path("up.yml"), "buckets: {config: {}}").unwrap();
    let mut up = store.start(&["up", "up.yml"]);
    let degraded = note(&mut up, "degraded").await;
    assert!(degraded.contains("no server could be reached"), "{degraded}");
    up.signal(Signal::TERM);
    note(&mut up, "stopped").await;
    assert_eq!(up.end().await.1, 0);
}

#[tokio::test]
async fn check_says_what_would_run_and_every_problem() {
    let store = Store::local();
    lay_out(&store);
    let plan = store.does("check jetbridge.yml").await;
    for words in
        ["bucket          config (kv)", "handler         invoicing: orders.>", "127.0.0.1:0"]
    {
        assert!(plan.contains(words), "{plan}");
    }
    let text = "buckets: {b: {histroy: 3}}\nhandlers:\n  - {subject: a}\n";
    std::fs::write(store.path("bad.yml"), text).unwrap();
    let said = store.fails(2, "check bad.yml").await;
    for words in ["bad.yml:1:15: unknown key `histroy`", "did you mean `history`?", "bad.yml:3:5"] {
        assert!(said.contains(words), "{said}");
    }
    let hook = "handlers: [{subject: a, url: 'https://me:hidden@h.example/hooks/T0KEN?key=k'}]";
    std::fs::write(store.path("hook.yml"), hook).unwrap();
    let plan = store.does("check hook.yml").await;
    assert!(plan.contains("to: https://h.example\n"), "without login and path: {plan}");
    assert_eq!(store.run(&["up", "bad.yml"]).await.code, 2);
    assert_eq!(store.run(&["check", "missing.yml"]).await.code, 2);
    let block = store.does("check jetbridge.yml --permissions").await;
    for subject in ["$JS.API.STREAM.CREATE.KV_config", "$JS.ACK.ORDERS.invoicing.>", "_INBOX.>"] {
        assert!(block.contains(&format!("{subject:?}")), "{block}");
    }
}

#[tokio::test]
async fn a_file_to_begin_with_is_right_with_and_without_its_examples() {
    let store = Store::local();
    store.does("up --init").await;
    let text = std::fs::read_to_string(store.path("jetbridge.yml")).unwrap();
    assert!(store.does("check jetbridge.yml").await.contains("settings (kv)"));
    assert!(store.fails(4, "up --init").await.contains("left as it is"));
    assert_eq!(std::fs::read_to_string(store.path("jetbridge.yml")).unwrap(), text);

    let example = |line: &str| {
        let bare = line.strip_prefix('#').filter(|rest| !rest.is_empty());
        bare.filter(|rest| !rest.starts_with(' ') || rest.starts_with("  ")).map(str::to_owned)
    };
    let lines = text.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned()));
    std::fs::write(store.path("all.yml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
    std::fs::write(store.path("app.base.yml"), "a: 1\n").unwrap();
    std::fs::write(store.path("counter.wasm"), jetbridge_testkit::guest::http()).unwrap();
    let plan = store.does("check all.yml").await;
    for kind in ["bucket", "handler", "limiter", "database", "template", "component"] {
        assert!(plan.lines().any(|line| line.starts_with(kind)), "{kind}: {plan}");
    }
    store.does("up --init other.yml").await;
    assert_eq!(std::fs::read_to_string(store.path("other.yml")).unwrap(), text);
}
