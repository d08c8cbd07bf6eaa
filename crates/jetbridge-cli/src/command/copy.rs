//! `copy`.

use std::path::Path;
use std::sync::Arc;

use jetbridge::copy::{CopyReport, Part, Selection, Step};
use jetbridge::settings::Location;
use jetbridge_core::{Backend, Error, ErrorKind, Result};

use super::CLOSE_GRACE;
use crate::args::Global;
use crate::args::copy::Copy;
use crate::interrupt::{Ended, Interrupt};
use crate::location::Place;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::report::Status;
use crate::view::copy::{Copied, PartView};

/// Copies one store into another.
pub(crate) async fn run(args: Copy, global: &Global, printer: &Printer) -> Result<Status> {
    if global.store.is_some() || global.context.is_some() {
        return Err(refused("--store and --context have no meaning here")
            .hint("`jetbridge copy FROM TO` names both stores"));
    }
    let (from, to) = (place(&args.from, global)?, place(&args.to, global)?);
    check(&from.location, &to.location)?;
    from.announce(printer);
    to.announce(printer);
    let interrupt = Interrupt::new();
    let connected = match interrupt.guard(Box::pin(connect(&from, &to))).await? {
        Ended::Itself(connected) => connected,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    let [source, destination] = &connected;
    let ended = interrupt.guard(Box::pin(copy(&args, source, destination, printer))).await;
    for store in &connected {
        store.close(CLOSE_GRACE).await;
    }
    match ended? {
        Ended::Itself(status) => Ok(status),
        Ended::Short(signal) => {
            printer.note("cut short; run it again to go on");
            Ok(Status::Interrupted(signal))
        }
    }
}

fn place(url: &str, global: &Global) -> Result<Place> {
    let named = Global {
        store: Some(url.to_owned()),
        context: None,
        json: global.json,
        timeout: global.timeout,
        quiet: global.quiet,
        verbose: global.verbose,
    };
    Place::find(&named)
}

/// Refuses what is no copy. A directory that is not there would be made, and copied as empty.
fn check(from: &Location, to: &Location) -> Result<()> {
    if from.to_string() == to.to_string() {
        return Err(refused("source and destination are the same store").with("store", from));
    }
    match from {
        Location::Memory => Err(refused("`memory:` is this process: there is nothing in it")),
        Location::Local { directory, .. } if !Path::new(directory).is_dir() => {
            Err(Error::new(ErrorKind::NotFound, "copy.plan")
                .because("the source's directory is not there")
                .with("directory", directory.display()))
        }
        _ => Ok(()),
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "copy.plan").because(why)
}

async fn connect(from: &Place, to: &Place) -> Result<[Arc<dyn Backend>; 2]> {
    let source = jetbridge::connect(&from.location).await?;
    match jetbridge::connect(&to.location).await {
        Ok(destination) => Ok([source, destination]),
        Err(error) => {
            source.close(CLOSE_GRACE).await;
            Err(error)
        }
    }
}

async fn copy(
    args: &Copy,
    source: &Arc<dyn Backend>,
    destination: &Arc<dyn Backend>,
    printer: &Printer,
) -> Result<Status> {
    let mut selection = Selection::default();
    selection.buckets.clone_from(&args.buckets);
    selection.streams.clone_from(&args.streams);
    selection.counters.clone_from(&args.counters);
    let copy = jetbridge::Copy::new(Arc::clone(source), Arc::clone(destination)).only(selection);
    let parts = copy.parts().await?;
    if args.dry_run {
        let rows: Vec<PartView> = parts.iter().map(Into::into).collect();
        printer.table(&rows)?;
        return Ok(Status::Done);
    }
    if parts.is_empty() {
        printer.note("the source is empty");
    }
    let mut is_complete = true;
    for part in &parts {
        let report = one(&copy, part, printer).await?;
        is_complete &= report.is_complete();
        printer.value(&Copied::new(part, report))?;
        printer.flush()?;
    }
    Ok(if is_complete { Status::Done } else { Status::No })
}

async fn one(copy: &jetbridge::Copy, part: &Part, printer: &Printer) -> Result<CopyReport> {
    let counts_bytes = part.kind() == "object";
    let progress = if counts_bytes {
        Progress::bytes(printer, Some(part.bytes()))
    } else {
        Progress::items(printer, "copied", Some(part.messages()))
    };
    let seen = |step: Step| progress.advance(if counts_bytes { step.bytes } else { step.items });
    let report = copy.run(part, &seen).await;
    progress.finish();
    report.map_err(|error| match error.fact(part.kind()) {
        Some(_told) => error,
        None => error.with(part.kind(), part.name()),
    })
}
