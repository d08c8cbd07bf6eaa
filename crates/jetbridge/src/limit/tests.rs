//! rate-sync's files, as its page prints them and as people get them wrong.

use std::time::Duration;

use jetbridge_core::{Backend, ErrorKind, MemoryBackend};

use super::*;
use crate::settings::{Environment, Expansion, Location, parse_toml};

fn read(text: &str) -> Result<LimitFile, Vec<jetbridge_core::Error>> {
    let environment = Environment::from_iter([("RATE", "250")]);
    let mut root = parse_toml("rate-sync.toml", text).map_err(|problem| vec![problem])?;
    root.expand(&environment, Expansion::Braces).map_err(|problem| vec![problem])?;
    LimitFile::read(&[&root], &environment)
}

#[track_caller]
fn limiter(lines: &str) -> LimiterSpec {
    let text = format!("[stores.s]\nengine = \"nats\"\n[limiters.api]\nstore = \"s\"\n{lines}\n");
    read(&text).unwrap().limiters.remove(0)
}

#[track_caller]
fn check_problem(text: &str, message: &str, hint: Option<&str>) {
    let problems = read(text).unwrap_err();
    let said = problems.first().map(|it| (it.message().unwrap_or_default(), it.hint_text()));
    assert_eq!(said, Some((message, hint)), "{text}");
}

const PAGE: &str = r#"
[stores.nats]
engine = "nats"
url = "nats://localhost:4222"
token = "${NATS_TOKEN:-}"        # Optional auth token
bucket_name = "rate_limits"       # KV bucket name
auto_create = false               # Create bucket if missing
retry_interval = 0.05             # CAS retry interval (seconds)
max_retries = 100                 # Max CAS retries
timing_margin_ms = 10.0           # Timing safety margin

[limiters.api]
store = "nats"
rate_per_second = 100.0
timeout = 30.0
"#;

#[test]
fn the_page_is_read_as_printed() {
    let file = read(PAGE).unwrap();
    let store = &file.stores[0];
    assert_eq!((store.bucket.as_str(), store.auto_create), ("rate_limits", false));
    assert!(matches!(&store.location, Some(Location::Nats(_))));
    assert_eq!(file.notes.len(), 2, "{:?}", file.notes);
    assert!(file.notes[0].starts_with("rate-sync.toml:8:1: `retry_interval` has no effect"));
    assert!(file.notes[1].contains("`max_retries`"));
    let api = file.limiter("api:user:42").unwrap();
    assert_eq!(api.policy, Policy::per_second(100.0).unwrap());
    assert_eq!(api.timeout, Some(Duration::from_secs(30)));
    assert_eq!((api.opts, api.cost), (LimiterOpts::default(), 1));
}

#[test]
fn a_rate_without_burst_gives_at_once_what_the_margin_is_worth() {
    for (rate, burst) in [("0.5", 1), ("100", 1), ("1000", 10), ("${RATE}", 2), ("1e6", 10_000)] {
        assert_eq!(
            limiter(&format!("rate_per_second = \"{rate}\"")).policy.limit(),
            burst,
            "{rate}"
        );
    }
    assert_eq!(limiter("rate_per_second = 1000.0\nburst = 3").policy.limit(), 3);
    let text = PAGE.replace("10.0 ", "50.0 ");
    assert_eq!(read(&text).unwrap().limiters[0].policy.limit(), 5);
}

#[test]
fn every_algorithm_and_every_key() {
    let minute = Duration::from_secs(60);
    let window = "algorithm = \"sliding_window\"\nwindow_seconds = 60\nlimit = ";
    let exact = Policy::sliding_log(5, minute).unwrap();
    assert_eq!(limiter(&format!("{window}5")).policy, exact);
    let counted = Policy::sliding_window(5000, minute).unwrap();
    assert_eq!(limiter(&format!("{window}5000")).policy, counted);
    let fixed = limiter(&format!("{window}5").replace("sliding", "fixed"));
    assert_eq!(fixed.policy, Policy::fixed_window(5, minute).unwrap());
    assert_eq!(limiter("max_concurrent = 3").policy, Policy::concurrent(3).unwrap());
    let both = Policy::per_second(10.0).unwrap().max_concurrent(3).unwrap();
    assert_eq!(limiter("rate_per_second = 10\nmax_concurrent = 3").policy, both);
    let daily = Policy::per_period(1, Duration::from_secs(86_400)).unwrap();
    assert_eq!(limiter("period = \"1d\"").policy, daily);
    let per_minute = Policy::per_period(6, minute).unwrap();
    assert_eq!(limiter("limit = 6\nperiod = 60").policy, per_minute);
    let api = limiter(
        "rate_per_second = 10\nburst = 5\ncost = 2\nmax_wait = \"1m\"\nlease = 2\nfail_closed = true",
    );
    assert_eq!((api.cost, api.opts.on_error), (2, OnError::Closed));
    assert_eq!(api.opts.lease, Duration::from_secs(2));
    assert_eq!(api.wait(Some(Duration::from_secs(90))), Some(minute));
    assert_eq!(api.wait(None), Some(minute));
    for (written, on_error) in [
        ("\"open\"", OnError::Open),
        ("\"closed\"", OnError::Closed),
        ("\"local\"", OnError::Local { share: 1.0 }),
        ("{local = 0.25}", OnError::Local { share: 0.25 }),
    ] {
        let api =
            limiter(&format!("rate_per_second = 1\nfail_closed = true\non_error = {written}"));
        assert_eq!(api.opts.on_error, on_error);
    }
}

#[test]
fn a_limiter_without_a_store_and_a_store_without_a_server_use_the_files() {
    let file = read("[limiters.api]\nrate_per_second = 1.0\n").unwrap();
    let store = file.store_of(&file.limiters[0]).unwrap();
    assert!(store.location.is_none() && store.auto_create && file.needs_store());
    let file = read("[stores.m]\nengine = \"memory\"\n[stores.n]\nengine = \"nats\"\n").unwrap();
    assert_eq!(file.stores[0].engine, Engine::Memory);
    assert!(file.stores[0].auto_create && file.stores[1].location.is_none());
}

#[test]
fn other_engines_are_refused_by_name() {
    for engine in ["redis", "postgres"] {
        let problems = read(&format!("[stores.s]\nengine = \"{engine}\"\nurl = \"x\"\n"));
        let problem = problems.unwrap_err().remove(0);
        assert_eq!(problem.kind(), ErrorKind::Unsupported);
        let words = format!("rate-sync.toml:2:10: there is no engine `{engine}` here");
        assert_eq!(problem.message(), Some(words.as_str()));
        assert!(problem.hint_text().unwrap().contains("engine = \"nats\""));
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let in_limiter = |lines: &str| format!("[limiters.api]\n{lines}\n");
    let f = "rate-sync.toml";
    for (lines, message) in [
        ("rate_per_secnd = 1.0", format!("{f}:2:1: unknown key `rate_per_secnd`")),
        ("rate_per_second = \"fast\"", format!("{f}:2:19: `rate_per_second`: is not a number")),
        (
            "max_concurrent = 1.5",
            format!("{f}:2:18: `max_concurrent`: is not a whole number from 0"),
        ),
        (
            "rate_per_second = 0.0",
            format!("{f}:2:19: a rate is between one a year and 1,000,000 a second"),
        ),
        (
            "rate_per_second = 1.0\ncost = 2",
            format!("{f}:3:8: `cost` is 1 to 1, what can be had at once"),
        ),
        ("rate_per_second = 1.0\nstore = \"x\"", format!("{f}:3:9: there is no store `x`")),
        (
            "rate_per_second = 1.0\nperiod = 3",
            format!("{f}:3:10: `period` and `rate_per_second` are two ways to say one thing"),
        ),
        (
            "rate_per_second = 1.0\nwindow_seconds = 3",
            format!("{f}:3:1: `window_seconds` is for windows: a token bucket has `period`"),
        ),
        (
            "algorithm = \"leaky\"",
            format!("{f}:2:13: `algorithm`: is none of fixed_window, sliding_window, token_bucket"),
        ),
        ("timeout = 3.0", format!("{f}:1:11: `api` limits nothing")),
        (
            "rate_per_second = 1.0\ntimeout = \"soon\"",
            format!("{f}:3:11: `timeout`: `soon` is not a duration"),
        ),
        (
            "rate_per_second = 1.0\nfail_closed = \"maybe\"",
            format!("{f}:3:15: `fail_closed`: is neither true nor false"),
        ),
        (
            "rate_per_second = 1.0\non_error = \"shut\"",
            format!(
                "{f}:3:12: `on_error`: is not `open`, `closed`, `local` or `{{local = SHARE}}`"
            ),
        ),
        (
            "rate_per_second = 1.0\non_error = {local = 2.0}",
            format!("{f}:3:12: a process's share is above 0 and at most 1"),
        ),
    ] {
        let problems = read(&in_limiter(lines)).unwrap_err();
        assert_eq!(problems[0].message(), Some(message.as_str()), "{lines}");
    }
    check_problem(
        "[stores.s]\nengine = \"nats\"\nbucket = 1\nbucket_nmae = \"b\"\n",
        "rate-sync.toml:4:1: unknown key `bucket_nmae`",
        Some("did you mean `bucket_name`?"),
    );
    check_problem(
        "[stores.s]\nengine = \"nats\"\ntoken = \"s3cr3t\"\n",
        "rate-sync.toml:3:1: `token`: is for servers of NATS, and none is named here",
        Some("name the server too: `url`"),
    );
    check_problem("stores = 3\n", "rate-sync.toml:1:10: `stores` is a map of names", None);
    assert_eq!(read("[limiters.a]\ncost = 1\n[limiters.b]\ncost = 1\n").unwrap_err().len(), 2);
}

#[tokio::test]
async fn an_existing_connection_can_be_passed_in_and_a_missing_bucket_is_said() {
    let store = std::sync::Arc::new(MemoryBackend::new());
    let passed = || std::sync::Arc::clone(&store) as std::sync::Arc<dyn Backend>;
    let text = "[stores.s]\nengine = \"nats\"\n[limiters.api]\nstore = \"s\"\nrate_per_second = 1\n\
                [limiters.slots]\nmax_concurrent = 1\n";
    let file = read(text).unwrap();
    let missing = Limiters::open(&file, passed()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(missing.message(), Some("Bucket not found: rate_limits"));
    assert!(missing.hint_text().unwrap().contains("jetbridge kv add rate_limits"));
    let file = read(&text.replace("\"nats\"", "\"nats\"\nauto_create = true")).unwrap();
    let limiters = Limiters::open(&file, passed()).await.unwrap();
    assert!(limiters.find("api").unwrap().unwrap().limiter.try_acquire().await.unwrap().allowed);
    assert_eq!(limiters.all().count(), 2);
    assert_eq!(limiters.find("api:").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(limiters.close(Duration::from_secs(5)).await, 0);
    assert!(passed().now().await.is_ok(), "the connection is still open");
}
