//! The trace that a request or message belongs to, as W3C `traceparent` says it.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header that carries it.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Makes `span` part of the trace that the header `said` names, if it names one.
pub(crate) fn follow(span: &Span, said: Option<&str>) {
    let Some(said) = said.filter(|_| !span.is_disabled()) else { return };
    let context = TraceContextPropagator::new().extract(&Said(said));
    // Without a layer that hears spans there is nothing to follow with.
    span.set_parent(context).unwrap_or_default();
}

/// What is said to others so that their spans are below `span`; `None` if nobody hears it.
pub(crate) fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut says = Says(None);
    TraceContextPropagator::new().inject_context(&span.context(), &mut says);
    says.0
}

struct Said<'a>(&'a str);

impl Extractor for Said<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Says(Option<String>);

impl Injector for Says {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}
