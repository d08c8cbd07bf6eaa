//! `limit bench`: callers that ask without a pause, or at a pace, for a while.

use std::time::Duration;

use jetbridge::limit::{Found, Limiter, Source};
use jetbridge_core::{Error, ErrorKind, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::args::limit::Bench;
use crate::printer::Printer;
use crate::report::Status;
use crate::view::limit::BenchView;

/// What one caller saw.
#[derive(Default)]
struct Seen {
    granted: u64,
    denied: u64,
    failed: u64,
    waits: Vec<Duration>,
}

pub(super) async fn run(args: &Bench, found: &Found, printer: &Printer) -> Result<Status> {
    if args.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        return Err(Error::new(ErrorKind::InvalidInput, "limit.bench")
            .because("`--rate` is a number above zero"));
    }
    // With the first read done, the time belongs to the limiter.
    found.limiter.peek().await?;
    let before = found.limiter.metrics();
    let begin = Instant::now();
    let end = begin + args.span;
    let pace = args.rate.map(|rate| Duration::from_secs_f64(f64::from(args.callers) / rate));
    let mut callers = JoinSet::new();
    for number in 0..args.callers {
        let (limiter, cost) = (found.limiter.clone(), found.spec.cost);
        // Paced callers begin one after the other, so that they do not all ask at once.
        let first = begin + pace.map_or(Duration::ZERO, |pace| pace * number / args.callers);
        callers.spawn(call(limiter, cost, Pace { first, every: pace, end }));
    }
    let mut seen = Vec::new();
    while let Some(caller) = callers.join_next().await {
        let failed = |error| Error::new(ErrorKind::Internal, "limit.bench").caused_by(error);
        seen.push(caller.map_err(failed)?);
    }
    let seconds = begin.elapsed().max(args.span).as_secs_f64();
    let after = found.limiter.metrics();
    printer.value(&summary(args, found, seconds, &seen, (before, after)))?;
    Ok(Status::Done)
}

#[derive(Clone, Copy)]
struct Pace {
    first: Instant,
    every: Option<Duration>,
    end: Instant,
}

/// Asks until the end.
async fn call(limiter: Limiter, cost: u32, pace: Pace) -> Seen {
    let mut seen = Seen::default();
    let mut next = pace.first;
    loop {
        if pace.every.is_some() {
            sleep_until(next.min(pace.end)).await;
        }
        let asked = Instant::now();
        if asked >= pace.end {
            return seen;
        }
        match limiter.acquire_n_timeout(cost, pace.end - asked).await {
            Ok(admission) if admission.source != Source::Store => seen.failed += 1,
            Ok(admission) if admission.allowed => {
                seen.granted += 1;
                seen.waits.push(asked.elapsed());
            }
            // Nothing comes any more before the end.
            Ok(_denied) => {
                seen.denied += 1;
                return seen;
            }
            Err(_nobody_decided) => seen.failed += 1,
        }
        if let Some(every) = pace.every {
            // Whoever is late does not make up for it.
            next = (next + every).max(Instant::now());
        }
    }
}

fn summary(
    args: &Bench,
    found: &Found,
    seconds: f64,
    seen: &[Seen],
    (before, after): (jetbridge::limit::Metrics, jetbridge::limit::Metrics),
) -> BenchView {
    let mut waits: Vec<Duration> = seen.iter().flat_map(|seen| seen.waits.clone()).collect();
    waits.sort_unstable();
    let granted: u64 = seen.iter().map(|seen| seen.granted).sum();
    let permits = float(granted) * f64::from(found.spec.cost);
    let rate = found.limiter.policy().rate();
    let requests = after.store_requests - before.store_requests;
    BenchView {
        id: args.id.id.clone(),
        callers: args.callers,
        seconds,
        granted,
        denied: seen.iter().map(|seen| seen.denied).sum(),
        failed: seen.iter().map(|seen| seen.failed).sum(),
        granted_per_second: float(granted) / seconds,
        percent_of_rate: rate.map(|rate| permits / (rate * seconds) * 100.0),
        p50_ms: quantile(&waits, 50),
        p99_ms: quantile(&waits, 99),
        max_ms: quantile(&waits, 100),
        conflicts: after.cas_failures - before.cas_failures,
        requests_per_grant: float(requests) / float(granted.max(1)),
        jain: jain(seen),
    }
}

/// The wait in milliseconds that so many per cent of all waits are not above; 0 without any.
fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
}

/// Jain's index of the callers' grants.
fn jain(seen: &[Seen]) -> f64 {
    let sum: f64 = seen.iter().map(|seen| float(seen.granted)).sum();
    let squares: f64 = seen.iter().map(|seen| float(seen.granted).powi(2)).sum();
    let callers = u32::try_from(seen.len()).map_or(f64::INFINITY, f64::from);
    if squares == 0.0 { 1.0 } else { sum * sum / (callers * squares) }
}

fn float(number: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let float = number as f64;
    float
}
