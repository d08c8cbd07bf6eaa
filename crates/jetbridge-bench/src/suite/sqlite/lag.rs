//! From a commit to the moment when it is durable; and what the application pays for it.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use jetbridge_testkit::NatsServer;

use super::arrivals::Arrivals;
use super::database::Application;
use super::replicator::{Peer, Replicator, entry};
use crate::Outcome;
use crate::measure::{Series, quantile};
use crate::report::{Report, Row, Target};
use crate::suite::{connect, object};

/// Commits, one by one: enough for a median, and for a p99 that is their maximum.
const SPARSE: usize = 24;
/// Between two of them: a second and what keeps them from the beat of a timer.
const SPARSE_PAUSES_MS: [u64; 4] = [1130, 1310, 1490, 1670];
/// The load.
const LOAD_PER_SECOND: u32 = 1000;
const LOAD_TIME: Duration = Duration::from_secs(60);
/// How long a replicator may take to begin, and to ship the last commit.
const PATIENCE: Duration = Duration::from_secs(30);
/// An application's write may take so many times as long, or so much longer, beside a replicator.
const WRITE_TIMES: f64 = 1.2;
const WRITE_MORE_MS: f64 = 0.3;

pub(super) async fn sparse(server: &NatsServer, report: &mut Report) -> Outcome {
    let (mut medians, mut highest) = (Vec::new(), Vec::new());
    for peer in Peer::BOTH {
        let lags = Measure::begin(server, peer).await?.sparse().await?;
        medians.push(Series { name: peer.name(), figures: vec![quantile(&lags, 0.5)] });
        highest.push(Series { name: peer.name(), figures: vec![quantile(&lags, 0.99)] });
    }
    let on = server.release().version();
    let row = Row::new("commit → durable, one every 1.4 s, p50", "ms", on, medians);
    report.add(row.target(Target::AtMost(20.0)));
    let row = Row::new("of these, p99 (the slowest of 24)", "ms", on, highest);
    report.add(row.target(Target::AtMost(100.0)));
    Ok(())
}

pub(super) async fn load(server: &NatsServer, report: &mut Report) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mut application = Application::open(&dir.path().join("alone.db"))?;
    let alone = blocking(move || written(&mut application, &mpsc::channel().0)).await?;
    let without = quantile(&alone, 0.99);
    let (mut middle, mut lag, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut processor, mut memory) = (Vec::new(), Vec::new());
    for peer in Peer::BOTH {
        let done = Measure::begin(server, peer).await?.load().await?;
        let series = |figure| Series { name: peer.name(), figures: vec![figure] };
        middle.push(series(quantile(&done.lags, 0.5)));
        lag.push(series(quantile(&done.lags, 0.99)));
        writes.push(series(quantile(&done.writes, 0.99)));
        processor.push(series(done.processor_percent));
        memory.push(series(done.memory_mib));
    }
    let on = server.release().version();
    report.add(Row::new("1000 commits/s for 60 s: lag p50", "ms", on, middle));
    let row = Row::new("1000 commits/s for 60 s: lag p99", "ms", on, lag);
    report.add(row.target(Target::AtMost(250.0)));
    let name = format!("of these, application's commit p99 (alone {without:.3})");
    let limit = (without * WRITE_TIMES).max(without + WRITE_MORE_MS);
    let row = Row::new(&name, "ms", on, writes);
    report.add(row.target(Target::AtMost(limit)));
    report.add(Row::new("of these, processor", "%", on, processor));
    report.add(Row::new("of these, peak memory", "MiB", on, memory));
    Ok(())
}

/// One replicator, one application, one watcher.
struct Measure {
    arrivals: Arrivals,
    replicator: Replicator,
    application: Application,
    _dir: tempfile::TempDir,
}

/// What a load tells.
struct Loaded {
    lags: Vec<f64>,
    writes: Vec<f64>,
    processor_percent: f64,
    memory_mib: f64,
}

impl Measure {
    /// Returns when the first state is in the bucket.
    async fn begin(server: &NatsServer, peer: Peer) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let objects = object::open(&connect(&server.url()).await?, peer.bucket()).await?;
        let mut arrivals = Arrivals::of(&objects);
        let path = dir.path().join("app.db");
        let application = Application::open(&path)?;
        let dbs = entry(&path, &server.url(), peer.bucket());
        let replicator = Replicator::start(peer, dir.path(), &dbs)?;
        arrivals.first(PATIENCE).await?;
        // Both follow up on their first file.
        while arrivals.next(Duration::from_secs(2)).await?.is_some() {}
        Ok(Self { arrivals, replicator, application, _dir: dir })
    }

    async fn sparse(mut self) -> Outcome<Vec<f64>> {
        let mut lags = Vec::new();
        let mut pauses = SPARSE_PAUSES_MS.iter().cycle();
        while lags.len() < SPARSE {
            let pause = pauses.next().copied().unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let (number, _) = self.application.commit()?;
            let committed = Instant::now();
            loop {
                let arrived = self.arrivals.next(PATIENCE).await?;
                let (at, info) = arrived.ok_or("a commit was not shipped")?;
                if self.arrivals.number(&info).await? >= Some(number) {
                    lags.push(millis(at.saturating_duration_since(committed)));
                    break;
                }
            }
        }
        self.replicator.end().await?;
        Ok(lags)
    }

    async fn load(self) -> Outcome<Loaded> {
        let Self { mut arrivals, replicator, mut application, _dir } = self;
        let before = crate::facts::processor_seconds(replicator.pid)?;
        let begun = Instant::now();
        let (tell, told) = mpsc::channel();
        let writing = tokio::task::spawn_blocking(move || written(&mut application, &tell));
        let last = u64::from(LOAD_PER_SECOND) * LOAD_TIME.as_secs();
        let (mut lags, mut reached) = (Vec::new(), 0);
        while reached < last {
            let arrived = arrivals.next(PATIENCE).await?;
            let (at, info) = arrived.ok_or("a commit was not shipped")?;
            let Some(number) = arrivals.number(&info).await? else { continue };
            // The application tells of a commit right behind it.
            for committed in told.iter().take(usize::try_from(number.saturating_sub(reached))?) {
                lags.push(millis(at.saturating_duration_since(committed)));
            }
            reached = reached.max(number);
        }
        let took = begun.elapsed().as_secs_f64();
        let processor = crate::facts::processor_seconds(replicator.pid)? - before;
        let peak = crate::facts::memory_kib(replicator.pid, crate::facts::Memory::Peak)?;
        let writes = writing.await??;
        replicator.end().await?;
        Ok(Loaded {
            lags,
            writes,
            processor_percent: processor / took * 100.0,
            memory_mib: peak as f64 / 1024.0,
        })
    }
}

/// Commits at the rate of the load and tells when each was done; the milliseconds of each.
fn written(application: &mut Application, tell: &mpsc::Sender<Instant>) -> Outcome<Vec<f64>> {
    let begun = Instant::now();
    let mut times = Vec::new();
    for number in 0..LOAD_PER_SECOND * u32::try_from(LOAD_TIME.as_secs())? {
        let due = begun + Duration::from_secs(1) / LOAD_PER_SECOND * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (_, took) = application.commit()?;
        times.push(millis(took));
        // Without a replicator nobody listens.
        tell.send(Instant::now()).unwrap_or_default();
    }
    Ok(times)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await?
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
