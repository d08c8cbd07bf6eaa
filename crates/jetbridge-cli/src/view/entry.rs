//! Values, revisions and changes of keys.

use jetbridge_core::{BucketName, Change, Entry, Key, Written};
use serde::Serialize;

use super::{Fields, bytes, fields};
use crate::format;
use crate::printer::{Text, View};

/// A value: the bytes alone, or all that is known of it.
#[derive(Serialize)]
pub(crate) struct EntryView {
    bucket: String,
    key: String,
    revision: u64,
    written: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    headers: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip)]
    raw: bytes::Bytes,
}

impl EntryView {
    pub(crate) fn of(bucket: &BucketName, entry: &Entry) -> Self {
        let (value, value_base64) = bytes(&entry.value);
        Self {
            bucket: bucket.to_string(),
            key: entry.key.to_string(),
            revision: entry.revision.0,
            written: format::exact_time(entry.written),
            expires: entry.expires.map(format::exact_time),
            headers: fields(&entry.headers),
            value,
            value_base64,
            raw: entry.value.clone(),
        }
    }
}

impl View for EntryView {
    fn text(&self, out: &mut Text) {
        out.bytes(&self.raw);
    }
}

/// What a write left behind.
#[derive(Serialize)]
pub(crate) struct WrittenView {
    bucket: String,
    key: String,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
}

impl WrittenView {
    pub(crate) fn of(bucket: &BucketName, key: &Key, written: Written) -> Self {
        Self {
            bucket: bucket.to_string(),
            key: key.to_string(),
            revision: written.revision.0,
            written: written.at.map(format::exact_time),
        }
    }
}

impl View for WrittenView {
    fn text(&self, out: &mut Text) {
        out.line(format_args!("revision {}", self.revision));
    }
}

/// How long a key still has.
#[derive(Serialize)]
pub(crate) struct TtlView {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// `null` for ever.
    pub(crate) ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    #[serde(skip)]
    pub(crate) text: String,
}

impl View for TtlView {
    fn text(&self, out: &mut Text) {
        out.line(&self.text);
    }
}

/// A key in a listing.
#[derive(Serialize)]
pub(crate) struct KeyView {
    key: String,
    /// Ends it in the text, which is then exact.
    #[serde(skip)]
    null: bool,
}

impl KeyView {
    /// On a line of its own.
    pub(crate) fn line(key: &Key) -> Self {
        Self { key: key.to_string(), null: false }
    }

    /// Ended by a zero byte.
    pub(crate) fn null(key: &Key) -> Self {
        Self { key: key.to_string(), null: true }
    }
}

impl View for KeyView {
    fn text(&self, out: &mut Text) {
        if self.null {
            out.bytes(self.key.as_bytes());
            out.bytes(b"\0");
        } else {
            out.line(format::shown(&self.key));
        }
    }
}

/// A change of a key, or a stored revision of it.
#[derive(Serialize)]
pub(crate) struct ChangeView {
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    headers: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip)]
    line: Option<(String, bytes::Bytes)>,
}

impl ChangeView {
    /// A change with its value.
    pub(crate) fn whole(change: &Change) -> Self {
        let mut view = Self::keys_only(change);
        if let Change::Put(entry) = change {
            (view.value, view.value_base64) = bytes(&entry.value);
            view.line = view.line.map(|(line, _)| (line, entry.value.clone()));
        }
        view
    }

    /// A change without its value.
    pub(crate) fn keys_only(change: &Change) -> Self {
        let (name, at) = match change {
            Change::Put(entry) => ("put", Some(entry.written)),
            Change::Delete { at, .. } => ("del", Some(*at)),
            Change::CaughtUp => ("caught_up", None),
        };
        let entry = match change {
            Change::Put(entry) => Some(entry),
            Change::Delete { .. } | Change::CaughtUp => None,
        };
        let revision = change.revision().map(|revision| revision.0);
        let line = change.key().zip(at).map(|(key, at)| {
            let revision = revision.unwrap_or_default();
            let key = format::shown(key.as_str());
            (format!("{} {name} {revision} {key}", format::time(at)), bytes::Bytes::new())
        });
        Self {
            change: name,
            key: change.key().map(Key::to_string),
            revision,
            written: at.map(format::exact_time),
            expires: entry.and_then(|entry| entry.expires).map(format::exact_time),
            headers: entry.map(|entry| fields(&entry.headers)).unwrap_or_default(),
            value: None,
            value_base64: None,
            line,
        }
    }
}

impl View for ChangeView {
    fn text(&self, out: &mut Text) {
        let Some((line, value)) = &self.line else { return };
        out.bytes(line.as_bytes());
        if !value.is_empty() {
            out.bytes(b" ");
            out.bytes(value);
        }
        out.bytes(b"\n");
    }
}
