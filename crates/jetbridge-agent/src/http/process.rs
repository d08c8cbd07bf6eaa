//! How the process itself does.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use super::call::Call;
use super::table::Answered;

/// What Prometheus asks for.
pub(super) const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn healthz(_call: Call) -> BoxFuture<'static, Answered> {
    ready(Ok("ok\n".into_response())).boxed()
}

pub(super) fn readyz(call: Call) -> BoxFuture<'static, Answered> {
    let unready = call.api.overview.unready();
    let answer = match unready.is_empty() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, unready.join("\n") + "\n").into_response(),
    };
    ready(Ok(answer)).boxed()
}

pub(super) fn metrics(call: Call) -> BoxFuture<'static, Answered> {
    let text = call.api.overview.metrics().map_err(Into::into);
    ready(text.map(|text| ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response())).boxed()
}

pub(super) fn status(call: Call) -> BoxFuture<'static, Answered> {
    async move { Ok(Json(call.api.overview.json().await).into_response()) }.boxed()
}
