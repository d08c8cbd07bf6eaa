//! A store that holds some requests back until it is told to let them go.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jetbridge_core::wrap::{Answer, Call, Layer, Layered};
use jetbridge_core::{MemoryBackend, Result};
use tokio::sync::{Notify, watch};

use super::rig::Rig;

/// Holds back an operation on names that begin so. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    operation: &'static str,
    prefix: &'static str,
    shut: Arc<watch::Sender<bool>>,
    reached: Arc<Notify>,
}

impl Gate {
    /// One that is open.
    pub(crate) fn at(operation: &'static str, prefix: &'static str) -> Self {
        let (shut, reached) = (Arc::new(watch::Sender::new(false)), Arc::default());
        Self { operation, prefix, shut, reached }
    }

    /// A bucket behind it.
    pub(crate) async fn rig(&self) -> Rig {
        let backend = Layered::new(Arc::new(MemoryBackend::new()), self.clone());
        Rig::over(Arc::new(backend), Box::new(())).await
    }

    pub(crate) fn shut(&self) {
        self.shut.send_replace(true);
    }

    pub(crate) fn open(&self) {
        self.shut.send_replace(false);
    }

    /// Returns when a request was held back.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }
}

impl Layer for Gate {
    async fn call<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        mut run: impl FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> Result<T> {
        let is_it = call.name.is_some_and(|name| name.starts_with(self.prefix));
        if call.operation == self.operation && is_it && *self.shut.borrow() {
            self.reached.notify_one();
            self.shut.subscribe().wait_for(|shut| !shut).await.map(drop).unwrap_or_default();
        }
        run().await
    }
}
