//! `sqlite restore`: a database from its replica.

use std::path::{Path, PathBuf};

use jetbridge::sqlite::restore::{Integrity, Options, Overwrite, Restored, restore};
use jetbridge::sqlite::store::{Plan, Replica, Target, plan};
use jetbridge_core::{Error, ErrorKind, Result};
use serde::Serialize;

use super::follow::{self, Wanted};
use super::ltx::FileRow;
use super::replica::{Named, named, with_replica};
use crate::args::Global;
use crate::args::sqlite::{IntegrityCheck, Restore};
use crate::format;
use crate::interrupt::Ended;
use crate::printer::{Printer, Text, View};
use crate::progress::Progress;
use crate::report::Status;

/// What came of it.
enum Outcome {
    Nothing,
    Planned(Plan),
    Restored(Restored),
}

pub(super) async fn run(args: &Restore, global: &Global, printer: &Printer) -> Result<Status> {
    let Named { spec, database } = named(&args.which, printer)?;
    let source = match (&database, &args.which.target) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(url)) => shown(url),
        (None, None) => format!("{}/{}", spec.bucket, spec.path),
    };
    let output = args.output.clone().or(database).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "sqlite.restore")
            .because("output path required: write -o FILE")
    })?;
    if args.follow {
        let wanted = Wanted {
            output: &output,
            overwrite: args.force,
            interval: args.follow_interval,
            integrity: integrity(args.integrity_check),
            parallelism: Some(args.parallelism),
        };
        return follow::follow(&spec, wanted, (global, printer)).await;
    }
    if args.if_db_not_exists && output.exists() {
        printer.note("database already exists, skipping");
        return Ok(Status::Done);
    }
    let work = async |replica: Replica| perform(args, &output, (&replica, printer)).await;
    let done = match with_replica(&spec, (global, printer), work).await? {
        Ended::Itself(done) => done,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    match done {
        Outcome::Nothing => printer.note("no matching backups found, skipping"),
        Outcome::Planned(plan) => printer.value(&Planned::of(&plan, source, &output))?,
        Outcome::Restored(done) => {
            for file in &done.broken {
                let name = file.file_name();
                printer.warn(format_args!(
                    "level {} file {name} is broken; others made up for it",
                    file.level
                ));
            }
            printer.value(&RestoredView::of(&done, &output, integrity(args.integrity_check)))?;
        }
    }
    Ok(Status::Done)
}

async fn perform(
    args: &Restore,
    output: &Path,
    (replica, printer): (&Replica, &Printer),
) -> Result<Outcome> {
    let mut options = Options::new(output);
    options.target = match (args.txid, args.timestamp) {
        (Some(txid), _) => Target::Txid(txid),
        (None, Some(time)) => Target::Before(time),
        (None, None) => Target::Latest,
    };
    options.overwrite = if args.force { Overwrite::Yes } else { Overwrite::No };
    options.integrity = integrity(args.integrity_check);
    options.parallelism = args.parallelism;
    let planned = match plan(&replica.manifest().await?, options.target) {
        Err(none) if none.kind() == ErrorKind::NotFound && args.if_replica_exists => {
            return Ok(Outcome::Nothing);
        }
        planned => planned?,
    };
    if args.dry_run {
        return Ok(Outcome::Planned(planned));
    }
    let progress = Progress::bytes(printer, Some(planned.bytes()));
    let advance = |bytes| progress.advance(bytes);
    let done = restore(replica, &options, &advance).await;
    progress.finish();
    done.map(Outcome::Restored)
}

fn integrity(check: IntegrityCheck) -> Integrity {
    match check {
        IntegrityCheck::None => Integrity::None,
        IntegrityCheck::Quick => Integrity::Quick,
        IntegrityCheck::Full => Integrity::Full,
    }
}

/// A URL without the login that may stand in it.
fn shown(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_login, rest))) => format!("{scheme}://{rest}"),
        None => url.to_owned(),
    }
}

#[derive(Serialize)]
pub(super) struct RestoredView {
    db_path: PathBuf,
    replica: &'static str,
    txid: String,
    duration_ms: u64,
    integrity_check: &'static str,
    pages: u32,
    page_size: u32,
}

impl RestoredView {
    pub(super) fn of(done: &Restored, output: &Path, check: Integrity) -> Self {
        Self {
            db_path: output.to_owned(),
            replica: "nats",
            txid: done.txid.to_string(),
            duration_ms: format::millis(done.took),
            integrity_check: check.as_str(),
            pages: done.pages,
            page_size: done.page_size.get(),
        }
    }
}

impl View for RestoredView {
    fn text(&self, out: &mut Text) {
        let bytes = u64::from(self.pages) * u64::from(self.page_size);
        out.line(format_args!(
            "restored {} to transaction {}: {} in {} ms",
            self.db_path.display(),
            self.txid,
            format::size(bytes),
            self.duration_ms
        ));
    }
}

#[derive(Serialize)]
struct Planned {
    source: String,
    target_path: PathBuf,
    replica: &'static str,
    min_txid: String,
    max_txid: String,
    files: Vec<FileRow>,
}

impl Planned {
    fn of(plan: &Plan, source: String, output: &Path) -> Self {
        let files = plan.files.iter().map(FileRow::named);
        let min = plan.files.iter().map(|file| file.range.min()).min();
        Self {
            source,
            target_path: output.to_owned(),
            replica: "nats",
            min_txid: min.unwrap_or_default().to_string(),
            max_txid: plan.txid.to_string(),
            files: files.collect(),
        }
    }
}

impl View for Planned {
    fn text(&self, out: &mut Text) {
        out.field("source", &self.source);
        out.field("target", self.target_path.display());
        out.field("transactions", format_args!("{} to {}", self.min_txid, self.max_txid));
        out.line("");
        out.table(&self.files);
    }
}
