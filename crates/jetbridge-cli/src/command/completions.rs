//! `completions`.

use clap::CommandFactory as _;
use jetbridge_core::Result;

use crate::args::{Cli, Completions};
use crate::printer::Printer;
use crate::report::Status;

/// Prints a completion script.
pub(crate) fn run(args: &Completions, printer: &Printer) -> Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "jetbridge", &mut script);
    printer.bytes(&script)?;
    Ok(Status::Done)
}
