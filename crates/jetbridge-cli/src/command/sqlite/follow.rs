//! `sqlite follow` and `restore -f`: a database that others read, as new as its replica.

use std::path::Path;
use std::time::Duration;

use jetbridge::settings::ReplicaSpec;
use jetbridge::sqlite::follow::{Applied, Begun, Follow};
use jetbridge::sqlite::restore::{Integrity, Options, Overwrite};
use jetbridge::sqlite::store::{Replica, Target, plan};
use jetbridge_core::{Error, ErrorKind, Result};
use serde::Serialize;

use super::replica::{Named, named, open};
use super::restore::RestoredView;
use crate::args::Global;
use crate::args::sqlite;
use crate::format;
use crate::interrupt::{Ended, Interrupt};
use crate::printer::{Printer, Text, View};
use crate::progress::Progress;
use crate::report::Status;

/// How long closing may take: nothing was written to the store.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// What is wanted of a followed database.
pub(super) struct Wanted<'a> {
    pub(super) output: &'a Path,
    pub(super) overwrite: bool,
    pub(super) interval: Option<Duration>,
    pub(super) integrity: Integrity,
    /// Large files that are read at once.
    pub(super) parallelism: Option<usize>,
}

pub(super) async fn run(
    args: &sqlite::Follow,
    global: &Global,
    printer: &Printer,
) -> Result<Status> {
    let Named { spec, database } = named(&args.which, printer)?;
    let output = args.output.clone().or(database).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "sqlite.follow")
            .because("output path required: write -o FILE")
    })?;
    let wanted = Wanted {
        output: &output,
        overwrite: args.force,
        interval: args.follow_interval,
        integrity: Integrity::None,
        parallelism: None,
    };
    follow(&spec, wanted, (global, printer)).await
}

/// Follows until told to stop.
pub(super) async fn follow(
    spec: &ReplicaSpec,
    wanted: Wanted<'_>,
    (global, printer): (&Global, &Printer),
) -> Result<Status> {
    let interrupt = Interrupt::new();
    let beginning = async {
        let (store, replica) = open(spec, (global, printer)).await?;
        match begin(replica, &wanted, printer).await {
            Ok(follow) => Ok((store, follow)),
            Err(error) => {
                let _nothing_is_left = store.close(CLOSE_GRACE).await;
                Err(error)
            }
        }
    };
    let (store, mut follow) = match interrupt.guard(Box::pin(beginning)).await? {
        Ended::Itself(begun) => begun,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    let mut stop = interrupt.claim();
    let following = async {
        loop {
            tokio::select! {
                signal = stop.raised() => {
                    printer.note(format_args!("{signal:?}: at transaction {}", follow.txid()));
                    return Ok(());
                }
                applied = follow.next() => say(&applied?, printer)?,
            }
            if let Some(interval) = wanted.interval {
                tokio::select! {
                    _signal = stop.raised() => {}
                    () = tokio::time::sleep(interval) => {}
                }
            }
        }
    };
    let ended = interrupt.guard(Box::pin(following)).await;
    let _nothing_is_left = store.close(CLOSE_GRACE).await;
    match ended? {
        Ended::Itself(()) => Ok(Status::Done),
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
    }
}

/// Restores the database, or finds it where it was left.
async fn begin(replica: Replica, wanted: &Wanted<'_>, printer: &Printer) -> Result<Follow> {
    let mut options = Options::new(wanted.output);
    options.overwrite = if wanted.overwrite { Overwrite::Yes } else { Overwrite::No };
    options.integrity = wanted.integrity;
    options.parallelism = wanted.parallelism.unwrap_or(options.parallelism);
    let whole = plan(&replica.manifest().await?, Target::Latest).ok();
    let progress = Progress::bytes(printer, whole.map(|plan| plan.bytes()));
    let begun = Follow::begin(replica, &options, &|bytes| progress.advance(bytes)).await;
    progress.finish();
    let (follow, begun) = begun?;
    match begun {
        Begun::Restored(done) => {
            printer.value(&RestoredView::of(&done, wanted.output, wanted.integrity))?;
        }
        Begun::Resumed(txid) => printer.note(format_args!("goes on from transaction {txid}")),
    }
    printer.note(format_args!("following into {}", wanted.output.display()));
    Ok(follow)
}

fn say(applied: &Applied, printer: &Printer) -> Result<()> {
    let view = AppliedView {
        txid: applied.txid.to_string(),
        timestamp: format::exact_time(applied.time),
        pages: applied.pages,
        files: applied.files,
    };
    if printer.is_json() {
        return printer.value(&view);
    }
    // A line for each change only where somebody looks.
    if printer.is_terminal() {
        let AppliedView { txid, timestamp, pages, .. } = view;
        printer.note(format_args!("transaction {txid} of {timestamp}: {pages} pages"));
    }
    Ok(())
}

#[derive(Serialize)]
struct AppliedView {
    txid: String,
    timestamp: String,
    pages: u64,
    files: usize,
}

impl View for AppliedView {
    fn text(&self, out: &mut Text) {
        out.line(format_args!("{}: {} pages", self.txid, self.pages));
    }
}
