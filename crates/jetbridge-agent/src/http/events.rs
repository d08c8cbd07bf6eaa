//! Server-sent events: changes of a bucket as they happen, taken up again where they broke off.
//!
//! An event has an id only once everything before it was sent: who comes back with the last id it
//! saw misses nothing. A client that falls behind is told so by an `error` event and the end.

use std::convert::Infallible;
use std::future::{Future, pending, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderName;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use jetbridge_core::{
    BucketKind, Change, Message, Pattern, ReadStream, Received, Result, Revision, Scope, Start,
    StreamName, Subscribe, Watch,
};
use serde_json::{Value, json};

use super::access::{Way, is_reserved};
use super::call::Call;
use super::held::{HELD_MAX, held};
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
    let info = overview.backend.bucket(BucketKind::Kv, &bucket).await.inspect_err(|_gone| {
        overview.grants.forget(&bucket);
    })?;
    let made = Made::at(info.created);
    let seen = seen(&call)?;
    let is_anew = seen.is_some_and(|seen| seen.is_elsewhere(made, info.last_revision));
    if is_anew {
        // What is open may still be the one that was there before.
        overview.grants.forget(&bucket);
    }
    let kv = overview.grants.kv(&*overview.backend, &bucket).await?;
    let behind = seen.filter(|_| !is_anew).map(|seen| Revision(seen.number));
    let mut watch = Watch::current(Scope::prefix(call.said("prefix").unwrap_or_default()));
    watch = watch.start(behind.map_or(Start::Current, Start::After));
    if call.flag("keys_only") {
        watch = watch.keys_only();
    }
    let first = stream::iter(is_anew.then(|| reset("the bucket was made anew")));
    let changes = changes(kv.watch(watch), behind.unwrap_or_default(), made);
    let granted = overview.grants.clone().withdrawn(BucketKind::Kv, bucket, Way::Read);
    Ok(answer(&call, first.chain(changes), granted))
}

/// Which making of a bucket or stream an id is of: the nanoseconds since 1970 when it was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Made(u64);

impl Made {
    fn at(created: SystemTime) -> Self {
        let since = created.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The id of an event: what it is of, and how far.
    fn id(self, number: u64) -> String {
        format!("{:x}-{number}", self.0)
    }
}

/// What a client saw last, by its own word: the id of an event, or a number alone, which is that
/// of whatever is there now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seen {
    made: Option<Made>,
    number: u64,
}

impl Seen {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (made, number) = match text.split_once('-') {
            Some((made, number)) => (Some(made), number),
            None => (None, text),
        };
        let is_all = |text: &str, is: fn(&u8) -> bool| text.as_bytes().iter().all(is);
        if !is_all(made.unwrap_or_default(), u8::is_ascii_hexdigit)
            || !is_all(number, u8::is_ascii_digit)
        {
            return None;
        }
        let made = made.map(|made| u64::from_str_radix(made, 16).map(Made));
        Some(Self { made: made.transpose().ok()?, number: number.parse().ok()? })
    }

    /// True if nothing can be said to be behind it: what it is of was another, or is not so far.
    fn is_elsewhere(self, made: Made, last: u64) -> bool {
        self.made.is_some_and(|seen| seen != made) || self.number > last
    }
}

fn seen(call: &Call) -> Result<Option<Seen>, Refusal> {
    let Some(text) = call.header(LAST_EVENT_ID.as_str()).or(call.said("after")) else {
        return Ok(None);
    };
    let seen = Seen::parse(text).ok_or_else(|| {
        Refusal::bad("`Last-Event-ID` is the id of an event, such as `18a1f-7`, or a number")
            .hint("leave it out to begin anew")
    })?;
    Ok(Some(seen))
}

/// Tells a client that what it saw is not what is there: all of that follows.
fn reset(reason: &str) -> Event {
    Event::default().event("reset").data(json!({"reason": reason}).to_string())
}

/// The events of `changes`; before everything that was there has been sent, none has an id.
fn changes(
    changes: BoxStream<'static, Result<Change>>,
    behind: Revision,
    made: Made,
) -> impl Stream<Item = Event> + Send {
    let begun = (changes, behind, false, false);
    stream::unfold(begun, move |(mut changes, newest, is_caught_up, has_ended)| async move {
        if has_ended {
            return None;
        }
        let change = match changes.next().await? {
            Ok(change) => change,
            Err(error) => {
                return Some((failure(&error.into()), (changes, newest, is_caught_up, true)));
            }
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
        let event = if is_caught_up { event.id(made.id(newest.0)) } else { event };
        Some((event, (changes, newest, is_caught_up, false)))
    })
}

fn failure(refusal: &Refusal) -> Event {
    Event::default().event("error").data(refusal.json().to_string())
}

/// Sends `events` until they end, the client goes, the server stops, or `withdrawn` says why they
/// cannot be heard any more.
fn answer(
    call: &Call,
    events: impl Stream<Item = Event> + Send + 'static,
    withdrawn: impl Future<Output = Refusal> + Send + 'static,
) -> axum::response::Response {
    let tasks = call.api.tasks.clone();
    let begin = Event::default().retry(RETRY).comment(json!("jetbridge").to_string());
    let events = stream::once(async { begin }).chain(until(events, withdrawn));
    let events = events.take_until(async move { tasks.stopping().await });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive).into_response()
}

/// `events`, cut short by an `error` event when `withdrawn` resolves.
fn until(
    events: impl Stream<Item = Event> + Send + 'static,
    withdrawn: impl Future<Output = Refusal> + Send + 'static,
) -> impl Stream<Item = Event> + Send {
    let begun = Some((events.boxed(), withdrawn.boxed()));
    stream::unfold(begun, |going| async {
        let (mut events, mut withdrawn) = going?;
        tokio::select! {
            biased;
            refusal = &mut withdrawn => Some((failure(&refusal), None)),
            event = events.next() => Some((event?, Some((events, withdrawn)))),
        }
    })
}

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
            let received = held(bus.subscribe(subscribe).await?, &call.api.tasks);
            let events = received.filter_map(async |received| match received {
                Ok(Received::Message(message)) => message_json(&message)
                    .map(|json| Event::default().event("message").data(json.to_string())),
                Ok(Received::Dropped(messages)) => {
                    let data = json!({"messages": messages}).to_string();
                    Some(Event::default().event("dropped").data(data))
                }
                Err(error) => Some(failure(&error.into())),
            });
            Ok(answer(&call, events, pending()))
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
    let info = bus.stream(name).await?;
    let (made, last) = (Made::at(info.created), info.last_sequence);
    let seen = seen(call)?;
    let is_anew = seen.is_some_and(|seen| seen.is_elsewhere(made, last));
    let after = if is_anew { 0 } else { seen.map_or(last, |seen| seen.number) };
    let first = stream::iter(is_anew.then(|| reset("the stream was made anew")));
    let read = ReadStream::all().filter(pattern).after(after).follow();
    let messages = bus.read_stream(name, read).filter_map(move |kept| {
        ready(match kept {
            Ok(kept) => message_json(&kept.message).map(|mut json| {
                json["sequence"] = json!(kept.sequence);
                json["stored_unix_ms"] = json!(milliseconds(kept.stored));
                Event::default().event("message").id(made.id(kept.sequence)).data(json.to_string())
            }),
            Err(error) => Some(failure(&error.into())),
        })
    });
    Ok(answer(call, first.chain(messages), pending()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_it_is_of_and_how_far() {
        let made = Made::at(UNIX_EPOCH + Duration::from_nanos(0x1f));
        assert_eq!(made.id(7), "1f-7");
        assert_eq!(Seen::parse("1f-7"), Some(Seen { made: Some(made), number: 7 }));
        assert_eq!(Seen::parse("7"), Some(Seen { made: None, number: 7 }));
        for wrong in ["", "-", "-7", "1f-", "1f", "x-7", "1f-x", "+1", "1-+1", "1-2-3", " 7"] {
            assert_eq!(Seen::parse(wrong), None, "{wrong}");
        }
        let is_elsewhere = |text: &str| Seen::parse(text).unwrap().is_elsewhere(made, 7);
        assert!(!is_elsewhere("1f-7") && !is_elsewhere("7") && !is_elsewhere("0"));
        assert!(is_elsewhere("1f-8") && is_elsewhere("8") && is_elsewhere("20-7"));
    }
}
