//! The socket by which a replicating process is told what to do: Litestream's, word by word.
//!
//! HTTP over a Unix socket that only its owner can open. Requests are small, few at a time, and
//! each ends in time.

use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jetbridge::settings::{
    DatabaseSpec, Environment, ReplicaSpec, SocketSpec, Upkeep, database_path,
};
use jetbridge::{DatabaseStatus, Replicator};
use jetbridge_core::{Backend, Clock, Error, ErrorKind, Result, Tasks, random};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::LOOK_EVERY;
use super::desk::{DatabaseDesk, Listed, status_json, word};

/// Bytes of a request: a path and a URL.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Requests at once; more wait.
const REQUESTS_MAX: usize = 64;
/// Letters of the folder in which the socket is made: names of sockets are short.
const PRIVATE_NAME_LENGTH: usize = 8;
/// How long the body of a request may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take unless it says so, and at most.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// What the socket works with.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) desk: DatabaseDesk,
    pub(super) store: Arc<dyn Backend>,
    pub(super) upkeep: Upkeep,
    pub(super) environment: Environment,
    pub(super) started: SystemTime,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: Tasks,
}

/// A database that was registered, and what replicates it.
type Entry = (PathBuf, Arc<Replicator>, Listed);

/// The databases that were registered over the socket. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    means: Arc<Means>,
    /// `None` once it ends: nothing is taken on any more.
    list: Arc<Mutex<Option<Vec<Entry>>>>,
    requests: Arc<Semaphore>,
}

/// Listens; what a process that was killed has left there is taken over.
pub(super) fn serve(spec: &SocketSpec, registered: Registered, tasks: &Tasks) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Unavailable, "socket.listen")
            .with("path", spec.path.display())
            .caused_by(error)
            .hint("set `socket: {path: …}` to where this user may write")
    };
    let is_socket =
        std::fs::symlink_metadata(&spec.path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        if UnixStream::connect(&spec.path).is_ok() {
            return Err(failed(std::io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(&spec.path).map_err(failed)?;
    }
    let listener = bind(spec).map_err(failed)?;
    let ours = identity(&spec.path);
    let (router, stopping, path) = (router(registered), tasks.clone(), spec.path.clone());
    tasks.spawn(async move {
        let stop = async move {
            stopping.stopping().await;
            // Before requests under way have ended: the next process makes its own meanwhile.
            if ours.is_some() && identity(&path) == ours {
                std::fs::remove_file(&path).unwrap_or_default();
            }
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the socket ended");
        }
    });
    Ok(())
}

/// Makes the socket where only its owner sees it, until its mode is what it is to be.
fn bind(spec: &SocketSpec) -> std::io::Result<UnixListener> {
    let folder = spec.path.parent().unwrap_or(Path::new("."));
    let folder = folder.join(format!(".{}", &random::name()[..PRIVATE_NAME_LENGTH]));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let made = folder.join("s");
    let bound = UnixListener::bind(&made).and_then(|listener| {
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(spec.mode))?;
        std::fs::rename(&made, &spec.path)?;
        Ok(listener)
    });
    if bound.is_err() {
        std::fs::remove_file(&made).unwrap_or_default();
    }
    std::fs::remove_dir(&folder)?;
    bound
}

/// The file that a name stands for now.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn router(registered: Registered) -> Router {
    Router::new()
        .route("/start", post(start))
        .route("/stop", post(stop))
        .route("/sync", post(sync))
        .route("/register", post(register))
        .route("/unregister", post(unregister))
        .route("/txid", get(txid))
        .route("/list", get(list))
        .route("/info", get(info))
        .route("/debug/sync-status", get(sync_status))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(middleware::from_fn(whole_in_time))
        .with_state(registered)
}

/// Waits for a body for a while, and not for ever.
async fn whole_in_time(request: extract::Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // One byte more: what is too long is for the limit behind this to refuse.
    let reading = axum::body::to_bytes(body, REQUEST_BYTES_MAX + 1);
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => next.run(extract::Request::from_parts(parts, body.into())).await,
        Ok(Err(error)) => respond(Err(bad(&format!("invalid request body: {error}")))),
        Err(_elapsed) => {
            let text = "the request did not come in time".to_owned();
            respond(Err(Refused(StatusCode::REQUEST_TIMEOUT, text)))
        }
    }
}

/// What a request says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    path: String,
    replica_url: String,
    wait: bool,
    timeout: u64,
}

impl Request {
    fn timeout(&self) -> Duration {
        match self.timeout {
            0 => TIMEOUT_DEFAULT,
            seconds => Duration::from_secs(seconds).min(TIMEOUT_MAX),
        }
    }

    /// How long closing may take: less than the request, so that how it went can be answered.
    fn grace(&self) -> Duration {
        self.timeout() * 9 / 10
    }
}

/// Why a request was refused, and how.
struct Refused(StatusCode, String);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::InvalidInput | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

fn bad(text: &str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, text.to_owned())
}

type Asked = std::result::Result<Json<Request>, JsonRejection>;
type Answer = std::result::Result<Value, Refused>;

impl Registered {
    pub(super) fn new(means: Means) -> Self {
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
        let list = Arc::new(Mutex::new(Some(Vec::new())));
        Self { means: Arc::new(means), list, requests }
    }

    /// Ends with what was registered; returns how many databases are not shipped whole.
    pub(super) async fn close(&self, deadline: Instant) -> usize {
        let list = self.lock().take();
        let mut abandoned = 0;
        for (_, replicator, _) in list.into_iter().flatten() {
            let left = deadline.saturating_duration_since(Instant::now());
            abandoned += replicator.close(left).await;
        }
        abandoned
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Entry>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers within the request's time.
    async fn answer(
        self,
        asked: Asked,
        work: impl AsyncFnOnce(&Self, &Request, &Path) -> Answer,
    ) -> Response {
        let worked = async {
            let Json(request) =
                asked.map_err(|error| bad(&format!("invalid request body: {error}")))?;
            if request.path.is_empty() {
                return Err(bad("path required"));
            }
            let path = database_path(&request.path, &self.means.environment);
            let limit = request.timeout();
            let worked = tokio::time::timeout(limit, async {
                // Only those that are waited for by others take turns: a thousand who wait for a
                // sync do not keep anybody from stopping.
                let _turn = if request.wait { self.requests.acquire().await.ok() } else { None };
                work(&self, &request, &path).await
            });
            worked.await.unwrap_or_else(|_elapsed| {
                let text = format!("not done within {} s", limit.as_secs());
                Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, text))
            })
        };
        respond(worked.await)
    }

    /// Works to the end, whether anybody still waits for the answer or not: what is cut off would
    /// leave a replication that nobody knows.
    async fn whole(&self, work: impl Future<Output = Answer> + Send + 'static) -> Answer {
        let (told, answer) = oneshot::channel();
        self.means.tasks.spawn(async move {
            if let Err(Err(Refused(_, error))) = told.send(work.await) {
                tracing::warn!(error, "a request that nobody waits for failed");
            }
        });
        answer.await.unwrap_or_else(|_lost| {
            let text = "the request was lost".to_owned();
            Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, text))
        })
    }

    fn find(&self, path: &Path) -> std::result::Result<Arc<Replicator>, Refused> {
        let text = || format!("database not found: {}", path.display());
        self.means.desk.find(path).ok_or_else(|| Refused(StatusCode::NOT_FOUND, text()))
    }

    fn status(&self, path: &Path) -> Option<DatabaseStatus> {
        self.means.desk.databases().into_iter().find(|it| it.path == path)
    }

    fn txid(&self, path: &Path) -> u64 {
        self.status(path).map_or(0, |it| it.capture.txid.0)
    }

    /// Replicates another database until it is unregistered or the process ends.
    async fn register(&self, request: &Request, path: &Path) -> Answer {
        let done = |status: &str| json!({"status": status, "path": path});
        if request.replica_url.is_empty() {
            return Err(bad("replica_url required"));
        }
        if self.means.desk.find(path).is_some() {
            return Ok(done("already_registered"));
        }
        let replica = ReplicaSpec::from_url(&request.replica_url, &self.means.environment)?;
        let spec = DatabaseSpec::new(path.to_owned(), replica);
        let started = Replicator::start(&spec, &self.means.upkeep, &self.means.store).await?;
        let replicator = Arc::new(started);
        let listed = self.means.desk.list(&format!("registered {}", path.display()), &replicator);
        let tended = Arc::downgrade(&replicator);
        let entry = (path.to_owned(), replicator, listed);
        let refused = match &mut *self.lock() {
            Some(list) => {
                list.push(entry);
                None
            }
            None => Some(entry),
        };
        if let Some((_, replicator, _)) = refused {
            replicator.close(request.grace()).await;
            let text = "the replicator ends".to_owned();
            return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        self.means.tasks.spawn_until_stop(async move {
            while let Some(replicator) = tended.upgrade() {
                if let Err(error) = replicator.tend().await {
                    tracing::warn!(%error, "a registered database cannot be looked after");
                }
                drop(replicator);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Ok(done("registered"))
    }

    async fn unregister(&self, request: &Request, path: &Path) -> Answer {
        let found = {
            let mut list = self.lock();
            let list = list.get_or_insert_default();
            let at = list.iter().position(|(registered, ..)| registered == path);
            at.map(|at| list.remove(at))
        };
        if let Some((_, replicator, listed)) = found {
            let paused = replicator.pause(path, request.grace()).await;
            let closed = replicator.close(request.grace()).await;
            drop(listed);
            let txid = paused?.unwrap_or_default().0;
            if closed > 0 {
                return Err(Refused(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the last changes were not shipped in time".to_owned(),
                ));
            }
            return Ok(json!({"status": "unregistered", "path": path, "txid": txid}));
        }
        // One of the files is stopped: the files say that it is there.
        let Some(replicator) = self.means.desk.find(path) else {
            return Ok(json!({"status": "already_unregistered", "path": path, "txid": 0}));
        };
        let txid = replicator.pause(path, request.grace()).await?;
        let status = if txid.is_some() { "unregistered" } else { "already_unregistered" };
        Ok(json!({"status": status, "path": path, "txid": txid.unwrap_or_default().0}))
    }
}

fn respond(answer: Answer) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(Refused(status, text)) => (status, Json(json!({"error": text}))).into_response(),
    }
}

async fn start(State(state): State<Registered>, asked: Asked) -> Response {
    let work = async |state: &Registered, _request: &Request, path: &Path| {
        let (own, path) = (state.clone(), path.to_owned());
        let work = async move {
            let resumed = own.find(&path)?.resume(&path).await?;
            let status = if resumed { "started" } else { "already_running" };
            Ok(json!({"status": status, "path": path, "txid": own.txid(&path)}))
        };
        state.whole(work).await
    };
    state.answer(asked, work).await
}

async fn stop(State(state): State<Registered>, asked: Asked) -> Response {
    let work = async |state: &Registered, request: &Request, path: &Path| {
        let (own, grace, path) = (state.clone(), request.grace(), path.to_owned());
        let work = async move {
            let stopped = own.find(&path)?.pause(&path, grace).await?;
            let status = if stopped.is_some() { "stopped" } else { "already_stopped" };
            Ok(json!({"status": status, "path": path, "txid": stopped.unwrap_or_default().0}))
        };
        state.whole(work).await
    };
    state.answer(asked, work).await
}

async fn sync(State(state): State<Registered>, asked: Asked) -> Response {
    let work = async |state: &Registered, request: &Request, path: &Path| {
        let replicator = state.find(path)?;
        let before = state.txid(path);
        // What is captured is shipped at once: there is nothing that is only local.
        let txid = if request.wait { replicator.sync_one(path).await?.0 } else { before };
        let caught_up = state.status(path).is_some_and(|it| it.capture.caught_up);
        let status = match (txid > before, request.wait || caught_up) {
            (true, _) => "synced",
            (false, true) => "no_change",
            (false, false) => "synced_local",
        };
        Ok(json!({"status": status, "path": path, "txid": txid, "replicated_txid": txid}))
    };
    state.answer(asked, work).await
}

async fn register(State(state): State<Registered>, asked: Asked) -> Response {
    let work = async |state: &Registered, request: &Request, path: &Path| {
        let (own, request, path) = (state.clone(), request.clone(), path.to_owned());
        state.whole(async move { own.register(&request, &path).await }).await
    };
    state.answer(asked, work).await
}

async fn unregister(State(state): State<Registered>, asked: Asked) -> Response {
    let work = async |state: &Registered, request: &Request, path: &Path| {
        let (own, request, path) = (state.clone(), request.clone(), path.to_owned());
        state.whole(async move { own.unregister(&request, &path).await }).await
    };
    state.answer(asked, work).await
}

async fn txid(State(state): State<Registered>, Query(request): Query<Request>) -> Response {
    let asked = Ok(Json(request));
    let work = async |state: &Registered, _request: &Request, path: &Path| {
        state.find(path)?;
        Ok(json!({"txid": state.txid(path)}))
    };
    state.answer(asked, work).await
}

async fn list(State(state): State<Registered>) -> Response {
    let row = |it: DatabaseStatus| {
        let mut row = json!({"path": it.path, "status": word(&it)});
        if let Some(time) = it.capture.shipped_time {
            row["last_sync_at"] = json!(rfc3339(time));
        }
        row
    };
    let rows: Vec<Value> = state.means.desk.databases().into_iter().map(row).collect();
    respond(Ok(json!({"databases": rows})))
}

async fn info(State(state): State<Registered>) -> Response {
    let up = state.means.clock.now().duration_since(state.means.started).unwrap_or_default();
    respond(Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": up.as_secs(),
        "started_at": rfc3339(state.means.started),
        "database_count": state.means.desk.databases().len(),
    })))
}

async fn sync_status(State(state): State<Registered>, Query(asked): Query<Request>) -> Response {
    let now = state.means.clock.now();
    let wanted =
        (!asked.path.is_empty()).then(|| database_path(&asked.path, &state.means.environment));
    let databases = state.means.desk.databases();
    let shown = databases.iter().filter(|it| wanted.as_ref().is_none_or(|path| it.path == *path));
    let rows: Vec<Value> = shown
        .map(|it| {
            let mut row = status_json(it, now);
            row["active"] = json!(!it.capture.caught_up);
            row
        })
        .collect();
    if rows.is_empty() && wanted.is_some() {
        return respond(Err(Refused(StatusCode::NOT_FOUND, "database not found".to_owned())));
    }
    respond(Ok(json!({"databases": rows})))
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
