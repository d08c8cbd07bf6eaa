//! Templates: values from far away, large merges, long chains, and a whole process.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jetbridge::StoreSources;
use jetbridge::settings::{Environment, StoreRequest};
use jetbridge::template::{Input, Options, document_count, merge, render};
use jetbridge_core::{Backend as _, Key, PutOpts};
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions};
use tokio::process::Command;

use super::{bucket, connect, ensure};
use crate::args::Args;
use crate::child::Child;
use crate::measure::{Contender, OURS, Series, quantile, rounds};
use crate::report::{Report, Row, Target};
use crate::{Outcome, facts};

const ON: &str = "one thread";
/// The round trip to the store.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Entries of the map that is merged with itself, about 1.8 MB.
const ENTRIES: usize = 50_000;
/// Processes of one round, of which the median counts.
const PROCESSES: usize = 41;
/// How long closing a connection may take.
const GRACE: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    for (keys, ms) in [(100, 100.0), (1000, 200.0)] {
        far_reads(args, report, keys, ms).await?;
    }
    large_merge(args, report).await?;
    memory(report).await?;
    let chain = Work { name: "grab chain of 4000", text: chain, size: 4000 };
    work(args, report, &chain, (50.0, 5.0)).await?;
    let grabs = Work { name: "20000 independent grabs", text: grabs, size: 20_000 };
    work(args, report, &grabs, (200.0, 40.0)).await?;
    process(args, report).await
}

/// Templates that read many keys through one new connection.
async fn far_reads(args: &Args, report: &mut Report, keys: usize, ms: f64) -> Outcome {
    for release in [Release::Newest, Release::Oldest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let text = fill(&server, keys).await?;
        let proxy = Proxy::start(server.address()).await;
        proxy.latency(ROUND_TRIP);
        let turns = Mutex::new(Vec::new());
        let run = Contender::new(OURS, |_| {
            Box::pin(async {
                let (elapsed, took) = read(&proxy, &text).await?;
                turns.lock().map_err(|_poisoned| "a run failed")?.push(took);
                Ok(elapsed)
            })
        });
        let series = rounds(args.rounds, vec![run]).await?;
        let name = format!("{keys} keys, 20 ms away, connect included");
        let on = release.version();
        let row = Row::new(&name, "ms", on, series);
        report.add(row.target(Target::AtMost(ms)));
        let turns = turns.into_inner().map_err(|_poisoned| "a run failed")?;
        let name = "of these, round trips at the proxy";
        let row = Row::alone(name, "", on, quantile(&turns, 0.5));
        report.add(row.target(Target::AtMost(4.0)));
    }
    Ok(())
}

async fn fill(server: &NatsServer, keys: usize) -> Outcome<String> {
    let store = connect(&server.url()).await?;
    let kv = store.kv(&bucket("config")?, ensure()).await?;
    let mut text = String::new();
    for number in 0..keys {
        let key = Key::parse(format!("key{number}"))?;
        kv.put(&key, "a value".into(), PutOpts::new()).await?;
        writeln!(text, "k{number}: (( nats \"kv:config/key{number}\" ))")?;
    }
    Ok(text)
}

/// The milliseconds and the round trips from nothing to the document; what closing takes is nobody's
/// wait.
async fn read(proxy: &Proxy, text: &str) -> Outcome<(f64, f64)> {
    let before = proxy.turns();
    let begin = Instant::now();
    let request = StoreRequest::new().store(Some(proxy.url()));
    let sources = StoreSources::new(request, Environment::default());
    let rendered = render(vec![Input::new("t", text)], &Options::default(), &sources).await?;
    let elapsed = begin.elapsed().as_secs_f64() * 1e3;
    let turns = (proxy.turns() - before) as f64;
    if rendered.text.contains("((") {
        return Err("a key was not read".into());
    }
    sources.close(GRACE).await;
    Ok((elapsed, turns))
}

/// A map of [`ENTRIES`] lines.
fn large() -> String {
    let mut text = String::new();
    for number in 0..ENTRIES {
        // A `String` takes whatever is written to it.
        let _written = writeln!(text, "key{number:05}: some text of entry {number:05}");
    }
    text
}

async fn large_merge(args: &Args, report: &mut Report) -> Outcome {
    let text = large();
    let input = || Input::new("large", text.as_str());
    let parse = || {
        for _file in 0..2 {
            let _one = document_count(&input())?;
        }
        Ok(())
    };
    let whole = || merge(vec![input(), input()], &Options::default()).map(drop).map_err(Into::into);
    let (whole, parse) = beside(args.rounds, &whole, &parse).await?;
    let rest = difference(&whole, &parse);
    let name = "50000 entries merged with themselves (2 × 1.8 MB)";
    let row = Row::new(name, "ms", ON, vec![whole]);
    report.add(row.target(Target::AtMost(450.0)));
    let row = Row::new("of these, without parsing", "ms", ON, vec![rest]);
    report.add(row.target(Target::AtMost(100.0)));
    Ok(())
}

/// What one process takes for the same, as a multiple of its inputs.
async fn memory(report: &mut Report) -> Outcome {
    let output = Child::Merge.spawn()?.wait_with_output().await?;
    let text = String::from_utf8(output.stdout)?;
    let peak: f64 = text.trim().parse()?;
    let input = 2.0 * large().len() as f64;
    let row = Row::alone("peak memory of it / inputs", "×", ON, peak * 1024.0 / input);
    report.add(row.target(Target::AtMost(12.0)));
    Ok(())
}

/// What the other process of [`memory`] does; tells its peak in KiB.
pub(crate) fn merge_once() -> Outcome<u64> {
    let inputs = vec![Input::new("a", large()), Input::new("b", large())];
    let rendered = merge(inputs, &Options::default())?;
    if rendered.text.len() < ENTRIES {
        return Err("an entry is missing".into());
    }
    facts::peak_kib()
}

/// A template that is evaluated, by its size.
struct Work {
    name: &'static str,
    text: fn(usize) -> String,
    size: usize,
}

fn chain(size: usize) -> String {
    let links = (1..size).map(|number| format!("a{number}: (( grab a{} ))\n", number - 1));
    std::iter::once("a0: end\n".to_owned()).chain(links).collect()
}

fn grabs(size: usize) -> String {
    let grabs = (0..size).map(|number| format!("g{number}: (( grab m.v{} ))\n", number % 100));
    let values = (0..100).map(|number| format!("  v{number}: text {number}\n"));
    std::iter::once("m:\n".to_owned()).chain(values).chain(grabs).collect()
}

/// The whole, its evaluation alone, and how both grow: ten times the work in at most twelve
/// times the time.
async fn work(
    args: &Args,
    report: &mut Report,
    work: &Work,
    (whole_ms, alone_ms): (f64, f64),
) -> Outcome {
    let measure = async |size: usize| -> Outcome<(Series, Series)> {
        let text = (work.text)(size);
        let input = || vec![Input::new("work", text.as_str())];
        let mut plain = Options::default();
        plain.skip_eval = true;
        let whole = || merge(input(), &Options::default()).map(drop).map_err(Into::into);
        let skipped = || merge(input(), &plain).map(drop).map_err(Into::into);
        let (whole, skipped) = beside(args.rounds, &whole, &skipped).await?;
        let alone = difference(&whole, &skipped);
        Ok((whole, alone))
    };
    let (whole, alone) = measure(work.size).await?;
    let (larger, _) = measure(work.size * 10).await?;
    let growth = larger.median() / whole.median();
    let row = Row::new(work.name, "ms", ON, vec![whole]);
    report.add(row.target(Target::AtMost(whole_ms)));
    let row = Row::new("of these, evaluation alone", "ms", ON, vec![alone]);
    report.add(row.target(Target::AtMost(alone_ms)));
    let row = Row::alone("ten times as many / one time", "×", ON, growth);
    report.add(row.target(Target::AtMost(12.0)));
    Ok(())
}

/// Runs both in turns; the milliseconds of each.
async fn beside(
    times: usize,
    one: &(dyn Fn() -> Outcome + Sync),
    other: &(dyn Fn() -> Outcome + Sync),
) -> Outcome<(Series, Series)> {
    let timed = |work: &dyn Fn() -> Outcome| -> Outcome<f64> {
        let begin = Instant::now();
        work()?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    let contenders = vec![
        Contender::new(OURS, |_| Box::pin(std::future::ready(timed(&|| one())))),
        Contender::new("a part of it", |_| Box::pin(std::future::ready(timed(&|| other())))),
    ];
    let mut all = rounds(times, contenders).await?.into_iter();
    match (all.next(), all.next()) {
        (Some(one), Some(other)) => Ok((one, other)),
        _ => Err("a contender is missing".into()),
    }
}

/// What is left of the whole without the part, round by round.
fn difference(whole: &Series, part: &Series) -> Series {
    let pairs = whole.figures.iter().zip(&part.figures);
    Series { name: OURS, figures: pairs.map(|(whole, part)| whole - part).collect() }
}

/// A small merge from the start of the process to its end.
async fn process(args: &Args, report: &mut Report) -> Outcome {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("small.yml");
    std::fs::write(&file, "a: 1\nb: (( grab a ))\n")?;
    let program = command()?;
    let run = Contender::new(OURS, |_| Box::pin(processes(&program, &file)));
    let row = Row::new("a small merge, whole process, p50", "ms", "release build", {
        rounds(args.rounds, vec![run]).await?
    });
    report.add(row.target(Target::AtMost(5.0)));
    Ok(())
}

/// The command beside this program.
pub(crate) fn command() -> Outcome<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("jetbridge");
    if !program.is_file() {
        return Err(format!("{} is not built", program.display()).into());
    }
    Ok(program)
}

async fn processes(program: &Path, file: &Path) -> Outcome<f64> {
    let mut times = Vec::with_capacity(PROCESSES);
    for _process in 0..PROCESSES {
        let mut command = Command::new(program);
        command.args(["template", "merge"]).arg(file);
        let begin = Instant::now();
        let output = command.output().await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        if output.stdout != b"a: 1\nb: 1\n" {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
    }
    Ok(quantile(&times, 0.5))
}
