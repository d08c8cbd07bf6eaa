//! `limit`: permits of the limiters that a file names.

mod bench;
mod exec;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use jetbridge::limit::{Found, LimitFile, Limiter, Limiters};
use jetbridge::settings::Environment;
use jetbridge_agent::UpFile;
use jetbridge_core::{Backend, Error, ErrorKind, Result};

use super::check::say;
use crate::args::Global;
use crate::args::limit::{Acquire, Limit, Word};
use crate::interrupt::{Ended, Interrupt};
use crate::location::Place;
use crate::printer::Printer;
use crate::report::{Begun, Status};
use crate::view::limit::{DecisionView, LimiterRow, milliseconds};

/// How long closing may take: slots are given back by then.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Where rate-sync looks for its file.
const FILES: [&str; 2] = ["rate-sync.toml", "config/rate-sync.toml"];

pub(crate) async fn run(args: &Limit, global: &Global, printer: &Printer) -> Result<Status> {
    let environment = Environment::of_process();
    let files = files(args, &environment)?;
    let file = match UpFile::read(&files, &environment) {
        Ok(file) => file,
        Err(problems) => {
            say(&problems, printer);
            return Ok(Status::Failed(ErrorKind::InvalidInput));
        }
    };
    let limits = match args.word.id() {
        Some(id) => narrowed(&file.limits, id)?,
        None => file.limits.clone(),
    };
    let place = match limits.needs_store() {
        true => Some(Place::find_with(global, file.store.clone())?),
        false => None,
    };
    let interrupt = Interrupt::new();
    let opened = interrupt.guard(Box::pin(open(&limits, place.as_ref(), printer))).await;
    let (limiters, store) = match opened {
        Ok(Ended::Itself(opened)) => opened,
        Ok(Ended::Short(signal)) => return Ok(Status::Interrupted(signal)),
        Err(error) => return Ok(refused(&error, printer)),
    };
    let ended = match &args.word {
        // It ends when its command does, and passes the signals on.
        Word::Run(args) => exec::run(args, &limiters, &interrupt, printer).await.map(Ended::Itself),
        word => interrupt.guard(Box::pin(ask(word, &limiters, printer))).await,
    };
    limiters.close(CLOSE_GRACE).await;
    if let Some(store) = store {
        store.close(CLOSE_GRACE).await;
    }
    Ok(match ended? {
        Ended::Itself(status) => status,
        Ended::Short(signal) => Status::Interrupted(signal),
    })
}

type Opened = (Limiters, Option<Arc<dyn Backend>>);

async fn open(limits: &LimitFile, place: Option<&Place>, printer: &Printer) -> Result<Opened> {
    let store = match place {
        Some(place) => {
            place.announce(printer);
            Some(jetbridge::connect(&place.location).await?)
        }
        None => None,
    };
    match Limiters::open(limits, store.clone()).await {
        Ok(limiters) => Ok((limiters, store)),
        Err(error) => {
            if let Some(store) = store {
                store.close(CLOSE_GRACE).await;
            }
            Err(error)
        }
    }
}

/// Says why nothing could be opened. What rate-sync's page explains begins with its words.
fn refused(error: &Error, printer: &Printer) -> Status {
    let words = match error.kind() {
        ErrorKind::Unavailable if error.operation() != "limit.open" => Some("Connection refused"),
        // Its facts say what is wrong: how long a bucket remembers, for one.
        ErrorKind::InvalidInput => None,
        _ => error.message().filter(|_| error.operation() == "limit.open"),
    };
    printer.error(&Begun::with(words, error));
    Status::Failed(error.kind())
}

/// The files to read.
fn files(args: &Limit, environment: &Environment) -> Result<Vec<PathBuf>> {
    if !args.config.is_empty() {
        return Ok(args.config.clone());
    }
    if let Some(file) = environment.get("RATE_SYNC_CONFIG") {
        return Ok(vec![PathBuf::from(file)]);
    }
    match FILES.iter().map(Path::new).find(|file| file.exists()) {
        Some(file) => Ok(vec![file.to_owned()]),
        None => Err(Error::new(ErrorKind::InvalidInput, "limit.read")
            .because("no file says what the limiters are")
            .hint("name one with `--config FILE`, or put `rate-sync.toml` here")),
    }
}

/// What the file says about the limiter of `id` alone: no other store is of use.
fn narrowed(file: &LimitFile, id: &str) -> Result<LimitFile> {
    let limits = file.clone().only(id);
    if limits.limiters.is_empty() {
        let known: Vec<&str> = file.limiters.iter().map(|limiter| limiter.id.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Error::new(ErrorKind::InvalidInput, "limit.find")
            .because(format!("the file has no limiter `{}`", crate::format::shown(id)))
            .hint(format!("there are: {known}")));
    }
    Ok(limits)
}

impl Word {
    fn id(&self) -> Option<&str> {
        match self {
            Self::Acquire(args) => Some(&args.id.id),
            Self::Bench(args) => Some(&args.id.id),
            Self::Peek(id) | Self::Reset(id) => Some(&id.id),
            Self::Run(args) => Some(&args.id.id),
            Self::Ls => None,
        }
    }
}

fn find(limiters: &Limiters, id: &str) -> Result<Found> {
    limiters.find(id)?.ok_or_else(|| Error::new(ErrorKind::Internal, "limit.find"))
}

async fn ask(word: &Word, limiters: &Limiters, printer: &Printer) -> Result<Status> {
    match word {
        Word::Acquire(args) => acquire(args, limiters, printer).await,
        Word::Bench(args) => bench::run(args, &find(limiters, &args.id.id)?, printer).await,
        Word::Ls => list(limiters, printer).await,
        Word::Peek(id) => {
            let decision = find(limiters, &id.id)?.limiter.peek().await?;
            printer.value(&DecisionView::of(&id.id, &decision))?;
            Ok(if decision.allowed { Status::Done } else { Status::No })
        }
        Word::Reset(id) => {
            let found = find(limiters, &id.id)?;
            if found.limits.reset(found.limiter.id().as_str()).await? {
                return Ok(Status::Done);
            }
            printer.note(format_args!("`{}` has given nothing", crate::format::shown(&id.id)));
            Ok(Status::No)
        }
        // Runs where it can be told of signals.
        Word::Run(_) => Err(Error::new(ErrorKind::Internal, "limit.run")),
    }
}

async fn acquire(args: &Acquire, limiters: &Limiters, printer: &Printer) -> Result<Status> {
    let found = find(limiters, &args.id.id)?;
    let cost = args.cost.unwrap_or(found.spec.cost);
    let wait = found.spec.wait(Some(args.wait.unwrap_or_default())).unwrap_or_default();
    let admission = found.limiter.acquire_n_timeout(cost, wait).await?;
    printer.value(&DecisionView::of(&args.id.id, &admission.decision))?;
    if !admission.allowed {
        return Ok(Status::No);
    }
    if let Some(permit) = admission.permit {
        printer.note("the slot ends with this command: `limit run` keeps it while another runs");
        permit.release().await?;
    }
    Ok(Status::Done)
}

async fn list(limiters: &Limiters, printer: &Printer) -> Result<Status> {
    let mut rows = Vec::new();
    for found in limiters.all() {
        rows.push(row(&found.limiter).await?);
        let prefix = format!("{}:", found.spec.id);
        let mut keys: Vec<String> = Vec::new();
        let mut used = found.limits.used();
        while let Some(key) = used.try_next().await? {
            keys.extend(key.as_str().strip_prefix(&prefix).map(str::to_owned));
        }
        keys.sort_unstable();
        for key in keys.iter().filter(|key| !key.is_empty()) {
            rows.push(row(&found.limiter.key(key)?).await?);
        }
    }
    printer.table(&rows)?;
    Ok(Status::Done)
}

async fn row(limiter: &Limiter) -> Result<LimiterRow> {
    let decision = limiter.peek().await?;
    Ok(LimiterRow {
        id: limiter.id().to_string(),
        kind: limiter.policy().kind(),
        limit: decision.limit,
        remaining: decision.remaining,
        reset_after_ms: milliseconds(decision.reset_after),
    })
}
