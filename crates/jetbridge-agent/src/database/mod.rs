//! `dbs:` — SQLite databases, replicated as Litestream does it.

mod control;
mod desk;
mod heartbeat;
mod metrics;
mod socket;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jetbridge::settings::{DatabaseSpec, Upkeep};
use jetbridge::{DatabaseState, Replicator};
use jetbridge_core::Backoff;
use tokio::time::Instant;

pub(crate) use self::control::{ControlSection, Offered};
pub(crate) use self::desk::{DatabaseDesk, lag, word};
use crate::board::State;
use crate::supervise::{Context, Drained, Section};

/// Between two looks at how the databases do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One entry of `dbs:`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DatabaseSpecs {
    pub(crate) spec: DatabaseSpec,
    pub(crate) upkeep: Upkeep,
}

impl DatabaseSpecs {
    pub(crate) fn name(&self) -> String {
        self.spec.source.path().display().to_string()
    }
}

/// One entry of `dbs:`, and where it is known while it runs.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseSection {
    pub(crate) specs: DatabaseSpecs,
    pub(crate) desk: DatabaseDesk,
}

impl DatabaseSection {
    /// Runs until told to drain.
    async fn keep(&self, replicator: Arc<Replicator>, context: &Context) -> Drained {
        let _listed = self.desk.list(&self.specs.name(), &replicator);
        loop {
            report(&replicator, context);
            let tending = async {
                tokio::time::sleep(LOOK_EVERY).await;
                replicator.tend().await
            };
            tokio::select! {
                // What is being begun with, which may be a restore of hours, is not waited for.
                deadline = context.stop.begins() => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let abandoned = replicator.close(left).await as u64;
                    return Drained { abandoned, ..Drained::default() };
                }
                tended = tending => if let Err(error) = tended {
                    context.reporter.failed(&error);
                },
            }
        }
    }
}

/// Puts on the board how the databases do.
fn report(replicator: &Replicator, context: &Context) {
    let mut notes = Vec::new();
    let mut failure = None;
    for database in replicator.databases() {
        let path = database.path.display();
        let place = match database.state {
            DatabaseState::Starting => "begins",
            DatabaseState::Failed => "fails",
            DatabaseState::Stopped => "stopped",
            DatabaseState::Running if database.capture.caught_up => "all shipped",
            DatabaseState::Running => "shipping",
        };
        notes.push(format!("{path}: transaction {}, {place}", database.capture.txid));
        if let Some(error) = database.error() {
            failure.get_or_insert(format!("{path}: {error}"));
        }
    }
    context.reporter.notes(notes);
    match failure {
        Some(failure) => context.reporter.degraded(failure),
        None => context.reporter.set(State::Running),
    }
}

/// What was committed meanwhile is not in the replica: nothing was even begun with.
fn never_begun() -> Drained {
    Drained { abandoned: 1, ..Drained::default() }
}

impl Section for DatabaseSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let mut backoff = Backoff::outage();
            loop {
                let DatabaseSpecs { spec, upkeep } = &self.specs;
                let starting = Replicator::start(spec, upkeep, &context.backend);
                tokio::select! {
                    started = starting => match started {
                        Ok(replicator) => return self.keep(Arc::new(replicator), &context).await,
                        Err(error) => context.reporter.failed(&error),
                    },
                    _deadline = context.stop.begins() => return never_begun(),
                }
                tokio::select! {
                    () = backoff.wait() => {}
                    _deadline = context.stop.begins() => return never_begun(),
                }
            }
        })
    }
}
