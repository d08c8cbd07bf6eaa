//! What `/metrics` says. The names are documented in `docs/guide/metrics.md`.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::board::{Board, State};
use crate::component::ComponentMetrics;
use crate::limit::Desk;
use crate::template::TemplateMetrics;

/// What a handler's attempt came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// It was done.
    Done,
    /// It was not.
    Failed,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct HandlerLabels {
    handler: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AttemptLabels {
    handler: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SectionLabels {
    kind: &'static str,
    name: String,
    state: &'static str,
}

/// The counters of one process. Clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    attempts: Family<AttemptLabels, Counter>,
    in_flight: Family<HandlerLabels, Gauge>,
    durations: Family<HandlerLabels, Histogram>,
    dead: Family<HandlerLabels, Counter>,
    dropped: Family<HandlerLabels, Counter>,
    connected: Gauge,
    sections: Family<SectionLabels, Gauge>,
    pub(crate) templates: TemplateMetrics,
    pub(crate) components: ComponentMetrics,
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("jetbridge");
        let metrics = Self {
            registry: Arc::default(),
            attempts: Family::default(),
            in_flight: Family::default(),
            // 1 ms to 65 s.
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 9))
            }),
            dead: Family::default(),
            dropped: Family::default(),
            connected: Gauge::default(),
            sections: Family::default(),
            templates: TemplateMetrics::default(),
            components: ComponentMetrics::default(),
        };
        metrics.templates.register(&mut registry);
        metrics.components.register(&mut registry);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", version);
        registry.register("handler_attempts", "Attempts at messages", metrics.attempts.clone());
        registry.register("handler_in_flight", "Attempts under way", metrics.in_flight.clone());
        registry.register(
            "handler_duration_seconds",
            "Time of one attempt",
            metrics.durations.clone(),
        );
        registry.register("handler_dead", "Messages that were given up", metrics.dead.clone());
        registry.register(
            "handler_dropped",
            "Messages that a plain subscription dropped because the handler was behind",
            metrics.dropped.clone(),
        );
        registry.register("store_connected", "1 while connected", metrics.connected.clone());
        registry.register("section_state", "1 for the present state", metrics.sections.clone());
        Self { registry: Arc::new(Mutex::new(registry)), ..metrics }
    }

    /// Counts an attempt as under way until the guard is dropped.
    pub(crate) fn attempt(&self, handler: &str) -> InFlight {
        let labels = HandlerLabels { handler: handler.to_owned() };
        let gauge = self.in_flight.get_or_create(&labels).clone();
        gauge.inc();
        InFlight(gauge)
    }

    /// Counts a message that was given up; its attempts were counted before.
    pub(crate) fn died(&self, handler: &str) {
        self.dead.get_or_create(&HandlerLabels { handler: handler.to_owned() }).inc();
    }

    /// Messages of `handler` that were given up so far.
    pub(crate) fn dead(&self, handler: &str) -> u64 {
        self.dead.get_or_create(&HandlerLabels { handler: handler.to_owned() }).get()
    }

    /// Counts an attempt that has ended.
    pub(crate) fn ended(&self, handler: &str, outcome: Ended, took: Duration) {
        let labels = AttemptLabels { handler: handler.to_owned(), outcome: outcome.as_str() };
        self.attempts.get_or_create(&labels).inc();
        let labels = HandlerLabels { handler: handler.to_owned() };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Attempts of `handler` that came to `outcome` so far.
    pub(crate) fn attempts(&self, handler: &str, outcome: Ended) -> u64 {
        let labels = AttemptLabels { handler: handler.to_owned(), outcome: outcome.as_str() };
        self.attempts.get_or_create(&labels).get()
    }

    /// Attempts of `handler` under way.
    pub(crate) fn in_flight(&self, handler: &str) -> i64 {
        self.in_flight.get_or_create(&HandlerLabels { handler: handler.to_owned() }).get()
    }

    pub(crate) fn dropped(&self, handler: &str, messages: u64) {
        let labels = HandlerLabels { handler: handler.to_owned() };
        self.dropped.get_or_create(&labels).inc_by(messages);
    }

    pub(crate) fn connected(&self, connected: i64) {
        self.connected.set(connected);
    }

    /// All of it as Prometheus reads it, with the states that `board` shows now, and the
    /// limiters at `desk`, and `more` in the same form.
    pub(crate) fn text(&self, board: &Board, desk: &Desk, more: &str) -> Result<String> {
        self.sections.clear();
        for (id, status) in board.all() {
            let states = ["starting", "running", "degraded", "stopped"];
            for state in states {
                let labels = SectionLabels { kind: id.kind, name: id.name.clone(), state };
                let now = i64::from(status.state.as_str() == state);
                self.sections.get_or_create(&labels).set(now);
            }
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| Error::new(ErrorKind::Internal, "metrics.encode").caused_by(error);
        encode_registry(&mut text, &registry).map_err(failed)?;
        desk.metrics(&mut text)?;
        text.push_str(more);
        encode_eof(&mut text).map_err(failed)?;
        Ok(text)
    }
}

/// One attempt under way.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl State {
    /// True while the section does its work.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Running)
    }
}

#[cfg(test)]
mod tests {
    use jetbridge_core::SystemClock;

    use super::*;
    use crate::board::SectionId;
    use crate::template::Came;

    #[test]
    fn the_text_has_every_series_with_its_labels() {
        let metrics = Metrics::new();
        let board = Board::new(Arc::new(SystemClock));
        board.add(&SectionId::new("handler", "mail")).set(State::Running);
        let under_way = metrics.attempt("mail");
        metrics.ended("mail", Ended::Failed, Duration::from_millis(3));
        metrics.died("mail");
        metrics.connected(1);
        metrics.dropped("mail", 2);
        metrics.templates.came("app.yml", Came::Written, std::time::UNIX_EPOCH);
        let text = metrics.text(&board, &Desk::default(), "").unwrap();
        for line in [
            "jetbridge_handler_attempts_total{handler=\"mail\",outcome=\"failed\"} 1",
            "jetbridge_handler_dead_total{handler=\"mail\"} 1",
            "jetbridge_handler_in_flight{handler=\"mail\"} 1",
            "jetbridge_handler_duration_seconds_count{handler=\"mail\"} 1",
            "jetbridge_handler_dropped_total{handler=\"mail\"} 2",
            "jetbridge_template_renderings_total{template=\"app.yml\",outcome=\"written\"} 1",
            "jetbridge_template_written_timestamp_seconds{template=\"app.yml\"} ",
            "jetbridge_store_connected 1",
            "jetbridge_section_state{kind=\"handler\",name=\"mail\",state=\"running\"} 1",
            "jetbridge_section_state{kind=\"handler\",name=\"mail\",state=\"degraded\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(under_way);
        assert_eq!(metrics.in_flight("mail"), 0);
    }
}
