//! Several processes that are a round trip of 10 ms away from their server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_limit::{Limiter, Limits, Policy};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions};
use tokio::time::Instant;

use crate::rig::{open, strict};

const AWAY: Duration = Duration::from_millis(10);
const PROCESSES: usize = 4;
const CALLERS: usize = 8;
const RATE: f64 = 1000.0;
const BURST: u32 = 100;
const TIME: Duration = Duration::from_secs(3);

/// A server behind a proxy, and processes at it.
struct Site {
    limits: Vec<Limits>,
    _proxy: Proxy,
    _server: NatsServer,
}

async fn site(release: Release) -> Site {
    let server = NatsServer::start(release, ServerOptions::default()).await;
    let proxy = Proxy::start(server.address()).await;
    proxy.latency(AWAY);
    let mut limits = Vec::new();
    for _ in 0..PROCESSES {
        let mut options = ConnectOptions::default();
        options.servers = vec![proxy.url()];
        limits.push(open(Arc::new(NatsBackend::connect(&options).await.unwrap())).await);
    }
    Site { limits, _proxy: proxy, _server: server }
}

/// The waits of one caller until the end.
async fn call(limiter: Limiter, end: Instant) -> Vec<Duration> {
    let mut waits = Vec::new();
    loop {
        let asked = Instant::now();
        if asked >= end || !limiter.acquire_timeout(end - asked).await.unwrap().allowed {
            return waits;
        }
        waits.push(asked.elapsed());
    }
}

/// Ten milliseconds away, in which ten permits pass: a fleet gets the rate, evenly, and no more.
async fn a_fleet_gets_its_rate(release: Release) {
    let site = site(release).await;
    let policy = Policy::per_second(RATE).unwrap().burst(BURST).unwrap();
    let open = |limits: &Limits| limits.limiter_with("api", policy, strict()).unwrap();
    let limiters: Vec<Limiter> = site.limits.iter().map(open).collect();
    join_all(limiters.iter().map(|limiter| async { limiter.peek().await.unwrap() })).await;
    let begin = Instant::now();
    let end = begin + TIME;
    let fleet = limiters.iter().map(|limiter| async {
        join_all((0..CALLERS).map(|_| call(limiter.clone(), end))).await.concat()
    });
    let by_process: Vec<Vec<Duration>> = join_all(fleet).await;
    let seconds = begin.elapsed().as_secs_f64();
    let mut waits = by_process.concat();
    waits.sort_unstable();
    let (granted, median) = (waits.len() as f64, waits[waits.len() / 2]);
    let counts: Vec<f64> = by_process.iter().map(|waits| waits.len() as f64).collect();
    assert!(granted <= RATE * seconds + f64::from(BURST) + 1.0, "{granted} in {seconds} s");
    assert!(granted >= RATE * TIME.as_secs_f64() * 0.9, "{granted} in {seconds} s");
    let squares: f64 = counts.iter().map(|it| it.powi(2)).sum();
    let jain = granted.powi(2) / (squares * counts.len() as f64);
    assert!(jain >= 0.95, "{jain}: {counts:?}");
    // 32 callers at 1000 a second: 32 ms, and what a busy machine adds.
    assert!(median < Duration::from_millis(100), "{median:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_gets_its_rate_from_2_9_25() {
    a_fleet_gets_its_rate(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_gets_its_rate_from_2_15_2() {
    a_fleet_gets_its_rate(Release::Newest).await;
}
