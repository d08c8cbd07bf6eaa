//! `limit` and `up` when things go wrong around them: servers that are killed or stand still,
//! clocks that are set, holders that die, callers that hang up, files and buckets that changed.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_testkit::{Release, eventually};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::binary::{Running, Store, finish};
use crate::limit::{WITHIN, address, json, lay_out};
use crate::up::ask;

/// Longer than the default deadline of 250 ms on a busy machine, and far from the seconds after
/// which a connection gives a request up.
const DEADLINE_SLACK: Duration = Duration::from_secs(2);

/// Limiters of each policy about errors, over HTTP.
const POLICIES: &str = "http: {listen: '127.0.0.1:0'}\n\
    stores: {s: {engine: nats, auto_create: true}}\n\
    limiters:\n  a: {store: s, rate_per_second: 1000, burst: 100}\n  \
    b: {store: s, rate_per_second: 1000, burst: 100, fail_closed: true}\n  \
    c: {store: s, period: 1h, burst: 4, on_error: {local: 0.5}}\n";

async fn acquire(address: &str, id: &str) -> String {
    ask(address, "POST", &format!("/v1/limits/{id}/acquire")).await
}

async fn up(store: &Store, text: &str) -> (Running, String) {
    std::fs::write(store.path("up.yml"), text).unwrap();
    let mut up = store.start(&["up", "up.yml"]);
    let address = address(&mut up).await;
    (up, address)
}

async fn store_decides(address: &str, ids: &[&str]) {
    for id in ids {
        eventually("the store decides", WITHIN, async || {
            acquire(address, id).await.contains("\"source\":\"store\"").then_some(())
        })
        .await;
    }
}

async fn without_an_answer_the_policy_decides(address: &str) {
    for (id, status, source) in [("a", 200, "open"), ("b", 503, "closed"), ("c", 200, "local")] {
        let peeked = ask(address, "POST", &format!("/v1/limits/{id}/peek")).await;
        assert!(peeked.starts_with("HTTP/1.1 200"), "whoever looks is told: {id}: {peeked}");
        assert!(peeked.contains(&format!("\"source\":\"{source}\"")), "{id}: {peeked}");
        let said = acquire(address, id).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{id}: {said}");
        assert!(said.contains(&format!("\"source\":\"{source}\"")), "{id}: {said}");
    }
}

/// A connection that is there, and nobody at its other end.
async fn a_server_that_stands_still_costs_a_deadline(store: Store) {
    let (up, address) = up(&store, POLICIES).await;
    store_decides(&address, &["a", "b", "c"]).await;
    store.server().pause().await;
    let mut begun = Instant::now();
    let first = acquire(&address, "a").await;
    assert!(first.contains("\"source\":\"open\""), "{first}");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(250) && waited < DEADLINE_SLACK, "{waited:?}");
    without_an_answer_the_policy_decides(&address).await;
    // An error is never taken for a denial, however often one asks, and soon nobody waits.
    let state = |metrics: &str| {
        let line = "ratesync_circuit_breaker_state{group_id=\"b\",engine=\"nats\"} ";
        metrics.split_once(line).unwrap().1.chars().next().unwrap()
    };
    eventually("the circuit opens", WITHIN, async || {
        let said = acquire(&address, "b").await;
        assert!(said.starts_with("HTTP/1.1 503"), "{said}");
        (state(&ask(&address, "GET", "/metrics").await) == '2').then_some(())
    })
    .await;
    begun = Instant::now();
    for _ in 0..40 {
        assert!(acquire(&address, "b").await.contains("\"source\":\"closed\""));
    }
    // Without the circuit, 40 deadlines.
    assert!(begun.elapsed() < Duration::from_millis(250) * 20, "{:?}", begun.elapsed());
    store.server().resume();
    store_decides(&address, &["a", "b"]).await;
    assert_eq!(state(&ask(&address, "GET", "/metrics").await), '0');
    up.signal(Signal::TERM);
    assert_eq!(up.end().await.1, 0);
}

async fn a_killed_server_is_no_denial_and_comes_back(store: Store) {
    let (up, address) = up(&store, POLICIES).await;
    store_decides(&address, &["a", "b", "c"]).await;
    store.server().kill();
    without_an_answer_the_policy_decides(&address).await;
    store.server().restart().await;
    store_decides(&address, &["a", "b"]).await;
    // What it had given before it was killed is not given again.
    eventually("the store decides about the third", WITHIN, async || {
        let said = ask(&address, "POST", "/v1/limits/c/peek").await;
        let body = said.split_once("\r\n\r\n").unwrap().1;
        let decision: Value = serde_json::from_str(body).unwrap();
        (decision["source"] == "store").then(|| assert_eq!(decision["remaining"], 3, "{said}"))
    })
    .await;
    up.signal(Signal::TERM);
    assert_eq!(up.end().await.1, 0);
}

/// A server that was never there since the start is no other outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_yet_is_an_outage_too() {
    let store = Store::nats(Release::Newest).await;
    store.server().kill();
    let text = POLICIES.replace("nats,", &format!("nats, url: '{}',", store.url()));
    let (up, address) = up(&store, &text).await;
    for id in ["a", "b", "c"] {
        eventually("the limiter's section has begun", WITHIN, async || {
            let peeked = ask(&address, "POST", &format!("/v1/limits/{id}/peek")).await;
            (!peeked.starts_with("HTTP/1.1 503")).then_some(())
        })
        .await;
    }
    without_an_answer_the_policy_decides(&address).await;
    // Two of four are this process's share, and one is taken.
    assert!(acquire(&address, "c").await.starts_with("HTTP/1.1 200"));
    let denied = acquire(&address, "c").await;
    assert!(denied.starts_with("HTTP/1.1 429") && denied.contains("\"local\""), "{denied}");
    store.server().restart().await;
    store_decides(&address, &["a", "b", "c"]).await;
    up.signal(Signal::TERM);
    assert_eq!(up.end().await.1, 0);
}

/// A library that sets the wall clock of the process that it is loaded into.
fn preload(store: &Store) -> PathBuf {
    let library = PathBuf::from(store.path("clock.so"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preload/clock.rs");
    let words = ["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", "-o"];
    let built = Command::new("rustc").args(words).arg(&library).arg(source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// The binary, or another program, with a clock that is set by so many seconds once the file is
/// there.
fn with_clock(
    mut command: tokio::process::Command,
    store: &Store,
    by: i64,
) -> tokio::process::Command {
    command.env("LD_PRELOAD", store.path("clock.so")).env("CLOCK_STEP_FILE", store.path("step"));
    command.env("CLOCK_STEP_SECONDS", by.to_string());
    command
}

async fn a_clients_wall_clock_has_no_effect(store: Store) {
    preload(&store);
    lay_out(
        &store,
        "[limiters.once]\nstore = \"s\"\nperiod = \"1h\"\n\
         [limiters.api]\nstore = \"s\"\nrate_per_second = 50\n",
    );
    std::fs::write(store.path("step"), "").unwrap();
    const HOURS: i64 = 5 * 3600;
    let skewed = async |by: i64, words: &[&str]| {
        finish(with_clock(store.command(words), &store, by), b"").await
    };
    let shown = finish(with_clock(store.shell("date +%s"), &store, HOURS), b"").await.text();
    let honest = finish(store.shell("date +%s"), b"").await.text();
    let difference = shown.trim().parse::<i64>().unwrap() - honest.trim().parse::<i64>().unwrap();
    assert!((difference - HOURS).abs() < 60, "the clock is not set: {difference}");

    let acquire = ["--json", "limit", "acquire", "once"];
    for first in [0, HOURS, -HOURS] {
        assert_eq!(skewed(first, &acquire).await.code, 0, "{first}");
        for by in [0, HOURS, -HOURS] {
            let denied = skewed(by, &acquire).await;
            assert_eq!(denied.code, 1, "{first}, {by}: {denied:?}");
            let decision: Value = serde_json::from_str(&denied.text()).unwrap();
            let retry = decision["retry_after_ms"].as_u64().unwrap();
            assert!((3_400_000..=3_600_000).contains(&retry), "{first}, {by}: {retry}");
        }
        store.does("limit reset once").await;
    }

    // Set while it runs: neither process starves, and together they get no more.
    std::fs::remove_file(store.path("step")).unwrap();
    let bench = ["--json", "limit", "bench", "api", "--callers", "2", "--for", "4s"];
    let begun = Instant::now();
    let granted = async |by: i64| {
        let said = skewed(by, &bench).await;
        let figures: Value = serde_json::from_str(&said.text()).unwrap();
        assert_eq!((&figures["failed"], said.err.as_str()), (&0.into(), ""), "{said:?}");
        figures["granted"].as_u64().unwrap()
    };
    let step = async {
        let used = async || {
            let list = store.run(&["limit", "peek", "api"]).await;
            (list.code == 1).then_some(())
        };
        eventually("the limiter is in use", WITHIN, used).await;
        std::fs::write(store.path("step"), "").unwrap();
    };
    let (honest, ahead, behind, ()) =
        tokio::join!(granted(0), granted(HOURS), granted(-HOURS), step);
    let sum = honest + ahead + behind;
    let most = 50.0 * begun.elapsed().as_secs_f64() + 2.0;
    assert!(u32::try_from(sum).map(f64::from).unwrap() <= most, "{sum} of {most}");
    for (who, granted) in [("honest", honest), ("ahead", ahead), ("behind", behind)] {
        assert!(granted * 10 >= sum, "{who} starves: {granted} of {sum}");
    }
}

async fn a_killed_holder_loses_its_slot_under_traffic(store: Store) {
    lay_out(&store, "[limiters.db]\nstore = \"s\"\nmax_concurrent = 2\nlease = 1\n");
    let mut holder = store.start(&["limit", "run", "db", "--", "sh", "-c", "echo in; read x"]);
    assert_eq!(holder.line().await, "in");
    holder.signal(Signal::KILL);
    // Others write the key all the time, which must not keep the dead alive.
    eventually("both slots are free", WITHIN, async || {
        assert_eq!(store.run(&["limit", "acquire", "db"]).await.code, 0, "one is free always");
        (json(&store, "limit peek db").await["remaining"] == 2).then_some(())
    })
    .await;
}

/// Whoever hangs up leaves no slot; not even one whose answer was on its way.
async fn two_hundred_callers_that_hang_up_leave_no_slot(store: Store) {
    let text = "http: {listen: '127.0.0.1:0'}\nstores: {s: {engine: nats, auto_create: true}}\n\
                limiters: {db: {store: s, max_concurrent: 3, lease: 2s}}\n";
    let (up, address) = up(&store, text).await;
    store_decides(&address, &["db"]).await;
    let calls = (0..200_u64).map(|number| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = "POST /v1/limits/db/acquire?wait=30s HTTP/1.1\r\nHost: localhost\r\n\
                           Content-Length: 0\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            // A point in the call that differs from caller to caller.
            tokio::time::sleep(Duration::from_micros(number * 97 % 20_000)).await;
        }
    });
    join_all(calls).await;
    eventually("all slots are free", WITHIN, async || {
        let said = ask(&address, "POST", "/v1/limits/db/peek").await;
        said.contains("\"remaining\":3").then_some(())
    })
    .await;
    up.signal(Signal::TERM);
    assert_eq!(up.end().await.1, 0);
}

async fn any_key_is_a_key_and_is_listed_as_it_was_given(store: Store) {
    lay_out(&store, "[limiters.api]\nstore = \"s\"\nperiod = \"1h\"\n");
    let keys = ["user:42", "::1", "2001:db8::1", "*", ">", "a.b", "..", "a b", "é☃", "/x//", "=3A"];
    for key in keys {
        let id = format!("api:{key}");
        let words = ["limit", "acquire", &id];
        assert_eq!(store.run(&words).await.code, 0, "{key}");
        assert_eq!(store.run(&words).await.code, 1, "{key} has a limit of its own");
    }
    let listed = store.does("--json limit ls").await;
    let ids: Vec<String> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    for key in keys {
        assert!(ids.contains(&format!("api:{key}")), "{key}: {ids:?}");
    }
    assert_eq!(ids.len(), keys.len() + 1, "{ids:?}");
    assert_eq!(store.run(&["limit", "acquire", "api:"]).await.code, 2);
    let long = format!("api:{}", "x".repeat(2000));
    assert_eq!(store.run(&["limit", "acquire", &long]).await.code, 2);
}

async fn rates_reach_from_one_a_day_to_a_million_a_second(store: Store) {
    lay_out(
        &store,
        "[limiters.daily]\nstore = \"s\"\nperiod = \"1d\"\n\
         [limiters.fast]\nstore = \"s\"\nrate_per_second = 1e6\n",
    );
    store.does("limit acquire daily").await;
    let denied = store.run(&["--json", "limit", "acquire", "daily"]).await;
    let decision: Value = serde_json::from_str(&denied.text()).unwrap();
    let retry = decision["retry_after_ms"].as_u64().unwrap();
    assert!(denied.code == 1 && (86_300_000..=86_400_000).contains(&retry), "{decision}");
    let bench = json(&store, "limit bench fast --callers 32 --for 1s").await;
    let granted = bench["granted"].as_u64().unwrap();
    assert!((1_000..=1_100_000).contains(&granted) && bench["failed"] == 0, "{bench}");
    assert!(store.fails(2, "limit acquire fast --cost 10001").await.contains("limit"));
}

async fn another_policy_is_converted_counted_and_said(store: Store) {
    let text = |burst: u32| {
        format!(
            "http: {{listen: '127.0.0.1:0'}}\nstores: {{s: {{engine: nats, auto_create: true}}}}\n\
             limiters: {{api: {{store: s, period: 1h, burst: {burst}}}}}\n"
        )
    };
    lay_out(&store, "[limiters.api]\nstore = \"s\"\nperiod = \"1h\"\nburst = 3\n");
    store.does("limit acquire api").await;
    let (mut up, address) = up(&store, &text(5)).await;
    store_decides(&address, &["api"]).await;
    let said = loop {
        let line = up.note().await;
        if line.contains("policy") {
            break line;
        }
    };
    assert!(said.contains("api"), "{said}");
    let mismatches = async || {
        let metrics = ask(&address, "GET", "/metrics").await;
        let line = "jetbridge_limit_policy_mismatches_total{limiter=\"api\"} ";
        let (_, rest) = metrics.split_once(line).unwrap();
        rest.lines().next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(mismatches().await, 1);
    // Two of three were left, and one is taken: a larger burst fills with time.
    let peek = ask(&address, "POST", "/v1/limits/api/peek").await;
    assert!(peek.contains("\"limit\":5") && peek.contains("\"remaining\":1"), "{peek}");

    // The same while it runs.
    std::fs::write(store.path("up.yml"), text(6)).unwrap();
    up.signal(Signal::HUP);
    eventually("the new policy", WITHIN, async || {
        let peek = ask(&address, "POST", "/v1/limits/api/peek").await;
        (peek.contains("\"limit\":6")).then(|| assert!(peek.contains("\"remaining\":1"), "{peek}"))
    })
    .await;
    for (status, left) in [("200", 0), ("429", 0)] {
        let said = acquire(&address, "api").await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        assert!(said.contains(&format!("\"remaining\":{left}")), "{said}");
    }
    assert_eq!(mismatches().await, 2);
    up.signal(Signal::TERM);
    assert_eq!(up.end().await.1, 0);
}

async fn a_bucket_that_forgets_too_soon_is_refused_naming_both(store: Store) {
    store.does("kv add rate_limits --ttl 10s").await;
    lay_out(
        &store,
        "[limiters.slow]\nstore = \"s\"\nperiod = \"1m\"\n\
         [limiters.fast]\nstore = \"s\"\nrate_per_second = 10\n",
    );
    for line in ["limit acquire slow", "up rate-sync.toml"] {
        let said = store.fails(2, line).await;
        let both = said.contains("10") && (said.contains("60") || said.contains("1m"));
        assert!(both && said.contains("rate_limits"), "{line}: {said}");
    }
    store.does("limit acquire fast").await;
}

async fn a_missing_bucket_is_said_with_what_helps(store: Store) {
    let text = "[stores.s]\nengine = \"nats\"\n[limiters.api]\nstore = \"s\"\nperiod = \"1h\"\n";
    std::fs::write(store.path("rate-sync.toml"), text).unwrap();
    let said = store.fails(2, "limit acquire api").await;
    assert!(said.starts_with("error: Bucket not found: rate_limits"), "{said}");
    assert!(said.contains("hint: make it with `jetbridge kv add rate_limits`"), "{said}");
    store.does("kv add rate_limits").await;
    store.does("limit acquire api").await;
}

on_every_store! {
    a_killed_holder_loses_its_slot_under_traffic,
    two_hundred_callers_that_hang_up_leave_no_slot,
    any_key_is_a_key_and_is_listed_as_it_was_given,
    rates_reach_from_one_a_day_to_a_million_a_second,
    another_policy_is_converted_counted_and_said,
    a_bucket_that_forgets_too_soon_is_refused_naming_both,
    a_missing_bucket_is_said_with_what_helps,
}

mod on_servers {
    use super::{Release, Store};

    async fn stands_still(release: Release) {
        super::a_server_that_stands_still_costs_a_deadline(Store::nats(release).await).await;
    }

    async fn killed(release: Release) {
        super::a_killed_server_is_no_denial_and_comes_back(Store::nats(release).await).await;
    }

    /// The embedded store's clock is the machine's, so this is about servers.
    async fn clock(release: Release) {
        super::a_clients_wall_clock_has_no_effect(Store::nats(release).await).await;
    }

    jetbridge_testkit::on_every_server! { stands_still, killed, clock }
}
