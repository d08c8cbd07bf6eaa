//! `req`.

use jetbridge_core::{ErrorKind, Result};

use super::{Invocation, publish};
use crate::args::bus::Req;
use crate::report::Status;
use crate::view::message::{Detail, MessageView};

/// The header by which responders say that they failed, and why.
pub(super) const SERVICE_ERROR: &str = "Nats-Service-Error";
/// The header with the number of that failure.
pub(super) const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// Asks, and prints the answer.
pub(super) async fn run(args: Req, on: &Invocation<'_>) -> Result<Status> {
    let message = publish::message(args.subject, &args.content, on).await?;
    let subject = message.subject.clone();
    let asked = on.store.bus().request(message, on.timeout).await;
    let answer = asked.map_err(|error| match (error.kind(), error.hint_text()) {
        (ErrorKind::Unavailable, None) => error.hint(format!(
            "is the responder running, and the subject right? `jetbridge reply {subject} TEXT` is one"
        )),
        _ => error,
    })?;
    on.printer.value(&MessageView::of(&answer, Detail::Payload))?;
    let code = answer.headers.get(SERVICE_ERROR_CODE);
    let reason = answer.headers.get(SERVICE_ERROR);
    if code.is_none() && reason.is_none() {
        return Ok(Status::Done);
    }
    if !on.printer.is_json() {
        on.printer.note(format_args!(
            "the responder failed: {} {}",
            code.unwrap_or_default(),
            reason.unwrap_or_default()
        ));
    }
    Ok(Status::No)
}
