//! `wasi run`: a command in a component. stdout is its own.

use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::{Ended as Guest, Purpose};
use jetbridge_core::{ErrorKind, Result};

use super::{CLOSE_GRACE, demand, limits, link, load, say_left, with_option, within};
use crate::args::Global;
use crate::args::wasi::Run;
use crate::interrupt::{Ended, Interrupt};
use crate::printer::Printer;
use crate::report::{Report, Status};

/// The exit code of a trap, as shells and wasmtime's command have it: aborted.
const TRAPPED: u8 = 134;

pub(super) async fn run(args: &Run, global: &Global, printer: &Printer) -> Result<Status> {
    let interrupt = Interrupt::new();
    let start = async {
        let loaded = load(&args.guest, within(limits(&args.limits, None))).await?;
        demand(&loaded.program, Purpose::Command)?;
        let links = link(&args.guest, global, printer).await?;
        Ok((loaded, links))
    };
    let (loaded, links) = match interrupt.guard(Box::pin(start)).await? {
        Ended::Itself(started) => started,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    let ctx = KeyvalueCtx::new(links.stores().clone());
    let ended = interrupt.guard(Box::pin(loaded.program.run(ctx, &args.arguments))).await;
    let (reports, _left) = tokio::join!(links.close(CLOSE_GRACE), loaded.host.close(CLOSE_GRACE));
    say_left(&reports, printer);
    match ended.map_err(with_option)? {
        Ended::Itself(guest) => Ok(status(guest, printer)),
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
    }
}

fn status(guest: Guest, printer: &Printer) -> Status {
    match guest {
        Guest::Well => Status::Done,
        Guest::Badly { code } => {
            let code = u8::try_from(code).ok().filter(|code| *code != 0);
            Status::Exited(code.unwrap_or(u8::MAX))
        }
        Guest::Trapped(trap) => {
            debug_assert_eq!(trap.kind(), ErrorKind::Corrupt);
            printer.error(&Report::of(&trap));
            Status::Exited(TRAPPED)
        }
    }
}
