//! Messages, as they come from subjects and from streams, and what publishing leaves behind.

use bytes::Bytes;
use jetbridge_core::{Appended, Message, StreamMessage};
use serde::Serialize;

use super::{Fields, bytes, fields};
use crate::format;
use crate::printer::{Text, View};

/// How much of a message the text shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Detail {
    /// A line with its subject and payload.
    Line,
    /// The payload, and a line break.
    PayloadLine,
    /// The bytes of the payload.
    Payload,
}

impl Detail {
    /// For streams of messages.
    pub(crate) fn of_line(raw: bool) -> Self {
        if raw { Self::PayloadLine } else { Self::Line }
    }
}

/// A message.
#[derive(Serialize)]
pub(crate) struct MessageView {
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    headers: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip)]
    raw: Bytes,
    #[serde(skip)]
    detail: Detail,
}

impl MessageView {
    pub(crate) fn of(message: &Message, detail: Detail) -> Self {
        let (payload, payload_base64) = bytes(&message.payload);
        Self {
            subject: message.subject.to_string(),
            sequence: None,
            stored: None,
            reply: message.reply.as_ref().map(ToString::to_string),
            headers: fields(&message.headers),
            payload,
            payload_base64,
            raw: message.payload.clone(),
            detail,
        }
    }

    /// A message with where the stream keeps it.
    pub(crate) fn stored(stored: &StreamMessage, detail: Detail) -> Self {
        Self {
            sequence: Some(stored.sequence),
            stored: Some(format::exact_time(stored.stored)),
            ..Self::of(&stored.message, detail)
        }
    }
}

impl View for MessageView {
    fn text(&self, out: &mut Text) {
        if self.detail == Detail::Line {
            if let Some((sequence, stored)) = self.sequence.zip(self.stored.as_ref()) {
                out.bytes(format!("{sequence} {stored} ").as_bytes());
            }
            out.bytes(format!("{} ", format::shown(&self.subject)).as_bytes());
        }
        out.bytes(&self.raw);
        if self.detail != Detail::Payload {
            out.bytes(b"\n");
        }
    }
}

/// That a stream has a message.
#[derive(Serialize)]
pub(crate) struct AppendedView {
    stream: String,
    sequence: u64,
    duplicate: bool,
}

impl From<&Appended> for AppendedView {
    fn from(appended: &Appended) -> Self {
        Self {
            stream: appended.stream.to_string(),
            sequence: appended.sequence,
            duplicate: appended.duplicate,
        }
    }
}

impl View for AppendedView {
    fn text(&self, out: &mut Text) {
        let duplicate = if self.duplicate { ", a duplicate" } else { "" };
        out.line(format_args!("stream {}{duplicate}, sequence {}", self.stream, self.sequence));
    }
}

/// That messages were handed over.
#[derive(Serialize)]
pub(crate) struct Published {
    pub(crate) subject: String,
    pub(crate) published: u64,
    pub(crate) bytes: u64,
}

impl View for Published {
    /// Nobody waits for a value here: the text is a note.
    fn text(&self, _out: &mut Text) {}
}
