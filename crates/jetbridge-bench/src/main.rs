//! Our workloads beside the peers' in one run: plain async-nats, and nats.go for what it is known
//! for. Rounds alternate between the contenders and medians are compared, because the machine is
//! never quiet; absolute figures mean little elsewhere, ratios mean something.
//!
//! `cargo xtask bench` builds this with optimisations, brings servers and the Go peer, and runs
//! it. It knows the product only as its users do: through the seam. `cargo xtask soak` runs it too,
//! for [`soak`].
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command that talks to a person")]

mod args;
mod child;
mod facts;
mod go;
mod measure;
mod report;
mod soak;
mod suite;

use std::process::ExitCode;

use tokio::task::JoinSet;

use crate::args::{Args, Command};
use crate::report::Report;

/// What anything here ends with: the first failure ends the run.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Both cores of the smallest machine that these figures are taken on.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let command = args::parse(std::env::args().skip(1).collect())?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(WORKER_THREADS).enable_all().build()?;
    runtime.block_on(async {
        // On a worker, where users' tasks run, and not on this thread, which every wake-up would
        // have to be carried to.
        let mut task = JoinSet::new();
        match command {
            Command::Child(child) => task.spawn(child::run(child)),
            Command::Bench(args) => task.spawn(bench(args)),
            Command::Soak(args) => task.spawn(Box::pin(soak::run(args))),
        };
        task.join_next().await.ok_or("the only task is gone")??
    })
}

async fn bench(args: Args) -> Outcome {
    let mut report = Report::new(&args)?;
    println!("{}", report.head());
    for suite in &args.suites {
        eprintln!("{suite}: {}", facts::load()?);
        suite::run(*suite, &args, &mut report).await?;
    }
    println!("{}", report.table());
    println!("{}", facts::load()?);
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()?)?;
    }
    Ok(())
}
