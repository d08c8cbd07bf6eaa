//! `wasi serve`: a component that answers HTTP. What it keeps in its stores outlives each request.

use std::time::Duration;

use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::{Handler, Purpose, serve};
use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio::net::TcpListener;

use super::{CLOSE_GRACE, Loaded, demand, limits, link, load, say_left, within};
use crate::args::Global;
use crate::args::wasi::Serve;
use crate::interrupt::{Ended, Interrupt};
use crate::printer::Printer;
use crate::report::Status;

/// How long a request may take, unless the user says otherwise: a guest that loops would keep a
/// core for ever.
const TIME_DEFAULT: Duration = Duration::from_secs(30);

pub(super) async fn run(args: &Serve, global: &Global, printer: &Printer) -> Result<Status> {
    let interrupt = Interrupt::new();
    let start = async {
        let mut opts = within(limits(&args.limits, Some(TIME_DEFAULT)));
        opts.reuse = true;
        let Loaded { host, program } = load(&args.guest, opts).await?;
        demand(&program, Purpose::Http)?;
        let links = link(&args.guest, global, printer).await?;
        Ok((host, program, links))
    };
    let (host, program, links) = match interrupt.guard(Box::pin(start)).await? {
        Ended::Itself(started) => started,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    let mut stop = interrupt.claim();
    let tasks = Tasks::new();
    let serving = async {
        let (listener, address) = listen(args).await?;
        printer.note(format_args!("http: http://{address}"));
        let ctx = KeyvalueCtx::new(links.stores().clone());
        let handler = Handler::new(program, ctx, &tasks)?;
        tokio::select! {
            () = serve(handler, listener, &tasks) => {}
            signal = stop.raised() => printer.note(format_args!("{signal:?}: draining")),
        }
        Ok(tasks.stop(CLOSE_GRACE).await)
    };
    let ended = interrupt.guard(Box::pin(serving)).await;
    let (reports, _left) = tokio::join!(links.close(CLOSE_GRACE), host.close(CLOSE_GRACE));
    say_left(&reports, printer);
    match ended? {
        Ended::Itself(0) => Ok(Status::Done),
        Ended::Itself(cut) => {
            printer.warn(format_args!("{cut} connections were cut short"));
            Ok(Status::No)
        }
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
    }
}

async fn listen(args: &Serve) -> Result<(TcpListener, std::net::SocketAddr)> {
    let bound = TcpListener::bind(args.listen).await;
    let bound = bound.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    bound.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "wasi.serve")
            .with("listen", args.listen)
            .caused_by(error)
            .hint("another process may listen there; pick another with `--listen`")
    })
}
