//! `man`.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use jetbridge_core::{Error, ErrorKind, Result};

use crate::args::{Cli, Man};
use crate::input::file_error;
use crate::printer::Printer;
use crate::report::Status;

/// Prints the page of the command as a whole, or writes the pages of all words.
pub(crate) fn run(args: &Man, printer: &Printer) -> Result<Status> {
    if let Some(directory) = &args.dir {
        write(directory).map_err(|error| file_error("man.write", directory, error))?;
        printer.note(format_args!("wrote the manual pages to {}", directory.display()));
        return Ok(Status::Done);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Error::new(ErrorKind::Internal, "man.render").caused_by(error))?;
    printer.bytes(&page)?;
    Ok(Status::Done)
}

fn write(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}
