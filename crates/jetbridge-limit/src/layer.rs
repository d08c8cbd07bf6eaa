//! A `tower` layer: requests pass a limiter before they reach a service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use jetbridge_core::{Clock as _, ErrorKind, Result, SystemClock};
use tower_layer::Layer;
use tower_service::Service;

use crate::client::KeyOf;
use crate::decision::Decision;
use crate::fields::fields;
use crate::limiter::Limiter;

/// Lets requests pass a limiter, each caller by a key of its own.
///
/// A denied request is answered with 429 and `Retry-After`; if nobody can decide and the limiter
/// fails closed, with 503. Both have an empty body. Answers of the service get the `RateLimit`
/// fields. A slot of a limiter of calls under way is held until the service has answered.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// # use std::sync::Arc;
/// # use jetbridge_core::{BucketName, BucketSpec, MemoryBackend, Open};
/// # use jetbridge_limit::{Limits, Policy};
/// use jetbridge_limit::http::{ByHeader, LimitLayer};
///
/// # let bucket = BucketName::parse("rate_limits")?;
/// # let open = Open::ensure(BucketSpec::default());
/// # let limits = Limits::open(Arc::new(MemoryBackend::new()), &bucket, open).await?;
/// let api = limits.limiter("api", Policy::per_second(10.0)?.burst(20)?)?;
/// let layer = LimitLayer::new(api, ByHeader::new("x-api-key")?);
/// # let _ = layer;
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LimitLayer<K>(Arc<Gate<K>>);

#[derive(Debug)]
struct Gate<K> {
    limiter: Limiter,
    keys: K,
    wait: Duration,
    cost: u32,
}

impl<K: KeyOf> LimitLayer<K> {
    /// Requests take one permit of `limiter`, or of the key of it that `keys` finds for them.
    pub fn new(limiter: Limiter, keys: K) -> Self {
        Self(Arc::new(Gate { limiter, keys, wait: Duration::ZERO, cost: 1 }))
    }

    /// Lets requests wait at most this long, instead of denying them at once.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        let Gate { limiter, keys, cost, .. } = self.gate();
        Self(Arc::new(Gate { limiter, keys, wait, cost }))
    }

    /// The permits that a request takes; 1 by default.
    #[must_use]
    pub fn cost(self, cost: u32) -> Self {
        let Gate { limiter, keys, wait, .. } = self.gate();
        Self(Arc::new(Gate { limiter, keys, wait, cost }))
    }

    fn gate(&self) -> Gate<K> {
        let gate = &*self.0;
        let (limiter, keys) = (gate.limiter.clone(), gate.keys.clone());
        Gate { limiter, keys, wait: gate.wait, cost: gate.cost }
    }
}

impl<S, K> Layer<S> for LimitLayer<K> {
    type Service = Limited<S, K>;

    fn layer(&self, inner: S) -> Self::Service {
        Limited { inner, gate: Arc::clone(&self.0) }
    }
}

/// A service behind a [`LimitLayer`].
#[derive(Debug)]
pub struct Limited<S, K> {
    inner: S,
    gate: Arc<Gate<K>>,
}

impl<S: Clone, K> Clone for Limited<S, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, K, B, R> Service<Request<B>> for Limited<S, K>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    K: KeyOf,
    B: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Answer<Response<R>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was made ready is the one to call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let passed = gate.pass(&parts).await;
            let (decision, _held_until_answered) = match passed {
                Ok(admission) => (admission.decision, admission.permit),
                Err(kind) => return Ok(refusal(kind)),
            };
            if !decision.allowed {
                let mut denied = Response::new(R::default());
                *denied.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                gate.add_fields(denied.headers_mut(), &decision);
                return Ok(denied);
            }
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            gate.add_fields(response.headers_mut(), &decision);
            Ok(response)
        })
    }
}

impl<K: KeyOf> Gate<K> {
    async fn pass(&self, parts: &Parts) -> Result<crate::decision::Admission, ErrorKind> {
        let limiter = match self.keys.key(parts) {
            Some(key) => self.limiter.key(&key).map_err(|error| error.kind())?,
            None => self.limiter.clone(),
        };
        limiter.acquire_n_timeout(self.cost, self.wait).await.map_err(|error| {
            tracing::debug!(%error, "a request could not be decided about");
            error.kind()
        })
    }

    fn add_fields(&self, headers: &mut HeaderMap, decision: &Decision) {
        let (id, policy) = (self.limiter.id().as_str(), self.limiter.policy());
        for (name, value) in fields(id, policy, decision, SystemClock.now()) {
            let name = HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// The answer to a request that nobody decided about.
fn refusal<R: Default>(kind: ErrorKind) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = match kind {
        // A key over a key's length.
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    response
}
