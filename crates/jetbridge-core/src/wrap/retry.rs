//! Trying again while the store does not answer.

use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use tokio::time::Instant;

use super::layer::{Answer, Call, Layer};
use crate::backoff::Backoff;
use crate::error::Result;
use crate::object::Body;

/// Repeats operations that failed with an error that
/// [may be retried](crate::Error::is_retryable), until they end otherwise or a time has passed.
///
/// A lost answer is handed on: repeating could apply a write twice. Streams pass through: those
/// that go on survive an outage by themselves, the others are the caller's to begin anew.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use jetbridge_core::{MemoryBackend, wrap::{Layered, Retry}};
/// let patient = Layered::new(
///     Arc::new(MemoryBackend::new()),
///     Retry::within(Duration::from_secs(30)),
/// );
/// assert_eq!(patient.to_string(), "memory:");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    within: Duration,
}

impl Retry {
    /// Gives up when this long has passed since the first attempt began.
    pub const fn within(within: Duration) -> Self {
        Self { within }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Layer for Retry {
    async fn call<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        mut run: impl FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> Result<T> {
        let deadline = Instant::now() + self.within;
        let mut backoff = Backoff::outage();
        loop {
            match run().await {
                Err(error) if call.repeatable && error.is_retryable() => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(error);
                    }
                    tracing::debug!(operation = call.operation, %error, "trying again");
                    tokio::time::sleep(backoff.next_wait().min(left)).await;
                }
                settled => return settled,
            }
        }
    }

    fn listing<T: Answer>(
        &self,
        _call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        stream
    }

    fn body(&self, _call: Call<'_>, body: Body) -> Body {
        body
    }

    fn watch<T: Answer>(
        &self,
        _call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        stream
    }
}
