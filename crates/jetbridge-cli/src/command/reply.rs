//! `reply`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use bytes::Bytes;
use jetbridge_core::{Bus, Error, ErrorKind, Headers, Message, Received, Result, Subscribe};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::Invocation;
use super::request::{SERVICE_ERROR, SERVICE_ERROR_CODE};
use crate::args::bus::Reply;
use crate::follow::{Next, next};
use crate::input;
use crate::report::Status;
use crate::view::message::{Detail, MessageView};

/// Answers requests, one after the other.
pub(super) async fn run(args: Reply, on: &Invocation<'_>) -> Result<Status> {
    let bus = on.store.bus();
    let mut subscribe = Subscribe::to(args.pattern.clone());
    subscribe.group.clone_from(&args.queue);
    let headers = input::headers(&args.header)?;
    let mut subscription = bus.subscribe(subscribe).await?;
    let mut stop = on.interrupt.claim();
    on.printer.note(format_args!("answering on {}", args.pattern));
    let mut left = args.count;
    while left != Some(0) {
        let received = match next(&mut subscription, on.printer, &mut stop).await? {
            Next::Item(received) => received,
            Next::End => break,
        };
        match received {
            Received::Message(request) => {
                answer(&*bus, &args, &headers, request, on).await?;
                left = left.map(|left| left - 1);
            }
            Received::Dropped(requests) => {
                on.printer.warn(format_args!("{requests} requests were dropped"));
            }
        }
    }
    bus.flush().await?;
    Ok(stop.status(left.is_some_and(|left| left > 0)))
}

async fn answer(
    bus: &dyn Bus,
    args: &Reply,
    headers: &Headers,
    request: Message,
    on: &Invocation<'_>,
) -> Result<()> {
    if on.printer.is_json() {
        on.printer.value(&MessageView::of(&request, Detail::Line))?;
    }
    let Some(reply) = request.reply.clone() else {
        on.printer.note(format_args!("{}: wants no answer", request.subject));
        return Ok(());
    };
    let mut answer = Message::new(reply, Bytes::new()).headers(headers.clone());
    match (&args.command, &args.text) {
        (Some(command), _) => match output(command, &request).await? {
            Ok(output) => answer.payload = output,
            Err(failure) => {
                on.printer.warn(format_args!("{}: {failure}", request.subject));
                answer.headers.set(SERVICE_ERROR_CODE, "500")?;
                answer.headers.set(SERVICE_ERROR, &failure)?;
            }
        },
        (None, Some(text)) => answer.payload = Bytes::copy_from_slice(text.as_bytes()),
        (None, None) => answer.payload = request.payload.clone(),
    }
    let bytes = answer.payload.len();
    bus.publish(answer).await?;
    on.printer.note(format_args!("{}: answered with {bytes} bytes", request.subject));
    Ok(())
}

/// What the command printed; the inner error is its failure, for the one who asked.
async fn output(command: &OsStr, request: &Message) -> Result<Result<Bytes, String>> {
    let failed = |error| {
        Error::new(ErrorKind::Unavailable, "reply.command")
            .because("the command cannot be run")
            .with("command", command.display())
            .caused_by(error)
    };
    let mut child = start(command, request).map_err(failed)?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input closes it, which is its business.
            let _fed = stdin.write_all(&request.payload).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.map_err(failed)?;
    if output.status.success() {
        Ok(Ok(Bytes::from(output.stdout)))
    } else {
        Ok(Err(format!("the command ended with {}", output.status)))
    }
}

fn start(command: &OsStr, request: &Message) -> std::io::Result<Child> {
    Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("NATS_REQUEST_SUBJECT", request.subject.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}
