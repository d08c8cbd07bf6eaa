//! `GET /`, its events, and dead letters.
//!
//! A page is gathered at most once a second, however many look. What a browser may send (`POST`)
//! must come from the page itself, and without a token the page answers only under names of this
//! machine, so that no other page can reach it through its visitor's browser.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use jetbridge_core::{Digest, Secret, StreamName, Tasks};
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::frame::{Kept, POLICY, page as frame};
use super::gather::{self, Desks};
use super::letters_view::{Sent, letters as letters_view};
use super::{letters, view};
use crate::status::Overview;

/// How old a page may be for the next one who looks.
const FRESH: Duration = Duration::from_secs(1);
/// How many may follow the page at once: it is for people.
const FOLLOWERS_MAX: usize = 64;
/// Between two signs of life where nothing changes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the page's routes share.
#[derive(Clone, Debug)]
pub(crate) struct PageState {
    overview: Overview,
    desks: Desks,
    token: Option<Secret<String>>,
    /// Ends the events.
    tasks: Tasks,
    latest: Arc<Mutex<Option<Latest>>>,
    followers: Arc<Semaphore>,
}

/// What was gathered last.
#[derive(Debug)]
struct Latest {
    at: Instant,
    html: Arc<str>,
}

impl PageState {
    pub(crate) fn new(overview: Overview, token: Option<Secret<String>>, tasks: Tasks) -> Self {
        let desks = overview.desks.clone();
        let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
        Self { overview, desks, token, tasks, latest: Arc::default(), followers }
    }

    /// What changes of the page, at most [`FRESH`] old.
    async fn live(&self) -> Arc<str> {
        let mut latest = self.latest.lock().await;
        if let Some(latest) = latest.as_ref().filter(|latest| latest.at.elapsed() < FRESH) {
            return Arc::clone(&latest.html);
        }
        let page = gather::page(&self.overview, &self.desks).await;
        let html: Arc<str> = view::live(&page).into_string().into();
        *latest = Some(Latest { at: Instant::now(), html: Arc::clone(&html) });
        html
    }

    /// The stream of dead letters of that name, if a handler of the files has it.
    fn dead_letters(&self, name: &str) -> Option<StreamName> {
        let handlers = self.desks.named().handlers;
        handlers.into_iter().map(|it| it.dead_letters).find(|it| it.as_str() == name)
    }
}

/// The routes, on their own state.
pub(crate) fn routes<S>(state: PageState) -> Router<S> {
    Router::new()
        .route("/", get(index))
        .route("/events/page", get(events))
        .route("/dead/{stream}", get(dead))
        .route("/dead/{stream}/{sequence}", post(send_again))
        .layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Refuses what another page made a browser ask, and says what a browser may do with the answer.
async fn guard(State(state): State<PageState>, request: Request, next: Next) -> Response {
    let host = host(request.headers(), request.uri());
    match &state.token {
        Some(token) if !knows(request.headers(), token) => {
            let asks = (WWW_AUTHENTICATE, "Basic realm=\"Jetbridge: any name, and the token\"");
            return (StatusCode::UNAUTHORIZED, [asks], "the token is missing or wrong\n")
                .into_response();
        }
        None if !is_local(&host) => {
            let words = "without a token this page answers as localhost and 127.0.0.1 only\n";
            return (StatusCode::MISDIRECTED_REQUEST, words).into_response();
        }
        _ => {}
    }
    if request.method() == axum::http::Method::POST && !is_own(request.headers(), &host) {
        let words = "this can only be asked from the status page itself\n";
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    let fixed = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.insert(name, axum::http::HeaderValue::from_static(value));
    }
    if let Ok(policy) = POLICY.parse() {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// The token as a program shows it, or as a browser does: as the password of any name.
fn knows(headers: &HeaderMap, token: &Secret<String>) -> bool {
    let said = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let password = match said.split_once(' ') {
        Some(("Bearer", said)) => Some(said.as_bytes().to_vec()),
        Some(("Basic", said)) => STANDARD.decode(said.trim()).ok().and_then(|said| {
            let at = said.iter().position(|byte| *byte == b':')?;
            Some(said[at + 1..].to_vec())
        }),
        _ => None,
    };
    // Digests, so that the time this takes says nothing about the token.
    let token = Digest::of(token.expose().as_bytes());
    password.is_some_and(|password| Digest::of(&password) == token)
}

fn host(headers: &HeaderMap, uri: &Uri) -> String {
    let said = headers.get(HOST).and_then(|value| value.to_str().ok());
    said.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
        .unwrap_or_default()
        .to_owned()
}

/// An address, or `localhost`: names can be made to lead here by anybody.
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// True if the browser says that the request comes from a page of this server.
fn is_own(headers: &HeaderMap, host: &str) -> bool {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = said("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = said(ORIGIN.as_str()).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| !host.is_empty() && origin.eq_ignore_ascii_case(host))
}

fn html_page(status: StatusCode, page: Markup) -> Response {
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string()).into_response()
}

async fn index(State(state): State<PageState>) -> Response {
    let live = state.live().await;
    html_page(StatusCode::OK, frame("Jetbridge", Kept::Live, &maud::PreEscaped(live.to_string())))
}

/// The page's changing part, whole, whenever it is another one.
async fn events(State(state): State<PageState>) -> Response {
    let Ok(place) = Arc::clone(&state.followers).try_acquire_owned() else {
        let words = "too many follow this page already\n";
        return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
    };
    let tasks = state.tasks.clone();
    let stopping = Box::pin(async move { tasks.stopping().await });
    let changes = changes(state, place).take_until(stopping);
    Sse::new(changes).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn changes(
    state: PageState,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let begin = (state, place, None::<Arc<str>>);
    stream::unfold(begin, |(state, place, mut shown)| async move {
        loop {
            let live = state.live().await;
            if shown.as_ref() != Some(&live) {
                let event = Event::default().data(&*live);
                return Some((Ok(event), (state, place, Some(live))));
            }
            shown = Some(live);
            tokio::time::sleep(FRESH).await;
        }
    })
}

#[derive(Deserialize)]
struct SentQuery {
    sent: Option<u64>,
}

async fn dead(
    State(state): State<PageState>,
    Path(name): Path<String>,
    Query(query): Query<SentQuery>,
) -> Response {
    let Some(stream) = state.dead_letters(&name) else { return unknown() };
    let sent = query.sent.map_or(Sent::Nothing, Sent::Done);
    show(&state, &stream, StatusCode::OK, &sent).await
}

async fn send_again(
    State(state): State<PageState>,
    Path((name, sequence)): Path<(String, u64)>,
) -> Response {
    let Some(stream) = state.dead_letters(&name) else { return unknown() };
    match letters::send_again(&*state.overview.backend, &stream, sequence).await {
        Ok(()) => {
            tracing::info!(%stream, sequence, "a dead letter was sent again");
            let place = format!("/dead/{stream}?sent={sequence}");
            (StatusCode::SEE_OTHER, [(LOCATION, place)]).into_response()
        }
        Err(error) => {
            let sent = Sent::Failed(error.to_string());
            show(&state, &stream, StatusCode::BAD_GATEWAY, &sent).await
        }
    }
}

async fn show(state: &PageState, stream: &StreamName, status: StatusCode, sent: &Sent) -> Response {
    let found = letters::newest(&*state.overview.backend, stream).await;
    let (status, found, sent) = match found {
        Ok(found) => (status, found, sent.clone()),
        Err(error) => (StatusCode::BAD_GATEWAY, Vec::new(), Sent::Failed(error.to_string())),
    };
    let main = letters_view(stream, &found, &sent, state.overview.clock.now());
    html_page(status, frame("Dead letters – Jetbridge", Kept::Still, &main))
}

fn unknown() -> Response {
    let main = html! {
        h1 { "No handler of the files has these dead letters" }
        p { a href="/" { "← all sections" } }
    };
    html_page(StatusCode::NOT_FOUND, frame("Not found – Jetbridge", Kept::Still, &main))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["127.0.0.1:4280", "localhost:4280", "LOCALHOST", "[::1]:4280", "10.0.0.7"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example:4280", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn the_token_comes_as_a_bearer_or_as_a_password() {
        let token = Secret::new("s3:cr3t".to_owned());
        let shows = |said: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, said.parse().unwrap());
            knows(&headers, &token)
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert!(
            shows("Bearer s3:cr3t") && shows(&basic("me:s3:cr3t")) && shows(&basic(":s3:cr3t"))
        );
        for wrong in ["Bearer s3", "Basic !", "Basic", "s3:cr3t", &basic("s3:cr3t"), &basic("x")] {
            assert!(!shows(wrong), "{wrong}");
        }
        assert!(!knows(&HeaderMap::new(), &token));
    }

    #[test]
    fn a_request_is_own_if_the_browser_says_so() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| {
                headers.insert(*name, value.parse().unwrap());
            });
            headers
        };
        let own = |pairs: &[(&'static str, &str)]| is_own(&headers(pairs), "127.0.0.1:4280");
        assert!(own(&[("sec-fetch-site", "same-origin")]));
        assert!(own(&[("origin", "http://127.0.0.1:4280")]));
        assert!(!own(&[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:4280")]));
        assert!(!own(&[("sec-fetch-site", "same-site")]));
        assert!(!own(&[("origin", "http://evil.example")]));
        assert!(!own(&[("origin", "null")]) && !own(&[]));
    }
}
