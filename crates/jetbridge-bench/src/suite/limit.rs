//! Limits: how much of a rate a fleet of processes gets, how evenly, and how many decisions there
//! are when the rate is far away; Redis with a GCRA in Lua as the yardstick.

mod fleet;
mod redis;

use std::time::{Duration, Instant};

use jetbridge_core::{BucketName, BucketSpec, Open};
use jetbridge_limit::{Limits, Policy};
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions};

pub(crate) use self::fleet::{Caller, serve};

use self::fleet::{Fleet, Summary, run as run_fleet};
use crate::Outcome;
use crate::args::Args;
use crate::report::{Report, Row, Target};

/// How long callers ask in one measure.
const TIME: Duration = Duration::from_secs(3);
/// A rate that nobody reaches.
const FAR: f64 = 1e6;
/// The round trip of the measures at a distance.
const AWAY: Duration = Duration::from_millis(10);
/// Denials that are timed.
const DENIALS: u32 = 2_000_000;

const SHAPES: [(u32, u32); 3] = [(1, 1), (1, 32), (4, 8)];

pub(super) async fn run(_args: &Args, report: &mut Report) -> Outcome {
    for release in [Release::Newest, Release::Oldest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let on = release.version();
        decisions(&server.url(), on, report).await?;
        shares(&server.url(), on, report).await?;
        let proxy = Proxy::start(server.address()).await;
        proxy.latency(AWAY);
        away(&proxy.url(), on, report).await?;
    }
    let directory = tempfile::tempdir()?;
    let store = format!("local:{}", directory.path().display());
    decisions(&store, "embedded", report).await?;
    shares(&store, "embedded", report).await?;
    denials(report).await?;
    redis::run(report).await
}

/// Decisions per second with the rate far away.
async fn decisions(store: &str, on: &str, report: &mut Report) -> Outcome {
    for (processes, callers) in SHAPES {
        let fleet = Fleet { store, rate: FAR, burst: 1_000_000, processes, callers, time: TIME };
        let summary = run_fleet(&fleet).await?;
        let name = format!("decisions, {processes}×{callers}");
        let mut row = Row::alone(&name, "/s", on, summary.per_second());
        if let Some(target) = decisions_target(on, processes, callers) {
            row = row.target(Target::AtLeast(target));
        }
        report.add(row);
        report.add(Row::alone(&format!("{name}: p99"), "ms", on, summary.p99_ms));
        let requests = summary.requests_per_grant();
        report.add(Row::alone(&format!("{name}: requests per grant"), "", on, requests));
    }
    Ok(())
}

fn decisions_target(on: &str, processes: u32, callers: u32) -> Option<f64> {
    Some(match (on, processes, callers) {
        ("embedded", 1, 32) => 300_000.0,
        ("embedded", 4, 8) => 60_000.0,
        ("embedded", ..) => return None,
        (_, 1, 1) => 20_000.0,
        (_, 1, 32) => 200_000.0,
        (version, 4, 8) if version == Release::Oldest.version() => 45_000.0,
        (_, 4, 8) => 90_000.0,
        _ => return None,
    })
}

/// How much of a rate is given, on loopback.
async fn shares(store: &str, on: &str, report: &mut Report) -> Outcome {
    for (rate, burst) in [(10.0, 1), (100.0, 1), (1000.0, 10), (10_000.0, 100)] {
        for (processes, callers) in SHAPES {
            let fleet = Fleet { store, rate, burst, processes, callers, time: TIME };
            let summary = run_fleet(&fleet).await?;
            let name = format!("share of {rate}/s, {processes}×{callers}");
            let least = if (rate, callers) == (10_000.0, 1) { 75.0 } else { 98.0 };
            add_share(&name, on, (&fleet, &summary), least, report);
        }
    }
    Ok(())
}

/// The same at a distance, with how long callers wait and how evenly they are served.
async fn away(store: &str, on: &str, report: &mut Report) -> Outcome {
    for (burst, processes, least, p99) in
        [(100, 4, 99.0, 60.0), (100, 8, 99.0, 90.0), (10, 4, 98.0, 150.0)]
    {
        let fleet = Fleet { store, rate: 1000.0, burst, processes, callers: 8, time: TIME };
        let summary = run_fleet(&fleet).await?;
        let name = format!("share of 1000/s, burst {burst}, {processes}×8, 10 ms away");
        add_share(&name, on, (&fleet, &summary), least, report);
        let row = Row::alone(&format!("{name}: p99"), "ms", on, summary.p99_ms);
        report.add(row.target(Target::AtMost(p99)));
        let row = Row::alone(&format!("{name}: Jain, processes"), "", on, summary.jain());
        report.add(row.target(Target::AtLeast(0.99)));
    }
    Ok(())
}

fn add_share(
    name: &str,
    on: &str,
    (fleet, summary): (&Fleet<'_>, &Summary),
    least: f64,
    report: &mut Report,
) {
    let share = summary.share(fleet);
    report.add(Row::alone(name, "%", on, share).target(Target::AtLeast(least)));
    if summary.granted as f64 > fleet.most(summary.seconds) {
        let over = summary.granted as f64 - fleet.most(summary.seconds);
        report.add(Row::alone(&format!("{name}: GIVEN TOO OFTEN"), "", on, over));
    }
}

/// Denials of one process that is under attack.
async fn denials(report: &mut Report) -> Outcome {
    let store = std::sync::Arc::new(jetbridge_core::MemoryBackend::new());
    let bucket = BucketName::parse("rate_limits")?;
    let limits = Limits::open(store, &bucket, Open::ensure(BucketSpec::default())).await?;
    let limiter = limits.limiter("api", Policy::per_period(1, Duration::from_secs(3600))?)?;
    limiter.try_acquire().await?.allowed.then_some(()).ok_or("the first call was denied")?;
    limiter.try_acquire().await?.allowed.then_some(()).map_or(Ok(()), |()| Err("not denied"))?;
    let before = limiter.metrics().store_requests;
    let begin = Instant::now();
    for _ in 0..DENIALS {
        if limiter.try_acquire().await?.allowed {
            return Err("a denied caller was let through".into());
        }
    }
    let rate = f64::from(DENIALS) / begin.elapsed().as_secs_f64();
    report.add(Row::alone("denials, one task", "/s", "any", rate).target(Target::AtLeast(1e6)));
    let requests = (limiter.metrics().store_requests - before) as f64;
    let row = Row::alone("requests for these", "", "any", requests);
    report.add(row.target(Target::AtMost(0.0)));
    Ok(())
}
