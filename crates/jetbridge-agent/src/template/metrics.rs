//! The figures of templates. The names are documented in `docs/guide/up.md`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// What the last writing of each changed, without secrets.
    diffs: Arc<Mutex<BTreeMap<String, String>>>,
}

/// What there is to say about one template.
#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateFigures {
    pub(crate) written: u64,
    pub(crate) same: u64,
    pub(crate) failed: u64,
    pub(crate) reloads: u64,
    /// 0 if it was not written since the start.
    pub(crate) written_unix_s: f64,
    /// What the last writing changed, without secrets.
    pub(crate) diff: String,
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

    /// Keeps what a writing changed, in place of what the one before it did.
    pub(crate) fn changed(&self, template: &str, diff: String) {
        let mut diffs = self.diffs.lock().unwrap_or_else(PoisonError::into_inner);
        diffs.insert(template.to_owned(), diff);
    }

    pub(crate) fn figures(&self, template: &str) -> TemplateFigures {
        let count = |came| self.renderings.get_or_create(&outcome(template, came)).get();
        let diffs = self.diffs.lock().unwrap_or_else(PoisonError::into_inner);
        TemplateFigures {
            written: count(Came::Written),
            same: count(Came::Same),
            failed: count(Came::Failed),
            reloads: self.reloads.get_or_create(&labels(template)).get(),
            written_unix_s: self.written.get_or_create(&labels(template)).get(),
            diff: diffs.get(template).cloned().unwrap_or_default(),
        }
    }

    /// What there is to say about one template, for `/v1/status`.
    pub(crate) fn json(&self, template: &str) -> Value {
        let it = self.figures(template);
        json!({
            "written": it.written,
            "same": it.same,
            "failed": it.failed,
            "reloads": it.reloads,
            "written_unix_s": (it.written_unix_s > 0.0).then_some(it.written_unix_s),
        })
    }
}

fn labels(template: &str) -> Labels {
    Labels { template: template.to_owned() }
}

fn outcome(template: &str, came: Came) -> OutcomeLabels {
    OutcomeLabels { template: template.to_owned(), outcome: came.as_str() }
}
