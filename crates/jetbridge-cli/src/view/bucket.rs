//! Buckets and their settings.

use std::collections::BTreeMap;

use jetbridge_core::{BucketInfo, BucketKind, BucketSpec, Placement, Storage};
use serde::Serialize;

use super::support;
use crate::format;
use crate::printer::{Row, Text, View};

/// A bucket, as `info` and `ls` show it.
#[derive(Serialize)]
pub(crate) struct BucketView {
    name: String,
    pub(super) kind: &'static str,
    created: String,
    messages: u64,
    bytes: u64,
    last_revision: u64,
    sealed: bool,
    key_ttl: &'static str,
    settings: SettingsView,
    #[serde(skip)]
    is_kv: bool,
    #[serde(skip)]
    created_text: String,
}

#[derive(Serialize)]
struct SettingsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_value_size: Option<u32>,
    replicas: u8,
    storage: &'static str,
    compressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip)]
    ttl: Option<String>,
}

impl From<&BucketInfo> for BucketView {
    fn from(info: &BucketInfo) -> Self {
        let is_kv = info.kind == BucketKind::Kv;
        Self {
            name: info.name.to_string(),
            kind: info.kind.as_str(),
            created: format::exact_time(info.created),
            messages: info.messages,
            bytes: info.bytes,
            last_revision: info.last_revision,
            sealed: info.sealed,
            key_ttl: support(info.key_ttl),
            settings: SettingsView::of(&info.spec, is_kv),
            is_kv,
            created_text: format::time(info.created),
        }
    }
}

impl SettingsView {
    fn of(spec: &BucketSpec, is_kv: bool) -> Self {
        let placement = spec.placement.clone().unwrap_or_default();
        Self {
            history: is_kv.then_some(spec.history),
            ttl_ms: spec.max_age.map(format::millis),
            ttl: spec.max_age.map(format::span),
            max_bytes: spec.max_bytes,
            max_value_size: spec.max_value_bytes,
            replicas: spec.replicas,
            storage: storage(spec.storage),
            compressed: spec.compression,
            cluster: placement.cluster,
            tags: placement.tags,
            description: spec.description.clone(),
            metadata: spec.metadata.clone(),
        }
    }

    fn text(&self, out: &mut Text) {
        if let Some(history) = self.history {
            out.field("history", history);
        }
        out.field("ttl", self.ttl.as_deref().unwrap_or("none"));
        out.field("max bytes", limit(self.max_bytes));
        if self.history.is_some() {
            out.field("max value size", limit(self.max_value_size.map(u64::from)));
        }
        out.field("replicas", self.replicas);
        out.field("storage", self.storage);
        if self.compressed {
            out.field("compressed", "yes");
        }
        placement_text(self.cluster.as_deref(), &self.tags, out);
        for (name, value) in &self.metadata {
            out.field("metadata", format_args!("{}={}", format::shown(name), format::shown(value)));
        }
    }
}

impl View for BucketView {
    fn text(&self, out: &mut Text) {
        out.field("bucket", &self.name);
        out.field("kind", self.kind);
        if let Some(description) = &self.settings.description {
            out.field("description", format::shown(description));
        }
        out.field("created", &self.created_text);
        self.settings.text(out);
        if self.is_kv {
            out.field("expiry of keys", self.key_ttl);
        }
        out.field(if self.is_kv { "values" } else { "messages" }, self.messages);
        out.field("size", format::size(self.bytes));
        out.field("last revision", self.last_revision);
        if self.sealed {
            out.field("sealed", "yes");
        }
    }
}

impl Row for BucketView {
    const TITLES: &'static [&'static str] = &["BUCKET", "MESSAGES", "SIZE", "TTL", "CREATED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.messages.to_string(),
            format::size(self.bytes),
            self.settings.ttl.clone().unwrap_or_else(|| "none".to_owned()),
            self.created_text.clone(),
        ]
    }
}

/// Where data is kept, in a word.
pub(super) fn storage(storage: Storage) -> &'static str {
    match storage {
        Storage::File => "file",
        Storage::Memory => "memory",
    }
}

/// A limit in bytes.
pub(super) fn limit(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unlimited".to_owned(), format::size)
}

/// Where the copies are to go.
pub(super) fn placement_text(cluster: Option<&str>, tags: &[String], out: &mut Text) {
    if let Some(cluster) = cluster {
        out.field("cluster", cluster);
    }
    if !tags.is_empty() {
        out.field("tags", tags.join(","));
    }
}

/// A placement's parts.
pub(super) fn placement(placement: Option<&Placement>) -> (Option<String>, Vec<String>) {
    placement.map_or_else(Default::default, |placement| {
        (placement.cluster.clone(), placement.tags.clone())
    })
}
