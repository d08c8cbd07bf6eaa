//! `up`: runs what the files name until a signal, and says what was left.

mod init;

use jetbridge::settings::Environment;
use jetbridge_agent::{Agent, FileWatch, Reloaded, Traces, UpReport};
use jetbridge_core::{Error, ErrorKind, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::check::{read, say};
use crate::args::{Global, Up};
use crate::interrupt::{Ended, Interrupt, Stop};
use crate::location::Place;
use crate::printer::Printer;
use crate::report::Status;

/// Open files that this process wants to be able to have: every connection that `http:` takes, and
/// as many for all else.
const OPEN_FILES: u64 = 32_768;

/// Runs until SIGTERM or SIGINT; SIGHUP or a changed file reloads. A second signal cuts the
/// drain short. `traces` see what is asked of the store.
pub(crate) async fn run(
    args: &Up,
    global: &Global,
    printer: &Printer,
    traces: Option<&Traces>,
) -> Result<Status> {
    if args.init {
        return init::run(&args.files, printer);
    }
    let Some(mut file) = read(&args.files, printer) else {
        return Ok(Status::Failed(ErrorKind::InvalidInput));
    };
    // Templates that change a setting of the store mean the one that was found.
    file.store = file.store.store(global.store.clone()).context(global.context.clone());
    let place = Place::find_with(global, file.store.clone())?.in_background();
    place.announce(printer);
    let interrupt = Interrupt::new();
    let store = match interrupt.guard(Box::pin(jetbridge::connect(&place.location))).await? {
        Ended::Itself(store) => store,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    let store = match traces {
        Some(traces) => traces.around(store),
        None => store,
    };
    printer.note(format_args!("store: {} ({})", place.location, place.origin));
    raise_open_files(printer);
    let environment = Environment::of_process();
    let agent = Agent::start(file, args.files.clone(), environment, store).await?;
    if let Some(url) = agent.http_url() {
        printer.note(format_args!("http: {url}"));
    }
    let stop = interrupt.claim();
    match interrupt.guard(Box::pin(attend(agent, args, stop, printer))).await? {
        Ended::Itself(report) => Ok(conclude(&report, printer)),
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
    }
}

/// Most systems let a process have 1024 files open until it asks for more, up to a limit that is
/// far above.
fn raise_open_files(printer: &Printer) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    let Some(now) = limit.current.filter(|now| *now < most) else { return };
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        printer.warn(format_args!("no more than {now} files can be open: {error}"));
    }
}

/// Reloads when told to, and drains when a signal comes.
async fn attend(
    mut agent: Agent,
    args: &Up,
    mut stop: Stop,
    printer: &Printer,
) -> Result<UpReport> {
    let mut hangups = signal(SignalKind::hangup())
        .map_err(|error| Error::new(ErrorKind::Internal, "signal.listen").caused_by(error))?;
    let mut changes = FileWatch::new(&args.files)?;
    loop {
        tokio::select! {
            signal = stop.raised() => {
                printer.note(format_args!("{signal:?}: draining"));
                return Ok(agent.stop().await);
            }
            _ = hangups.recv() => {}
            () = changes.changed() => {}
        }
        let reloaded = tokio::select! {
            reloaded = agent.reload() => reloaded,
            // What drains for the reload goes on to drain for the end.
            signal = stop.raised() => {
                printer.note(format_args!("{signal:?}: draining"));
                return Ok(agent.stop().await);
            }
        };
        match reloaded {
            Ok(reloaded) => say_reloaded(&reloaded, printer),
            Err(problems) => {
                say(&problems, printer);
                printer.warn("the files were not taken; everything runs as before");
            }
        }
    }
}

fn say_reloaded(reloaded: &Reloaded, printer: &Printer) {
    let verbs = [
        ("started", &reloaded.started),
        ("changed", &reloaded.changed),
        ("stopped", &reloaded.stopped),
    ];
    for (verb, ids) in verbs {
        ids.iter().for_each(|id| printer.note(format_args!("reload: {verb} {id}")));
    }
}

/// Says what was left; anything abandoned is a no.
pub(super) fn conclude(report: &UpReport, printer: &Printer) -> Status {
    for (id, drained) in &report.sections {
        if drained.finished > 0 || drained.abandoned > 0 {
            printer.note(format_args!(
                "{id}: {} finished while draining, {} abandoned",
                drained.finished, drained.abandoned
            ));
        }
    }
    if report.is_clean() {
        printer.note("stopped, nothing was left");
        return Status::Done;
    }
    let store = &report.store;
    let left = match store.is_clean() {
        true => String::new(),
        false => format!(
            ": {} tasks and {} acknowledgements of the store were left",
            store.tasks_abandoned, store.writes_unacknowledged
        ),
    };
    printer.warn(format_args!(
        "stopped before everything was done{left}; what a stream keeps is delivered again, and what \
         a database has is shipped by the next start"
    ));
    Status::No
}
