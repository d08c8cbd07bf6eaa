//! Messages: sent, kept, and asked.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use jetbridge_core::{AppendOpts, Message, StreamName, Subject};
use serde_json::json;

use super::call::Call;
use super::kv::inert;
use super::refusal::Refusal;
use super::table::Answered;

/// How long an answer may take, if the request does not say.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

async fn message(call: &mut Call) -> Result<Message, Refusal> {
    let subject = Subject::parse(call.path("subject"))?;
    let store_most = call.api.overview.backend.capabilities().value_bytes_max;
    let payload = call.bytes(call.api.body_bytes_max.min(store_most)).await?;
    Ok(Message::new(subject, payload))
}

pub(super) async fn publish(mut call: Call) -> Answered {
    let message = message(&mut call).await?;
    let bus = call.api.overview.backend.bus();
    let kept = ["jetstream", "id", "stream", "expect_last"];
    if !kept.into_iter().any(|name| call.flag(name)) {
        bus.publish(message).await?;
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let mut opts = AppendOpts::new();
    if let Some(id) = call.said("id") {
        opts = opts.id(id);
    }
    if let Some(stream) = call.said("stream") {
        opts = opts.stream(StreamName::parse(stream)?);
    }
    if let Some(last) = call.natural("expect_last") {
        opts = opts.expect_last_on_subject(last);
    }
    let kept = bus.append(message, opts).await?;
    let (stream, sequence) = (kept.stream.as_str(), kept.sequence);
    let body = json!({"stream": stream, "sequence": sequence, "duplicate": kept.duplicate});
    Ok(Json(body).into_response())
}

pub(super) async fn request(mut call: Call) -> Answered {
    let message = message(&mut call).await?;
    let wait = call.duration("timeout").unwrap_or(ANSWER_TIMEOUT);
    let answer = call.api.overview.backend.bus().request(message, wait).await?;
    let kind = [(CONTENT_TYPE, "application/octet-stream")];
    Ok((inert(), kind, answer.payload).into_response())
}
