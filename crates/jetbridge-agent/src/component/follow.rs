//! One watch of a component: changes in, and what came of them on the board and in the figures.

use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::{Follower, Program, Told};
use jetbridge_core::Backoff;

use super::Health;
use super::metrics::{Came, ComponentMetrics};

/// A store that is watched, and whom it is told to.
pub(super) struct Watch {
    pub(super) program: Program,
    pub(super) ctx: KeyvalueCtx,
    pub(super) component: String,
    pub(super) identifier: String,
    pub(super) metrics: ComponentMetrics,
    pub(super) health: Health,
}

/// Tells the component of every change, for ever.
pub(super) async fn follow(watch: Watch) {
    let mut backoff = Backoff::outage();
    loop {
        let (program, ctx) = (watch.program.clone(), watch.ctx.clone());
        match Follower::open(program, ctx, &watch.identifier).await {
            Ok(mut follower) => watch.deliver(&mut follower, &mut backoff).await,
            Err(error) => watch.health.set(Some(error.to_string())),
        }
        backoff.wait().await;
    }
}

impl Watch {
    /// Delivers until the watch cannot be taken up again.
    async fn deliver(&self, follower: &mut Follower, backoff: &mut Backoff) {
        self.health.set(None);
        loop {
            let failure = match follower.next().await {
                Ok(Told::CaughtUp) => None,
                Ok(Told::Done) => {
                    self.metrics.change(&self.component, Came::Done);
                    None
                }
                Ok(Told::PassedOver(error)) => {
                    self.metrics.change(&self.component, Came::PassedOver);
                    tracing::warn!(component = %self.component, "a change is passed over: {error:?}");
                    None
                }
                Err(error) => Some(error),
            };
            let Some(error) = failure else {
                *backoff = Backoff::outage();
                self.health.set(None);
                continue;
            };
            self.metrics.change(&self.component, Came::Failed);
            self.health.set(Some(format!("store \"{}\": {error}", self.identifier)));
            backoff.wait().await;
            // A guest that trapped is told again; a watch that ended is taken up where it was.
            if follower.has_ended()
                && let Err(error) = follower.reopen().await
            {
                self.health.set(Some(error.to_string()));
                return;
            }
        }
    }
}
