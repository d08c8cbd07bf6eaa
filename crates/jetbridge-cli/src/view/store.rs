//! The store as a whole: `status` and `doctor`.

use std::time::Duration;

use jetbridge_core::{Capabilities, Check, StoreStatus, Verdict};
use serde::{Serialize, Serializer};

use super::bucket::BucketView;
use super::stream::StreamView;
use super::support;
use crate::format;
use crate::printer::{Row, Text, View};

/// Who the store is, what it can do and what it holds.
#[derive(Serialize)]
pub(crate) struct StatusView {
    pub(crate) store: String,
    /// Which flag, variable or file named it.
    pub(crate) origin: String,
    pub(crate) backend: &'static str,
    pub(crate) version: String,
    pub(crate) round_trip_ms: f64,
    #[serde(serialize_with = "as_map")]
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) capabilities: CapabilitiesView,
    pub(crate) buckets: Vec<BucketView>,
    pub(crate) streams: Vec<StreamView>,
    #[serde(skip)]
    pub(crate) round_trip: String,
}

#[derive(Serialize)]
pub(crate) struct CapabilitiesView {
    key_ttl: &'static str,
    counters: &'static str,
    snapshot_reads: &'static str,
    value_bytes_max: u64,
    shared: bool,
    durable: bool,
    replicas_max: u8,
}

impl StatusView {
    pub(crate) fn new(status: StoreStatus, origin: String, capabilities: &Capabilities) -> Self {
        Self {
            store: status.location,
            origin,
            backend: status.backend,
            version: status.version,
            round_trip_ms: status.round_trip.as_secs_f64() * 1e3,
            round_trip: format::span(rounded(status.round_trip)),
            facts: status.facts,
            capabilities: CapabilitiesView {
                key_ttl: support(capabilities.key_ttl),
                counters: support(capabilities.counters),
                snapshot_reads: support(capabilities.snapshot_reads),
                value_bytes_max: capabilities.value_bytes_max,
                shared: capabilities.shared,
                durable: capabilities.durable,
                replicas_max: capabilities.replicas_max,
            },
            buckets: Vec::new(),
            streams: Vec::new(),
        }
    }
}

impl View for StatusView {
    fn text(&self, out: &mut Text) {
        out.field("store", &self.store);
        out.field("named by", &self.origin);
        out.field("backend", format_args!("{} {}", self.backend, self.version));
        out.field("round trip", &self.round_trip);
        for (name, value) in &self.facts {
            out.field(&name.replace('_', " "), format::shown(value));
        }
        let can = &self.capabilities;
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        out.field("expiry of keys", can.key_ttl);
        out.field("counters", can.counters);
        out.field("snapshots", can.snapshot_reads);
        out.field("max value size", format::size(can.value_bytes_max));
        out.field("max replicas", can.replicas_max);
        out.field("durable", yes(can.durable));
        out.field("shared", yes(can.shared));
        let buckets: Vec<WithKind<'_>> = self.buckets.iter().map(WithKind).collect();
        table(&buckets, out);
        table(&self.streams, out);
    }
}

fn as_map<S: Serializer>(facts: &[(&'static str, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(facts.iter().map(|(name, value)| (name, value)))
}

/// To the microsecond, which is what people can compare.
fn rounded(span: Duration) -> Duration {
    Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

/// A bucket among buckets of both kinds.
#[derive(Serialize)]
struct WithKind<'a>(&'a BucketView);

impl Row for WithKind<'_> {
    const TITLES: &'static [&'static str] =
        &["KIND", "BUCKET", "MESSAGES", "SIZE", "TTL", "CREATED"];

    fn cells(&self) -> Vec<String> {
        std::iter::once(self.0.kind.to_owned()).chain(self.0.cells()).collect()
    }
}

fn table<R: Row>(rows: &[R], out: &mut Text) {
    if !rows.is_empty() {
        out.line("");
        out.table(rows);
    }
}

/// What is right and what is wrong.
#[derive(Serialize)]
pub(crate) struct Diagnosis {
    pub(crate) store: String,
    pub(crate) origin: String,
    pub(crate) verdict: &'static str,
    pub(crate) checks: Vec<CheckView>,
}

#[derive(Serialize)]
pub(crate) struct CheckView {
    name: &'static str,
    verdict: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<&Check> for CheckView {
    fn from(check: &Check) -> Self {
        Self {
            name: check.name,
            verdict: verdict(check.verdict),
            detail: check.detail.clone(),
            hint: check.hint.clone(),
        }
    }
}

/// How a check came out, in a word.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fails => "fail",
        Verdict::Passes => "pass",
        Verdict::Warns => "warn",
    }
}

impl View for Diagnosis {
    fn text(&self, out: &mut Text) {
        out.line(format_args!("store {}, named by {}", self.store, self.origin));
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &self.checks {
            let detail = check.detail.replace('\n', "\n      ");
            out.line(format_args!("{}  {:<width$}  {detail}", check.verdict, check.name));
            if let Some(hint) = &check.hint {
                out.line(format_args!("      hint: {hint}"));
            }
        }
    }
}
