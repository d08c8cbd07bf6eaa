//! `GET /`, its events, and dead letters.
//!
//! A page is gathered at most once a second, however many look. What a browser may send (`POST`)
//! must come from the page itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use jetbridge_core::{StreamName, Tasks};
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::frame::{Kept, POLICY, page as frame};
use super::gather::{self, Desks};
use super::letters_view::{Sent, letters as letters_view};
use super::{letters, view};
use crate::http::{Caller, Door, Refusal, Shown, kept_here, must_be_own};
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
    door: Door,
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
    pub(crate) fn new(overview: Overview, door: Door, tasks: Tasks) -> Self {
        let desks = overview.desks.clone();
        let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
        Self { overview, desks, door, tasks, latest: Arc::default(), followers }
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

/// Refuses who may not look and what another page made a browser ask, and says what a browser may
/// do with the answer.
async fn guard(State(state): State<PageState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let mut answer = match admit(&state.door, &parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => refusal.into_response(),
    };
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
    kept_here(answer)
}

/// The page is for who may everything; a browser shows the token by itself, so that what it sends
/// must come from the page.
fn admit(door: &Door, request: &Parts) -> Result<(), Refusal> {
    let Caller::Whole = door.admit(request, Shown::AsPasswordToo)? else {
        return Err(Refusal::stranger(Shown::AsPasswordToo));
    };
    if request.method == Method::POST { must_be_own(request) } else { Ok(()) }
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
