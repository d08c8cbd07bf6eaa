//! Limits: how much of a rate a fleet of processes gets, how evenly, and how many decisions there
//! are when the rate is far away; Redis with a GCRA in Lua as the yardstick.

mod alone;
mod fleet;
mod redis;

use std::time::Duration;

use futures_util::future::try_join_all;
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions};

pub(crate) use self::alone::touch;
pub(crate) use self::fleet::{Caller, serve};

use self::fleet::{Fleet, Summary, run as run_fleet};
use self::redis::{REDIS, Redis};
use crate::Outcome;
use crate::args::Args;
use crate::report::{Report, Row, Target};

/// How long callers ask in one measure.
const TIME: Duration = Duration::from_secs(3);
/// The same at ten a second, where one permit more or less would be 3 % of three seconds. Nobody
/// is busy then, so all shapes are measured at once.
const TIME_SLOW: Duration = Duration::from_secs(10);
/// The same at a distance, where waits are long, and the beginning takes a tenth of a second.
const TIME_AWAY: Duration = Duration::from_secs(10);
/// A rate that nobody reaches.
const FAR: f64 = 1e6;
/// The round trip of the measures at a distance.
const AWAY: Duration = Duration::from_millis(10);

const SHAPES: [(u32, u32); 3] = [(1, 1), (1, 32), (4, 8)];

/// What can be asked for by `--only`.
const PARTS: [&str; 5] = ["decisions", "shares", "away", "keys", "alone"];

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    let parts = args.chosen(&PARTS)?;
    let redis = if parts.contains(&"decisions") { Redis::start(report).await? } else { None };
    for release in [Release::Newest, Release::Oldest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let on = release.version();
        for part in &parts {
            match *part {
                "decisions" => decisions(&server.url(), on, redis.as_ref(), report).await?,
                "shares" => shares(&server.url(), on, report).await?,
                "away" => {
                    let proxy = Proxy::start(server.address()).await;
                    proxy.latency(AWAY);
                    away(&proxy.url(), on, report).await?;
                }
                "keys" if release == Release::Newest => {
                    alone::keys(&server.url(), on, report).await?;
                }
                _ => {}
            }
        }
    }
    drop(redis);
    let directory = tempfile::tempdir()?;
    let store = format!("local:{}", directory.path().display());
    for part in &parts {
        match *part {
            "decisions" => decisions(&store, "embedded", None, report).await?,
            "shares" => shares(&store, "embedded", report).await?,
            "alone" => {
                alone::decisions(report).await?;
                alone::denials(report).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Decisions per second with the rate far away; Redis beside them, right before.
async fn decisions(store: &str, on: &str, redis: Option<&Redis>, report: &mut Report) -> Outcome {
    for (processes, callers) in SHAPES {
        let theirs = match redis {
            Some(redis) if processes == 1 => Some(redis.decisions(callers).await?),
            Some(_) | None => None,
        };
        let fleet = Fleet { store, rate: FAR, burst: 1_000_000, processes, callers, time: TIME };
        let summary = run_fleet(&fleet).await?;
        let name = format!("decisions, {processes}×{callers}");
        let mut row = Row::alone(&name, "/s", on, summary.per_second());
        if let Some(target) = decisions_target(on, processes, callers) {
            row = row.target(Target::AtLeast(target));
        }
        if let Some(theirs) = theirs {
            row = row.beside(theirs);
            if callers == 32 {
                row = row.target(Target::Times(REDIS, 2.0));
            }
        }
        report.add(row);
        contention(&name, on, (&fleet, &summary), report);
    }
    Ok(())
}

/// What the decisions cost.
fn contention(name: &str, on: &str, (fleet, summary): (&Fleet<'_>, &Summary), report: &mut Report) {
    let row = Row::alone(&format!("{name}: p99"), "ms", on, summary.p99_ms);
    let alone = fleet.processes == 1 && on != "embedded";
    report.add(if alone { row.target(Target::AtMost(1.0)) } else { row });
    let requests = summary.requests_per_grant();
    let row = Row::alone(&format!("{name}: requests per grant"), "", on, requests);
    report.add(if fleet.processes > 1 { row.target(Target::AtMost(1.0)) } else { row });
    if fleet.processes > 1 {
        let lost = summary.conflicts as f64;
        report.add(Row::alone(&format!("{name}: lost races"), "", on, lost));
        if on == Release::Newest.version() {
            let lost = summary.conflicts_later as f64;
            let row = Row::alone(&format!("{name}: lost races after 0.2 s"), "", on, lost);
            report.add(row.target(Target::AtMost(0.0)));
        }
    }
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
    let fleet = |rate, burst, (processes, callers)| {
        let time = if rate <= 10.0 { TIME_SLOW } else { TIME };
        Fleet { store, rate, burst, processes, callers, time }
    };
    let slow = SHAPES.map(|shape| fleet(10.0, 1, shape));
    let summaries = try_join_all(slow.iter().map(run_fleet)).await?;
    for (fleet, summary) in slow.iter().zip(&summaries) {
        add_share(&share_name(fleet), on, (fleet, summary), 98.0, report);
    }
    for (rate, burst) in [(100.0, 1), (1000.0, 10), (10_000.0, 100)] {
        for shape in SHAPES {
            let fleet = fleet(rate, burst, shape);
            let summary = run_fleet(&fleet).await?;
            let least = if (rate, shape) == (10_000.0, (1, 1)) { 75.0 } else { 98.0 };
            add_share(&share_name(&fleet), on, (&fleet, &summary), least, report);
        }
    }
    Ok(())
}

fn share_name(fleet: &Fleet<'_>) -> String {
    format!("share of {}/s, {}×{}", fleet.rate, fleet.processes, fleet.callers)
}

/// The same at a distance, with how long callers wait and how evenly they are served.
async fn away(store: &str, on: &str, report: &mut Report) -> Outcome {
    for (burst, processes, least, p99) in
        [(100, 4, 99.0, 60.0), (100, 8, 99.0, 90.0), (10, 4, 98.0, 150.0)]
    {
        let fleet = Fleet { store, rate: 1000.0, burst, processes, callers: 8, time: TIME_AWAY };
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
