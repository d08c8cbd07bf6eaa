//! `sqlite ltx`: the files of a replica.

use jetbridge::sqlite::store::{Level, LtxFile, Replica};
use jetbridge_core::Result;
use serde::Serialize;

use super::replica::{named, with_replica};
use crate::args::Global;
use crate::args::sqlite::Ltx;
use crate::format;
use crate::interrupt::Ended;
use crate::printer::{Printer, Row, Text, View};
use crate::report::Status;

pub(super) async fn run(args: &Ltx, global: &Global, printer: &Printer) -> Result<Status> {
    let named = named(&args.which, printer)?;
    let listing = async |replica: Replica| replica.manifest().await;
    match with_replica(&named.spec, (global, printer), listing).await? {
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
        Ended::Itself(manifest) => {
            let wanted = args.level.0.and_then(Level::new);
            let files = manifest.files().filter(|it| wanted.is_none_or(|level| it.level == level));
            printer.value(&FileList(files.map(FileRow::of).collect()))?;
            Ok(Status::Done)
        }
    }
}

/// A file as Litestream's JSON has it.
#[derive(Serialize)]
pub(super) struct FileRow {
    level: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    min_txid: String,
    max_txid: String,
    size: u64,
    timestamp: String,
}

impl FileRow {
    pub(super) fn of(file: &LtxFile) -> Self {
        Self {
            level: file.level.get(),
            name: None,
            min_txid: file.range.min().to_string(),
            max_txid: file.range.max().to_string(),
            size: file.bytes,
            timestamp: format::exact_time(file.time),
        }
    }

    /// With the file's name, as a plan has it.
    pub(super) fn named(file: &LtxFile) -> Self {
        Self { name: Some(file.file_name()), ..Self::of(file) }
    }
}

impl Row for FileRow {
    const TITLES: &'static [&'static str] = &["level", "min_txid", "max_txid", "size", "created"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.level.to_string(),
            self.min_txid.clone(),
            self.max_txid.clone(),
            self.size.to_string(),
            self.timestamp.clone(),
        ]
    }
}

/// As Litestream has it: one array.
#[derive(Serialize)]
#[serde(transparent)]
struct FileList(Vec<FileRow>);

impl View for FileList {
    fn text(&self, out: &mut Text) {
        out.table(&self.0);
    }
}
