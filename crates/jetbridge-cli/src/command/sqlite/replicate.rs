//! `sqlite replicate`: databases to their replicas, until told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use jetbridge::Replicator;
use jetbridge::settings::{DatabaseSpec, Databases, Environment, ReplicaSpec};
use jetbridge_agent::{Agent, UpFile};
use jetbridge_core::{Backend, Error, ErrorKind, MemoryBackend, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::process::{Child, Command};

use super::replica::{databases, refuse_store};
use crate::args::Global;
use crate::args::sqlite::Replicate;
use crate::command::up::conclude;
use crate::interrupt::{self, Ended, Interrupt, Stop};
use crate::location::Place;
use crate::printer::{Printer, Text, View};
use crate::report::Status;

pub(super) async fn run(args: &Replicate, global: &Global, printer: &Printer) -> Result<Status> {
    let databases = wanted(args, printer)?;
    if databases.list.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "sqlite.replicate")
            .because("there is no database to replicate")
            .hint("name one and the URL of its replica, or a file with `-config`"));
    }
    let interrupt = Interrupt::new();
    let store = match interrupt.guard(Box::pin(store(&databases, global, printer))).await? {
        Ended::Itself(store) => store,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    if args.once {
        let once = once(args, &databases, (&store, printer));
        return match interrupt.guard(Box::pin(once)).await? {
            Ended::Itself(()) => Ok(Status::Done),
            Ended::Short(signal) => Ok(Status::Interrupted(signal)),
        };
    }
    let command = args.exec.clone().or(databases.exec.clone());
    let mut file = UpFile::default();
    for spec in &databases.list {
        let source = spec.source.path().display();
        printer.note(format_args!("replicating {source} to {}", spec.replica));
    }
    file.databases = vec![databases];
    let agent = Agent::start(file, Vec::new(), Environment::of_process(), store).await?;
    let stop = interrupt.claim();
    let attended = attend(agent, command.as_deref(), stop, printer);
    match interrupt.guard(Box::pin(attended)).await? {
        Ended::Itself(status) => Ok(status),
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
    }
}

/// What the arguments name.
fn wanted(args: &Replicate, printer: &Printer) -> Result<Databases> {
    let refused = |text: &str| {
        Err(Error::new(ErrorKind::InvalidInput, "sqlite.replicate").because(text.to_owned()))
    };
    let mut databases = match (args.named.as_slice(), &args.bucket) {
        ([], _) => databases(&args.file, printer)?,
        ([database], Some(bucket)) => {
            let replica = ReplicaSpec::in_store(bucket.clone(), &args.path);
            Databases::of(DatabaseSpec::new(PathBuf::from(database), replica))
        }
        ([database, url], None) => {
            refuse_store(url)?;
            let replica = ReplicaSpec::from_url(url, &Environment::of_process())?;
            Databases::of(DatabaseSpec::new(PathBuf::from(database), replica))
        }
        ([_], None) => return refused("must specify the URL of the replica behind the database"),
        _ => {
            return refused("multiple replicas on a single database are no longer supported");
        }
    };
    if args.restore_if_db_not_exists {
        databases.list.iter_mut().for_each(|spec| spec.restore_if_missing = true);
    }
    Ok(databases)
}

/// The store of the replicas that name no server.
async fn store(
    databases: &Databases,
    global: &Global,
    printer: &Printer,
) -> Result<Arc<dyn Backend>> {
    if databases.list.iter().all(|spec| spec.replica.server.is_some()) {
        return Ok(Arc::new(MemoryBackend::new()));
    }
    let place = Place::find(global)?.in_background();
    place.announce(printer);
    jetbridge::connect(&place.location).await
}

/// Ships what is there now.
async fn once(
    args: &Replicate,
    databases: &Databases,
    (store, printer): (&Arc<dyn Backend>, &Printer),
) -> Result<()> {
    for spec in &databases.list {
        let replicator = Replicator::start(spec, &databases.upkeep, store).await?;
        let synced = shipped(args, &replicator).await;
        let synced = synced.map(|done| {
            let view = |(path, txid): (PathBuf, jetbridge::sqlite::Txid)| Synced {
                db_path: path,
                txid: txid.to_string(),
            };
            done.into_iter().map(view).collect::<Vec<_>>()
        });
        replicator.close(databases.shutdown_timeout).await;
        for done in synced? {
            printer.value(&done)?;
        }
    }
    Ok(())
}

async fn shipped(
    args: &Replicate,
    replicator: &Replicator,
) -> Result<Vec<(PathBuf, jetbridge::sqlite::Txid)>> {
    let mut synced = replicator.sync().await?;
    if args.force_snapshot {
        synced = replicator.rebase().await?;
    }
    if args.enforce_retention {
        replicator.enforce_retention().await?;
    }
    Ok(synced)
}

/// Goes on until a signal comes or the command ends.
async fn attend(
    agent: Agent,
    command: Option<&str>,
    mut stop: Stop,
    printer: &Printer,
) -> Result<Status> {
    let mut child = command.map(spawn).transpose()?;
    let mut exit = None;
    tokio::select! {
        signal = stop.raised() => {
            printer.note(format_args!("{signal:?}: shipping the last changes"));
            if let Some(child) = &mut child {
                exit = Some(pass_on(child, signal).await?);
            }
        }
        ended = wait(child.as_mut()) => exit = Some(ended?),
    }
    let status = conclude(&agent.stop().await, printer);
    match exit {
        Some(false) => {
            printer.warn("the command failed");
            Ok(Status::No)
        }
        _ => Ok(status),
    }
}

/// Passes a signal on to the command; true if it ended well.
async fn pass_on(child: &mut Child, signal: interrupt::Signal) -> Result<bool> {
    let passed = match signal {
        interrupt::Signal::Interrupt => Signal::INT,
        interrupt::Signal::Terminate => Signal::TERM,
    };
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has just ended takes no signal.
        kill_process(pid, passed).unwrap_or_default();
    }
    wait(Some(child)).await
}

async fn wait(child: Option<&mut Child>) -> Result<bool> {
    match child {
        Some(child) => match child.wait().await {
            Ok(status) => Ok(status.success()),
            Err(error) => Err(Error::new(ErrorKind::Internal, "exec.wait").caused_by(error)),
        },
        None => std::future::pending().await,
    }
}

fn spawn(command: &str) -> Result<Child> {
    let words = words(command);
    let refused = |text: &str| Error::new(ErrorKind::InvalidInput, "exec.start").because(text);
    let (program, arguments) =
        words.split_first().ok_or_else(|| refused("the command is empty"))?;
    let child = Command::new(program).args(arguments).spawn();
    child.map_err(|error| {
        refused("the command cannot be run").with("command", program).caused_by(error)
    })
}

/// The words of a command, as a shell splits them: at blanks that no quote or backslash keeps.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ' | '\t' | '\n') => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, '"' | '\'') => (quote, begun) = (Some(letter), true),
            (Some(open), letter) if letter == open => quote = None,
            (None | Some('"'), '\\') => {
                word.extend(letters.next());
                begun = true;
            }
            (_, letter) => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// A database of which everything is shipped.
#[derive(Serialize)]
struct Synced {
    db_path: PathBuf,
    txid: String,
}

impl View for Synced {
    fn text(&self, out: &mut Text) {
        out.line(format_args!("{}: shipped up to {}", self.db_path.display(), self.txid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_does() {
        assert_eq!(
            words("app  -x 'a b' \"c\\\"d\" e\\ f ''"),
            ["app", "-x", "a b", "c\"d", "e f", ""]
        );
        assert!(words("  ").is_empty());
    }
}
