//! A request on its way through an operation: what was said, read with care.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode, Uri};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use jetbridge::settings::parse_duration;
use jetbridge_core::{BucketName, Error, ErrorKind, Result};
use tokio::time::timeout;

use super::Api;
use super::access::Caller;
use super::events::Seen;
use super::refusal::Refusal;
use super::table::{PAGE_MAX, Parameter, Shape};

/// How long a client may pause between two pieces of what it sends.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// How far what was sent along has come, for who gives up waiting in the meantime. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival(Arc<Mutex<Arrived>>);

/// How far what was sent along has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Arrived {
    /// Nobody asked for it.
    #[default]
    Unasked,
    /// It is being read.
    Partly,
    /// All of it is there.
    Whole,
}

impl Arrival {
    fn set(&self, arrived: Arrived) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = arrived;
    }

    pub(crate) fn get(&self) -> Arrived {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) caller: Caller,
    pub(crate) headers: HeaderMap,
    pub(crate) arrival: Arrival,
    path: BTreeMap<&'static str, String>,
    query: BTreeMap<String, String>,
    /// Nobody ever waits for it: a body alone could not be looked at from two threads, and a call is.
    body: Mutex<Body>,
}

impl Call {
    /// Refuses parameters that the operation does not have, that are no such thing, or that come
    /// twice.
    pub(super) fn new(
        api: Arc<Api>,
        caller: Caller,
        path: BTreeMap<&'static str, String>,
        (known, request): (&[Parameter], Request),
    ) -> Result<Self, Refusal> {
        let query = query(request.uri(), known)?;
        let (parts, body) = request.into_parts();
        let (arrival, headers) = (Arrival::default(), parts.headers);
        Ok(Self { api, caller, headers, arrival, path, query, body: Mutex::new(body) })
    }

    /// A parameter of the path.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// The bucket that the path names.
    pub(crate) fn bucket(&self) -> Result<BucketName, Refusal> {
        Ok(BucketName::parse(self.path("bucket"))?)
    }

    /// A parameter behind the `?`.
    pub(crate) fn said(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A number behind the `?`; that it is one was seen before.
    pub(crate) fn natural(&self, name: &str) -> Option<u64> {
        self.said(name).and_then(|text| text.parse().ok())
    }

    /// A duration behind the `?`; that it is one was seen before.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        self.said(name).and_then(|text| parse_duration(text).ok())
    }

    /// True if `name` is there.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.query.contains_key(name)
    }

    /// A header field, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All of what was sent, at most `most` bytes.
    pub(crate) async fn bytes(&mut self, most: u64) -> Result<Bytes, Refusal> {
        let declared = self.header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
        if declared.is_some_and(|bytes: u64| bytes > most) {
            return Err(too_large(most));
        }
        self.arrival.set(Arrived::Partly);
        let mut pieces = std::pin::pin!(pieces(self.take_body()));
        let mut all = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| broken(&error))?;
            if (all.len() + piece.len()) as u64 > most {
                return Err(too_large(most));
            }
            all.extend_from_slice(&piece);
        }
        self.arrival.set(Arrived::Whole);
        Ok(all.freeze())
    }

    /// What was sent, as it comes.
    pub(crate) fn stream(&mut self) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        pieces(self.take_body())
    }

    fn take_body(&mut self) -> Body {
        std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The pieces of a body; one that does not come in time is an error.
fn pieces(body: Body) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::unfold(Some(body), |body| async {
        let mut body = body?;
        loop {
            let failed = |why: &str| {
                let error = Error::new(ErrorKind::InvalidInput, "http.body").because(why);
                Some((Err(error), None))
            };
            match timeout(PIECE_TIMEOUT, body.frame()).await {
                Err(_elapsed) => return failed("the client paused for too long while sending"),
                Ok(None) => return None,
                Ok(Some(Err(_broken))) => return failed("the request broke off"),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Some((Ok(bytes), Some(body)));
                    }
                }
            }
        }
    })
}

/// 408: what was sent has no end, so nothing of it was stored.
pub(crate) fn broken(error: &Error) -> Refusal {
    let words = error.message().unwrap_or_default();
    Refusal::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::InvalidInput, words).hint(format!(
        "nothing of it was stored: send all of it again, without a pause of {PIECE_TIMEOUT:?}"
    ))
}

/// 413: more than `most` bytes.
pub(crate) fn too_large(most: u64) -> Refusal {
    let message = format!("at most {most} bytes are taken here");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::LimitExceeded, message)
        .hint("`max_body:` of the file's `http:` says how many, and the store has its own most")
}

fn query(uri: &Uri, known: &[Parameter]) -> Result<BTreeMap<String, String>, Refusal> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Refusal::bad(format!("the words behind `?`: {error}")))?;
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        let shown = name.escape_debug();
        let Some(parameter) = known.iter().find(|parameter| *parameter.name == name) else {
            let names: Vec<_> = known.iter().map(|parameter| parameter.name).collect();
            let hint = match names.is_empty() {
                true => "there are none here".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            let message = format!("there is no parameter `{shown}` here");
            return Err(Refusal::bad(message).hint(hint));
        };
        if let Err(what) = parameter.shape.check(&value) {
            return Err(Refusal::bad(format!("`{shown}` is {what}")));
        }
        if query.insert(name.clone(), value).is_some() {
            return Err(Refusal::bad(format!("`{shown}` is there twice")));
        }
    }
    Ok(query)
}

impl Shape {
    /// Says what it ought to be, if it is not.
    fn check(self, text: &str) -> Result<(), &'static str> {
        let (is, what) = match self {
            // What names and header fields say is read where it means something.
            Self::Text | Self::Word | Self::Tags => (true, ""),
            Self::EventId => (
                Seen::parse(text).is_some(),
                "the id of an event, or a number that is not negative",
            ),
            Self::Duration => (
                parse_duration(text).is_ok_and(|time| !time.is_zero()),
                "a duration that is not nothing, such as `90s`",
            ),
            Self::Natural => (text.parse::<u64>().is_ok(), "a number that is not negative"),
            Self::Page => {
                (text.parse().is_ok_and(|keys: u64| (1..=PAGE_MAX).contains(&keys)), "1 to 10000")
            }
            Self::Integer => (text.parse::<i64>().is_ok(), "a number"),
            Self::Flag => (text == "1", "`1`, or left out"),
        };
        if is { Ok(()) } else { Err(what) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let first = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from_static(b"x"))]);
        let body = Body::from_stream(first.chain(stream::pending()));
        let mut pieces = std::pin::pin!(pieces(body));
        assert_eq!(pieces.next().await.unwrap().unwrap(), "x");
        let error = pieces.next().await.unwrap().unwrap_err();
        assert_eq!(
            broken(&error).json()["message"],
            "the client paused for too long while sending"
        );
        assert!(pieces.next().await.is_none());
    }
}
