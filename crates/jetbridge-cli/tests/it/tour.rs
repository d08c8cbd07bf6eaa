//! The tour, as its page says it, on the embedded store and on servers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jetbridge_testkit::{eventually, guest};
use rustix::process::Signal;

use crate::binary::Store;
use crate::up::{ask, note};

const WITHIN: Duration = Duration::from_secs(60);
const FILES: [&str; 4] = ["jetbridge.yml", "sign.yml", "take-order.py", "hits.wasm"];

/// Puts the tour into the directory of `store`, on a free port.
fn lay_out(store: &Store) {
    let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tour");
    for file in FILES {
        std::fs::copy(tour.join(file), store.path(file)).unwrap();
    }
    let text = std::fs::read_to_string(store.path("jetbridge.yml")).unwrap();
    std::fs::write(store.path("jetbridge.yml"), text.replace(":4280", ":0")).unwrap();
}

/// What SQLite answers, by Python, which the tour's own script needs too.
fn query(database: &str) -> String {
    let code = "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1])\
                .execute('SELECT * FROM orders ORDER BY 1'): print(*row)";
    let answer = Command::new("python3").args(["-c", code, database]).output().unwrap();
    String::from_utf8(answer.stdout).unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_head, body)| body)
}

async fn everything_works_as_the_page_says(store: Store) {
    lay_out(&store);
    let mut up = store.start_among_programs(&["up", "jetbridge.yml"]);
    let address = note(&mut up, "http: ").await;
    let address = address.trim_start_matches("http: http://").to_owned();
    eventually("the sign hangs", WITHIN, async || {
        let sign = std::fs::read_to_string(store.path("sign.out.yml")).ok()?;
        sign.contains("sign: corner, open 9 to 5").then_some(())
    })
    .await;

    // It is made beside the template, not before it.
    eventually("the stream of the orders is there", WITHIN, async || {
        (store.run(&["stream", "info", "ORDERS"]).await.code == 0).then_some(())
    })
    .await;
    for order in ["two-chairs", "one-table"] {
        store.does(&format!("pub orders.eu {order} --jetstream")).await;
    }
    let database = store.path("orders.db");
    eventually("the orders are in the database", WITHIN, async || {
        (query(&database) == "1 two-chairs\n2 one-table\n").then_some(())
    })
    .await;
    eventually("the database is in the store", WITHIN, async || {
        let copy = store.path("copy.db");
        let words = ["sqlite", "restore", "-force", "-o", &copy];
        let place = ["--bucket", "backups", "--path", "orders"];
        let said = store.run(&[&words[..], &place[..]].concat()).await;
        (said.code == 0 && query(&copy) == "1 two-chairs\n2 one-table\n").then_some(())
    })
    .await;
    store.does("pub orders.eu broken --jetstream").await;
    eventually("the dead letter", WITHIN, async || {
        let said = store.run(&["stream", "get", "JETBRIDGE_DEAD_LETTERS", "1"]).await;
        (said.code == 0 && said.text() == "broken").then_some(())
    })
    .await;

    store.does("kv put settings open 10-to-6").await;
    eventually("the sign changes", WITHIN, async || {
        let sign = std::fs::read_to_string(store.path("sign.out.yml")).unwrap();
        sign.contains("sign: corner, open 10-to-6").then_some(())
    })
    .await;
    eventually("everything runs", WITHIN, async || {
        ask(&address, "GET", "/readyz").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    for number in ["1", "2", "3"] {
        let answer = ask(&address, "GET", "/hits/door").await;
        assert!(body(&answer).contains(&format!("\n{number}\n")), "{answer}");
    }
    assert_eq!(store.does("kv get hits hits/door").await, "3");
    let mut answers = Vec::new();
    for _call in 0..8 {
        answers.push(ask(&address, "POST", "/v1/limits/api/acquire").await[9..12].to_owned());
    }
    assert_eq!((&*answers[0], answers.iter().any(|it| it == "429")), ("200", true), "{answers:?}");

    every_metric_has_a_line(body(&ask(&address, "GET", "/metrics").await));

    up.signal(Signal::TERM);
    note(&mut up, "stopped, nothing was left").await;
    assert_eq!(up.end().await.1, 0);
}

/// The page names what is there, and the dashboard asks for nothing else.
fn every_metric_has_a_line(metrics: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/guide/metrics.md")).unwrap();
    let dashboard = std::fs::read_to_string(root.join("packaging/grafana.json")).unwrap();
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names = 0;
    for (name, kind) in types.filter_map(|line| line.split_once(' ')) {
        let suffix = match kind {
            "counter" if !name.ends_with("_count") => "_total",
            "info" => "_info",
            _ => "",
        };
        assert!(page.contains(&format!("`{name}{suffix}`")), "{name}{suffix} is on no page");
        names += 1;
    }
    assert!(names > 25, "{metrics}");
    let asked = dashboard.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    for name in asked.filter(|word| {
        ["jetbridge_", "ratesync_", "litestream_"].iter().any(|prefix| word.starts_with(prefix))
    }) {
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(page.contains(&format!("`{name}`")), "the dashboard asks for {name}");
    }
}

async fn on_a_server(release: jetbridge_testkit::Release) {
    everything_works_as_the_page_says(Store::nats(release).await).await;
}

jetbridge_testkit::on_every_server!(on_a_server);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_store() {
    everything_works_as_the_page_says(Store::local()).await;
}

/// Nothing is said to be missing that the same file makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_is_quiet() {
    let store = Store::local();
    lay_out(&store);
    let mut up = store.start_among_programs(&["up", "jetbridge.yml"]);
    let mut notes = Vec::new();
    let all = ["running section=component hits", "written template", "running section=limiter api"];
    while !all.iter().all(|words| notes.iter().any(|note: &String| note.contains(words))) {
        notes.push(up.note().await);
    }
    up.signal(Signal::TERM);
    notes.push(note(&mut up, "stopped, nothing was left").await);
    assert_eq!(up.end().await.1, 0);
    // There is no database before the first order.
    let odd = |note: &&String| note.contains("degraded") && !note.contains("orders.db");
    assert_eq!(notes.iter().find(odd), None, "{notes:#?}");
}

#[test]
fn the_component_is_the_one_of_the_tests() {
    let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tour");
    let kept = std::fs::read(tour.join("hits.wasm")).unwrap();
    let hint = "cargo run -p jetbridge-testkit --example hits >examples/tour/hits.wasm";
    assert!(kept == guest::http(), "{hint}");
}
