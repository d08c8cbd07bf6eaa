//! `sqlite`: databases and their replicas.

mod ltx;
mod replica;
mod replicate;
mod restore;

use jetbridge_core::Result;

use crate::args::Global;
use crate::args::sqlite::{Sqlite, Word};
use crate::printer::Printer;
use crate::report::Status;

/// Does what the word behind `sqlite` says.
pub(crate) async fn run(args: Sqlite, global: &Global, printer: &Printer) -> Result<Status> {
    match args.word {
        Word::Replicate(args) => replicate::run(&args, global, printer).await,
        Word::Restore(args) => restore::run(&args, global, printer).await,
        Word::Ltx(args) => ltx::run(&args, global, printer).await,
        Word::Databases(args) => replica::list(&args, printer),
        Word::Version => {
            printer.value(&replica::Version { version: env!("CARGO_PKG_VERSION") })?;
            Ok(Status::Done)
        }
    }
}
