//! Streams and their settings.

use jetbridge_core::{Discard, Retention, StreamInfo};
use serde::Serialize;

use super::bucket::{limit, placement, placement_text, storage};
use crate::format;
use crate::printer::{Row, Text, View};

/// A stream, as `info` and `ls` show it.
#[derive(Serialize)]
pub(crate) struct StreamView {
    name: String,
    created: String,
    #[serde(skip)]
    created_text: String,
    messages: u64,
    bytes: u64,
    first_sequence: u64,
    last_sequence: u64,
    consumers: u64,
    settings: SettingsView,
}

#[derive(Serialize)]
struct SettingsView {
    subjects: Vec<String>,
    retention: &'static str,
    discard: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_msgs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_msgs_per_subject: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_msg_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dupe_window_ms: Option<u64>,
    replicas: u8,
    storage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip)]
    spans: [Option<String>; 2],
}

impl From<&StreamInfo> for StreamView {
    fn from(info: &StreamInfo) -> Self {
        let spec = &info.spec;
        let (cluster, tags) = placement(spec.placement.as_ref());
        Self {
            name: spec.name.to_string(),
            created: format::exact_time(info.created),
            created_text: format::time(info.created),
            messages: info.messages,
            bytes: info.bytes,
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
            consumers: info.consumers,
            settings: SettingsView {
                subjects: spec.subjects.iter().map(ToString::to_string).collect(),
                retention: match spec.retention {
                    Retention::Interest => "interest",
                    Retention::Limits => "limits",
                    Retention::WorkQueue => "work",
                },
                discard: match spec.discard {
                    Discard::New => "new",
                    Discard::Old => "old",
                },
                max_age_ms: spec.max_age.map(format::millis),
                max_bytes: spec.max_bytes,
                max_msgs: spec.max_messages,
                max_msgs_per_subject: spec.max_messages_per_subject,
                max_msg_size: spec.max_message_bytes,
                dupe_window_ms: spec.duplicate_window.map(format::millis),
                replicas: spec.replicas,
                storage: storage(spec.storage),
                cluster,
                tags,
                description: spec.description.clone(),
                spans: [spec.max_age, spec.duplicate_window].map(|span| span.map(format::span)),
            },
        }
    }
}

impl SettingsView {
    fn text(&self, out: &mut Text) {
        let count = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
        let [max_age, dupe_window] = &self.spans;
        out.field("subjects", self.subjects.join(","));
        out.field("retention", self.retention);
        out.field("discard", self.discard);
        out.field("max age", max_age.as_deref().unwrap_or("none"));
        out.field("max bytes", limit(self.max_bytes));
        out.field("max messages", count(self.max_msgs));
        out.field("  per subject", count(self.max_msgs_per_subject));
        out.field("max msg size", limit(self.max_msg_size.map(u64::from)));
        if let Some(window) = dupe_window {
            out.field("dupe window", window);
        }
        out.field("replicas", self.replicas);
        out.field("storage", self.storage);
        placement_text(self.cluster.as_deref(), &self.tags, out);
    }
}

impl View for StreamView {
    fn text(&self, out: &mut Text) {
        out.field("stream", &self.name);
        if let Some(description) = &self.settings.description {
            out.field("description", format::shown(description));
        }
        out.field("created", &self.created_text);
        self.settings.text(out);
        out.field("messages", self.messages);
        out.field("size", format::size(self.bytes));
        out.field("first sequence", self.first_sequence);
        out.field("last sequence", self.last_sequence);
        out.field("consumers", self.consumers);
    }
}

impl Row for StreamView {
    const TITLES: &'static [&'static str] = &["STREAM", "SUBJECTS", "MESSAGES", "SIZE", "LAST"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.settings.subjects.join(","),
            self.messages.to_string(),
            format::size(self.bytes),
            self.last_sequence.to_string(),
        ]
    }
}
