//! One store of limiters: connected to, opened, and kept open.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jetbridge::limit::{Limits, StoreSpec, connect_store, open_store};
use jetbridge::settings::Location;
use jetbridge_core::{Backend, Backoff, Error, ErrorKind, Result};

use super::Desk;
use crate::board::State;
use crate::supervise::{Context, Drained, Section};

/// How long the tasks of limiters, and then a connection, may take to end.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A store of limiters as the file wants it.
#[derive(Clone, Debug)]
pub(crate) struct LimitStoreSection {
    pub(crate) spec: StoreSpec,
    pub(crate) desk: Desk,
}

impl Section for LimitStoreSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let mut backoff = Backoff::outage();
            loop {
                tokio::select! {
                    opened = self.open(&context) => match opened {
                        Ok((limits, own)) => return self.keep(limits, own, &context).await,
                        Err(error) => self.tell(error, &context),
                    },
                    _deadline = context.stop.begins() => return Drained::default(),
                }
                tokio::select! {
                    () = backoff.wait() => {}
                    _deadline = context.stop.begins() => return Drained::default(),
                }
            }
        })
    }
}

impl LimitStoreSection {
    async fn open(&self, context: &Context) -> Result<(Limits, Option<Arc<dyn Backend>>)> {
        let own = connect(&self.spec).await?;
        let backend = own.clone().unwrap_or_else(|| Arc::clone(&context.backend));
        match open_store(&self.spec, backend).await {
            Ok(limits) => Ok((limits, own)),
            Err(error) => {
                if let Some(own) = own {
                    own.close(CLOSE_GRACE).await;
                }
                Err(error)
            }
        }
    }

    /// Only a store that does not answer is an outage, for which limiters have a policy.
    fn tell(&self, error: Error, context: &Context) {
        context.reporter.failed(&error);
        let is_outage = error.kind() == ErrorKind::Unavailable;
        let found = if is_outage { Ok(None) } else { Err(Arc::new(error)) };
        self.desk.set_store(&self.spec.name, found);
    }

    async fn keep(
        &self,
        limits: Limits,
        own: Option<Arc<dyn Backend>>,
        context: &Context,
    ) -> Drained {
        self.desk.set_store(&self.spec.name, Ok(Some(limits.clone())));
        context.reporter.set(State::Running);
        context.stop.begins().await;
        self.desk.set_store(&self.spec.name, Ok(None));
        let mut abandoned = limits.close(CLOSE_GRACE).await;
        if let Some(own) = own {
            abandoned += own.close(CLOSE_GRACE).await.tasks_abandoned;
        }
        let abandoned = u64::try_from(abandoned).unwrap_or(u64::MAX);
        Drained { abandoned, ..Drained::default() }
    }
}

/// The connection that a store has of its own, for a process that outlives outages.
pub(super) async fn connect(spec: &StoreSpec) -> Result<Option<Arc<dyn Backend>>> {
    let mut spec = spec.clone();
    if let Some(Location::Nats(options)) = &mut spec.location {
        options.connect_in_background = true;
    }
    connect_store(&spec).await
}
