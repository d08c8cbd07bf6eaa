//! What a replicating process offers beside the replication: see [`ControlSpec`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jetbridge::settings::{ControlSpec, Environment, Upkeep};
use jetbridge_core::{Result, Tasks};

use super::desk::DatabaseDesk;
use super::{heartbeat, socket};
use crate::board::State;
use crate::http;
use crate::status::Overview;
use crate::supervise::{Context, Drained, Section};

/// How long a request under way may take when the process stops.
const GRACE: Duration = Duration::from_secs(2);

/// What the files ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offered {
    pub(crate) spec: ControlSpec,
    /// For databases that are registered.
    pub(crate) upkeep: Upkeep,
}

/// The section that offers it.
#[derive(Clone, Debug)]
pub(crate) struct ControlSection {
    pub(crate) offered: Offered,
    pub(crate) overview: Overview,
    pub(crate) environment: Environment,
}

impl ControlSection {
    /// Begins with everything; what runs for ever is spawned.
    async fn begin(&self, context: &Context, tasks: &Tasks) -> Result<socket::Registered> {
        let ControlSpec { metrics, socket, heartbeat, .. } = &self.offered.spec;
        let desk = self.overview.databases.clone();
        if let Some(address) = metrics {
            http::serve_metrics(*address, self.overview.clone(), tasks).await?;
        }
        let registered = socket::Registered::new(socket::Means {
            desk: desk.clone(),
            store: Arc::clone(&context.backend),
            upkeep: self.offered.upkeep.clone(),
            environment: self.environment.clone(),
            started: self.overview.started,
            clock: Arc::clone(&self.overview.clock),
            tasks: tasks.clone(),
        });
        if let Some(spec) = socket {
            socket::serve(spec, registered.clone(), tasks)?;
        }
        if let Some(heartbeat) = heartbeat.clone() {
            let (desk, clock) = (desk.clone(), Arc::clone(&self.overview.clock));
            tasks.spawn_until_stop(async move {
                if let Err(error) = heartbeat::beat(&heartbeat, &desk, &*clock).await {
                    tracing::warn!(%error, "there are no heartbeats");
                }
            });
        }
        if let Some(interval) = self.offered.spec.validation {
            tasks.spawn_until_stop(validate(interval, desk));
        }
        Ok(registered)
    }
}

/// Restores every database now and then, as a proof.
async fn validate(interval: Duration, desk: DatabaseDesk) {
    loop {
        tokio::time::sleep(interval).await;
        for replicator in desk.replicators() {
            replicator.verify().await;
        }
    }
}

impl Section for ControlSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let tasks = Tasks::new();
            let registered = match self.begin(&context, &tasks).await {
                Ok(registered) => registered,
                Err(error) => {
                    context.reporter.failed(&error);
                    tasks.stop(GRACE).await;
                    return Drained::default();
                }
            };
            context.reporter.set(State::Running);
            let deadline = context.stop.begins().await;
            let abandoned = registered.close(deadline).await as u64;
            tasks.stop(GRACE).await;
            Drained { abandoned, ..Drained::default() }
        })
    }
}
