//! `POST /v1/limits/{id}/acquire|peek|release`.
//!
//! A denial is 429, a store that cannot be asked is 503, and neither is ever taken for the other.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jetbridge::limit::{Decision, Limiter, fields};
use jetbridge::settings::parse_duration;
use jetbridge_core::{Clock as _, Error, ErrorKind};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CLOCK, Desk, Desked, Sought};

/// In seconds: a limiter whose section begins is there at once.
const RETRY_SOON: HeaderValue = HeaderValue::from_static("1");

type Words = HashMap<String, String>;

/// The routes, on their own state.
pub(crate) fn routes<S>(desk: Desk) -> Router<S> {
    Router::new()
        .route("/v1/limits/{id}/acquire", post(acquire))
        .route("/v1/limits/{id}/peek", get(peek).post(peek))
        .route("/v1/limits/{id}/release", post(release))
        .with_state(desk)
}

/// An answer that is no decision.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        let kind = ErrorKind::InvalidInput.as_str();
        Self { status: StatusCode::BAD_REQUEST, kind, message: message.into() }
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let status = match error.kind() {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
            ErrorKind::NotFound | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, kind: error.kind().as_str(), message: error.to_string() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"kind": self.kind, "message": self.message});
        let mut answer = (self.status, Json(body)).into_response();
        if self.kind == ErrorKind::Unavailable.as_str() {
            answer.headers_mut().insert(RETRY_AFTER, RETRY_SOON);
        }
        answer
    }
}

async fn acquire(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    Query(words): Query<Words>,
) -> Result<Response, Refusal> {
    let words = known(words, &["cost", "wait"])?;
    let (desked, key) = found(&desk, &id)?;
    let cost = cost(&words, &desked)?;
    let wait = words.get("wait").map(|text| span(text)).transpose()?;
    let wait = desked.spec.wait(Some(wait.unwrap_or_default())).unwrap_or_default();
    let begun = Instant::now();
    let waiting = (!wait.is_zero()).then(|| desk.wait(&desked.spec.id));
    let admission = match limiter(&desked, key)? {
        Some(limiter) => limiter.acquire_n_timeout(cost, wait).await,
        None => desked.alone.acquire_without_store(cost, wait).await,
    };
    drop(waiting);
    let admission = match admission {
        Ok(admission) => admission,
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            let body = closed(&desked, &error.to_string());
            return Ok((StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response());
        }
        Err(error) => return Err(error.into()),
    };
    let decision = admission.decision;
    let mut body = json_of(&decision);
    if decision.allowed {
        let (id, engine) = (&desked.spec.id, desked.engine.as_str());
        desk.0.durations.observe(id, engine, begun.elapsed());
    }
    if let Some(permit) = admission.permit {
        body["permit"] = desk.permits().give(&id, permit, desked.spec.opts.lease).into();
    }
    let status = match decision.allowed {
        true => StatusCode::OK,
        false => StatusCode::TOO_MANY_REQUESTS,
    };
    Ok((status, headers(&desked, &decision), Json(body)).into_response())
}

async fn peek(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    Query(words): Query<Words>,
) -> Result<Response, Refusal> {
    known(words, &[])?;
    let (desked, key) = found(&desk, &id)?;
    let peeked = match limiter(&desked, key)? {
        Some(limiter) => limiter.peek().await,
        None => Err(Error::new(ErrorKind::Unavailable, "limit.peek")
            .because("the limiter's store is not open yet")),
    };
    let decision = match peeked {
        Ok(decision) => decision,
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            let limiter = desked.limiter.as_ref().ok().and_then(Option::as_ref);
            match limiter.unwrap_or(&desked.alone).peek_without_store() {
                Some(decision) => decision,
                // It looked, and that is no failure: 503 is for those who wanted to pass.
                None => return Ok(Json(closed(&desked, &error.to_string())).into_response()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    Ok((headers(&desked, &decision), Json(json_of(&decision))).into_response())
}

async fn release(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    Query(words): Query<Words>,
) -> Result<Response, Refusal> {
    let words = known(words, &["permit"])?;
    found(&desk, &id)?;
    let Some(permit) = words.get("permit") else {
        return Err(Refusal::bad("`permit` is missing: it is what `acquire` answered"));
    };
    if desk.permits().release(&id, permit).await? {
        return Ok(Json(json!({"released": true})).into_response());
    }
    Err(Refusal {
        status: StatusCode::CONFLICT,
        kind: ErrorKind::Conflict.as_str(),
        message: "this permit is not held: it was released, or its lease has ended".to_owned(),
    })
}

/// The words, if they are among these.
fn known(words: Words, names: &[&str]) -> Result<Words, Refusal> {
    match words.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(words),
        Some(name) => Err(Refusal::bad(format!("there is no parameter `{name}` here"))),
    }
}

fn found<'a>(desk: &Desk, id: &'a str) -> Result<(Desked, Option<&'a str>), Refusal> {
    match desk.find(id) {
        Sought::Here(desked, key) => Ok((*desked, key)),
        Sought::Starting => Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: ErrorKind::Unavailable.as_str(),
            message: format!("the limiter `{}` is starting", id.escape_debug()),
        }),
        Sought::Unknown => Err(Refusal {
            status: StatusCode::NOT_FOUND,
            kind: ErrorKind::NotFound.as_str(),
            message: format!("there is no limiter `{}`", id.escape_debug()),
        }),
    }
}

fn limiter(desked: &Desked, key: Option<&str>) -> Result<Option<Limiter>, Refusal> {
    let found = desked.limiter.as_ref().map_err(|error| Refusal::from(&**error))?;
    let Some(limiter) = found else { return Ok(None) };
    Ok(Some(match key {
        Some(key) => limiter.key(key)?,
        None => limiter.clone(),
    }))
}

fn cost(words: &Words, desked: &Desked) -> Result<u32, Refusal> {
    let most = desked.spec.policy.limit();
    let Some(text) = words.get("cost") else { return Ok(desked.spec.cost) };
    let cost = text.parse().ok().filter(|cost| (1..=most).contains(cost));
    cost.ok_or_else(|| Refusal::bad(format!("`cost` is 1 to {most}, what can be had at once")))
}

/// Seconds as a number, or `2s`.
fn span(text: &str) -> Result<Duration, Refusal> {
    let bad = || Refusal::bad("`wait` is a number of seconds, or a duration such as `2s`");
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_range| bad()),
        Err(_not_a_number) => parse_duration(text).map_err(|_syntax| bad()),
    }
}

fn json_of(decision: &Decision) -> Value {
    json!({
        "allowed": decision.allowed,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after_ms": milliseconds(decision.retry_after),
        "reset_after_ms": milliseconds(decision.reset_after),
        "source": decision.source.as_str(),
    })
}

/// Upwards: who comes back then does not come too early.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn headers(desked: &Desked, decision: &Decision) -> HeaderMap {
    let fields = fields(&desked.spec.id, &desked.spec.policy, decision, CLOCK.now());
    let header = |(name, value): (&str, String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    fields.into_iter().filter_map(header).collect()
}

/// Nobody could decide, and nobody passes.
fn closed(desked: &Desked, why: &str) -> Value {
    json!({
        "allowed": false,
        "limit": desked.spec.policy.limit(),
        "remaining": 0,
        "retry_after_ms": 0,
        "reset_after_ms": 0,
        "source": "closed",
        "kind": ErrorKind::Unavailable.as_str(),
        "message": why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(desk: &Desk, id: &str) -> Response {
        let (words, id) = (Query(Words::new()), Path(id.to_owned()));
        acquire(State(desk.clone()), id, words).await.into_response()
    }

    #[tokio::test]
    async fn a_limiter_that_starts_is_not_unknown() {
        let desk = Desk::default();
        desk.declare(["api".to_owned()].into());
        for id in ["api", "api:user:42"] {
            let answer = asked(&desk, id).await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers()[RETRY_AFTER], "1");
        }
        let unknown = asked(&desk, "apis").await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        assert!(!unknown.headers().contains_key(RETRY_AFTER));
    }
}
