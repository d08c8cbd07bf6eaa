//! `sqlite status`, `verify` and `reset`: how databases do, whether they can be restored, and what
//! is remembered of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbridge::settings::{DatabaseSource, DatabaseSpec, Databases, Environment, database_path};
use jetbridge::sqlite::capture::{self, forget, remembered};
use jetbridge::sqlite::restore::{Restored, verify as restore_and_check};
use jetbridge::sqlite::store::{Replica, Target, plan};
use jetbridge_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::Value;

use super::replica::{database_of, databases, is_without_file, named, with_replica};
use super::socket::Daemon;
use crate::args::Global;
use crate::args::sqlite::{Reset, StatusOf, Verify};
use crate::format;
use crate::interrupt::Ended;
use crate::printer::{Printer, Row, Text, View};
use crate::progress::Progress;
use crate::report::Status;

/// How long a running replicator may take to say how it does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Litestream's fields, and behind them what a running replicator says.
#[derive(Serialize)]
struct StatusRow {
    database: String,
    status: String,
    local_txid: String,
    wal_size: String,
    /// All it says; nothing if none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<Value>,
}

pub(super) async fn status(args: &StatusOf, printer: &Printer) -> Result<Status> {
    let config = match databases(&args.file, printer) {
        // A replicator may say it all.
        Err(missing) if args.socket.is_some() && is_without_file(&args.file) => Err(missing),
        read => Ok(read?),
    };
    let socket = args.socket.clone().or_else(|| {
        let config = config.as_ref().ok()?;
        Some(config.control.socket.as_ref()?.path.clone())
    });
    let told = match &socket {
        Some(socket) => {
            let daemon = Daemon { socket, timeout: ANSWER_TIMEOUT };
            let told = daemon.get("/debug/sync-status").await;
            if let Err(error) = &told {
                printer.note(format_args!("no replicator is asked: {error}"));
            }
            told.ok()
        }
        None => None,
    };
    let mut rows = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for row in told.iter().flat_map(|told| told["databases"].as_array()).flatten() {
        let path = row["path"].as_str().unwrap_or_default().to_owned();
        rows.push(StatusRow::told(&path, row.clone()));
        seen.push(path);
    }
    match config {
        Ok(config) => {
            let files = files(&config);
            let others = files
                .iter()
                .filter(|spec| !seen.contains(&spec.source.path().display().to_string()));
            rows.extend(others.map(|spec| StatusRow::local(spec)));
        }
        // The replicator has said it all.
        Err(_missing) if told.is_some() => {}
        Err(missing) => return Err(missing),
    }
    if let Some(wanted) = &args.database {
        let path = database_path(wanted, &Environment::of_process()).display().to_string();
        rows.retain(|row| row.database == path);
        if rows.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "sqlite.status")
                .because(format!("database not found in config: {wanted}")));
        }
    }
    printer.value(&StatusList(rows))?;
    Ok(Status::Done)
}

fn files(config: &Databases) -> Vec<&DatabaseSpec> {
    let is_file = |spec: &&DatabaseSpec| matches!(spec.source, DatabaseSource::File(_));
    config.list.iter().filter(is_file).collect()
}

impl StatusRow {
    /// As a running replicator says.
    fn told(path: &str, row: Value) -> Self {
        let status = match row["status"].as_str() {
            Some("replicating") => "ok".to_owned(),
            other => other.unwrap_or("unknown").to_owned(),
        };
        Self {
            database: path.to_owned(),
            status,
            local_txid: row["txid"].as_str().unwrap_or("-").to_owned(),
            wal_size: wal_size(Path::new(path)),
            replication: Some(row),
        }
    }

    /// As it is remembered.
    fn local(spec: &DatabaseSpec) -> Self {
        let path = spec.source.path();
        let (status, txid) = if path.exists() {
            match remembered(&state_of(spec)) {
                Ok(Some(txid)) => ("ok", txid.to_string()),
                Ok(None) => ("not initialized", "-".to_owned()),
                // A replicator that has no socket.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    ("replicating", "-".to_owned())
                }
                Err(_unreadable) => ("error", "-".to_owned()),
            }
        } else {
            ("no database", "-".to_owned())
        };
        Self {
            database: path.display().to_string(),
            status: status.to_owned(),
            local_txid: txid,
            wal_size: if path.exists() { wal_size(path) } else { "-".to_owned() },
            replication: None,
        }
    }
}

/// Where is remembered how far a database came.
fn state_of(spec: &DatabaseSpec) -> PathBuf {
    let mut options = capture::Options::new(spec.source.path());
    options.state.clone_from(&spec.state);
    options.state_dir()
}

fn wal_size(path: &Path) -> String {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    format::size(std::fs::metadata(name).map_or(0, |facts| facts.len()))
}

impl Row for StatusRow {
    const TITLES: &'static [&'static str] =
        &["database", "status", "local txid", "wal size", "lag", "restorable", "last error"];

    fn cells(&self) -> Vec<String> {
        let told = self.replication.as_ref();
        let number = |value: &Value| value.as_f64();
        let at = |value: &Value| {
            let seconds = Duration::try_from_secs_f64(number(value)?).ok()?;
            Some(format::time(std::time::SystemTime::UNIX_EPOCH + seconds))
        };
        let lag = told.and_then(|it| number(&it["lag_s"])).map(|lag| format!("{lag:.1}s"));
        let window = told.and_then(|it| {
            let restorable = &it["restorable"];
            Some(format!(
                "{} to {}",
                at(&restorable["oldest_unix_s"])?,
                at(&restorable["newest_unix_s"])?
            ))
        });
        let failed = told.and_then(|it| {
            let failed = &it["last_error"];
            let age = Duration::try_from_secs_f64(number(&failed["age_s"])?).ok()?;
            let age = Duration::from_secs(age.as_secs());
            Some(format!("{} ago: {}", format::span(age), failed["error"].as_str()?))
        });
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.database.clone(),
            self.status.clone(),
            self.local_txid.clone(),
            self.wal_size.clone(),
            cell(lag),
            cell(window),
            cell(failed),
        ]
    }
}

/// As Litestream has it: one array.
#[derive(Serialize)]
#[serde(transparent)]
struct StatusList(Vec<StatusRow>);

impl View for StatusList {
    fn text(&self, out: &mut Text) {
        out.table(&self.0);
    }
}

pub(super) async fn verify(args: &Verify, global: &Global, printer: &Printer) -> Result<Status> {
    let named = named(&args.which, printer)?;
    let target = args.txid.map_or(Target::Latest, Target::Txid);
    let work = async |replica: Replica| {
        let planned = plan(&replica.manifest().await?, target)?;
        let progress = Progress::bytes(printer, Some(planned.bytes()));
        let advance = |bytes| progress.advance(bytes);
        let done = restore_and_check(&replica, (&args.dir, target), &advance).await;
        progress.finish();
        Ok((planned, done?))
    };
    match with_replica(&named.spec, (global, printer), work).await? {
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
        Ended::Itself((planned, done)) => {
            let files = planned.files.len();
            printer.value(&VerifiedView::of(&done, &named.spec.to_string(), files))?;
            Ok(Status::Done)
        }
    }
}

#[derive(Serialize)]
struct VerifiedView {
    replica: String,
    txid: String,
    files: usize,
    pages: u32,
    page_size: u32,
    duration_ms: u64,
    integrity_check: &'static str,
    broken: Vec<String>,
}

impl VerifiedView {
    fn of(done: &Restored, replica: &str, files: usize) -> Self {
        let broken = done.broken.iter().map(|it| format!("{}/{}", it.level, it.file_name()));
        Self {
            replica: replica.to_owned(),
            txid: done.txid.to_string(),
            files,
            pages: done.pages,
            page_size: done.page_size.get(),
            duration_ms: format::millis(done.took),
            integrity_check: "ok",
            broken: broken.collect(),
        }
    }
}

impl View for VerifiedView {
    fn text(&self, out: &mut Text) {
        let bytes = u64::from(self.pages) * u64::from(self.page_size);
        out.line(format_args!(
            "{} can be restored to transaction {}: {} from {} files, intact",
            self.replica,
            self.txid,
            format::size(bytes),
            self.files
        ));
        for name in &self.broken {
            out.line(format_args!("broken, others made up for it: {name}"));
        }
    }
}

pub(super) fn reset(args: &Reset, printer: &Printer) -> Result<Status> {
    let config = args.file.config.is_some().then(|| databases(&args.file, printer)).transpose()?;
    let state = match &config {
        Some(config) => {
            let spec = database_of(config, &args.database)?;
            // What it names may hold what is remembered of many, some of which may run.
            if !matches!(spec.source, DatabaseSource::File(_)) {
                return Err(Error::new(ErrorKind::InvalidInput, "sqlite.reset")
                    .because(format!("{} is a directory of databases", args.database))
                    .hint(
                        "name the database: `jetbridge sqlite reset DATABASE`, without -config",
                    ));
            }
            state_of(spec)
        }
        None => capture::Options::new(&args.database).state_dir(),
    };
    let (path, removed) = (state.display().to_string(), !args.dry_run && forget(&state)?);
    printer.value(&ResetView {
        database: args.database.clone(),
        removed,
        dry_run: args.dry_run,
        exists: removed || state.exists(),
        path,
    })?;
    Ok(Status::Done)
}

#[derive(Serialize)]
struct ResetView {
    database: String,
    path: String,
    exists: bool,
    removed: bool,
    dry_run: bool,
}

impl View for ResetView {
    fn text(&self, out: &mut Text) {
        let Self { database, path, .. } = self;
        match (self.exists, self.removed) {
            (false, _) => out.line(format_args!("No local state to reset for {database}")),
            (true, true) => out.line(format_args!("removed {path}")),
            (true, false) => out.line(format_args!("would remove {path}")),
        }
    }
}
