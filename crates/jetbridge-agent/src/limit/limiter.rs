//! One limiter: at the desk from the start, and asked as soon as its store is open.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jetbridge::limit::{Engine, Limiter, LimiterSpec, Limits};
use jetbridge_core::{BucketName, BucketSpec, MemoryBackend, Open, Result};

use super::{Desk, Desked, Found, LOOK};
use crate::board::State;
use crate::supervise::{Context, Drained, Section};

/// A limiter as the file wants it.
#[derive(Clone, Debug)]
pub(crate) struct LimiterSection {
    pub(crate) spec: LimiterSpec,
    /// The name of its store, and what that is.
    pub(crate) store: String,
    pub(crate) engine: Engine,
    pub(crate) desk: Desk,
}

impl Section for LimiterSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let alone = match self.alone().await {
                Ok(alone) => alone,
                Err(error) => {
                    context.reporter.failed(&error);
                    context.stop.begins().await;
                    return Drained::default();
                }
            };
            let mut store = self.desk.store(&self.store);
            // A store that opens at once is not worth a word.
            let mut patient = true;
            loop {
                let limits = store.borrow_and_update().clone();
                let limiter = limits.and_then(|limits| self.limiter(limits));
                match &limiter {
                    Ok(Some(_)) => context.reporter.set(State::Running),
                    Ok(None) if patient => {}
                    Ok(None) => context.reporter.degraded("its store is not open"),
                    Err(error) => context.reporter.failed(error),
                }
                self.desk.set_limiter(Desked {
                    spec: self.spec.clone(),
                    engine: self.engine,
                    limiter,
                    alone: alone.clone(),
                });
                tokio::select! {
                    changed = store.changed() => if changed.is_err() { break },
                    () = tokio::time::sleep(LOOK), if patient => {}
                    _deadline = context.stop.begins() => break,
                }
                patient = false;
            }
            self.desk.remove_limiter(&self.spec.id);
            Drained::default()
        })
    }
}

impl LimiterSection {
    /// The limiter without its store.
    async fn alone(&self) -> Result<Limiter> {
        let (store, bucket) = (Arc::new(MemoryBackend::new()), BucketName::parse("alone")?);
        let limits = Limits::open(store, &bucket, Open::ensure(BucketSpec::default())).await?;
        limits.limiter_with(&self.spec.id, self.spec.policy, self.spec.opts)
    }

    fn limiter(&self, limits: Option<Limits>) -> Found<Limiter> {
        let open = |limits: Limits| {
            limits.limiter_with(&self.spec.id, self.spec.policy, self.spec.opts).map_err(Arc::new)
        };
        limits.map(open).transpose()
    }
}
