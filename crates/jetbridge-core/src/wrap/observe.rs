//! Seeing what is asked of a store: a span for each operation, and sums for an exporter.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::layer::{Answer, Call, Layer};
use crate::error::{ErrorKind, Result};
use crate::object::Body;

/// Records every operation. Clones share the sums, so one is kept to read them.
///
/// An operation is a `tracing` span at debug level, named `store`, with the fields `operation`,
/// `bucket`, `name`, `revision`, `outcome` (`ok` or the error's kind) and `duration_us`; what
/// `tracing-opentelemetry` reads besides is in fields that begin with `otel.`. A stream
/// counts as one call when it is opened and as an error when an item is one; the time it is read
/// for is not counted.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::sync::Arc;
/// use jetbridge_core::{Backend as _, MemoryBackend, wrap::{Layered, Observed}};
///
/// let observed = Observed::new();
/// let store = Layered::new(Arc::new(MemoryBackend::new()), observed.clone());
/// store.now().await?;
/// assert_eq!(observed.snapshot()["store.now"].calls, 1);
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Observed(Arc<Mutex<BTreeMap<&'static str, OperationStats>>>);

/// What happened to one operation since the beginning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct OperationStats {
    /// How often it was called.
    pub calls: u64,
    /// How often it failed, by [`ErrorKind::as_str`].
    pub errors: BTreeMap<&'static str, u64>,
    /// How long the calls that have ended took together.
    pub duration: Duration,
}

impl Observed {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sums of each operation, by its name as errors give it.
    pub fn snapshot(&self) -> BTreeMap<&'static str, OperationStats> {
        self.lock().clone()
    }

    fn begin(&self, call: Call<'_>) -> Span {
        self.lock().entry(call.operation).or_default().calls += 1;
        tracing::debug_span!(
            "store",
            otel.name = call.operation,
            otel.kind = "client",
            otel.status_code = Empty,
            operation = call.operation,
            bucket = call.bucket,
            name = call.name,
            revision = Empty,
            outcome = Empty,
            duration_us = Empty,
        )
    }

    fn fail(&self, operation: &'static str, kind: ErrorKind) {
        let mut all = self.lock();
        *all.entry(operation).or_default().errors.entry(kind.as_str()).or_default() += 1;
    }

    /// Counts the errors among the items of a stream.
    fn items<T: Answer>(
        &self,
        call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let (this, operation, span) = (self.clone(), call.operation, self.begin(call));
        let counted = stream.inspect(move |item| {
            if let Err(error) = item {
                this.fail(operation, error.kind());
                failed(&span, error.kind());
            }
        });
        counted.boxed()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, OperationStats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(span: &Span, kind: ErrorKind) {
    span.record("outcome", kind.as_str()).record("otel.status_code", "ERROR");
}

#[deny(clippy::missing_trait_methods)]
impl Layer for Observed {
    fn call<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        mut run: impl FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a {
        let span = self.begin(call);
        let recorded = span.clone();
        let operation = async move {
            let began = Instant::now();
            let result = run().await;
            let took = began.elapsed();
            self.lock().entry(call.operation).or_default().duration += took;
            span.record("duration_us", u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            match &result {
                Ok(answer) => {
                    span.record("outcome", "ok");
                    if let Some(revision) = answer.revision() {
                        span.record("revision", revision);
                    }
                }
                Err(error) => {
                    failed(&span, error.kind());
                    self.fail(call.operation, error.kind());
                    tracing::debug!(%error, "failed");
                }
            }
            result
        };
        operation.instrument(recorded)
    }

    fn listing<T: Answer>(
        &self,
        call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        self.items(call, stream)
    }

    fn body(&self, call: Call<'_>, body: Body) -> Body {
        self.items(call, body)
    }

    fn watch<T: Answer>(
        &self,
        call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        self.items(call, stream)
    }
}
