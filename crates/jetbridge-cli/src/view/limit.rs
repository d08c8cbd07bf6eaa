//! Decisions, and what a limiter gave under load.

use std::time::Duration;

use jetbridge::limit::Decision;
use serde::Serialize;

use crate::format;
use crate::printer::{Row, Text, View};

/// What a limiter said.
#[derive(Serialize)]
pub(crate) struct DecisionView {
    id: String,
    allowed: bool,
    limit: u32,
    remaining: u32,
    retry_after_ms: u64,
    reset_after_ms: u64,
    source: &'static str,
}

impl DecisionView {
    pub(crate) fn of(id: &str, decision: &Decision) -> Self {
        Self {
            id: id.to_owned(),
            allowed: decision.allowed,
            limit: decision.limit,
            remaining: decision.remaining,
            retry_after_ms: milliseconds(decision.retry_after),
            reset_after_ms: milliseconds(decision.reset_after),
            source: decision.source.as_str(),
        }
    }
}

impl View for DecisionView {
    fn text(&self, out: &mut Text) {
        let id = format::shown(&self.id);
        let source = match self.source {
            "store" => String::new(),
            other => format!(", decided without the store ({other})"),
        };
        if self.allowed {
            let (left, limit) = (self.remaining, self.limit);
            out.line(format_args!("{id}: allowed, {left} of {limit} left{source}"));
        } else {
            let retry = format::span(Duration::from_millis(self.retry_after_ms));
            out.line(format_args!("{id}: denied, again in {retry}{source}"));
        }
    }
}

/// Upwards: who comes back then does not come too early.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A limiter or a key of one, in a list.
#[derive(Serialize)]
pub(crate) struct LimiterRow {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    pub(crate) reset_after_ms: u64,
}

impl Row for LimiterRow {
    const TITLES: &'static [&'static str] = &["ID", "KIND", "LIMIT", "LEFT", "FULL IN"];

    fn cells(&self) -> Vec<String> {
        vec![
            format::shown(&self.id).to_string(),
            self.kind.to_owned(),
            self.limit.to_string(),
            self.remaining.to_string(),
            format::span(Duration::from_millis(self.reset_after_ms)),
        ]
    }
}

/// What `bench` measured.
#[derive(Serialize)]
pub(crate) struct BenchView {
    pub(crate) id: String,
    pub(crate) callers: u32,
    pub(crate) seconds: f64,
    pub(crate) granted: u64,
    pub(crate) denied: u64,
    /// Calls that failed, or were decided without the store.
    pub(crate) failed: u64,
    pub(crate) granted_per_second: f64,
    /// Of what the limiter gives in that time, its burst not counted.
    pub(crate) percent_of_rate: Option<f64>,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) conflicts: u64,
    pub(crate) requests_per_grant: f64,
    /// How evenly the callers were served: 1 is evenly, 1 / callers is one of them alone.
    pub(crate) jain: f64,
}

impl View for BenchView {
    fn text(&self, out: &mut Text) {
        let rate = format_args!("{} ({:.1}/s)", self.granted, self.granted_per_second).to_string();
        out.field("granted", rate);
        if let Some(percent) = self.percent_of_rate {
            out.field("of the rate", format_args!("{percent:.1} %"));
        }
        out.field("denied", self.denied);
        out.field("failed", self.failed);
        let (p50, p99, max) = (self.p50_ms, self.p99_ms, self.max_ms);
        out.field("waited", format_args!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"));
        out.field("conflicts", self.conflicts);
        out.field("requests", format_args!("{:.3} per grant", self.requests_per_grant));
        out.field("fairness", format_args!("{:.4} (Jain)", self.jain));
    }
}
