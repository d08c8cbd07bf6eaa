//! Server-sent events: changes of a bucket as they happen, taken up again where they broke off.
//!
//! An event has an id only once everything before it was sent: who comes back with the last id it
//! saw misses nothing. A client that falls behind is told so by an `error` event and the end.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use jetbridge_core::{
    BucketKind, Change, Error, Message, Pattern, ReadStream, Received, Result, Revision, Scope,
    Start, StreamName, Subscribe, Watch,
};
use serde_json::{Value, json};

use super::access::is_reserved;
use super::call::Call;
use super::kv::{change_json, milliseconds, put_bytes};
use super::refusal::Refusal;
use super::table::Answered;

/// Between two signs of life where nothing changes; it is also when a client that is gone is seen.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client is to come back: at once would be a storm.
const RETRY: Duration = Duration::from_secs(1);
/// What a client says when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) async fn watch(call: Call) -> Answered {
    let (overview, bucket) = (&call.api.overview, call.bucket()?);
    let kv = overview.grants.kv(&*overview.backend, &bucket).await?;
    let seen = seen(&call)?.map(Revision);
    let info = overview.backend.bucket(BucketKind::Kv, &bucket).await.inspect_err(|_gone| {
        overview.grants.forget(&bucket);
    })?;
    // A bucket that was made anew begins its revisions anew: nothing of it is behind that id.
    let is_ahead = seen.is_some_and(|seen| seen.0 > info.last_revision);
    let start = match seen {
        Some(seen) if !is_ahead => Start::After(seen),
        _ => Start::Current,
    };
    let mut watch = Watch::current(Scope::prefix(call.said("prefix").unwrap_or_default()));
    watch = watch.start(start);
    if call.flag("keys_only") {
        watch = watch.keys_only();
    }
    let reset = Event::default().event("reset").data("{\"reason\":\"the bucket was made anew\"}");
    let first = stream::iter(is_ahead.then_some(reset));
    let behind = if is_ahead { Revision(0) } else { seen.unwrap_or_default() };
    Ok(answer(&call, first.chain(changes(kv.watch(watch), behind)).boxed()))
}

/// What the client saw last, by its own word.
fn seen(call: &Call) -> Result<Option<u64>, Refusal> {
    let Some(text) = call.header(LAST_EVENT_ID.as_str()).or(call.said("after")) else {
        return Ok(None);
    };
    let seen = text
        .parse()
        .map_err(|_not_ours| Refusal::bad("`Last-Event-ID` is the id of an event, a number"))?;
    Ok(Some(seen))
}

/// The events of `changes`; before everything that was there has been sent, none has an id.
fn changes(
    changes: BoxStream<'static, Result<Change>>,
    behind: Revision,
) -> impl Stream<Item = Event> + Send {
    let begun = (changes, behind, false, false);
    stream::unfold(begun, |(mut changes, newest, is_caught_up, has_ended)| async move {
        if has_ended {
            return None;
        }
        let change = match changes.next().await? {
            Ok(change) => change,
            Err(error) => return Some((failure(&error), (changes, newest, is_caught_up, true))),
        };
        let newest = newest.max(change.revision().unwrap_or_default());
        let is_caught_up = is_caught_up || change == Change::CaughtUp;
        let event = match change_json(&change) {
            Some(json) => {
                let name = if matches!(change, Change::Put(_)) { "put" } else { "delete" };
                Event::default().event(name).data(json.to_string())
            }
            None => Event::default().event("caught_up").data("{}"),
        };
        let event = if is_caught_up { event.id(newest.to_string()) } else { event };
        Some((event, (changes, newest, is_caught_up, false)))
    })
}

fn failure(error: &Error) -> Event {
    let body = Refusal::from(error).json();
    Event::default().event("error").data(body.to_string())
}

/// Sends `events` until they end, the client goes or the server stops.
fn answer(call: &Call, events: BoxStream<'static, Event>) -> axum::response::Response {
    let tasks = call.api.tasks.clone();
    let begin = Event::default().retry(RETRY).comment(json!("jetbridge").to_string());
    let events = stream::once(async { begin }).chain(events);
    let events = events.take_until(async move { tasks.stopping().await });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive).into_response()
}

/// Messages held for a client that reads slowly, before some are dropped and it is told so. With
/// 10,000 clients that read nothing this is what they cost, times the size of a message.
const HELD_MAX: usize = 1024;

pub(super) async fn subscribe(call: Call) -> Answered {
    let pattern = Pattern::parse(call.path("pattern"))?;
    match call.said("stream").map(StreamName::parse).transpose()? {
        Some(stream) => from_stream(&call, pattern, &stream).await,
        None if seen(&call)?.is_some() => Err(Refusal::bad(
            "plain messages are not kept: `Last-Event-ID` and `after` need a `stream`",
        )),
        None => {
            let bus = call.api.overview.backend.bus();
            let subscribe = Subscribe::to(pattern).capacity(HELD_MAX);
            let received = bus.subscribe(subscribe).await?;
            let events = received.filter_map(async |received| match received {
                Ok(Received::Message(message)) => message_json(&message)
                    .map(|json| Event::default().event("message").data(json.to_string())),
                Ok(Received::Dropped(messages)) => {
                    let data = json!({"messages": messages}).to_string();
                    Some(Event::default().event("dropped").data(data))
                }
                Err(error) => Some(failure(&error)),
            });
            Ok(answer(&call, events.boxed()))
        }
    }
}

/// What a stream keeps of `pattern`: from its end on, or behind what the client saw.
async fn from_stream(call: &Call, pattern: Pattern, name: &StreamName) -> Answered {
    if ["KV_", "OBJ_"].iter().any(|prefix| name.as_str().starts_with(prefix)) {
        return Err(Refusal::forbidden(format!("the stream `{name}` is a bucket's"))
            .hint("follow it as a bucket: GET /v1/kv/{bucket}:watch"));
    }
    let bus = call.api.overview.backend.bus();
    let last = bus.stream(name).await?.last_sequence;
    let seen = seen(call)?;
    // A stream that was made anew counts anew: all of it is behind that id.
    let is_ahead = seen.is_some_and(|seen| seen > last);
    let after = if is_ahead { 0 } else { seen.unwrap_or(last) };
    let reset = Event::default().event("reset").data("{\"reason\":\"the stream was made anew\"}");
    let first = stream::iter(is_ahead.then_some(reset));
    let read = ReadStream::all().filter(pattern).after(after).follow();
    let messages = bus.read_stream(name, read).filter_map(async |kept| match kept {
        Ok(kept) => message_json(&kept.message).map(|mut json| {
            json["sequence"] = json!(kept.sequence);
            json["stored_unix_ms"] = json!(milliseconds(kept.stored));
            let event = Event::default().event("message").id(kept.sequence.to_string());
            event.data(json.to_string())
        }),
        Err(error) => Some(failure(&error)),
    });
    Ok(answer(call, first.chain(messages).boxed()))
}

/// A message as JSON; nothing if it is on a subject that the store keeps for itself, which a
/// wildcard in front matches too.
fn message_json(message: &Message) -> Option<Value> {
    if is_reserved(message.subject.as_str()) {
        return None;
    }
    let headers: Vec<[&str; 2]> =
        message.headers.iter().map(|(name, value)| [name, value]).collect();
    let mut json = json!({"subject": message.subject.as_str(), "headers": headers});
    put_bytes(&mut json, "payload", &message.payload);
    Some(json)
}
