//! `pub`.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{AppendOpts, Bus, Message, Result};

use super::Invocation;
use crate::args::bus::{Content, Pub};
use crate::input::{self, Unwritten};
use crate::progress::Progress;
use crate::report::Status;
use crate::view::message::{AppendedView, Published};

/// Appends under way at once with `--count`: enough to hide a round trip, and few enough for a
/// server's ingest queue.
const APPENDS_IN_FLIGHT: usize = 256;

/// Publishes a message, once or several times.
pub(super) async fn run(args: Pub, on: &Invocation<'_>) -> Result<Status> {
    let mut message = message(args.subject.clone(), &args.content, on).await?;
    message.reply.clone_from(&args.reply);
    let bus = on.store.bus();
    let progress = Progress::items(on.printer, "messages", Some(args.count));
    let settled = if args.jetstream {
        append(&*bus, &message, &args, &progress, on).await
    } else {
        publish(&*bus, &message, &args, &progress, on).await
    };
    progress.finish();
    settled.map(|()| Status::Done)
}

/// The message with what `content` gives.
pub(super) async fn message(
    subject: jetbridge_core::Subject,
    content: &Content,
    on: &Invocation<'_>,
) -> Result<Message> {
    let bytes_max = on.store.capabilities().value_bytes_max;
    let stdin = std::ffi::OsStr::new("-");
    let given = content.data.as_deref().or(content.force_stdin.then_some(stdin));
    let payload = input::value(given, Unwritten::Empty, bytes_max).await?;
    Ok(Message::new(subject, payload).headers(input::headers(&content.header)?))
}

async fn append(
    bus: &dyn Bus,
    message: &Message,
    args: &Pub,
    progress: &Progress,
    on: &Invocation<'_>,
) -> Result<()> {
    let mut opts = AppendOpts::new();
    opts.id = args.id.as_deref().map(Into::into);
    opts.stream.clone_from(&args.stream);
    let appends = (0..args.count).map(|_| bus.append(message.clone(), opts.clone()));
    let mut appended = stream::iter(appends).buffered(APPENDS_IN_FLIGHT);
    while let Some(appended) = appended.try_next().await? {
        on.printer.value(&AppendedView::from(&appended))?;
        progress.advance(1);
    }
    Ok(())
}

async fn publish(
    bus: &dyn Bus,
    message: &Message,
    args: &Pub,
    progress: &Progress,
    on: &Invocation<'_>,
) -> Result<()> {
    for _ in 0..args.count {
        bus.publish(message.clone()).await?;
        progress.advance(1);
    }
    bus.flush().await?;
    let bytes = u64::try_from(message.payload.len()).unwrap_or(u64::MAX);
    let subject = args.subject.to_string();
    if !on.printer.is_json() {
        let times = if args.count == 1 { String::new() } else { format!("{} times ", args.count) };
        on.printer.note(format_args!("published {bytes} bytes {times}on {subject}"));
    }
    on.printer.value(&Published { subject, published: args.count, bytes })
}
