//! Requests that wait for their answer.
//!
//! All of a process's requests share one reply pattern, so that asking costs no subscription.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jetbridge_core::{Message, Result, Subject};
use tokio::sync::oneshot;

/// What the subjects of all answers begin with, as in NATS.
pub(crate) const INBOX_PREFIX: &str = "_INBOX.";

/// The open requests of one process.
#[derive(Debug)]
pub(super) struct Replies {
    prefix: String,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    answer: oneshot::Sender<Answer>,
    /// A responder in this process has it, whatever becomes of the owner.
    here: bool,
    /// The owner may have it.
    sent: bool,
}

/// How a request ends, unless by its deadline.
#[derive(Debug)]
pub(super) enum Answer {
    /// With an answer.
    Message(Message),
    /// Nobody listens.
    Nobody,
    /// The owner ended before it said whether anybody listens.
    Lost,
}

impl Replies {
    pub(super) fn new(member: u64) -> Self {
        let prefix = format!("{INBOX_PREFIX}{member:016x}.");
        Self { prefix, next: AtomicU64::new(0), open: Mutex::default() }
    }

    /// The pattern of all answers.
    pub(super) fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, reply: &Subject) -> Option<u64> {
        reply.as_str().strip_prefix(&self.prefix)?.parse().ok()
    }

    /// Opens a request, and says where its answer goes. Dropping the request closes it.
    pub(super) fn open(&self) -> Result<(Request<'_>, Subject)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let subject = Subject::parse(format!("{}{id}", self.prefix))?;
        let (answer, receiver) = oneshot::channel();
        self.lock().insert(id, Open { answer, here: false, sent: false });
        Ok((Request { replies: self, id, receiver }, subject))
    }

    /// An answer has come.
    pub(super) fn deliver(&self, message: &Message) {
        if let Some(id) = self.id(&message.subject) {
            self.settle(id, Answer::Message(message.clone()));
        }
    }

    /// The request with this reply subject reached nobody.
    pub(super) fn nobody(&self, reply: &Subject) {
        if let Some(id) = self.id(reply) {
            self.settle(id, Answer::Nobody);
        }
    }

    /// A responder in this process has the request with this reply subject.
    pub(super) fn reached_here(&self, reply: &Subject) {
        let mut open = self.lock();
        if let Some(open) = self.id(reply).and_then(|id| open.get_mut(&id)) {
            open.here = true;
        }
    }

    fn settle(&self, id: u64, answer: Answer) {
        let Some(open) = self.lock().remove(&id) else { return };
        // Who no longer waits needs no answer.
        drop(open.answer.send(answer));
    }

    /// The request with this reply subject is on its way to the owner.
    pub(super) fn sent(&self, reply: Option<&Subject>) {
        let mut open = self.lock();
        let id = reply.and_then(|reply| self.id(reply));
        if let Some(open) = id.and_then(|id| open.get_mut(&id)) {
            open.sent = true;
        }
    }

    /// The owner ended: what it had, or may have had, is lost.
    pub(super) fn fail_sent(&self) {
        let open = self.lock();
        let lost = open.iter().filter(|(_, open)| open.sent && !open.here);
        let lost: Vec<u64> = lost.map(|(id, _)| *id).collect();
        drop(open);
        lost.into_iter().for_each(|id| self.settle(id, Answer::Lost));
    }

    /// This process leaves.
    pub(super) fn fail_all(&self) {
        self.lock().clear();
    }
}

/// One open request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    replies: &'a Replies,
    id: u64,
    receiver: oneshot::Receiver<Answer>,
}

impl Request<'_> {
    /// How it ends; [`Answer::Lost`] too if this process leaves.
    pub(super) async fn answer(&mut self) -> Answer {
        (&mut self.receiver).await.unwrap_or(Answer::Lost)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.replies.lock().remove(&self.id);
    }
}
