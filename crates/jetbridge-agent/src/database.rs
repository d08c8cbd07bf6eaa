//! `dbs:` — SQLite databases, replicated as Litestream does it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jetbridge::Replicator;
use jetbridge::settings::{DatabaseSpec, Upkeep};
use jetbridge_core::Backoff;
use tokio::time::Instant;

use crate::board::State;
use crate::supervise::{Context, Drained, Section};

/// Between two looks at how the databases do.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks whether a directory has other databases.
const SEARCH_EVERY: Duration = Duration::from_secs(5);

/// One entry of `dbs:`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DatabaseSection {
    pub(crate) spec: DatabaseSpec,
    pub(crate) upkeep: Upkeep,
}

impl DatabaseSection {
    pub(crate) fn name(&self) -> String {
        self.spec.source.path().display().to_string()
    }

    /// Runs until told to drain, or until a database cannot be replicated any more.
    async fn keep(&self, mut replicator: Replicator, context: &Context) -> Drained {
        let mut searched = Instant::now();
        loop {
            let deadline = tokio::select! {
                deadline = context.stop.begins() => Some(deadline),
                () = tokio::time::sleep(LOOK_EVERY) => None,
            };
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                let abandoned = replicator.close(left).await as u64;
                return Drained { abandoned, ..Drained::default() };
            }
            if replicator.watches() && searched.elapsed() >= SEARCH_EVERY {
                searched = Instant::now();
                if let Err(error) = replicator.look().await {
                    context.reporter.degraded(error);
                    continue;
                }
            }
            if report(&replicator, context) == Verdict::Ended {
                // Taken up again by the supervisor: the other writer may be gone then.
                replicator.close(LOOK_EVERY).await;
                return Drained::default();
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Ended,
    Runs,
}

/// Puts on the board how the databases do.
fn report(replicator: &Replicator, context: &Context) -> Verdict {
    let mut notes = Vec::new();
    let mut failure = None;
    let mut verdict = Verdict::Runs;
    for (path, status) in replicator.statuses() {
        let path = path.display();
        let place = if status.caught_up { "all shipped" } else { "shipping" };
        notes.push(format!("{path}: transaction {}, {place}", status.txid));
        if status.ended {
            verdict = Verdict::Ended;
        }
        if let Some(error) = status.error {
            failure.get_or_insert(format!("{path}: {error}"));
        }
    }
    context.reporter.notes(notes);
    match failure {
        Some(failure) => context.reporter.degraded(failure),
        None => context.reporter.set(State::Running),
    }
    verdict
}

impl Section for DatabaseSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let mut backoff = Backoff::outage();
            loop {
                let starting = Replicator::start(&self.spec, &self.upkeep, &context.backend);
                tokio::select! {
                    started = starting => match started {
                        Ok(replicator) => return self.keep(replicator, &context).await,
                        Err(error) => context.reporter.degraded(error),
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
