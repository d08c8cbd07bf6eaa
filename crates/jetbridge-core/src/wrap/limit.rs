//! Bounding how much is asked of a store at once.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::layer::{Answer, Call, Layer};
use crate::error::Result;
use crate::object::Body;

/// Lets at most so many operations be under way at once; the others wait their turn, in order.
///
/// The body of an object counts from its first bytes until it ends or is dropped, so copying an
/// object takes two places: one to read, one to write. A listing counts while its next item is
/// fetched, so that what is listed can be worked on meanwhile. A request does not count, because
/// who answers it may need a place; nor does what goes on for ever (watches, subscriptions,
/// consumers) once it is open.
///
/// ```
/// use std::sync::Arc;
/// use jetbridge_core::{MemoryBackend, wrap::{Layered, Limit}};
/// let gentle = Layered::new(Arc::new(MemoryBackend::new()), Limit::in_flight(8));
/// assert_eq!(gentle.layer().free(), 8);
/// ```
#[derive(Clone, Debug)]
pub struct Limit {
    places: Arc<Semaphore>,
}

impl Limit {
    /// At most `operations` at once, and at least one.
    pub fn in_flight(operations: usize) -> Self {
        let places = operations.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    /// How many operations could begin now without waiting.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }

    async fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        // `None` only if the semaphore were closed, which it never is.
        Arc::clone(places).acquire_owned().await.ok()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Layer for Limit {
    async fn call<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        mut run: impl FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> Result<T> {
        let _place = if call.waits { None } else { Self::place(&self.places).await };
        run().await
    }

    fn listing<T: Answer>(
        &self,
        _call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let begun = (Arc::clone(&self.places), stream);
        let items = stream::unfold(begun, |(places, mut rest)| async move {
            let place = Self::place(&places).await;
            let item = rest.next().await?;
            drop(place);
            Some((item, (places, rest)))
        });
        items.boxed()
    }

    fn body(&self, _call: Call<'_>, body: Body) -> Body {
        let begun = (Arc::clone(&self.places), None, body);
        // The place lives in the state of the stream, and goes with it.
        let parts = stream::unfold(begun, |(places, held, mut rest)| async move {
            let held = match held {
                None => Self::place(&places).await,
                held => held,
            };
            let part = rest.next().await?;
            Some((part, (places, held, rest)))
        });
        parts.boxed()
    }

    fn watch<T: Answer>(
        &self,
        _call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        stream
    }
}
