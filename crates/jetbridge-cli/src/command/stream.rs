//! `stream`: what keeps messages.

use futures_util::TryStreamExt as _;
use jetbridge_core::{
    Discard, Error, ErrorKind, ReadStream, Result, Retention, StreamName, StreamSpec,
};

use super::{Invocation, bucket};
use crate::args::stream::{self as args, Settings, Word};
use crate::follow::{Next, next};
use crate::report::Status;
use crate::view::message::{Detail, MessageView};
use crate::view::stream::StreamView;
use crate::view::{Deleted, Name, Number};

/// Does what the word behind `stream` says.
pub(super) async fn run(args: args::Stream, on: &Invocation<'_>) -> Result<Status> {
    match args.word {
        Word::Add(args) => add(*args, on).await,
        Word::Edit(args) => edit(*args, on).await,
        Word::Ls(args) => list(&args, on).await,
        Word::Info(args) => info(&args.stream, on).await,
        Word::Rm(args) => remove(args, on).await,
        Word::Purge(args) => purge(args, on).await,
        Word::Get(args) => get(args, on).await,
        Word::View(args) => view(args, on).await,
    }
}

async fn add(args: args::Add, on: &Invocation<'_>) -> Result<Status> {
    let mut spec = StreamSpec::new(args.stream.stream, args.subjects);
    apply(args.settings, &mut spec);
    let info = on.store.bus().create_stream(&spec).await?;
    on.copies(spec.replicas, info.spec.replicas);
    on.printer.value(&StreamView::from(&info))?;
    Ok(Status::Done)
}

async fn edit(args: args::Edit, on: &Invocation<'_>) -> Result<Status> {
    let bus = on.store.bus();
    let mut spec = bus.stream(&args.stream.stream).await?.spec;
    if !args.subjects.is_empty() {
        spec.subjects = args.subjects;
    }
    apply(args.settings, &mut spec);
    let info = bus.update_stream(&spec).await?;
    on.copies(spec.replicas, info.spec.replicas);
    on.printer.value(&StreamView::from(&info))?;
    Ok(Status::Done)
}

async fn list(args: &args::Ls, on: &Invocation<'_>) -> Result<Status> {
    let streams = on.store.bus().streams().await?;
    if args.names {
        for info in &streams {
            on.printer.value(&Name { name: info.spec.name.to_string() })?;
        }
        return Ok(Status::Done);
    }
    let rows: Vec<StreamView> = streams.iter().map(StreamView::from).collect();
    on.printer.table(&rows)?;
    if rows.is_empty() {
        on.printer.note("no streams");
    }
    Ok(Status::Done)
}

async fn info(name: &StreamName, on: &Invocation<'_>) -> Result<Status> {
    let info = on.store.bus().stream(name).await?;
    on.printer.value(&StreamView::from(&info))?;
    Ok(Status::Done)
}

async fn remove(args: args::Rm, on: &Invocation<'_>) -> Result<Status> {
    let name = &args.stream.stream;
    let deleted = on.store.bus().delete_stream(name).await?;
    if !deleted && !args.force {
        return Err(Error::new(ErrorKind::NotFound, "stream.delete")
            .because("there is no such stream")
            .with("stream", name)
            .hint("`jetbridge stream ls` lists them"));
    }
    on.printer.value(&Deleted { name: name.to_string(), deleted, revision: None })?;
    if deleted {
        on.printer.note(format_args!("deleted the stream {name}"));
    }
    Ok(Status::Done)
}

async fn purge(args: args::Purge, on: &Invocation<'_>) -> Result<Status> {
    let name = &args.stream.stream;
    let value = on.store.bus().purge_stream(name, args.subject.as_ref()).await?;
    on.printer.value(&Number { value })?;
    Ok(Status::Done)
}

async fn get(args: args::Get, on: &Invocation<'_>) -> Result<Status> {
    let name = &args.stream.stream;
    let read = ReadStream::all().after(args.sequence - 1);
    let first = on.store.bus().read_stream(name, read).try_next().await?;
    match first.filter(|message| message.sequence == args.sequence) {
        Some(message) => {
            on.printer.value(&MessageView::stored(&message, Detail::Payload))?;
            Ok(Status::Done)
        }
        None => Ok(on.absent("message", &args.sequence.to_string(), name.as_str())),
    }
}

async fn view(args: args::View, on: &Invocation<'_>) -> Result<Status> {
    let mut read = ReadStream::all().after(args.from.saturating_sub(1));
    read.filter = args.subject;
    read.follow = args.follow;
    let mut messages = on.store.bus().read_stream(&args.stream.stream, read);
    let mut stop = on.interrupt.claim();
    let mut left = args.count;
    while left != Some(0) {
        let Next::Item(message) = next(&mut messages, on.printer, &mut stop).await? else { break };
        on.printer.value(&MessageView::stored(&message, Detail::of_line(args.raw)))?;
        left = left.map(|left| left - 1);
    }
    // Without --follow there is an end that a signal has cut off.
    Ok(stop.status(left != Some(0) && (left.is_some() || !args.follow)))
}

/// Writes the settings that are given into `spec`.
fn apply(given: Settings, spec: &mut StreamSpec) {
    if let Some(retention) = given.retention {
        spec.retention = match retention {
            args::Retention::Interest => Retention::Interest,
            args::Retention::Limits => Retention::Limits,
            args::Retention::Work => Retention::WorkQueue,
        };
    }
    if let Some(discard) = given.discard {
        spec.discard = match discard {
            args::Discard::New => Discard::New,
            args::Discard::Old => Discard::Old,
        };
    }
    if let Some(age) = given.max_age {
        spec.max_age = age.0;
    }
    if let Some(bytes) = given.max_bytes {
        spec.max_bytes = bytes.0;
    }
    if let Some(messages) = given.max_msgs {
        spec.max_messages = messages.0;
    }
    if let Some(messages) = given.max_msgs_per_subject {
        spec.max_messages_per_subject = messages.0;
    }
    if let Some(bytes) = given.max_msg_size {
        spec.max_message_bytes = bytes.0;
    }
    if given.dupe_window.is_some() {
        spec.duplicate_window = given.dupe_window;
    }
    if let Some(replicas) = given.replicas {
        spec.replicas = replicas;
    }
    if let Some(storage) = given.storage {
        spec.storage = bucket::storage(storage);
    }
    if given.description.is_some() {
        spec.description = given.description;
    }
    bucket::place(given.cluster, given.tags, &mut spec.placement);
}
