//! The command `jetbridge`: parse, find the store, connect, do what the words say, and say how
//! it ended. The only crate that knows clap or prints.

mod args;
mod command;
mod follow;
mod format;
mod input;
mod interrupt;
mod link;
mod location;
mod logging;
mod output;
mod printer;
mod progress;
mod report;
mod view;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::Parser as _;
use jetbridge::settings::Environment;
use jetbridge_agent::Traces;
use jetbridge_core::{Error, ErrorKind, Result};

use crate::args::{Cli, Command};
use crate::printer::Printer;
use crate::report::Status;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(name) = link::name(&arguments) {
        return link::main(name, &arguments);
    }
    if args::sqlite::is_litestream(&arguments) {
        return as_litestream(arguments);
    }
    jetbridge(args::sqlite::with_two_dashes(arguments))
}

/// Under Litestream's name: its words, and 1 for whatever fails.
fn as_litestream(mut arguments: Vec<OsString>) -> ExitCode {
    arguments.insert(1, "sqlite".into());
    let ended = jetbridge(args::sqlite::with_two_dashes(arguments));
    if ended == ExitCode::SUCCESS { ended } else { ExitCode::FAILURE }
}

fn jetbridge(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(refused) => return report::usage(&refused, &arguments),
    };
    let printer = Printer::new(&cli.global);
    let traces = match &cli.command {
        Command::Up(_) => Traces::start(&Environment::of_process()),
        _ => Ok(None),
    };
    let traces = match traces {
        Ok(traces) => traces,
        Err(error) => return report::conclude(Err(error), &printer),
    };
    logging::start(&cli.global, cli.command.tone(), traces.as_ref());
    let settled = run(cli, &printer, traces.as_ref());
    traces.iter().for_each(Traces::stop);
    report::conclude(settled, &printer)
}

fn run(cli: Cli, printer: &Printer, traces: Option<&Traces>) -> Result<Status> {
    match cli.command {
        Command::OnStore(words) => block_on(command::on_store(words, &cli.global, printer)),
        Command::Up(args) => block_on(command::up::run(&args, &cli.global, printer, traces)),
        Command::Check(args) => command::check::run(&args, &cli.global, printer),
        Command::Copy(args) => block_on(command::copy::run(args, &cli.global, printer)),
        Command::Limit(args) => block_on(command::limit::run(&args, &cli.global, printer)),
        Command::Template(args) => block_on(command::template::run(args, &cli.global, printer)),
        Command::Sqlite(args) => block_on(command::sqlite::run(args, &cli.global, printer)),
        Command::Wasi(args) => block_on(command::wasi::run(args, &cli.global, printer)),
        Command::Doctor => block_on(command::doctor::run(&cli.global, printer)),
        Command::Completions(args) => command::completions::run(&args, printer),
        Command::Man(args) => command::man::run(&args, printer),
    }
}

/// Threads beside the one that prints, so that a slow reader of stdout does not keep the
/// connection from being served.
const WORKERS: usize = 2;

fn block_on(command: impl Future<Output = Result<Status>>) -> Result<Status> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Unavailable, "runtime.start").caused_by(error))?;
    let settled = runtime.block_on(command);
    // A read of stdin cannot be called off; the process ends without it.
    runtime.shutdown_background();
    settled
}
