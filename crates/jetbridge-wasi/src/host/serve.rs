//! A component behind HTTP: each request is a fresh instance, and the stores are what lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::program::{Program, told};
use super::state::State;
use crate::KeyvalueCtx;

/// Connections served at once: more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// Wait after a connection could not be accepted, as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `program` on `listener` until `tasks` stop; requests under way are answered first.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) if it does not handle HTTP.
pub async fn serve(
    program: Program,
    ctx: KeyvalueCtx,
    listener: TcpListener,
    tasks: &Tasks,
) -> Result<()> {
    let proxy = ProxyPre::new(program.pre.clone()).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, "wasi.serve")
            .because("the component does not export wasi:http/incoming-handler")
            .with("component", program.name())
            .caused_by(told(error))
    })?;
    let site = Arc::new(Site { program, proxy, ctx, tasks: tasks.clone() });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.stopping() => return Ok(()),
            accepted = next(&listener, &room) => accepted,
        };
        match accepted {
            Some((stream, peer, permit)) => {
                let site = Arc::clone(&site);
                tasks.spawn(async move {
                    site.connection(stream, peer).await;
                    drop(permit);
                });
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!("a connection was not accepted: {error}");
            None
        }
    }
}

struct Site {
    program: Program,
    proxy: ProxyPre<State>,
    ctx: KeyvalueCtx,
    tasks: Tasks,
}

impl Site {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("{peer}: {error}");
        }
        let tasks = self.tasks.clone();
        let service = service_fn(move |request| {
            let site = Arc::clone(&self);
            async move { Ok::<_, std::convert::Infallible>(site.answer(request).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            biased;
            served = connection.as_mut() => served,
            () = tasks.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!("{peer}: {error}");
        }
    }

    /// What the guest answers, else why it does not.
    async fn answer(&self, request: Request<Incoming>) -> Response<HyperOutgoingBody> {
        match self.handle(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!("{error:?}");
                refusal(&error)
            }
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Response<HyperOutgoingBody>> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.inherit_stdout().inherit_stderr().arg(self.program.name());
        let mut store = self.program.store(self.ctx.clone(), &mut wasi);
        let (answer, answered) = oneshot::channel();
        let http = store.data_mut();
        let fail = |error| self.program.ended(error);
        let request = http.http().new_incoming_request(Scheme::Http, request).map_err(fail)?;
        let out = http.http().new_response_outparam(answer).map_err(fail)?;
        let proxy = self.proxy.clone();
        let (end, ended) = oneshot::channel();
        // The guest may go on writing its answer's body after the answer has begun.
        self.tasks.spawn(async move {
            let handled = async {
                let proxy = proxy.instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
            };
            let handled = handled.await;
            drop(store);
            if let Err(Err(error)) = end.send(handled) {
                tracing::warn!("after its answer had begun, the guest failed: {error:?}");
            }
        });
        if let Ok(answer) = answered.await {
            return answer.map_err(|code| {
                Error::new(ErrorKind::InvalidInput, "wasi.serve")
                    .because(format!("the guest answered with an error: {code:?}"))
                    .with("component", self.program.name())
            });
        }
        Err(match ended.await {
            Ok(Err(error)) => self.program.ended(error),
            Ok(Ok(())) | Err(_) => Error::new(ErrorKind::InvalidInput, "wasi.serve")
                .because("the guest ended without an answer")
                .with("component", self.program.name()),
        })
    }
}

/// An answer in the guest's place, with the words of `error`.
fn refusal(error: &Error) -> Response<HyperOutgoingBody> {
    let body = Full::new(Bytes::from(format!("{error}\n")));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
