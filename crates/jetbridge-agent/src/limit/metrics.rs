//! What `/metrics` says about limiters: under rate-sync's names, whose dashboards go on working,
//! and under ours.

use std::fmt::{self, Debug};
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Desk;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Group {
    group_id: String,
    engine: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Name {
    limiter: String,
}

/// How long allowed calls over HTTP waited.
#[derive(Clone)]
pub(super) struct Durations(Family<Group, Histogram>);

impl Default for Durations {
    fn default() -> Self {
        // 0.1 ms to 26 s.
        Self(Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 4.0, 10))))
    }
}

impl Debug for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durations").finish_non_exhaustive()
    }
}

impl Durations {
    pub(super) fn observe(&self, id: &str, engine: &'static str, waited: Duration) {
        let group = Group { group_id: id.to_owned(), engine };
        self.0.get_or_create(&group).observe(waited.as_secs_f64());
    }
}

/// Counts that the limiters keep themselves, and are copied when somebody asks.
#[derive(Default)]
struct Copied {
    acquisitions: Family<Group, Counter>,
    timeouts: Family<Group, Counter>,
    circuit: Family<Group, Gauge>,
    fallbacks: Family<Group, Counter>,
    conflicts: Family<Group, Counter>,
    requests: Family<Name, Counter>,
    failures: Family<Name, Counter>,
    mismatches: Family<Name, Counter>,
    slots: Family<Name, Gauge>,
}

impl Copied {
    fn of(desk: &Desk) -> Self {
        let copied = Self::default();
        for desked in desk.all() {
            let Ok(limiter) = desked.limiter else { continue };
            let limiter = limiter.unwrap_or(desked.alone);
            let metrics = limiter.metrics();
            let group = Group { group_id: desked.spec.id.clone(), engine: desked.engine.as_str() };
            copied.acquisitions.get_or_create(&group).inc_by(metrics.total_acquisitions);
            copied.timeouts.get_or_create(&group).inc_by(metrics.timeouts);
            copied.circuit.get_or_create(&group).set(i64::from(metrics.circuit_breaker_state));
            copied.fallbacks.get_or_create(&group).inc_by(metrics.fallback_activations);
            copied.conflicts.get_or_create(&group).inc_by(metrics.cas_failures);
            let name = Name { limiter: desked.spec.id };
            copied.requests.get_or_create(&name).inc_by(metrics.store_requests);
            copied.failures.get_or_create(&name).inc_by(metrics.store_failures);
            copied.mismatches.get_or_create(&name).inc_by(metrics.policy_mismatches);
            let slots = i64::try_from(metrics.current_concurrent).unwrap_or(i64::MAX);
            copied.slots.get_or_create(&name).set(slots);
        }
        copied
    }

    fn register(self, durations: &Durations) -> Registry {
        let mut registry = Registry::default();
        registry.register("ratesync_acquisitions", "Calls that were allowed", self.acquisitions);
        registry.register(
            "ratesync_acquisition_duration_seconds",
            "How long allowed calls over HTTP waited",
            durations.0.clone(),
        );
        registry.register("ratesync_timeouts", "Calls that were denied", self.timeouts);
        registry.register(
            "ratesync_circuit_breaker_state",
            "0 closed, 1 half open, 2 open",
            self.circuit,
        );
        registry.register(
            "ratesync_fallback_activations",
            "Calls that were decided without the store",
            self.fallbacks,
        );
        registry.register("ratesync_cas_failures", "Writes that lost a race", self.conflicts);
        registry.register(
            "jetbridge_limit_store_requests",
            "Reads and writes of the store",
            self.requests,
        );
        registry.register(
            "jetbridge_limit_store_failures",
            "Calls that the store did not decide in time",
            self.failures,
        );
        registry.register(
            "jetbridge_limit_policy_mismatches",
            "Values of another policy that were converted",
            self.mismatches,
        );
        registry.register("jetbridge_limit_slots", "Slots held by this process", self.slots);
        registry
    }
}

/// Adds everything about the limiters at `desk`; nothing if there are none.
pub(super) fn write(desk: &Desk, out: &mut String) -> Result<()> {
    if desk.all().is_empty() {
        return Ok(());
    }
    let registry = Copied::of(desk).register(&desk.0.durations);
    encode_registry(out, &registry)
        .map_err(|error| Error::new(ErrorKind::Internal, "metrics.encode").caused_by(error))
}
