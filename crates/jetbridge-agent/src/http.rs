//! The HTTP side of `up`: who may ask, and what is answered.
//!
//! `/healthz` and `/readyz` are open, for whoever watches the process; everything else asks for
//! the token if the file names one.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use jetbridge_core::{Digest, Error, ErrorKind, Result, Secret, Tasks};
use serde_json::json;
use tokio::net::TcpListener;

use crate::component;
use crate::limit;
use crate::page::{self, PageState};
use crate::status::Overview;

/// What Prometheus asks for.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long requests under way may still take when `up` stops.
const GRACE: Duration = Duration::from_secs(2);

/// `http:` of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HttpSpec {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What a caller must say after `Authorization: Bearer`.
    pub token: Option<Secret<String>>,
}

impl HttpSpec {
    /// Listens on `listen`. An address that others can reach demands a token:
    /// [`InvalidInput`](ErrorKind::InvalidInput) without one.
    pub fn new(listen: SocketAddr, token: Option<Secret<String>>) -> Result<Self> {
        if token.is_none() && !listen.ip().is_loopback() {
            return Err(Error::new(ErrorKind::InvalidInput, "http.listen")
                .because("an address that other machines can reach needs a token")
                .with("listen", listen)
                .hint("add `token: ${JETBRIDGE_TOKEN}` to `http:`, or listen on 127.0.0.1"));
        }
        Ok(Self { listen, token })
    }
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Http {
    /// Where, with the port that was picked if the file says 0.
    pub(crate) address: SocketAddr,
    tasks: Tasks,
}

impl Http {
    /// Binds, then serves in the background.
    pub(crate) async fn start(spec: &HttpSpec, overview: Overview) -> Result<Self> {
        let listener = TcpListener::bind(spec.listen).await;
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "http.listen")
                .with("listen", spec.listen)
                .caused_by(error)
                .hint("another process may listen there; pick another `http: listen:`")
        })?;
        let tasks = Tasks::new();
        let (router, stopping) = (router(spec, overview, &tasks), tasks.clone());
        tasks.spawn(async move {
            let stop = async move { stopping.stopping().await };
            // Serving ends with an error only if the listener itself is gone.
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
        Ok(Self { address, tasks })
    }

    pub(crate) async fn stop(&self) -> usize {
        self.tasks.stop(GRACE).await
    }
}

/// Answers `/metrics` and nothing else on `address`, to whoever asks, as Litestream's `addr` does.
pub(crate) async fn serve_metrics(
    address: SocketAddr,
    overview: Overview,
    tasks: &Tasks,
) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "http.listen")
            .with("listen", address)
            .caused_by(error)
            .hint("another process may listen there; pick another `addr`")
    })?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(overview);
    let stopping = tasks.clone();
    tasks.spawn(async move {
        let stop = async move { stopping.stopping().await };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the metrics ended");
        }
    });
    Ok(())
}

fn router(spec: &HttpSpec, overview: Overview, tasks: &Tasks) -> Router {
    let page = PageState::new(overview.clone(), spec.token.clone(), tasks.clone());
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .merge(limit::routes(overview.desk.clone()))
        .layer(from_fn_with_state(spec.token.clone(), authorize));
    let open = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    let components = Router::new()
        .fallback(component::answer)
        .layer(from_fn_with_state(spec.token.clone(), authorize))
        .with_state(overview.routes.clone());
    // The page looks at tokens itself: browsers show them in another way.
    let page = page::routes(page);
    open.merge(guarded).merge(page).with_state(overview).fallback_service(components)
}

async fn authorize(
    State(token): State<Option<Secret<String>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(token) = token else { return next.run(request).await };
    let said = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let said = said.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Digests, so that the time this takes says nothing about the token.
    if Digest::of(said.as_bytes()) == Digest::of(token.expose().as_bytes()) {
        // It has done its work: a component that read it could ask for everything that `up` has.
        request.headers_mut().remove(AUTHORIZATION);
        return next.run(request).await;
    }
    let body =
        json!({"kind": "permission denied", "message": "the bearer token is missing or wrong"});
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], Json(body)).into_response()
}

/// The process is there and its runtime turns.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(overview): State<Overview>) -> Response {
    let unready = overview.unready();
    if unready.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, unready.join("\n") + "\n").into_response()
}

async fn metrics(State(overview): State<Overview>) -> Response {
    match overview.metrics() {
        Ok(text) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(overview): State<Overview>) -> Response {
    Json(overview.json().await).into_response()
}
