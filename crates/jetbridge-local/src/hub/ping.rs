//! Questions to the owner that outlive owners: who asks waits until one of them answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The open pings of one process.
#[derive(Debug, Default)]
pub(super) struct Pings {
    next: AtomicU64,
    open: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Pings {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new ping; dropping it closes it.
    pub(super) fn open(&self) -> Ping<'_> {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        self.lock().insert(token, answer);
        Ping { pings: self, token, receiver }
    }

    /// Those without an answer, for a new owner.
    pub(super) fn open_tokens(&self) -> impl Iterator<Item = u64> + use<> {
        let mut tokens: Vec<u64> = self.lock().keys().copied().collect();
        tokens.sort_unstable();
        tokens.into_iter()
    }

    /// The owner has answered.
    pub(super) fn answer(&self, token: u64) {
        if let Some(answer) = self.lock().remove(&token) {
            // Who no longer waits needs no answer.
            answer.send(()).unwrap_or_default();
        }
    }

    /// This process is the owner now, and answers all of its own.
    pub(super) fn answer_all(&self) {
        self.open_tokens().for_each(|token| self.answer(token));
    }

    /// Nobody will answer any more.
    pub(super) fn fail_all(&self) {
        self.lock().clear();
    }
}

/// One open ping.
#[derive(Debug)]
pub(super) struct Ping<'a> {
    pings: &'a Pings,
    /// What the owner's answer names.
    pub(super) token: u64,
    receiver: oneshot::Receiver<()>,
}

impl Ping<'_> {
    /// Resolves with the answer; `false` if there will be none.
    pub(super) async fn answered(&mut self) -> bool {
        (&mut self.receiver).await.is_ok()
    }
}

impl Drop for Ping<'_> {
    fn drop(&mut self) {
        self.pings.lock().remove(&self.token);
    }
}
