//! The words of the command line, one file for each: arguments and a store in, a status out.

mod bucket;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod doctor;
mod kv;
pub(crate) mod limit;
pub(crate) mod man;
mod object;
mod publish;
mod reply;
mod request;
pub(crate) mod sqlite;
mod status;
mod stream;
mod subscribe;
pub(crate) mod template;
#[cfg(test)]
mod tests;
pub(crate) mod up;
pub(crate) mod wasi;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge_core::{Backend, ConnectionState, Result};
use serde::Serialize;

use crate::args::{Global, OnStore};
use crate::format;
use crate::interrupt::{Ended, Interrupt};
use crate::location::Place;
use crate::printer::{Printer, Text, View};
use crate::report::Status;

/// How long closing may take: enough for a slow link to take the last bytes.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// How long an answer may take, unless `--timeout` says otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// What a command works with.
pub(crate) struct Invocation<'a> {
    pub(crate) store: Arc<dyn Backend>,
    pub(crate) printer: &'a Printer,
    pub(crate) interrupt: &'a Interrupt,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// Who named the store.
    pub(crate) origin: &'a str,
}

/// Connects, does what `words` say, and closes.
pub(crate) async fn on_store(words: OnStore, global: &Global, printer: &Printer) -> Result<Status> {
    let place = Place::find(global)?;
    place.announce(printer);
    let interrupt = Interrupt::new();
    let store = match interrupt.guard(Box::pin(jetbridge::connect(&place.location))).await? {
        Ended::Itself(store) => store,
        Ended::Short(signal) => return Ok(Status::Interrupted(signal)),
    };
    let invocation = Invocation {
        store: Arc::clone(&store),
        printer,
        interrupt: &interrupt,
        timeout: global.timeout.unwrap_or(TIMEOUT_DEFAULT),
        origin: &place.origin,
    };
    let narrated = async {
        tokio::select! {
            biased;
            status = run(words, &invocation) => status,
            never = narrate(&*store, printer) => match never {},
        }
    };
    let ended = interrupt.guard(Box::pin(narrated)).await;
    let left = store.close(CLOSE_GRACE).await;
    if left.writes_unacknowledged > 0 {
        printer.warn(format_args!("{} writes were not acknowledged", left.writes_unacknowledged));
    }
    match ended? {
        Ended::Itself(status) => Ok(status),
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
    }
}

/// Says when the connection is lost and when it is back, so that a command that waits does not
/// look as if nothing happened. Never ends.
async fn narrate(store: &dyn Backend, printer: &Printer) -> Infallible {
    let mut states = store.connection();
    let mut lost = false;
    while let Some(state) = states.next().await {
        match state {
            ConnectionState::Reconnecting { reason } if !lost => {
                printer.note(format_args!("connection lost, reconnecting: {reason}"));
                lost = true;
            }
            ConnectionState::Connected if lost => {
                printer.note("connected again");
                lost = false;
            }
            _ => {}
        }
    }
    std::future::pending().await
}

async fn run(words: OnStore, on: &Invocation<'_>) -> Result<Status> {
    match words {
        OnStore::Kv(args) => kv::run(args, on).await,
        OnStore::Object(args) => object::run(args, on).await,
        OnStore::Stream(args) => stream::run(args, on).await,
        OnStore::Pub(args) => publish::run(args, on).await,
        OnStore::Sub(args) => subscribe::run(args, on).await,
        OnStore::Req(args) => request::run(args, on).await,
        OnStore::Reply(args) => reply::run(args, on).await,
        OnStore::Status => status::run(on).await,
    }
}

/// The answer that something is not there.
#[derive(Serialize)]
struct Absent<'a> {
    /// What kind of thing.
    absent: &'static str,
    name: &'a str,
    /// The bucket or stream that lacks it.
    #[serde(rename = "in")]
    container: &'a str,
}

impl View for Absent<'_> {
    fn text(&self, out: &mut Text) {
        out.line(format_args!(
            "no {} `{}` in `{}`",
            self.absent,
            format::shown(self.name),
            self.container
        ));
    }
}

impl Invocation<'_> {
    /// Says if the store keeps fewer copies than are wanted.
    fn copies(&self, wanted: u8, kept: u8) {
        if kept < wanted {
            self.printer.warn(format_args!("copies: this store keeps {kept}, not {wanted}"));
        }
    }

    /// Says that `container` has no such thing, which is a no.
    fn absent(&self, what: &'static str, name: &str, container: &str) -> Status {
        self.printer.no(&Absent { absent: what, name, container });
        Status::No
    }
}
