//! Where answers arrive, and who takes them from there.
//!
//! A task of the connection hands answers to the requests they are for. A request that waits alone
//! takes its answer itself, which saves the turn of that task; as soon as another one is entered
//! the task takes over, for who waits for itself may go away at any time.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::task::unconstrained;

use crate::link::Inbox;
use crate::waiters::Waiters;

/// Answers handed over in one turn.
const ANSWERS_PER_TURN: usize = 128;

/// The answers of one connection.
#[derive(Debug)]
pub(crate) struct Mailbox {
    answers: Mutex<Subscriber>,
    inbox: Inbox,
    waiters: Arc<Waiters>,
}

impl Mailbox {
    pub(crate) fn new(answers: Subscriber, inbox: Inbox, waiters: Arc<Waiters>) -> Self {
        Self { answers: Mutex::new(answers), inbox, waiters }
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Hands answers over until the connection ends.
    pub(crate) async fn hand_over(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                // Somebody took from here meanwhile and need not come again.
                () = self.waiters.taking_over() => {}
                going_on = poll_fn(|cx| self.hand_over_some(cx)) => {
                    if !going_on {
                        return;
                    }
                }
            }
        }
    }

    /// Hands over what has arrived; `false` at the end.
    fn hand_over_some(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut arrived = Vec::new();
        let mut answers = self.lock();
        let end = loop {
            match answers.poll_next_unpin(cx) {
                Poll::Ready(Some(answer)) => arrived.extend(self.inbox.addressed(answer)),
                Poll::Ready(None) => break Poll::Ready(false),
                Poll::Pending if arrived.is_empty() => break Poll::Pending,
                Poll::Pending => break Poll::Ready(true),
            }
            if arrived.len() >= ANSWERS_PER_TURN {
                break Poll::Ready(true);
            }
        };
        drop(answers);
        self.waiters.answer(arrived.into_iter());
        if end == Poll::Ready(false) {
            self.waiters.closed();
        }
        end
    }

    /// Takes what has arrived, while the request of `token` is the one to do so; `false` if it is
    /// not. The answer, if it is among that, is in the request's own channel then.
    pub(crate) fn take(&self, token: u64, cx: &mut Context<'_>) -> bool {
        // Asked under the lock: who is entered next and has the task take over comes behind us.
        let mut answers = self.lock();
        while self.waiters.takes(token) {
            // The answer is all that is wanted, so that no budget needs to end this.
            let mut next = unconstrained(answers.next());
            let Poll::Ready(next) = next.poll_unpin(cx) else { return true };
            let Some(answer) = next.map(|answer: Message| self.inbox.addressed(answer)) else {
                drop(answers);
                self.waiters.closed();
                return false;
            };
            let is_ours = answer.as_ref().is_some_and(|(to, _)| *to == token);
            self.waiters.answer(answer.into_iter());
            if is_ours {
                return true;
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Subscriber> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
