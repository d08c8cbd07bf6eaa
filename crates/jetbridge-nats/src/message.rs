//! Messages between the seam and the wire.

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use jetbridge_core::{Message, Result, Subject};

use crate::headers;
use crate::request::Outgoing;

/// What the client delivered, as the seam has it; headers of the store are left out.
pub(crate) fn from_wire(message: async_nats::Message) -> Result<Message> {
    let subject = subject_from_wire(message.subject)?;
    let mut core = Message::new(subject, message.payload);
    if let Some(reply) = message.reply {
        core = core.reply(subject_from_wire(reply)?);
    }
    Ok(match &message.headers {
        Some(map) => core.headers(headers::from_wire(Some(map))),
        None => core,
    })
}

pub(crate) fn subject_from_wire(subject: async_nats::Subject) -> Result<Subject> {
    Subject::from_wire(Bytes::from(subject.into_string()))
}

pub(crate) fn subject_to_wire(subject: &Subject) -> async_nats::Subject {
    into_subject(subject.clone())
}

fn into_subject(subject: Subject) -> async_nats::Subject {
    // It is UTF-8, so that there is nothing to copy; one that were not would be refused as empty.
    async_nats::Subject::from_utf8(subject.into_wire())
        .unwrap_or_else(|_| async_nats::Subject::from_static(""))
}

/// A message on its way out and the subject that answers go to. Nothing is copied, and no count of
/// shared bytes is touched that the connection's thread will touch too.
pub(crate) fn into_wire(
    message: Message,
    operation: &'static str,
) -> Result<(Outgoing, Option<async_nats::Subject>)> {
    let reply = message.reply.map(into_subject);
    let out = Outgoing::new(into_subject(message.subject), message.payload);
    if message.headers.is_empty() {
        return Ok((out, reply));
    }
    Ok((out.headers(headers::to_wire(&message.headers, operation)?), reply))
}

/// A message on its way out, with the store's headers in `store` beside the writer's.
pub(crate) fn to_wire(
    message: &Message,
    store: Option<HeaderMap>,
    operation: &'static str,
) -> Result<Outgoing> {
    let out = Outgoing::new(subject_to_wire(&message.subject), message.payload.clone());
    if message.headers.is_empty() && store.is_none() {
        return Ok(out);
    }
    let mut map = headers::to_wire(&message.headers, operation)?;
    for (name, values) in store.iter().flat_map(HeaderMap::iter) {
        for value in values {
            map.insert(name.clone(), HeaderValue::clone(value));
        }
    }
    Ok(out.headers(map))
}
