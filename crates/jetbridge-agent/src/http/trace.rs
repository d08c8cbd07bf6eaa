//! A span for each request: what was asked, of what, and what was answered.
//!
//! What stands behind the `?`, header fields and paths that are components' are nobody's business.

use std::collections::BTreeMap;

use axum::http::header::ETAG;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use tracing::Span;
use tracing::field::Empty;

use super::table::Operation;
use crate::traces::{TRACEPARENT, follow};

/// A request for `operation` on what `path` names, in the caller's trace if it has one.
pub(super) fn span(
    operation: &Operation,
    path: &BTreeMap<&'static str, String>,
    headers: &HeaderMap,
) -> Span {
    let span = tracing::debug_span!(
        "request",
        otel.name = operation.id,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = operation.method.as_str(),
        http.route = operation.path,
        http.response.status_code = Empty,
        bucket = Empty,
        key = Empty,
        name = Empty,
        subject = Empty,
        pattern = Empty,
        id = Empty,
        revision = Empty,
    );
    for (name, value) in path {
        span.record(*name, value.as_str());
    }
    follow(&span, parent(headers));
    span
}

/// A request that may be a component's.
pub(super) fn passed(method: &Method, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        "request",
        otel.name = "component",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        http.response.status_code = Empty,
    );
    follow(&span, parent(headers));
    span
}

/// Says what the request of `span` came to. What is answered piece by piece goes on after it.
pub(super) fn ended(span: &Span, answer: &Response) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", answer.status().as_u16());
    if answer.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    if let Some(revision) = tag.and_then(|tag| tag.trim_matches('"').parse::<u64>().ok()) {
        span.record("revision", revision);
    }
}

fn parent(headers: &HeaderMap) -> Option<&str> {
    headers.get(TRACEPARENT)?.to_str().ok()
}
