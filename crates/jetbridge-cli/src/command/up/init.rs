//! `up --init`: a file to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind as IoKind, Write as _};
use std::path::{Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Result};

use crate::printer::Printer;
use crate::report::Status;

/// Everything that a file can say, most of it as comments.
const TEXT: &str = include_str!("init.yml");
/// Where it is written if nobody says.
const NAME: &str = "jetbridge.yml";

/// Writes the file; one that is there is left alone.
pub(super) fn run(files: &[PathBuf], printer: &Printer) -> Result<Status> {
    let path = match files {
        [] => Path::new(NAME),
        [path] => path,
        _ => {
            return Err(Error::new(ErrorKind::InvalidInput, "up.init")
                .because("one file is written, and several are named"));
        }
    };
    let failed = |cause: std::io::Error| {
        let error = match cause.kind() {
            IoKind::AlreadyExists => Error::new(ErrorKind::AlreadyExists, "up.init")
                .because("the file is there, and is left as it is")
                .hint("name another: `jetbridge up --init FILE`"),
            _ => Error::new(ErrorKind::InvalidInput, "up.init").because("it cannot be written"),
        };
        error.with("path", path.display()).caused_by(cause)
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(TEXT.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let shown = path.display();
    printer.note(format_args!(
        "wrote {shown}; next: `jetbridge check {shown}`, `jetbridge up {shown}`"
    ));
    Ok(Status::Done)
}
