//! `limit`, by several processes on one store.

use std::time::Duration;

use jetbridge_testkit::Release;
use rustix::process::Signal;
use serde_json::Value;

use crate::binary::{Running, Store};

pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// rate-sync's file, for a store that the environment names.
pub(crate) fn lay_out(store: &Store, limiters: &str) {
    let text = format!("[stores.s]\nengine = \"nats\"\nauto_create = true\n{limiters}");
    std::fs::write(store.path("rate-sync.toml"), text).unwrap();
}

pub(crate) async fn json(store: &Store, line: &str) -> Value {
    serde_json::from_str(&store.does(&format!("--json {line}")).await).unwrap()
}

/// Where `up` listens, as it says.
pub(crate) async fn address(up: &mut Running) -> String {
    loop {
        if let Some((_, address)) = up.note().await.split_once("http: http://") {
            break address.to_owned();
        }
    }
}

async fn permits_are_given_over_processes(store: Store) {
    lay_out(
        &store,
        "[limiters.api]\nstore = \"s\"\nperiod = \"1h\"\nburst = 3\n\
         [limiters.db]\nstore = \"s\"\nmax_concurrent = 1\nlease = 2\n",
    );
    let said = store.does("limit peek api").await;
    assert_eq!(said, "api: allowed, 3 of 3 left\n");
    assert_eq!(store.does("limit acquire api --cost 2").await, "api: allowed, 1 of 3 left\n");
    store.does("limit acquire api:user:42").await;
    assert_eq!(json(&store, "limit acquire api").await["remaining"], 0);
    let denied = store.run(&["--json", "limit", "acquire", "api", "--wait", "1"]).await;
    assert_eq!(denied.code, 1);
    let denied: Value = serde_json::from_str(&denied.text()).unwrap();
    assert_eq!((&denied["allowed"], &denied["source"]), (&false.into(), &"store".into()));
    assert!(denied["retry_after_ms"].as_u64().unwrap() > 3_000_000);
    for wrong in ["limit acquire api --cost 4", "limit acquire api --cost 0", "limit peek other"] {
        store.fails(2, wrong).await;
    }
    let list = store.does("limit ls").await;
    for words in
        ["api          gcra   3      0", "api:user:42  gcra   3      2", "db           slots"]
    {
        assert!(list.contains(words), "{list}");
    }
    store.does("limit reset api").await;
    assert_eq!(store.run(&["limit", "reset", "api"]).await.code, 1, "there is nothing to forget");
    store.does("limit acquire api").await;

    // A command holds a slot while it runs, and ends as it ends.
    let said = store.run(&["limit", "run", "db", "--", "sh", "-c", "echo inside; exit 7"]).await;
    assert_eq!((said.code, said.text().as_str()), (7, "inside\n"));
    let mut holder = store.start(&["limit", "run", "db", "--", "sh", "-c", "echo in; read x"]);
    assert_eq!(holder.line().await, "in");
    assert_eq!(store.run(&["limit", "acquire", "db"]).await.code, 1);
    let late = store.run(&["limit", "run", "db", "--wait", "0.1", "--", "true"]).await;
    assert_eq!(late.code, 1);
    holder.write(b"\n").await;
    assert_eq!(holder.end().await.1, 0);
    store.does("limit acquire db").await;
    assert_eq!(store.run(&["limit", "run", "db", "--", "no-such-program"]).await.code, 127);
    store.does("limit acquire db").await;
}

async fn the_slot_of_a_killed_process_comes_back(store: Store) {
    lay_out(&store, "[limiters.db]\nstore = \"s\"\nmax_concurrent = 1\nlease = 2\n");
    let mut holder = store.start(&["limit", "run", "db", "--", "sh", "-c", "echo $$; read x"]);
    let child: i32 = holder.line().await.parse().unwrap();
    assert_eq!(store.run(&["limit", "acquire", "db"]).await.code, 1);
    holder.signal(Signal::KILL);
    // It outlives its parent: only the lease ends.
    let child = rustix::process::Pid::from_raw(child).unwrap();
    let said = store.run(&["limit", "acquire", "db", "--wait", "20"]).await;
    // It may have ended with its standard input.
    let _ended = rustix::process::kill_process(child, Signal::KILL);
    assert_eq!(said.code, 0, "{said:?}");
}

async fn a_fleet_gets_the_rate_and_no_more(store: Store) {
    lay_out(&store, "[limiters.api]\nstore = \"s\"\nrate_per_second = 100\nburst = 5\n");
    let words = ["--json", "limit", "bench", "api", "--callers", "4", "--for", "3s"];
    let processes = [0; 3].map(|_| store.run(&words));
    let said = futures_util::future::join_all(processes).await;
    let granted: u64 = said
        .iter()
        .map(|said| {
            assert_eq!(said.code, 0, "{said:?}");
            let figures: Value = serde_json::from_str(&said.text()).unwrap();
            for name in
                ["percent_of_rate", "p50_ms", "p99_ms", "max_ms", "conflicts", "requests_per_grant"]
            {
                assert!(figures[name].is_number(), "{name}: {figures}");
            }
            figures["granted"].as_u64().unwrap()
        })
        .sum();
    // They begin one after the other on a busy machine: their time together is not known.
    assert!((200..=900).contains(&granted), "{granted} of 300 a process");
}

on_every_store! {
    permits_are_given_over_processes,
    the_slot_of_a_killed_process_comes_back,
    a_fleet_gets_the_rate_and_no_more,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_explains_is_said_in_its_words() {
    let store = Store::nats(Release::Newest).await;
    let limiter = "[limiters.api]\nstore = \"s\"\nrate_per_second = 100.0\n";
    let write = |store_lines: &str| {
        std::fs::write(store.path("rate-sync.toml"), format!("[stores.s]\n{store_lines}{limiter}"))
    };
    write("engine = \"nats\"\n").unwrap();
    let said = store.fails(2, "limit acquire api").await;
    assert!(said.starts_with("error: Bucket not found: rate_limits"), "{said}");
    assert!(said.contains("jetbridge kv add rate_limits"), "{said}");
    write("engine = \"nats\"\nurl = \"nats://127.0.0.1:9\"\n").unwrap();
    let said = store.fails(3, "limit acquire api").await;
    assert!(said.starts_with("error: Connection refused"), "{said}");
    write("engine = \"redis\"\nurl = \"redis://localhost\"\n").unwrap();
    let said = store.fails(2, "limit acquire api").await;
    assert!(said.contains("rate-sync.toml:2:10") && said.contains("redis"), "{said}");
    write("engine = \"memory\"\nmax_retries = 3\n").unwrap();
    store.does("limit acquire api").await;
    let plan = store.does("check rate-sync.toml").await;
    assert!(plan.contains("`max_retries` has no effect"), "{plan}");
    assert_eq!(store.run(&["limit", "ls", "--config", "missing.toml"]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_policy_on_a_key_is_one_line_with_the_word() {
    let store = Store::local();
    lay_out(&store, "[limiters.api]\nstore = \"s\"\nperiod = \"1h\"\nburst = 3\n");
    store.does("limit acquire api").await;
    lay_out(&store, "[limiters.api]\nstore = \"s\"\nperiod = \"2h\"\nburst = 3\n");
    let said = store.run(&["limit", "acquire", "api"]).await;
    assert_eq!((said.code, said.err.lines().count()), (0, 1), "{said:?}");
    assert!(said.err.contains("policy"), "{said:?}");
    let said = store.run(&["limit", "acquire", "api"]).await;
    assert_eq!(said.err, "", "it is converted");
}
