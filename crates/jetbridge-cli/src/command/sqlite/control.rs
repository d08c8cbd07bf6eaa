//! `sqlite sync`, `start`, `stop`, `register`, `unregister`, `list`, `info`: what a running
//! replicator is told, and what it says, in the shapes that Litestream's users read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jetbridge_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::socket::Daemon;
use crate::args::Global;
use crate::args::sqlite::{Asked, Register, Sync, Told, Unregister};
use crate::format;
use crate::printer::{Printer, Text, View};
use crate::report::Status;

/// How long what is told may take unless it is said.
const WORK_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for what is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer: as JSON as it is, as text its fields.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct Answer(Value);

impl View for Answer {
    fn text(&self, out: &mut Text) {
        for (name, value) in self.0.as_object().into_iter().flatten() {
            match value.as_str() {
                Some(text) => out.line(format_args!("{name}: {text}")),
                None => out.line(format_args!("{name}: {value}")),
            }
        }
    }
}

impl Told {
    fn daemon(&self, global: &Global) -> Daemon<'_> {
        let timeout = global.timeout.unwrap_or(WORK_TIMEOUT);
        Daemon { socket: &self.socket.socket, timeout }
    }

    /// The database by its whole path: the replicator may run elsewhere.
    fn path(&self) -> Result<PathBuf> {
        let text = self.database.to_string_lossy();
        if text.starts_with('~') || text.contains("://") {
            return Ok(self.database.clone());
        }
        absolute(&self.database)
    }

    fn body(&self, global: &Global) -> Result<Value> {
        let timeout = global.timeout.unwrap_or(WORK_TIMEOUT);
        let seconds = timeout.as_secs().max(1);
        Ok(json!({"path": self.path()?, "timeout": seconds}))
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, "sqlite.ask")
            .with("path", path.display())
            .caused_by(error)
    })
}

pub(super) async fn sync(args: &Sync, (global, printer): (&Global, &Printer)) -> Result<Status> {
    let begun = Instant::now();
    let mut body = args.told.body(global)?;
    body["wait"] = json!(args.wait);
    let answer = args.told.daemon(global).post("/sync", &body).await?;
    let mut shown = json!({
        "db_path": answer["path"],
        "txid": answer["txid"],
        "duration_ms": format::millis(begun.elapsed()),
    });
    if args.wait {
        shown["replica_txid"] = answer["replicated_txid"].clone();
    }
    printer.value(&Answer(shown))?;
    Ok(Status::Done)
}

pub(super) async fn start(args: &Told, (global, printer): (&Global, &Printer)) -> Result<Status> {
    change(args, ("/start", "running"), (global, printer)).await
}

pub(super) async fn stop(args: &Told, (global, printer): (&Global, &Printer)) -> Result<Status> {
    change(args, ("/stop", "stopped"), (global, printer)).await
}

async fn change(
    args: &Told,
    (path, state): (&str, &str),
    (global, printer): (&Global, &Printer),
) -> Result<Status> {
    let answer = args.daemon(global).post(path, &args.body(global)?).await?;
    printer.value(&Answer(json!({
        "status": answer["status"],
        "db_path": answer["path"],
        "state": state,
        "txid": answer["txid"],
        "socket": args.socket.socket,
    })))?;
    Ok(Status::Done)
}

pub(super) async fn register(
    args: &Register,
    (global, printer): (&Global, &Printer),
) -> Result<Status> {
    let mut body = args.told.body(global)?;
    body["replica_url"] = json!(args.replica);
    let answer = args.told.daemon(global).post("/register", &body).await?;
    printer.value(&Answer(json!({
        "status": answer["status"],
        "db_path": answer["path"],
        "replica": "nats",
        "socket": args.told.socket.socket,
    })))?;
    Ok(Status::Done)
}

pub(super) async fn unregister(
    args: &Unregister,
    (global, printer): (&Global, &Printer),
) -> Result<Status> {
    let socket = &args.told.socket.socket;
    if args.dry_run {
        let path = args.told.path()?;
        printer.value(&Answer(json!({"dry_run": true, "db_path": path, "socket": socket})))?;
        return Ok(Status::Done);
    }
    let answer = args.told.daemon(global).post("/unregister", &args.told.body(global)?).await?;
    printer.value(&Answer(json!({
        "status": answer["status"],
        "db_path": answer["path"],
        "final_txid": answer["txid"],
        "socket": socket,
    })))?;
    Ok(Status::Done)
}

impl Asked {
    fn daemon(&self, global: &Global) -> Daemon<'_> {
        let timeout = global.timeout.unwrap_or(ANSWER_TIMEOUT);
        Daemon { socket: &self.socket.socket, timeout }
    }
}

pub(super) async fn list(args: &Asked, (global, printer): (&Global, &Printer)) -> Result<Status> {
    printer.value(&Listing(args.daemon(global).get("/list").await?))?;
    Ok(Status::Done)
}

pub(super) async fn info(args: &Asked, (global, printer): (&Global, &Printer)) -> Result<Status> {
    printer.value(&Answer(args.daemon(global).get("/info").await?))?;
    Ok(Status::Done)
}

/// The databases of a replicator, a line each.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct Listing(Value);

impl View for Listing {
    fn text(&self, out: &mut Text) {
        for row in self.0["databases"].as_array().into_iter().flatten() {
            let text = |name: &str| row[name].as_str().unwrap_or("never").to_owned();
            out.line(format_args!(
                "{} [{}] (last sync: {})",
                text("path"),
                text("status"),
                text("last_sync_at")
            ));
        }
    }
}
