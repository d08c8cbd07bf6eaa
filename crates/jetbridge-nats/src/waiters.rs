//! Who waits for which answer, and what the connection is doing: the state behind [`Link`],
//! without input or output.
//!
//! Every request has one entry here, removed when its future ends or is dropped. A connection
//! that dies settles all entries at once; a permission violation, which the server reports as an
//! event instead of a reply, settles the entries of that subject. An entry is made only while
//! the connection is up, under the same lock that settles, so that none can slip through.
//!
//! [`Link`]: crate::link::Link

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Message, Subject};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// Answers buffered for one request that has several. A batch of direct gets asks for at most
/// 1024; its terminator is one more.
pub(crate) const ANSWERS_MAX: usize = 1100;

/// What a waiter gets.
pub(crate) type Answer = Result<Message, Failure>;

/// Why no answer comes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The connection was closed by us or gave up for good.
    Closed,
    /// The server forbids the subject.
    Denied(Denial),
    /// The connection died after the request may have left.
    Lost,
}

/// A subject the credentials do not cover.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Denial {
    /// `publish` or `subscribe`.
    pub(crate) action: &'static str,
    /// The subject as the server names it.
    pub(crate) subject: String,
}

/// What the connection is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Not connected yet, or not any more; the words of the last failure.
    Offline(String),
    /// Connected.
    Online,
    /// Closed for good.
    Closed,
}

/// The phase, and how often the connection has been made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) epoch: u64,
}

/// The table of waiters and subscriptions.
#[derive(Debug)]
pub(crate) struct Waiters {
    table: Mutex<Table>,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    requests: HashMap<u64, Request>,
    interests: HashMap<u64, Interest>,
    inbox_denied: Option<Denial>,
}

#[derive(Debug)]
struct Request {
    subject: Subject,
    sink: Sink,
    /// What the message takes of what may be in flight, given back with the answer.
    room: Option<Room>,
}

/// A message's share of what may be in flight.
pub(crate) type Room = Arc<OwnedSemaphorePermit>;

/// Where answers go.
#[derive(Debug)]
pub(crate) enum Sink {
    One(oneshot::Sender<Answer>),
    Many(mpsc::Sender<Answer>),
}

impl Sink {
    /// Hands over the last answer. Whoever has stopped listening is about to leave the table.
    fn settle(self, answer: Answer) {
        match self {
            Self::One(sender) => drop(sender.send(answer)),
            Self::Many(sender) => drop(sender.try_send(answer)),
        }
    }
}

#[derive(Debug)]
struct Interest {
    subject: String,
    denied: mpsc::Sender<Denial>,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        let state = State { phase: Phase::Offline("not connected yet".to_owned()), epoch: 0 };
        Self { table: Mutex::default(), state: watch::Sender::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state now, and every change of it.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The state now. Nobody else may hold on to a look at the state while they take the table's
    /// lock: the order is the table first.
    pub(crate) fn now(&self) -> State {
        self.state.borrow().clone()
    }

    /// Enters a request to the subject that `subject` makes of the token it gets; `None` if the
    /// connection is down.
    pub(crate) fn enter(
        &self,
        subject: impl FnOnce(u64) -> Subject,
        sink: Sink,
        room: Option<Room>,
    ) -> Result<Option<u64>, Failure> {
        let mut table = self.lock();
        match self.state.borrow().phase {
            Phase::Online => {}
            Phase::Offline(_) => return Ok(None),
            Phase::Closed => return Err(Failure::Closed),
        }
        if let Some(denial) = &table.inbox_denied {
            return Err(Failure::Denied(denial.clone()));
        }
        table.next += 1;
        let token = table.next;
        table.requests.insert(token, Request { subject: subject(token), sink, room });
        Ok(Some(token))
    }

    /// Forgets a request.
    pub(crate) fn leave(&self, token: u64) {
        self.lock().requests.remove(&token);
    }

    /// Hands an answer to the request it is for; one that nobody waits for is dropped.
    pub(crate) fn answer(&self, token: u64, message: Message) {
        use std::collections::hash_map::Entry;
        let mut table = self.lock();
        let Entry::Occupied(entry) = table.requests.entry(token) else { return };
        match &entry.get().sink {
            Sink::One(_) => entry.remove().sink.settle(Ok(message)),
            // A full channel means more answers than were asked for.
            Sink::Many(sender) => drop(sender.try_send(Ok(message))),
        }
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().requests.len()
    }

    /// Messages that wait for a stream's acknowledgement.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.lock().requests.values().filter(|request| request.room.is_some()).count()
    }

    /// Enters a subscription to `subject`, to be told if it is denied.
    pub(crate) fn watch_interest(&self, subject: &str) -> (u64, mpsc::Receiver<Denial>) {
        let (sender, receiver) = mpsc::channel(1);
        let mut table = self.lock();
        table.next += 1;
        let token = table.next;
        table.interests.insert(token, Interest { subject: subject.to_owned(), denied: sender });
        (token, receiver)
    }

    /// Forgets a subscription.
    pub(crate) fn forget_interest(&self, token: u64) {
        self.lock().interests.remove(&token);
    }

    /// The connection is up (again). What still waited belongs to an earlier one.
    pub(crate) fn connected(&self) {
        self.settle_all(&Failure::Lost, |state| {
            state.phase = Phase::Online;
            state.epoch += 1;
        });
    }

    /// The connection is down.
    pub(crate) fn disconnected(&self) {
        self.settle_all(&Failure::Lost, |state| {
            if state.phase == Phase::Online {
                state.phase = Phase::Offline("the connection was lost".to_owned());
            }
        });
    }

    /// The connection is gone for good.
    pub(crate) fn closed(&self) {
        self.settle_all(&Failure::Closed, |state| state.phase = Phase::Closed);
    }

    /// An attempt to connect failed.
    pub(crate) fn attempt_failed(&self, reason: String) {
        self.state.send_if_modified(|state| match &mut state.phase {
            Phase::Offline(known) if *known != reason => {
                *known = reason;
                true
            }
            _ => false,
        });
    }

    fn settle_all(&self, failure: &Failure, change: impl FnOnce(&mut State)) {
        let mut table = self.lock();
        self.state.send_modify(|state| {
            if state.phase != Phase::Closed {
                change(state);
            }
        });
        table.inbox_denied = None;
        for (_, request) in table.requests.drain() {
            request.sink.settle(Err(failure.clone()));
        }
    }

    /// The server refused a subject. `inbox` is the subject that answers come on.
    pub(crate) fn denied(&self, denial: Denial, inbox: &str) {
        let mut table = self.lock();
        if denial.action == "subscribe" {
            if denial.subject == inbox {
                for (_, request) in table.requests.drain() {
                    request.sink.settle(Err(Failure::Denied(denial.clone())));
                }
                table.inbox_denied = Some(denial);
                return;
            }
            for interest in table.interests.values() {
                if interest.subject == denial.subject {
                    drop(interest.denied.try_send(denial.clone()));
                }
            }
            return;
        }
        let tokens: Vec<u64> = table
            .requests
            .iter()
            .filter(|(_, request)| request.subject.as_str() == denial.subject)
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            if let Some(request) = table.requests.remove(&token) {
                request.sink.settle(Err(Failure::Denied(denial.clone())));
            }
        }
    }
}

/// Reads a permission violation out of the server's `-ERR` text.
pub(crate) fn parse_denial(text: &str) -> Option<Denial> {
    let rest = text.strip_prefix("Permissions Violation for ")?;
    let (action, rest) = match rest.strip_prefix("Publish ") {
        Some(rest) => ("publish", rest),
        None => ("subscribe", rest.strip_prefix("Subscription ")?),
    };
    let quoted = rest.split('"').nth(1)?;
    Some(Denial { action, subject: quoted.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn online() -> Waiters {
        let waiters = Waiters::new();
        waiters.connected();
        waiters
    }

    fn enter(waiters: &Waiters, subject: &'static str) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        waiters.enter(|_| subject.into(), Sink::One(sender), None).unwrap().unwrap();
        receiver
    }

    fn refused(waiters: &Waiters) -> Result<Option<u64>, Failure> {
        waiters.enter(|_| "a".into(), Sink::One(oneshot::channel().0), None)
    }

    #[test]
    fn a_disconnect_settles_every_waiter_and_leaves_no_entry() {
        let waiters = online();
        let (mut first, mut second) = (enter(&waiters, "a"), enter(&waiters, "b"));
        waiters.disconnected();
        assert_eq!(first.try_recv().unwrap().unwrap_err(), Failure::Lost);
        assert_eq!(second.try_recv().unwrap().unwrap_err(), Failure::Lost);
        assert_eq!(waiters.len(), 0);
        assert_eq!(refused(&waiters), Ok(None), "nobody waits while it is down");
    }

    #[test]
    fn a_denial_settles_the_waiters_of_that_subject_only() {
        let waiters = online();
        let (mut denied, mut other) = (enter(&waiters, "a"), enter(&waiters, "b"));
        let denial = parse_denial("Permissions Violation for Publish to \"a\"").unwrap();
        waiters.denied(denial.clone(), "_INBOX.x.*");
        assert_eq!(denied.try_recv().unwrap().unwrap_err(), Failure::Denied(denial));
        assert!(other.try_recv().is_err());
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn a_denied_inbox_fails_requests_until_the_next_connection() {
        let waiters = online();
        let denial =
            parse_denial("Permissions Violation for Subscription to \"_INBOX.x.*\"").unwrap();
        waiters.denied(denial.clone(), "_INBOX.x.*");
        assert_eq!(refused(&waiters), Err(Failure::Denied(denial)));
        waiters.connected();
        assert!(refused(&waiters).unwrap().is_some());
    }

    #[test]
    fn denials_are_read_from_the_servers_words() {
        let queue = "Permissions Violation for Subscription to \"a.>\" using queue \"q\"";
        let denial = parse_denial(queue).unwrap();
        assert_eq!((denial.action, denial.subject.as_str()), ("subscribe", "a.>"));
        assert_eq!(parse_denial("Maximum Control Line Exceeded"), None);
    }

    #[test]
    fn closed_is_final() {
        let waiters = online();
        waiters.closed();
        waiters.connected();
        assert_eq!(refused(&waiters), Err(Failure::Closed));
    }
}
