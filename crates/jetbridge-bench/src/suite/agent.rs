//! `jetbridge up` as a whole process: keys and limits over HTTP, many streams of events, what it
//! takes while nothing happens, how soon it is ready; and `jetbridge copy`.

mod copy;
mod events;
mod idle;
mod load;
mod up;

use std::time::Duration;

use jetbridge_testkit::{NatsServer, Release, ServerOptions};

use self::load::Load;
use self::up::Up;
use crate::Outcome;
use crate::args::Args;
use crate::report::{Report, Row, Target};

/// What the embedded store is called in the table.
const EMBEDDED: &str = "embedded";
/// Connections that ask at once.
const CONNECTIONS: usize = 64;
/// Keys that are read and written in turn.
const KEYS: usize = 1000;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// How long one measure of requests takes.
    time: Duration,
    /// Streams of events.
    streams: usize,
    /// Between a start and the look at what an idle process takes.
    settle: Duration,
    /// How long that look takes.
    look: Duration,
    /// Starts that are timed.
    starts: usize,
    /// MiB of objects that are copied.
    copied_mib: usize,
    /// Keys that are copied.
    copied_keys: usize,
}

impl Sizes {
    const WHOLE: Self = Self {
        time: Duration::from_secs(5),
        streams: 10_000,
        settle: Duration::from_secs(10),
        look: Duration::from_secs(30),
        starts: 9,
        copied_mib: 1024,
        copied_keys: 1_000_000,
    };
    /// To see that it works, not how fast.
    const SMALL: Self = Self {
        time: Duration::from_millis(300),
        streams: 200,
        settle: Duration::from_secs(1),
        look: Duration::from_secs(1),
        starts: 1,
        copied_mib: 8,
        copied_keys: 2000,
    };
}

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    let sizes = if args.small { Sizes::SMALL } else { Sizes::WHOLE };
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let directory = tempfile::tempdir()?;
    let embedded = format!("local:{}", directory.path().display());
    let (nats, on) = (server.url(), server.release().version());
    for (store, on) in [(&*nats, on), (&*embedded, EMBEDDED)] {
        requests((store, on), sizes, report).await?;
        events::run((store, on), sizes.streams, report).await?;
        idle::run((store, on), sizes, report).await?;
    }
    copy::run(&nats, (on, sizes), report).await
}

/// Keys and limits, asked by [`CONNECTIONS`] at once.
async fn requests((store, on): (&str, &str), sizes: Sizes, report: &mut Report) -> Outcome {
    const FILE: &str = "buckets: {bench: {}}\n\
                        limiters: {api: {rate_per_second: 1000000.0, burst: 1000000}}\n";
    let up = Up::start(store, FILE).await?;
    let load = Load { address: up.address, connections: CONNECTIONS, time: sizes.time };
    let value = "v".repeat(super::VALUE_BYTES);
    let (get, put) = if on == EMBEDDED { (40_000.0, 25_000.0) } else { (20_000.0, 15_000.0) };
    let path = |number: usize| format!("/v1/kv/bench/key{:04}", number % KEYS);
    load.once("PUT", (0..KEYS).map(path), &value).await?;
    for (method, least) in [("PUT", put), ("GET", get)] {
        let body = if method == "PUT" { &*value } else { "" };
        let done = load.run(method, path, body).await?;
        let name = format!("HTTP {method} of a key, {CONNECTIONS} connections");
        let row = Row::alone(&name, "/s", on, done.per_second);
        report.add(row.target(Target::AtLeast(least)));
        report.add(Row::alone(&format!("{name}: p99"), "ms", on, done.p99_ms));
    }
    let path = |_number: usize| "/v1/limits/api/acquire".to_owned();
    let done = load.run("POST", path, "").await?;
    let name = format!("HTTP acquire of a limit, {CONNECTIONS} connections");
    let row = Row::alone(&name, "/s", on, done.per_second);
    report.add(row.target(Target::AtLeast(25_000.0)));
    let row = Row::alone(&format!("{name}: p99"), "ms", on, done.p99_ms);
    report.add(row.target(Target::AtMost(10.0)));
    up.end().await
}
