//! What a limiter's callers and its task tell each other.

use std::sync::Arc;

use jetbridge_core::{Error, Result, Revision};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::decision::Decision;
use crate::holding::{Lease, Released};
use crate::permit::Permit;
use crate::state::Taken;
use crate::tally::Tally;
use crate::turns::Turn;

/// A call, or something that comes back.
#[derive(Debug)]
pub(crate) enum Message {
    Reserve(Request),
    /// Permits whose caller went away before their time came.
    GivenBack(Unused),
    /// Permits that must not be charged.
    Refund(Unused, oneshot::Sender<()>),
    /// Slots whose call has ended.
    Released(Released),
    /// A caller took a permit of those in stock, and few are left.
    RunsLow,
    /// What the counter had when it was asked: tickets can begin from there.
    FirstTicket(Instant, Result<i64>),
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) cost: u32,
    /// The caller would wait until then.
    pub(crate) until: Option<Instant>,
    /// What it gets may have to be put back: it is one of several that must agree.
    pub(crate) may_return: bool,
    pub(crate) reply: oneshot::Sender<Replied>,
    /// Its caller knows that it waits for a slot.
    pub(crate) queued: bool,
}

impl Request {
    /// The request, after its caller was told that it waits; `None` if the caller has gone.
    pub(crate) fn queued(self) -> Option<Self> {
        if self.queued {
            return Some(self);
        }
        let (reply, offered) = oneshot::channel();
        let told = self.reply.send(Ok(Reply::Queued(offered)));
        told.is_ok().then_some(Self { reply, queued: true, ..self })
    }
}

pub(crate) type Replied = Result<Reply, Arc<Error>>;

/// What a caller hears.
#[derive(Debug)]
pub(crate) enum Reply {
    Settled(Answer),
    /// The store has answered, and there is no slot: this is where one will be offered.
    Queued(oneshot::Receiver<Replied>),
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) decision: Decision,
    /// Permits to wait for, if there are any.
    pub(crate) reserved: Option<Reserved>,
}

/// Permits that were taken and not yet used.
#[derive(Debug)]
pub(crate) struct Unused {
    pub(crate) taken: Taken,
    pub(crate) slots: u32,
    pub(crate) ready: Instant,
    /// They are no good to anybody afterwards.
    pub(crate) expires: Instant,
    pub(crate) decision: Decision,
    /// The revision of the write that took them.
    pub(crate) token: Revision,
    pub(crate) lease: Arc<Lease>,
}

/// Permits that go back to the limiter's other callers unless their time is waited for.
#[derive(Debug)]
pub(crate) struct Reserved {
    turn: Arc<Turn>,
    home: mpsc::UnboundedSender<Message>,
    tally: Arc<Tally>,
}

impl Reserved {
    pub(crate) fn new(
        unused: Unused,
        home: mpsc::UnboundedSender<Message>,
        tally: Arc<Tally>,
    ) -> Self {
        Self { turn: Arc::new(Turn::new(unused)), home, tally }
    }

    pub(crate) fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    /// Waits until the permits may be used.
    pub(crate) async fn wait(self) -> Option<Permit> {
        let unused = self.turn.wait().await.filter(|unused| unused.slots > 0)?;
        Some(Permit::of_store(unused, self.home.clone(), Arc::clone(&self.tally)))
    }

    /// Gives them back as if they had never been asked for, as far as nobody took any since.
    pub(crate) async fn refund(self) {
        if let Some(unused) = self.turn.take() {
            let (done, refunded) = oneshot::channel();
            drop(self.home.send(Message::Refund(unused, done)));
            // Without its task they are forfeited.
            drop(refunded.await);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(unused) = self.turn.take() {
            // Without its task nobody waits for them, and they are forfeited.
            drop(self.home.send(Message::GivenBack(unused)));
        }
    }
}
