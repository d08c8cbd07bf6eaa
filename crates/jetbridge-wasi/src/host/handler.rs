//! A component that handles HTTP: each request is a fresh instance, and the stores are what lasts.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use hyper::{Request, Response, StatusCode};
use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio::sync::oneshot;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::limits::within;
use super::program::{Program, told};
use super::state::State;
use crate::KeyvalueCtx;

/// A component that handles requests, any number of them at once.
pub struct Handler {
    program: Program,
    proxy: ProxyPre<State>,
    ctx: KeyvalueCtx,
    tasks: Tasks,
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
        Ok(Self { program, proxy, ctx, tasks: tasks.clone() })
    }

    /// What the component answers; if it does not, an answer that says so.
    pub async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
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
        let (proxy, time) = (self.proxy.clone(), self.program.limits.time);
        let (end, ended) = oneshot::channel();
        // The guest may go on writing its answer's body after the answer has begun.
        self.tasks.spawn(async move {
            let handled = async {
                let proxy = proxy.instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
            };
            let handled = within(time, handled).await;
            drop(store);
            if let Err(Err(error)) = end.send(handled) {
                tracing::warn!("after its answer had begun, the guest failed: {error:?}");
            }
        });
        if let Ok(answer) = answered.await {
            return answer
                .map_err(|code| self.unanswered(&format!("answered with an error: {code:?}")));
        }
        Err(match ended.await {
            Ok(Err(error)) => self.program.ended(error),
            Ok(Ok(())) | Err(_) => self.unanswered("ended without an answer"),
        })
    }

    fn unanswered(&self, what: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, "wasi.serve")
            .because(format!("the guest {what}"))
            .with("component", self.program.name())
    }
}

/// An answer in the guest's place, with the words of `error`; its cause is in the log alone.
fn refusal(error: &Error) -> Response<HyperOutgoingBody> {
    let words = error.message().unwrap_or(error.kind().as_str());
    let body = Full::new(Bytes::from(format!("{words}\n")));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = match error.fact("limit") {
        Some("time") => StatusCode::GATEWAY_TIMEOUT,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    response
}
