//! The figures of components. The names are documented in `docs/guide/up.md`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::Serialize;

/// What a request or a change came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    /// The component dealt with it.
    Done,
    /// It failed.
    Failed,
    /// It failed so often that the change is passed over.
    PassedOver,
}

impl Came {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::PassedOver => "passed_over",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    component: String,
    outcome: &'static str,
}

impl Labels {
    fn new(component: &str, came: Came) -> Self {
        Self { component: component.to_owned(), outcome: came.as_str() }
    }
}

/// The figures of all components. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ComponentMetrics {
    requests: Family<Labels, Counter>,
    changes: Family<Labels, Counter>,
}

impl ComponentMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("component_requests", "Requests", self.requests.clone());
        registry.register(
            "component_changes",
            "Changes that a watcher was told of",
            self.changes.clone(),
        );
    }

    pub(super) fn request(&self, component: &str, came: Came) {
        self.requests.get_or_create(&Labels::new(component, came)).inc();
    }

    pub(super) fn change(&self, component: &str, came: Came) {
        self.changes.get_or_create(&Labels::new(component, came)).inc();
    }

    pub(crate) fn figures(&self, component: &str) -> ComponentFigures {
        let of = |family: &Family<Labels, Counter>, came| {
            family.get_or_create(&Labels::new(component, came)).get()
        };
        ComponentFigures {
            requests_done: of(&self.requests, Came::Done),
            requests_failed: of(&self.requests, Came::Failed),
            changes_done: of(&self.changes, Came::Done),
            changes_failed: of(&self.changes, Came::Failed),
            changes_passed_over: of(&self.changes, Came::PassedOver),
        }
    }
}

/// What there is to say about one component.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ComponentFigures {
    pub(crate) requests_done: u64,
    pub(crate) requests_failed: u64,
    pub(crate) changes_done: u64,
    pub(crate) changes_failed: u64,
    pub(crate) changes_passed_over: u64,
}
