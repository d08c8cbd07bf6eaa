//! `POST /v1/limits/{id}/acquire|peek|release`.
//!
//! A denial is 429, a store that cannot be asked is 503, and neither is ever taken for the other.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use jetbridge::limit::{Decision, Limiter, fields};
use jetbridge::settings::parse_duration;
use jetbridge_core::{Clock as _, Error, ErrorKind};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CLOCK, Desk, Desked, Sought};
use crate::http::operation::{Answer, Answered, Body, Content, Needs, Operation, Parameter, Shape};
use crate::http::{Call, Refusal};

/// What limiters can be asked.
pub(crate) fn operations() -> Vec<Operation> {
    let operation = |id, method, path, summary, query, answers, run| Operation {
        id,
        method,
        path,
        summary,
        needs: Needs::Limiter,
        query,
        headers: &[],
        body: Body::Nothing,
        answers,
        is_long: false,
        run,
    };
    vec![
        Operation {
            // It waits as long as it was told to, and the file says how long that may be.
            is_long: true,
            ..operation(
                "limitAcquire",
                Method::POST,
                "/v1/limits/{id}/acquire",
                "Takes permits, or says when there are some.",
                ACQUIRE,
                const { &[GRANTED, DENIED, CLOSED] },
                |call| acquire(call).boxed(),
            )
        },
        operation("limitPeek", Method::POST, PEEK, LOOKS, &[], const { &[GRANTED] }, |call| {
            peek(call).boxed()
        }),
        operation("limitLook", Method::GET, PEEK, LOOKS, &[], const { &[GRANTED] }, |call| {
            peek(call).boxed()
        }),
        operation(
            "limitRelease",
            Method::POST,
            "/v1/limits/{id}/release",
            "Gives a slot back.",
            RELEASE,
            const { &[RELEASED] },
            |call| release(call).boxed(),
        ),
    ]
}

const PEEK: &str = "/v1/limits/{id}/peek";
const LOOKS: &str = "Looks without taking anything.";
const ACQUIRE: &[Parameter] = &[
    Parameter { name: "cost", summary: "How many permits.", shape: Shape::Text },
    Parameter { name: "wait", summary: "How long to wait: seconds, or `2s`.", shape: Shape::Text },
];
const RELEASE: &[Parameter] =
    &[Parameter { name: "permit", summary: "What `acquire` answered.", shape: Shape::Text }];
const GRANTED: Answer = decision(StatusCode::OK, "The decision.");
const DENIED: Answer = decision(StatusCode::TOO_MANY_REQUESTS, "Not now: `Retry-After` says when.");
const CLOSED: Answer =
    decision(StatusCode::SERVICE_UNAVAILABLE, "The store could not be asked: nobody passes.");
const RELEASED: Answer =
    Answer { status: StatusCode::OK, summary: "It is free.", content: Content::Json("Released") };

const fn decision(status: StatusCode, summary: &'static str) -> Answer {
    Answer { status, summary, content: Content::Json("Decision") }
}

/// The table's refusals, but a limiter whose store is not there is one that cannot be asked now.
fn refusal(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::NotFound => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.kind(), error.to_string())
        }
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::LimitExceeded => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.kind(), error.to_string())
        }
        _ => Refusal::from(error),
    }
}

async fn acquire(call: Call) -> Answered {
    let desk = &call.api.overview.desk;
    let id = call.path("id");
    let (desked, key) = found(desk, id)?;
    let cost = cost(call.said("cost"), &desked)?;
    let wait = call.said("wait").map(span).transpose()?;
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
        Err(error) => return Err(refusal(&error)),
    };
    let decision = admission.decision;
    let mut body = json_of(&decision);
    if decision.allowed {
        let (limiter, engine) = (&desked.spec.id, desked.engine.as_str());
        desk.0.durations.observe(limiter, engine, begun.elapsed());
    }
    if let Some(permit) = admission.permit {
        body["permit"] = desk.permits().give(id, permit, desked.spec.opts.lease).into();
    }
    let status = match decision.allowed {
        true => StatusCode::OK,
        false => StatusCode::TOO_MANY_REQUESTS,
    };
    Ok((status, headers(&desked, &decision), Json(body)).into_response())
}

async fn peek(call: Call) -> Answered {
    let desk = &call.api.overview.desk;
    let id = call.path("id");
    let (desked, key) = found(desk, id)?;
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
        Err(error) => return Err(refusal(&error)),
    };
    Ok((headers(&desked, &decision), Json(json_of(&decision))).into_response())
}

async fn release(call: Call) -> Answered {
    let desk = &call.api.overview.desk;
    let id = call.path("id");
    found(desk, id)?;
    let Some(permit) = call.said("permit") else {
        return Err(Refusal::bad("`permit` is missing: it is what `acquire` answered"));
    };
    if desk.permits().release(id, permit).await.map_err(|error| refusal(&error))? {
        return Ok(Json(json!({"released": true})).into_response());
    }
    let message = "this permit is not held: it was released, or its lease has ended";
    Err(Refusal::new(StatusCode::CONFLICT, ErrorKind::Conflict, message))
}

fn found<'a>(desk: &Desk, id: &'a str) -> Result<(Desked, Option<&'a str>), Refusal> {
    match desk.find(id) {
        Sought::Here(desked, key) => Ok((*desked, key)),
        Sought::Starting => {
            Err(Refusal::not_now(format!("the limiter `{}` is starting", id.escape_debug())))
        }
        Sought::Unknown => {
            Err(Refusal::absent(format!("there is no limiter `{}`", id.escape_debug())))
        }
    }
}

fn limiter(desked: &Desked, key: Option<&str>) -> Result<Option<Limiter>, Refusal> {
    let found = desked.limiter.as_ref().map_err(|error| refusal(error))?;
    let Some(limiter) = found else { return Ok(None) };
    Ok(Some(match key {
        Some(key) => limiter.key(key).map_err(|error| refusal(&error))?,
        None => limiter.clone(),
    }))
}

fn cost(text: Option<&str>, desked: &Desked) -> Result<u32, Refusal> {
    let most = desked.spec.policy.limit();
    let Some(text) = text else { return Ok(desked.spec.cost) };
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
    use axum::http::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn a_limiter_that_starts_is_not_unknown() {
        let desk = Desk::default();
        desk.declare(["api".to_owned()].into());
        let refused = |id| found(&desk, id).unwrap_err().into_response();
        for id in ["api", "api:user:42"] {
            let answer = refused(id);
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers()[RETRY_AFTER], "1");
        }
        let unknown = refused("apis");
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        assert!(!unknown.headers().contains_key(RETRY_AFTER));
    }
}
