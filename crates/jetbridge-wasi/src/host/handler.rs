//! A component that handles HTTP: each request is a fresh instance, and the stores are what lasts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::program::{Program, told};
use super::state::State;
use crate::KeyvalueCtx;

/// Requests that one component answers at once, each of which may use the whole of its memory
/// limit.
pub(super) const GUESTS_MAX: usize = 256;
/// How long a request waits for another to end when there is no room: longer than a burst takes.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// A component that handles requests, 256 of them at once.
pub struct Handler {
    program: Program,
    proxy: ProxyPre<State>,
    ctx: KeyvalueCtx,
    tasks: Tasks,
    room: Arc<Semaphore>,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler").field("program", &self.program).finish_non_exhaustive()
    }
}

/// What a component answered, or what is answered in its place.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The answer.
    pub response: Response<HyperOutgoingBody>,
    /// Why it is not the component's own.
    pub failure: Option<Error>,
}

impl Handler {
    /// Handles requests with `program`; what goes on behind an answer ends with `tasks`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it does not handle HTTP.
    pub fn new(program: Program, ctx: KeyvalueCtx, tasks: &Tasks) -> Result<Self> {
        let proxy = ProxyPre::new(program.pre.clone()).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "wasi.serve")
                .because("the component does not export wasi:http/incoming-handler")
                .with("component", program.name())
                .caused_by(told(error))
        })?;
        let room = Arc::new(Semaphore::new(GUESTS_MAX));
        Ok(Self { program, proxy, ctx, tasks: tasks.clone(), room })
    }

    /// What the component answers; if it does not, an answer that says so. Dropped before there
    /// is one, it ends the guest.
    pub async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        if !has_authority(&request) {
            let response = plain(StatusCode::BAD_REQUEST, "the request names no host");
            return Answer { response, failure: None };
        }
        match self.handle(request).await {
            Ok(response) => Answer { response, failure: None },
            Err(error) => Answer { response: refusal(&error), failure: Some(error) },
        }
    }

    async fn handle<B>(&self, request: Request<B>) -> Result<Response<HyperOutgoingBody>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        let room = self.room().await?;
        let mut wasi = WasiCtxBuilder::new();
        wasi.inherit_stdout().inherit_stderr().arg(self.program.name());
        let mut store = self.program.store(self.ctx.clone(), &mut wasi);
        let (answer, answered) = oneshot::channel();
        let fail = |error| self.program.ended(error);
        let broken =
            |error: B::Error| wasmtime_wasi_http::Error::InternalError(Some(error.to_string()));
        let request = request.map(|body| body.map_err(broken));
        let http = store.data_mut();
        let request = http.http().new_incoming_request(Scheme::Http, request).map_err(fail)?;
        let out = http.http().new_response_outparam(answer).map_err(fail)?;
        let (proxy, program) = (self.proxy.clone(), self.program.clone());
        let (end, ended) = oneshot::channel();
        let gone = CancellationToken::new();
        let asking = gone.clone().drop_guard();
        // The guest may go on writing its answer's body after the answer has begun.
        self.tasks.spawn(async move {
            let _room = room;
            let handled = async {
                let proxy = proxy.instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
            };
            let handled = tokio::select! {
                biased;
                handled = program.within(handled) => handled,
                () = gone.cancelled() => return,
            };
            drop(store);
            if let Err(Err(error)) = end.send(handled) {
                tracing::warn!("after its answer had begun, the guest failed: {error:?}");
            }
        });
        if let Ok(answer) = answered.await {
            asking.disarm();
            return answer
                .map_err(|code| self.unanswered(&format!("answered with an error: {code:?}")));
        }
        Err(match ended.await {
            Ok(Err(error)) => self.program.ended(error),
            Ok(Ok(())) | Err(_) => self.unanswered("ended without an answer"),
        })
    }

    /// A place among the guests, until it is dropped.
    async fn room(&self) -> Result<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.room).acquire_owned();
        if let Ok(Ok(room)) = tokio::time::timeout(ROOM_WAIT, free).await {
            return Ok(room);
        }
        Err(Error::new(ErrorKind::LimitExceeded, "wasi.serve")
            .because(format!("{GUESTS_MAX} requests are being answered: there is no room"))
            .with("limit", "requests")
            .with("component", self.program.name()))
    }

    fn unanswered(&self, what: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, "wasi.serve")
            .because(format!("the guest {what}"))
            .with("component", self.program.name())
    }
}

/// True if the request says whom it is for, as a guest's request must: HTTP/1.0 need not.
fn has_authority<B>(request: &Request<B>) -> bool {
    let host = || request.headers().get(HOST).is_some_and(|host| host.to_str().is_ok());
    request.uri().authority().is_some() || host()
}

/// An answer in the guest's place, with the words of `error`; its cause is in the log alone.
fn refusal(error: &Error) -> Response<HyperOutgoingBody> {
    let status = match error.fact("limit") {
        Some("time") => StatusCode::GATEWAY_TIMEOUT,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None if error.kind() == ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, error.message().unwrap_or(error.kind().as_str()))
}

fn plain(status: StatusCode, words: &str) -> Response<HyperOutgoingBody> {
    let body = Full::new(Bytes::from(format!("{words}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use jetbridge_core::MemoryBackend;
    use jetbridge_testkit::{eventually, guest};

    use super::*;
    use crate::Stores;
    use crate::host::{Host, HostOpts};

    /// Long enough for a slow machine; nothing waits for it to pass.
    const WITHIN: Duration = Duration::from_secs(60);

    fn serving() -> HostOpts {
        HostOpts { reuse: true, ..HostOpts::default() }
    }

    fn handler(host: &Host, tasks: &Tasks) -> Handler {
        let program = host.load("http", &guest::http()).unwrap();
        let ctx = KeyvalueCtx::new(Stores::over(Arc::new(MemoryBackend::new())).unwrap());
        Handler::new(program, ctx, tasks).unwrap()
    }

    fn get(path: &str) -> Request<Full<Bytes>> {
        let uri = format!("http://localhost{path}");
        Request::get(uri).body(Full::default()).unwrap()
    }

    async fn all_has_room(handler: &Handler) {
        eventually("no guest is left", WITHIN, async || {
            (handler.room.available_permits() == GUESTS_MAX).then_some(())
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_without_a_host_is_the_clients_mistake() {
        let (host, tasks) = (Host::new(serving()).unwrap(), Tasks::new());
        let handler = handler(&host, &tasks);
        let nobodys = |host: Option<&[u8]>| {
            let mut request = Request::get("/a").body(Full::<Bytes>::default()).unwrap();
            if let Some(host) = host {
                let host = hyper::header::HeaderValue::from_bytes(host).unwrap();
                request.headers_mut().insert(HOST, host);
            }
            request
        };
        for bad in [None, Some(&b"\xff"[..])] {
            let answer = handler.answer(nobodys(bad)).await;
            assert_eq!(answer.response.status(), StatusCode::BAD_REQUEST);
            assert!(answer.failure.is_none(), "no guest ran: {:?}", answer.failure);
        }
        let answer = handler.answer(nobodys(Some(b"localhost"))).await;
        assert_eq!(answer.response.status(), StatusCode::OK, "{:?}", answer.failure);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_beyond_the_bound_are_refused_until_there_is_room() {
        let (host, tasks) = (Host::new(serving()).unwrap(), Tasks::new());
        let handler = handler(&host, &tasks);
        let others = u32::try_from(GUESTS_MAX).unwrap();
        let others = Arc::clone(&handler.room).acquire_many_owned(others).await.unwrap();
        let answer = handler.answer(get("/a")).await;
        assert_eq!(answer.response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.failure.unwrap().fact("limit"), Some("requests"));
        drop(others);
        let answer = handler.answer(get("/a")).await;
        assert_eq!(answer.response.status(), StatusCode::OK, "{:?}", answer.failure);
        drop(answer);
        all_has_room(&handler).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_guest_whose_client_is_gone_is_ended() {
        let (host, tasks) = (Host::new(serving()).unwrap(), Tasks::new());
        let handler = handler(&host, &tasks);
        tokio::select! {
            _ = handler.answer(get("/loop")) => panic!("a loop has no end"),
            () = eventually("the guest runs", WITHIN, async || {
                (handler.room.available_permits() < GUESTS_MAX).then_some(())
            }) => {}
        }
        all_has_room(&handler).await;
    }

    /// One guest for each thread of the runtime, which nothing but the clock gets back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn guests_that_compute_end_when_their_host_closes() {
        let (host, tasks) = (Host::new(serving()).unwrap(), Tasks::new());
        let handler = handler(&host, &tasks);
        let closing = async {
            eventually("both run", WITHIN, async || {
                (handler.room.available_permits() + 2 == GUESTS_MAX).then_some(())
            })
            .await;
            assert_eq!(host.close(WITHIN).await, 0);
        };
        let (first, second) = (handler.answer(get("/loop")), handler.answer(get("/loop")));
        let (first, second, ()) = tokio::join!(first, second, closing);
        for answer in [first, second] {
            assert_eq!(answer.response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.failure.unwrap().kind(), ErrorKind::Unavailable);
        }
        all_has_room(&handler).await;
    }
}
