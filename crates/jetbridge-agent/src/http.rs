//! The HTTP side of `up`: who may ask, and what is answered.
//!
//! What can be asked is a table of operations ([`routes`]); a request is looked up there, its
//! caller's rights are checked, and the operation runs under the limits of size and time that the
//! file sets. What the table does not know is a component's, if one has the path.

mod access;
mod bus;
mod call;
mod condition;
mod events;
mod held;
mod kv;
mod object;
mod openapi;
mod origin;
mod process;
mod refusal;
mod routes;
mod serve;
mod table;
mod tls;
mod trace;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, http};
use jetbridge_core::{BucketName, Error, ErrorKind, Pattern, Result, Secret, Subject, Tasks};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::Instrument as _;

use self::access::{Needs, Tokens, Way, is_password};
use self::call::Arrived;
use self::origin::{Names, not_foreign};
use self::process::METRICS_TYPE;
use self::table::{Body, Meant, Operation, Table};
use crate::component;
use crate::page::{self, PageState};
use crate::status::Overview;

pub(crate) use self::access::{Caller, Grants, Shown};
pub use self::access::{Reach, TokenSpec};
pub(crate) use self::call::Call;
pub(crate) use self::origin::{kept_here, must_be_own};
pub(crate) use self::refusal::Refusal;
pub use self::tls::TlsSpec;
pub(crate) mod operation {
    //! What operations of other modules are made of.
    pub(crate) use super::access::Needs;
    pub(crate) use super::table::{Answer, Answered, Body, Content, Operation, Parameter, Shape};
}

/// How long connections may take to end; each gives itself less.
const GRACE: Duration = Duration::from_secs(3);
/// How long a request may take, if the file does not say.
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Bytes of a value or message, if the file does not say; what servers take is mostly 1 MiB.
const BODY_BYTES_DEFAULT: u64 = 8 << 20;

/// `http:` of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HttpSpec {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What a caller must say after `Authorization: Bearer`, to be allowed everything.
    pub token: Option<Secret<String>>,
    /// Tokens that may less.
    pub tokens: Vec<TokenSpec>,
    /// By which other names this may be asked without a token.
    pub names: Vec<String>,
    /// Certificate and key, to speak TLS.
    pub tls: Option<TlsSpec>,
    /// Bytes of a value or message at most; objects may be larger.
    pub body_bytes_max: u64,
    /// Bytes of an object at most.
    pub object_bytes_max: Option<u64>,
    /// How long a request may take; uploads, downloads and events have no such end.
    pub timeout: Duration,
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
        Ok(Self {
            listen,
            token,
            tokens: Vec::new(),
            names: Vec::new(),
            tls: None,
            body_bytes_max: BODY_BYTES_DEFAULT,
            object_bytes_max: None,
            timeout: REQUEST_TIMEOUT_DEFAULT,
        })
    }

    fn acceptor(&self) -> Result<Option<TlsAcceptor>> {
        self.tls.as_ref().map(TlsSpec::acceptor).transpose()
    }
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Http {
    spec: HttpSpec,
    /// Where, with the port that was picked if the file says 0.
    pub(crate) address: SocketAddr,
    listener: Arc<TcpListener>,
    tasks: Tasks,
    /// Ends when nobody is accepted any more.
    accepting: oneshot::Receiver<Infallible>,
}

impl Http {
    /// Binds, then serves in the background.
    pub(crate) async fn start(spec: &HttpSpec, overview: Overview) -> Result<Self> {
        let tls = spec.acceptor()?;
        let (address, listener) = bind(spec.listen, "pick another `http: listen:`").await?;
        Ok(Self::serve(spec, (address, listener), tls, overview))
    }

    fn serve(
        spec: &HttpSpec,
        (address, listener): (SocketAddr, Arc<TcpListener>),
        tls: Option<TlsAcceptor>,
        overview: Overview,
    ) -> Self {
        let tasks = Tasks::new();
        let router = router(spec, address, overview, &tasks);
        let serving = serve::serve(Arc::clone(&listener), tls, router, tasks.clone());
        let (accepts, accepting) = oneshot::channel();
        tasks.spawn(async move {
            serving.await;
            drop(accepts);
        });
        Self { spec: spec.clone(), address, listener, tasks, accepting }
    }

    /// Serves as `spec` has it, where `present` did: at the same address, without letting go of
    /// it if it is the same one. What cannot be had leaves what is there. Connections of before
    /// end as `tasks`: nobody waits for them.
    pub(crate) async fn listen_again(
        present: &mut Option<Self>,
        spec: Option<&HttpSpec>,
        overview: Overview,
        tasks: &Tasks,
    ) -> Result<()> {
        let place = present.as_ref().zip(spec).map(|(http, spec)| http.place(spec.listen));
        let next = match (present.as_ref(), spec, place) {
            (Some(http), Some(spec), Some(Place::Same)) if http.spec == *spec => return Ok(()),
            (Some(http), Some(spec), Some(Place::Same)) => {
                let tls = spec.acceptor()?;
                // From here on nobody is accepted as before.
                http.tasks.begin_stop();
                let place = (http.address, Arc::clone(&http.listener));
                Some(Self::serve(spec, place, tls, overview))
            }
            (Some(_), Some(spec), Some(Place::Overlapping)) => {
                return Self::move_to(present, spec, overview, tasks).await;
            }
            (_, Some(spec), _) => Some(Self::start(spec, overview).await?),
            (_, None, _) => None,
        };
        if let Some(http) = std::mem::replace(present, next) {
            http.leave(tasks).await;
        }
        Ok(())
    }

    /// Where `listen` is, seen from where this listens.
    fn place(&self, listen: SocketAddr) -> Place {
        let (here, there) = (self.address.ip(), listen.ip());
        let is_port = listen.port() == self.address.port();
        match (here == there, is_port, listen.port()) {
            // Port 0 is any, and this is one.
            (true, true, _) | (true, _, 0) => Place::Same,
            (false, true, _) if here.is_unspecified() || there.is_unspecified() => {
                Place::Overlapping
            }
            _ => Place::Other,
        }
    }

    /// Lets go of the present address, without which the system gives no other of that port, and
    /// takes it again if that cannot be had.
    async fn move_to(
        present: &mut Option<Self>,
        spec: &HttpSpec,
        overview: Overview,
        tasks: &Tasks,
    ) -> Result<()> {
        let Some(http) = present.take() else { return Ok(()) };
        let back = HttpSpec { listen: http.address, ..http.spec.clone() };
        http.leave(tasks).await;
        let moved = Self::start(spec, overview.clone()).await;
        let (next, failed) = match moved {
            Ok(next) => (next, Ok(())),
            Err(error) => (Self::start(&back, overview).await?, Err(error)),
        };
        *present = Some(next);
        failed
    }

    /// Accepts nobody any more and lets go of the address; what was accepted ends as `tasks`.
    async fn leave(self, tasks: &Tasks) {
        self.tasks.begin_stop();
        // It ends without having said anything, as soon as it is told to.
        let Err(_ended) = self.accepting.await;
        let connections = self.tasks;
        tasks.spawn(async move {
            connections.stop(GRACE).await;
        });
    }

    /// What a browser is given to get here.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.spec.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub(crate) async fn stop(&self) -> usize {
        self.tasks.stop(GRACE).await
    }
}

/// An address beside one that is listened on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Same,
    /// All addresses of a port, and one of them.
    Overlapping,
    Other,
}

/// Answers `/metrics` and nothing else on `address`, to whoever asks, as Litestream's `addr` does.
pub(crate) async fn serve_metrics(
    address: SocketAddr,
    overview: Overview,
    tasks: &Tasks,
) -> Result<()> {
    let (_, listener) = bind(address, "pick another `addr`").await?;
    let metrics = async |State(overview): State<Overview>| match overview.metrics() {
        Ok(text) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => Refusal::from(error).into_response(),
    };
    let router = Router::new().route("/metrics", get(metrics)).with_state(overview);
    tasks.spawn(serve::serve(listener, None, router, tasks.clone()));
    Ok(())
}

async fn bind(listen: SocketAddr, hint: &str) -> Result<(SocketAddr, Arc<TcpListener>)> {
    let listener = TcpListener::bind(listen).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, Arc::new(listener))));
    bound.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "http.listen")
            .with("listen", listen)
            .caused_by(error)
            .hint(format!("another process may listen there; {hint}"))
    })
}

/// What operations share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) overview: Overview,
    /// Bytes of a value or message at most.
    pub(crate) body_bytes_max: u64,
    /// Bytes of an object at most.
    pub(crate) object_bytes_max: Option<u64>,
    /// Events end when these stop.
    pub(crate) tasks: Tasks,
    table: Table,
    door: Door,
    timeout: Duration,
}

fn router(spec: &HttpSpec, address: SocketAddr, overview: Overview, tasks: &Tasks) -> Router {
    let door = Door {
        tokens: Tokens::new(spec.token.as_ref(), &spec.tokens),
        names: Names::new(address.ip(), &spec.names),
    };
    let page = PageState::new(overview.clone(), door.clone(), tasks.clone());
    let api = Arc::new(Api {
        overview,
        body_bytes_max: spec.body_bytes_max,
        object_bytes_max: spec.object_bytes_max,
        tasks: tasks.clone(),
        table: routes::table(),
        door,
        timeout: spec.timeout,
    });
    // The page asks at the door itself, since browsers show a token in another way.
    page::routes(page).fallback(answer).with_state(api)
}

/// Answers by the table, else by a component.
async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let refused = match api.table.find(request.method(), request.uri().path()) {
        Ok(Meant::This(operation, path)) => {
            let span = trace::span(operation, &path, request.headers());
            let operating = operate(&api, operation, path, request).instrument(span.clone());
            let answer = operating.await.unwrap_or_else(Refusal::into_response);
            trace::ended(&span, &answer);
            return kept_here(answer);
        }
        Ok(Meant::OtherMethods(methods)) => other_methods(&methods),
        // What browsers may do with it is the component's to say.
        Ok(Meant::Nothing) => {
            let span = trace::passed(request.method(), request.headers());
            let passing = pass(&api, request).instrument(span.clone());
            let answer = passing.await.unwrap_or_else(Refusal::into_response);
            trace::ended(&span, &answer);
            return answer;
        }
        Err(refusal) => refusal,
    };
    kept_here(refused.into_response())
}

async fn operate(
    api: &Arc<Api>,
    operation: &Operation,
    path: BTreeMap<&'static str, String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let shown = match (operation.needs, &operation.method) {
        (Needs::Whole, &http::Method::GET) => Shown::AsPasswordToo,
        _ => Shown::AsBearer,
    };
    let caller = match operation.needs {
        Needs::Nothing => api.door.open_to(&parts).map(|()| Caller::Whole)?,
        _ => api.door.admit(&parts, shown)?,
    };
    let request = Request::from_parts(parts, body);
    let call = Call::new(Arc::clone(api), caller, path, (operation.query, request))?;
    allow(&call, operation.needs)?;
    let arrival = call.arrival.clone();
    let running = (operation.run)(call);
    if operation.is_long {
        return running.await;
    }
    let done = timeout(api.timeout, running).await;
    done.unwrap_or_else(|_elapsed| Err(late(api, operation, arrival.get())))
}

/// 504: there was no answer in time. What only looks can look again, and what is done with a body is
/// not begun before all of that is there (408 if the client was what took so long); anything else
/// may be done.
fn late(api: &Api, operation: &Operation, arrived: Arrived) -> Refusal {
    let limit = "`timeout:` of the file's `http:` is the limit, and /v1/status has the store";
    let wants_body = operation.body == Body::Bytes;
    if wants_body && arrived == Arrived::Partly {
        let message = format!("what was sent had not all come within {:?}", api.timeout);
        return Refusal::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::InvalidInput, message)
            .hint(format!("nothing was done with it: send all of it again, sooner; {limit}"));
    }
    let message = format!("there was no answer within {:?}", api.timeout);
    let refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, ErrorKind::Unavailable, message);
    let is_untouched = wants_body && arrived == Arrived::Unasked;
    match operation.method {
        http::Method::GET => refusal.hint(limit),
        _ if is_untouched => refusal.hint(format!("nothing was done; {limit}")),
        _ => refusal.unknown().hint(format!("see what is there before you do it again; {limit}")),
    }
}

/// What the table does not know is a component's.
async fn pass(api: &Api, mut request: Request) -> Result<Response, Refusal> {
    match api.door.tokens.caller(request.headers(), Shown::AsBearer)? {
        Caller::Whole => {}
        Caller::Scoped(token) => return Err(not_whole(&token.name)),
    }
    if !api.door.tokens.is_open() {
        // It has done its work: a component that read it could ask for everything that `up` has.
        request.headers_mut().remove(AUTHORIZATION);
    }
    Ok(component::answer(State(api.overview.routes.clone()), request).await)
}

/// Who is let in: by a token, or else by how the request comes.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    tokens: Tokens,
    names: Names,
}

impl Door {
    /// Who asks. Where a browser may have been made to, it must say that it was not.
    pub(crate) fn admit(&self, request: &Parts, shown: Shown) -> Result<Caller, Refusal> {
        let caller = self.tokens.caller(&request.headers, shown)?;
        self.open_to(request)?;
        if is_password(&request.headers) {
            not_foreign(request)?;
        }
        Ok(caller)
    }

    /// Refuses, without a token, what a page of elsewhere asks.
    fn open_to(&self, request: &Parts) -> Result<(), Refusal> {
        if !self.tokens.is_open() {
            return Ok(());
        }
        self.names.check(request)?;
        not_foreign(request)
    }
}

/// Refuses what the caller may not, and what the files do not grant.
fn allow(call: &Call, needs: Needs) -> Result<(), Refusal> {
    match (needs, &call.caller) {
        (Needs::Nothing, _) => return Ok(()),
        (Needs::Whole, Caller::Scoped(token)) => return Err(not_whole(&token.name)),
        (Needs::Whole, Caller::Whole) => return Ok(()),
        _ => {}
    }
    match needs {
        Needs::Nothing | Needs::Whole => Ok(()),
        Needs::Limiter => call.caller.limiter(call.path("id")),
        Needs::Bucket(kind, way) => {
            let bucket = BucketName::parse(call.path("bucket"))?;
            call.caller.bucket(&bucket, way)?;
            call.api.overview.grants.check(kind, &bucket, way)
        }
        Needs::Subject(Way::Write) => call.caller.publish(&Subject::parse(call.path("subject"))?),
        Needs::Subject(Way::Read) => call.caller.subscribe(&Pattern::parse(call.path("pattern"))?),
    }
}

fn not_whole(name: &str) -> Refusal {
    Refusal::forbidden(format!("the token `{name}` may not ask this"))
        .hint("use the `token:` of the file's `http:`")
}

fn other_methods(methods: &[&http::Method]) -> Refusal {
    let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let names = names.join(", ");
    let refusal = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::InvalidInput,
        format!("this path takes {names}"),
    );
    match HeaderValue::try_from(names) {
        Ok(names) => refusal.header(ALLOW, names),
        Err(_no_header) => refusal,
    }
}
