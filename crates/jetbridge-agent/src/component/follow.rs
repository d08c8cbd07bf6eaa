//! One watch of a component: changes in, and what came of them on the board and in the figures.

use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::{Follower, Program, Told};
use jetbridge_core::{Backoff, Error};
use tokio::sync::watch;

use super::health::WatchHealth;
use super::metrics::{Came, ComponentMetrics};

/// A store that is watched, and whom it is told to.
pub(super) struct Watch {
    /// The component, over all versions of its file.
    pub(super) programs: watch::Receiver<Program>,
    pub(super) ctx: KeyvalueCtx,
    pub(super) component: String,
    pub(super) identifier: String,
    pub(super) metrics: ComponentMetrics,
    pub(super) health: WatchHealth,
}

/// Tells the component of every change, for ever.
pub(super) async fn follow(mut watch: Watch) {
    let mut backoff = Backoff::outage();
    loop {
        let program = watch.programs.borrow_and_update().clone();
        match Follower::open(program, watch.ctx.clone(), &watch.identifier).await {
            Ok(mut follower) => watch.deliver(&mut follower, &mut backoff).await,
            Err(error) => watch.health.set(Some(error.to_string())),
        }
        backoff.wait().await;
    }
}

impl Watch {
    /// Delivers until the watch cannot be taken up again.
    async fn deliver(&mut self, follower: &mut Follower, backoff: &mut Backoff) {
        self.health.set(None);
        loop {
            let told = tokio::select! {
                biased;
                program = next(&mut self.programs) => {
                    follower.hand_over(program);
                    continue;
                }
                told = follower.next() => told,
            };
            let Some(error) = self.count(told, follower) else {
                *backoff = Backoff::outage();
                self.health.set(None);
                continue;
            };
            self.health.set(Some(format!("store \"{}\": {error}", self.identifier)));
            tokio::select! {
                () = backoff.wait() => {}
                program = next(&mut self.programs) => follower.hand_over(program),
            }
            // A guest that trapped is told again; a watch that ended is taken up where it was.
            if follower.has_ended()
                && let Err(error) = follower.reopen().await
            {
                self.health.set(Some(error.to_string()));
                return;
            }
        }
    }

    /// Counts what came of a change; what it failed with, if it is not over with that.
    fn count(&self, told: jetbridge_core::Result<Told>, follower: &Follower) -> Option<Error> {
        let came = match told {
            Ok(Told::CaughtUp) => return None,
            Ok(Told::Done) => Came::Done,
            Ok(Told::PassedOver(error)) => {
                tracing::warn!(component = %self.component, "a change is passed over: {error:?}");
                Came::PassedOver
            }
            Err(error) => {
                // A watch that broke off is nobody's change.
                if !follower.has_ended() {
                    self.metrics.change(&self.component, Came::Failed);
                }
                return Some(error);
            }
        };
        self.metrics.change(&self.component, came);
        None
    }
}

/// The component that the next version of its file is.
async fn next(programs: &mut watch::Receiver<Program>) -> Program {
    if programs.changed().await.is_err() {
        // Its section ends, and this with it.
        std::future::pending::<()>().await;
    }
    programs.borrow_and_update().clone()
}
