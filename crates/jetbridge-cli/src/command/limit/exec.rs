//! `limit run`: a command that holds a permit while it runs.

use std::process::ExitStatus;

use jetbridge::limit::{Limiters, Permit};
use jetbridge_core::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::find;
use crate::args::limit::Run;
use crate::interrupt::{self, Ended, Interrupt, Stop};
use crate::printer::Printer;
use crate::report::Status;
use crate::view::limit::DecisionView;

/// What a shell says of a command that it cannot find, and of one that it cannot run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// Waits for a permit and runs the command; ends as that does.
pub(super) async fn run(
    args: &Run,
    limiters: &Limiters,
    interrupt: &Interrupt,
    printer: &Printer,
) -> Result<Status> {
    let found = find(limiters, &args.id.id)?;
    let cost = args.cost.unwrap_or(found.spec.cost);
    let wait = found.spec.wait(args.wait);
    let acquire = async {
        match wait {
            Some(wait) => found.limiter.acquire_n_timeout(cost, wait).await,
            None => found.limiter.acquire_n(cost).await,
        }
    };
    let admission = match interrupt.guard(Box::pin(acquire)).await? {
        Ended::Itself(admission) => admission,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    if !admission.allowed {
        printer.no(&DecisionView::of(&args.id.id, &admission.decision));
        return Ok(Status::No);
    }
    let stop = interrupt.claim();
    let code = match interrupt
        .guard(Box::pin(attend(args, stop, admission.permit.as_ref(), printer)))
        .await?
    {
        Ended::Itself(code) => code,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    if let Some(permit) = admission.permit {
        // The command has ended as it has, whatever becomes of the slot.
        if let Err(error) = permit.release().await {
            printer.warn(error);
        }
    }
    Ok(Status::Exited(code))
}

/// Runs the command, passes a signal on, and says when the slot is lost under it.
async fn attend(
    args: &Run,
    mut stop: Stop,
    permit: Option<&Permit>,
    printer: &Printer,
) -> Result<u8> {
    let Some((program, words)) = args.command.split_first() else {
        return Err(Error::new(ErrorKind::InvalidInput, "limit.run"));
    };
    let mut child = match Command::new(program).args(words).spawn() {
        Ok(child) => child,
        Err(error) => {
            printer.warn(format_args!("`{program}` cannot be run: {error}"));
            let absent = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(if absent { NOT_FOUND } else { NOT_RUN });
        }
    };
    let lost = async {
        match permit {
            Some(permit) => permit.lost().await,
            None => std::future::pending().await,
        }
    };
    let mut lost = std::pin::pin!(lost);
    let (mut said, mut told) = (false, false);
    loop {
        tokio::select! {
            ended = child.wait() => return ended.map(code).map_err(failed),
            signal = stop.raised(), if !told => {
                told = true;
                pass_on(&child, signal);
            }
            () = &mut lost, if !said => {
                said = true;
                printer.warn("the slot was lost: the store could not be told that the command \
                              still runs, and another may run beside it");
            }
        }
    }
}

fn pass_on(child: &Child, signal: interrupt::Signal) {
    let signal = match signal {
        interrupt::Signal::Interrupt => Signal::INT,
        interrupt::Signal::Terminate => Signal::TERM,
    };
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // One that has just ended needs no signal.
    let _sent = id.map(|id| kill_process(id, signal));
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "limit.run").caused_by(error)
}

/// As a shell has it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
