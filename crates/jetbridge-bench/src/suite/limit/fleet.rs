//! Processes whose callers ask one limiter without a pause; they begin together, when all are
//! ready.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend, BucketName, BucketSpec, Open};
use jetbridge_limit::{Limiter, LimiterOpts, Limits, OnError, Policy};
use jetbridge_local::{LocalBackend, LocalOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Outcome;
use crate::measure::quantile;
use crate::suite::connect;

/// By then a fleet that competes has its permits counted out, where the store can.
const BEGINNING: Duration = Duration::from_millis(200);

/// What a fleet asks for.
pub(super) struct Fleet<'a> {
    /// `nats://…` or `local:DIR`.
    pub(super) store: &'a str,
    pub(super) rate: f64,
    pub(super) burst: u32,
    pub(super) processes: u32,
    pub(super) callers: u32,
    pub(super) time: Duration,
}

impl Fleet<'_> {
    /// The most that may be given in so many seconds.
    pub(super) fn most(&self, seconds: f64) -> f64 {
        self.rate * seconds + f64::from(self.burst) + 1.0
    }
}

/// What a fleet got.
pub(super) struct Summary {
    pub(super) granted: u64,
    pub(super) requests: u64,
    /// Writes that lost a race.
    pub(super) conflicts: u64,
    /// The same, without those of the first [`BEGINNING`].
    pub(super) conflicts_later: u64,
    /// The worst process's.
    pub(super) p99_ms: f64,
    pub(super) seconds: f64,
    by_process: Vec<f64>,
}

impl Summary {
    pub(super) fn per_second(&self) -> f64 {
        self.granted as f64 / self.seconds
    }

    /// Per cent of the rate, without the burst that there was at the beginning.
    pub(super) fn share(&self, fleet: &Fleet<'_>) -> f64 {
        let given = self.granted.saturating_sub(u64::from(fleet.burst.saturating_sub(1)));
        given as f64 / (fleet.rate * fleet.time.as_secs_f64()) * 100.0
    }

    pub(super) fn requests_per_grant(&self) -> f64 {
        self.requests as f64 / self.granted.max(1) as f64
    }

    pub(super) fn jain(&self) -> f64 {
        let sum: f64 = self.by_process.iter().sum();
        let squares: f64 = self.by_process.iter().map(|it| it * it).sum();
        sum * sum / (squares * self.by_process.len() as f64)
    }
}

/// Runs the fleet, on a limiter that nobody used before.
pub(super) async fn run(fleet: &Fleet<'_>) -> Outcome<Summary> {
    let id = jetbridge_core::random::name();
    let mut processes = Vec::new();
    for _ in 0..fleet.processes {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", "limit", fleet.store, &id]);
        command.args([fleet.rate.to_string(), fleet.burst.to_string()]);
        command.args([fleet.callers.to_string(), fleet.time.as_millis().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let stdin = process.stdin.take().ok_or("no standard input")?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        processes.push((process, stdin, BufReader::new(stdout).lines()));
    }
    for (_, _, lines) in &mut processes {
        if lines.next_line().await?.as_deref() != Some("ready") {
            return Err("a process of the fleet failed".into());
        }
    }
    let begin = Instant::now();
    for (_, stdin, _) in &mut processes {
        stdin.write_all(b"go\n").await?;
    }
    let mut summary = Summary {
        granted: 0,
        requests: 0,
        conflicts: 0,
        conflicts_later: 0,
        p99_ms: 0.0,
        seconds: 0.0,
        by_process: Vec::new(),
    };
    for (_, _, lines) in &mut processes {
        let line = lines.next_line().await?.ok_or("a process of the fleet failed")?;
        let mut figures = line.split(' ');
        let mut next = || figures.next().ok_or("a figure is missing");
        let granted: u64 = next()?.parse()?;
        summary.granted += granted;
        summary.requests += next()?.parse::<u64>()?;
        summary.conflicts += next()?.parse::<u64>()?;
        summary.conflicts_later += next()?.parse::<u64>()?;
        summary.p99_ms = summary.p99_ms.max(next()?.parse()?);
        summary.by_process.push(granted as f64);
    }
    summary.seconds = begin.elapsed().as_secs_f64();
    Ok(summary)
}

/// What one process of the fleet does.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) store: String,
    pub(crate) id: String,
    pub(crate) rate: f64,
    pub(crate) burst: u32,
    pub(crate) callers: u32,
    pub(crate) time: Duration,
}

/// Says `ready`, waits for a line, lets the callers ask, and tells grants, requests, lost races,
/// those of them behind the beginning, and the 99th percentile of the waits.
pub(crate) async fn serve(caller: Caller) -> Outcome {
    let backend: Arc<dyn Backend> = match caller.store.strip_prefix("local:") {
        Some(directory) => Arc::new(LocalBackend::open(directory, LocalOptions::default()).await?),
        None => Arc::new(connect(&caller.store).await?),
    };
    let bucket = BucketName::parse("rate_limits")?;
    let limits = Limits::open(backend, &bucket, Open::ensure(BucketSpec::default())).await?;
    let policy = Policy::per_second(caller.rate)?.burst(caller.burst)?;
    let opts = LimiterOpts::default().on_error(OnError::Closed).deadline(Duration::from_secs(10));
    let limiter = limits.limiter_with(&caller.id, policy, opts)?;
    limiter.peek().await?;
    println!("ready");
    let mut line = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut line).await?;
    let before = limiter.metrics();
    let end = Instant::now() + caller.time;
    let mut calls = JoinSet::new();
    for _ in 0..caller.callers {
        calls.spawn(call(limiter.clone(), end));
    }
    tokio::time::sleep(BEGINNING).await;
    let begun = limiter.metrics();
    let mut waits = Vec::new();
    while let Some(call) = calls.join_next().await {
        waits.extend(call??);
    }
    let after = limiter.metrics();
    let requests = after.store_requests - before.store_requests;
    let conflicts = after.cas_failures - before.cas_failures;
    let later = after.cas_failures - begun.cas_failures;
    println!("{} {requests} {conflicts} {later} {}", waits.len(), quantile(&waits, 0.99));
    Ok(())
}

/// The waits of one caller in milliseconds.
async fn call(limiter: Limiter, end: Instant) -> Outcome<Vec<f64>> {
    let mut waits = Vec::new();
    loop {
        let asked = Instant::now();
        if asked >= end || !limiter.acquire_timeout(end - asked).await?.allowed {
            return Ok(waits);
        }
        waits.push(asked.elapsed().as_secs_f64() * 1e3);
    }
}
