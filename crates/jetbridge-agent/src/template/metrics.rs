//! The figures of templates. The names are documented in `docs/guide/up.md`.

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

/// What a rendering came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    /// A new file is in place.
    Written,
    /// The file had the bytes already.
    Same,
    /// Something failed: the rendering, the check, the writing, or the reload.
    Failed,
}

impl Came {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Same => "same",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    template: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    template: String,
    outcome: &'static str,
}

/// The figures of all templates. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateMetrics {
    renderings: Family<OutcomeLabels, Counter>,
    reloads: Family<Labels, Counter>,
    written: Family<Labels, Gauge<f64, AtomicU64>>,
}

impl TemplateMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("template_renderings", "Renderings", self.renderings.clone());
        registry.register("template_reloads", "Reloads after a swap", self.reloads.clone());
        registry.register(
            "template_written_timestamp_seconds",
            "When the file was last written",
            self.written.clone(),
        );
    }

    pub(crate) fn came(&self, template: &str, came: Came, now: SystemTime) {
        self.renderings.get_or_create(&outcome(template, came)).inc();
        if came == Came::Written {
            let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.written.get_or_create(&labels(template)).set(since_epoch.as_secs_f64());
        }
    }

    pub(crate) fn reloaded(&self, template: &str) {
        self.reloads.get_or_create(&labels(template)).inc();
    }

    /// What there is to say about one template.
    pub(crate) fn json(&self, template: &str) -> Value {
        let count = |came| self.renderings.get_or_create(&outcome(template, came)).get();
        let written = self.written.get_or_create(&labels(template)).get();
        json!({
            "written": count(Came::Written),
            "same": count(Came::Same),
            "failed": count(Came::Failed),
            "reloads": self.reloads.get_or_create(&labels(template)).get(),
            "written_unix_s": (written > 0.0).then_some(written),
        })
    }
}

fn labels(template: &str) -> Labels {
    Labels { template: template.to_owned() }
}

fn outcome(template: &str, came: Came) -> OutcomeLabels {
    OutcomeLabels { template: template.to_owned(), outcome: came.as_str() }
}
