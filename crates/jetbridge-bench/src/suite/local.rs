//! The embedded store: values on both cores, objects, and the way from one process to another.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;

use jetbridge_core::{
    Backend as _, DeleteOpts, Key, Kv, ObjectName, ObjectPut, Objects, ObjectsExt as _, PutOpts,
    Read,
};
use jetbridge_local::{LocalBackend, LocalOptions};

use super::object::{random_body, read};
use super::{KEYS, MIB, OBJECT_BYTES, VALUE_BYTES, bucket, ensure, keys, rate, value};
use crate::args::Args;
use crate::child::{Child, now_as_value};
use crate::measure::{Contender, OURS, quantile, rounds};
use crate::report::{Report, Row, Target};
use crate::{Outcome, facts};

const ON: &str = "embedded";
/// Tasks that read at once: one for each core.
const READERS: usize = 2;
const GETS_EACH: usize = 100_000;
/// Tasks that write at once, and puts of each in one run.
const WRITERS: usize = 64;
const PUTS_EACH: usize = 1500;
/// Puts of a lone writer in one run.
const LONE_PUTS: usize = 5000;
/// Changes on their way to another process, and the time between two of them: a lone change, not
/// a stream of them, shows what it takes to wake a sleeper.
const CHANGES: usize = 500;
const CHANGE_EVERY: Duration = Duration::from_millis(3);
/// How long the other process is left alone, to see whether it wakes by itself.
const IDLE: Duration = Duration::from_secs(2);

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    let directory = tempfile::tempdir()?;
    let store = LocalBackend::open(directory.path(), LocalOptions::default()).await?;
    let kv = store.kv(&bucket("values")?, ensure()).await?;
    let keys: Arc<[Key]> = keys()?.into();
    for key in keys.iter() {
        kv.put(key, value(), PutOpts::new()).await?;
    }
    let bench = Bench { rounds: args.rounds, kv, keys };
    report.add(bench.gets().await?.target(Target::AtLeast(200_000.0)));
    report.add(bench.puts().await?.target(Target::AtLeast(150_000.0)));
    report.add(bench.lone_puts().await?.target(Target::AtMost(40.0)));
    objects(&store, args.rounds, report).await?;
    watch(&store, directory.path(), args.rounds, report).await
}

struct Bench {
    rounds: usize,
    kv: Arc<dyn Kv>,
    keys: Arc<[Key]>,
}

impl Bench {
    async fn gets(&self) -> Outcome<Row> {
        let run = Contender::new(OURS, |_| Box::pin(self.share(READERS, get_all)));
        let name = format!("get, {VALUE_BYTES} B, {KEYS} keys, {READERS} readers");
        Ok(Row::new(&name, "/s", ON, rounds(self.rounds, vec![run]).await?))
    }

    async fn puts(&self) -> Outcome<Row> {
        let run = Contender::new(OURS, |_| Box::pin(self.share(WRITERS, put_all)));
        let name = format!("put, {VALUE_BYTES} B, {KEYS} keys, {WRITERS} writers");
        Ok(Row::new(&name, "/s", ON, rounds(self.rounds, vec![run]).await?))
    }

    /// Has `workers` tasks do `work` at once; returns operations per second.
    async fn share<F>(&self, workers: usize, work: fn(Worker) -> F) -> Outcome<f64>
    where
        F: Future<Output = Outcome<usize>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let begin = Instant::now();
        for number in 0..workers {
            let (kv, keys) = (Arc::clone(&self.kv), Arc::clone(&self.keys));
            tasks.spawn(work(Worker { kv, keys, first: number * KEYS / workers }));
        }
        let mut done = 0;
        while let Some(task) = tasks.join_next().await {
            done += task??;
        }
        Ok(rate(done, begin))
    }

    async fn lone_puts(&self) -> Outcome<Row> {
        let run = Contender::new(OURS, |_| {
            Box::pin(async {
                let mut times = Vec::with_capacity(LONE_PUTS);
                for number in 0..LONE_PUTS {
                    let key = &self.keys[number % self.keys.len()];
                    let begin = Instant::now();
                    self.kv.put(key, value(), PutOpts::new()).await?;
                    times.push(begin.elapsed().as_secs_f64() * 1e6);
                }
                Ok(quantile(&times, 0.5))
            })
        });
        Ok(Row::new("put, a lone writer, p50", "µs", ON, rounds(self.rounds, vec![run]).await?))
    }
}

/// One of several who work at once, each beginning with another key.
struct Worker {
    kv: Arc<dyn Kv>,
    keys: Arc<[Key]>,
    first: usize,
}

async fn get_all(worker: Worker) -> Outcome<usize> {
    for key in worker.keys.iter().cycle().skip(worker.first).take(GETS_EACH) {
        worker.kv.get(key, Read::Fresh).await?.ok_or("a key is missing")?;
    }
    Ok(GETS_EACH)
}

async fn put_all(worker: Worker) -> Outcome<usize> {
    for key in worker.keys.iter().cycle().skip(worker.first).take(PUTS_EACH) {
        worker.kv.put(key, value(), PutOpts::new()).await?;
    }
    Ok(PUTS_EACH)
}

async fn objects(store: &LocalBackend, times: usize, report: &mut Report) -> Outcome {
    let objects = store.objects(&bucket("objects")?, ensure()).await?;
    let body = random_body(OBJECT_BYTES);
    let name = ObjectName::parse("large")?;
    let put = Contender::new(OURS, |_| Box::pin(put_object(&objects, &name, &body)));
    let row = Row::new("object put 256 MiB", "MiB/s", ON, rounds(times, vec![put]).await?);
    report.add(row.target(Target::AtLeast(800.0)));
    objects.put_bytes(&name, body.clone(), ObjectPut::new()).await?;
    let get = Contender::new(OURS, |_| {
        Box::pin(async {
            let begin = Instant::now();
            read(&objects, name.as_str()).await?;
            Ok(rate(OBJECT_BYTES, begin) / MIB)
        })
    });
    let row = Row::new("object get 256 MiB", "MiB/s", ON, rounds(times, vec![get]).await?);
    report.add(row.target(Target::AtLeast(1100.0)));
    Ok(())
}

async fn put_object(objects: &Arc<dyn Objects>, name: &ObjectName, body: &Bytes) -> Outcome<f64> {
    let begin = Instant::now();
    objects.put_bytes(name, body.clone(), ObjectPut::new()).await?;
    let figure = rate(OBJECT_BYTES, begin) / MIB;
    objects.delete(name, DeleteOpts::new()).await?;
    Ok(figure)
}

async fn watch(
    store: &LocalBackend,
    directory: &Path,
    times: usize,
    report: &mut Report,
) -> Outcome {
    let kv = store.kv(&bucket("watched")?, ensure()).await?;
    let wakeups = std::sync::Mutex::new(Vec::new());
    let run = Contender::new(OURS, |_| {
        Box::pin(async {
            let (delay, woken) = one_watch(&kv, directory).await?;
            wakeups.lock().map_err(|_poisoned| "a run failed")?.push(woken);
            Ok(delay)
        })
    });
    let series = rounds(times, vec![run]).await?;
    let row = Row::new("put in one process → watch in another, p50", "µs", ON, series);
    report.add(row.target(Target::AtMost(1000.0)));
    let wakeups = wakeups.into_inner().map_err(|_poisoned| "a run failed")?;
    let name = "wake-ups of an idle watcher";
    report.add(Row::alone(name, "/s", ON, quantile(&wakeups, 0.5)));
    Ok(())
}

/// The median delay in µs, and how often per second the watcher woke when nothing happened.
async fn one_watch(kv: &Arc<dyn Kv>, directory: &Path) -> Outcome<(f64, f64)> {
    let child = Child::Watch {
        directory: directory.display().to_string(),
        bucket: kv.bucket().to_string(),
        count: CHANGES,
    };
    let mut process = child.spawn()?;
    let stdout = process.stdout.take().ok_or("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    if lines.next_line().await?.as_deref() != Some("ready") {
        return Err("the watcher failed".into());
    }
    let mut pace = tokio::time::interval(CHANGE_EVERY);
    for number in 0..CHANGES {
        pace.tick().await;
        // A key each: of one key, only the last change need come.
        let key = Key::parse(format!("signal{number}"))?;
        kv.put(&key, now_as_value()?, PutOpts::new()).await?;
    }
    let line = lines.next_line().await?.ok_or("the watcher failed")?;
    let median = line.split(' ').next().unwrap_or_default().parse()?;
    let pid = process.id().ok_or("the watcher is gone")?;
    let before = facts::wakeups(pid)?;
    tokio::time::sleep(IDLE).await;
    let woken = facts::wakeups(pid)?.saturating_sub(before);
    process.kill().await?;
    Ok((median, woken as f64 / IDLE.as_secs_f64()))
}
