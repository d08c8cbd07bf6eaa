//! A slot in somebody's hands: a guard, so that no way out of a call forgets to give it back.

use std::sync::Arc;

use jetbridge_core::{Error, ErrorKind, Result, Revision};
use tokio::sync::{mpsc, oneshot};

use crate::fallback::Alone;
use crate::holding::{Lease, Released};
use crate::message::{Message, Unused};
use crate::tally::Tally;

/// Slots of a limiter with [`Policy::max_concurrent`](crate::Policy::max_concurrent), held until
/// this is dropped. If this process dies they come back when the lease of
/// [`LimiterOpts::lease`](crate::LimiterOpts) ends.
#[must_use = "dropped at once, it limits nothing"]
#[derive(Debug)]
pub struct Permit(Option<Held>);

#[derive(Debug)]
enum Held {
    Store {
        slots: u32,
        token: Revision,
        lease: Arc<Lease>,
        home: mpsc::UnboundedSender<Message>,
        tally: Arc<Tally>,
    },
    /// Given without the store; given back when it is dropped.
    Alone(#[expect(dead_code, reason = "its drop is what it is for")] Alone),
}

impl Permit {
    pub(crate) fn of_store(
        unused: Unused,
        home: mpsc::UnboundedSender<Message>,
        tally: Arc<Tally>,
    ) -> Self {
        let (slots, token, lease) = (unused.slots, unused.token, unused.lease);
        tally.took(slots);
        Self(Some(Held::Store { slots, token, lease, home, tally }))
    }

    pub(crate) fn alone(alone: Alone) -> Self {
        Self(Some(Held::Alone(alone)))
    }

    /// Grows with every write that gives slots: whoever guards a resource refuses a token below
    /// the last one it saw. Slots given by one write have the same. `None` for a permit that was
    /// given without the store.
    pub fn token(&self) -> Option<Revision> {
        match &self.0 {
            Some(Held::Store { token, .. }) => Some(*token),
            Some(Held::Alone(_)) | None => None,
        }
    }

    /// True as long as no other process can have been given the same slot.
    pub fn is_held(&self) -> bool {
        match &self.0 {
            Some(Held::Store { lease, .. }) => lease.is_certain(),
            Some(Held::Alone(_)) => true,
            None => false,
        }
    }

    /// Resolves when [`Permit::is_held`] is no longer true: the store could not be told in time
    /// that the call goes on.
    pub async fn lost(&self) {
        match &self.0 {
            Some(Held::Store { lease, .. }) => lease.lost().await,
            Some(Held::Alone(_)) | None => std::future::pending().await,
        }
    }

    /// Gives the slot back and waits until the store has it.
    /// [`Unavailable`](ErrorKind::Unavailable) if it did not answer: this process goes on to tell
    /// it as long as it lives, and the lease ends in any case.
    pub async fn release(mut self) -> Result<()> {
        let (done, told) = oneshot::channel();
        if !self.send(Some(done)) {
            return Ok(());
        }
        match told.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unavailable().caused_by(error)),
            Err(_closed) => Err(unavailable().because("the limiter was closed")),
        }
    }

    /// False if there is nothing to tell the store.
    fn send(&mut self, done: Option<oneshot::Sender<Result<(), Arc<Error>>>>) -> bool {
        let Some(Held::Store { slots, lease, home, tally, .. }) = self.0.take() else {
            return false;
        };
        tally.released(slots);
        // Without its task the lease ends by itself.
        drop(home.send(Message::Released(Released { slots, lease, done })));
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.send(None);
    }
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "limit.release")
        .hint("the slot comes back when its lease ends")
}
