//! `sqlite`: databases and their replicas.

mod control;
mod follow;
mod ltx;
mod replica;
mod replicate;
mod restore;
mod socket;
mod state;

use jetbridge::sqlite::store::WORDS_OF_THE_PAGE;
use jetbridge_core::{Error, Result};

use crate::args::Global;
use crate::args::sqlite::{Sqlite, Word};
use crate::printer::Printer;
use crate::report::{Begun, Status};

/// Does what the word behind `sqlite` says.
pub(crate) async fn run(args: Sqlite, global: &Global, printer: &Printer) -> Result<Status> {
    let done = perform(args, global, printer).await;
    let words = done.as_ref().err().and_then(Error::message);
    match (&done, WORDS_OF_THE_PAGE.iter().find(|it| Some(**it) == words)) {
        (Err(error), Some(words)) => {
            printer.error(&Begun::with(Some(words), error));
            Ok(Status::Failed(error.kind()))
        }
        _ => done,
    }
}

async fn perform(args: Sqlite, global: &Global, printer: &Printer) -> Result<Status> {
    match args.word {
        Word::Replicate(args) => replicate::run(&args, global, printer).await,
        Word::Restore(args) => restore::run(&args, global, printer).await,
        Word::Ltx(args) => ltx::run(&args, global, printer).await,
        Word::Follow(args) => follow::run(&args, global, printer).await,
        Word::Databases(args) => replica::list(&args, printer),
        Word::Status(args) => state::status(&args, printer).await,
        Word::Verify(args) => state::verify(&args, global, printer).await,
        Word::Reset(args) => state::reset(&args, printer),
        Word::Sync(args) => control::sync(&args, (global, printer)).await,
        Word::Start(args) => control::start(&args, (global, printer)).await,
        Word::Stop(args) => control::stop(&args, (global, printer)).await,
        Word::Register(args) => control::register(&args, (global, printer)).await,
        Word::Unregister(args) => control::unregister(&args, (global, printer)).await,
        Word::List(args) => control::list(&args, (global, printer)).await,
        Word::Info(args) => control::info(&args, (global, printer)).await,
        Word::Version => {
            printer.value(&replica::Version { version: env!("CARGO_PKG_VERSION") })?;
            Ok(Status::Done)
        }
    }
}
