//! Who waits for which answer, and what the connection is doing: the state behind [`Link`],
//! without input or output.
//!
//! Every request has one entry here, removed when it is answered, is overdue, or its future is
//! dropped. A connection that dies settles all entries at once; a permission violation, which the
//! server reports as an event instead of a reply, settles the entries of that subject. An entry is
//! made only while the connection is up, under the same lock that settles, so that none can slip
//! through. One look at the table finds all that are overdue, so that a request needs no timer.
//!
//! [`Link`]: crate::link::Link

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::{Message, Subject};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

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
    /// It was time.
    Elapsed,
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
    /// What every request asks of the state, changed under the table's lock.
    online: AtomicBool,
    epoch: AtomicU64,
    /// Whether the present connection has answered anything.
    heard: AtomicBool,
    /// Woken when a request is entered that will be overdue before the next look.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    requests: HashMap<u64, Request, BuildHasherDefault<TokenHasher>>,
    interests: HashMap<u64, Interest>,
    inbox_denied: Option<Denial>,
    unheard: Unheard,
    /// When the next look for overdue requests is taken; `None` is when one is entered.
    look: Option<Instant>,
}

/// Messages that the server refused and nobody waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unheard {
    /// How many there have been.
    pub(crate) count: u64,
    /// The last of them.
    pub(crate) last: Option<Denial>,
}

/// Tokens are counted, so that a multiplication spreads them well enough.
#[derive(Debug, Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, token: u64) {
        /// 2⁶⁴ divided by the golden ratio.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0 = token.wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A request on its way into the table.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) sink: Sink,
    /// When it is overdue.
    pub(crate) ends: Instant,
    /// What the message takes of what may be in flight, given back with the answer.
    pub(crate) room: Option<Room>,
}

#[derive(Debug)]
struct Request {
    subject: Subject,
    waiting: Waiting,
}

impl Request {
    fn settle(self, answer: Answer) {
        // The room first: whoever is woken by the answer may want it.
        drop(self.waiting.room);
        self.waiting.sink.settle(answer);
    }
}

/// A message's share of what may be in flight.
pub(crate) type Room = OwnedSemaphorePermit;

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
        Self {
            table: Mutex::default(),
            state: watch::Sender::new(state),
            online: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            sooner: Notify::new(),
        }
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

    /// True while the connection is up.
    pub(crate) fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// How often the connection has been made.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// True once the present connection has answered a request: from then on what the client says
    /// of its server is said of this one.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }

    /// Enters a request to the subject that `subject` makes of the token it gets; `None` if the
    /// connection is down.
    pub(crate) fn enter(
        &self,
        subject: impl FnOnce(u64) -> Subject,
        waiting: Waiting,
    ) -> Result<Option<u64>, Failure> {
        let mut table = self.lock();
        if !self.is_online() {
            return match self.state.borrow().phase {
                Phase::Closed => Err(Failure::Closed),
                Phase::Online | Phase::Offline(_) => Ok(None),
            };
        }
        if let Some(denial) = &table.inbox_denied {
            return Err(Failure::Denied(denial.clone()));
        }
        table.next += 1;
        let token = table.next;
        if table.look.is_none_or(|look| waiting.ends < look) {
            table.look = Some(waiting.ends);
            self.sooner.notify_one();
        }
        table.requests.insert(token, Request { subject: subject(token), waiting });
        Ok(Some(token))
    }

    /// Forgets a request.
    pub(crate) fn leave(&self, token: u64) {
        // Whoever waits for its room is woken when the table is free again.
        let forgotten = self.lock().requests.remove(&token);
        drop(forgotten);
    }

    /// Hands answers to the requests they are for; those that nobody waits for are dropped.
    pub(crate) fn answer(&self, answers: impl ExactSizeIterator<Item = (u64, Message)>) {
        use std::collections::hash_map::Entry;
        let mut settled = Vec::with_capacity(answers.len());
        let mut table = self.lock();
        for (token, message) in answers {
            let Entry::Occupied(entry) = table.requests.entry(token) else { continue };
            match &entry.get().waiting.sink {
                Sink::One(_) => settled.push((entry.remove(), message)),
                // A full channel means more answers than were asked for.
                Sink::Many(sender) => drop(sender.try_send(Ok(message))),
            }
            self.heard.store(true, Ordering::Release);
        }
        drop(table);
        settled.into_iter().for_each(|(request, message)| request.settle(Ok(message)));
    }

    /// Settles what is overdue at `now`, and says when the next look is due; `None` is when
    /// [`Waiters::sooner`] says so.
    pub(crate) fn look(&self, now: Instant) -> Option<Instant> {
        let mut table = self.lock();
        let overdue: Vec<Request> = table
            .requests
            .extract_if(|_, request| request.waiting.ends <= now)
            .map(|(_, request)| request)
            .collect();
        table.look = table.requests.values().map(|request| request.waiting.ends).min();
        let next = table.look;
        drop(table);
        overdue.into_iter().for_each(|request| request.settle(Err(Failure::Elapsed)));
        next
    }

    /// Resolves when a look is due before the one that was announced.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().requests.len()
    }

    /// Messages that wait for a stream's acknowledgement.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.lock().requests.values().filter(|request| request.waiting.room.is_some()).count()
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
            self.epoch.store(state.epoch, Ordering::Release);
            self.online.store(state.phase == Phase::Online, Ordering::Release);
        });
        self.heard.store(false, Ordering::Release);
        table.inbox_denied = None;
        for (_, request) in table.requests.drain() {
            request.settle(Err(failure.clone()));
        }
    }

    /// Refusals of messages that nobody waits for, since the beginning.
    pub(crate) fn unheard(&self) -> Unheard {
        self.lock().unheard.clone()
    }

    /// The server refused a subject. `inbox` is the subject that answers come on.
    pub(crate) fn denied(&self, denial: Denial, inbox: &str) {
        let mut table = self.lock();
        if denial.action == "subscribe" {
            if denial.subject == inbox {
                for (_, request) in table.requests.drain() {
                    request.settle(Err(Failure::Denied(denial.clone())));
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
        if tokens.is_empty() && !is_protocol(&denial.subject) {
            // Once for many of the same.
            if table.unheard.last.as_ref() != Some(&denial) {
                tracing::warn!(subject = denial.subject, "the server refuses messages");
            }
            table.unheard.count += 1;
            table.unheard.last = Some(denial);
            return;
        }
        for token in tokens {
            if let Some(request) = table.requests.remove(&token) {
                request.settle(Err(Failure::Denied(denial.clone())));
            }
        }
    }
}

/// True for subjects that only requests go to: one that is refused when nobody waits any more is
/// no message that somebody published.
fn is_protocol(subject: &str) -> bool {
    ["$JS.", "$KV.", "$O."].iter().any(|prefix| subject.starts_with(prefix))
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
        waiters.enter(|_| subject.into(), waiting(sender, 10)).unwrap().unwrap();
        receiver
    }

    fn waiting(sender: oneshot::Sender<Answer>, seconds: u64) -> Waiting {
        let ends = Instant::now() + std::time::Duration::from_secs(seconds);
        Waiting { sink: Sink::One(sender), ends, room: None }
    }

    fn refused(waiters: &Waiters) -> Result<Option<u64>, Failure> {
        waiters.enter(|_| "a".into(), waiting(oneshot::channel().0, 10))
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
    fn what_is_overdue_is_settled_by_one_look() {
        let waiters = online();
        let begin = Instant::now();
        assert_eq!(waiters.look(begin), None);
        let mut late = enter(&waiters, "a");
        let (sender, mut early) = oneshot::channel();
        waiters.enter(|_| "b".into(), waiting(sender, 1)).unwrap().unwrap();
        assert!(waiters.look(begin).unwrap() < begin + std::time::Duration::from_secs(5));
        waiters.look(begin + std::time::Duration::from_secs(5));
        assert_eq!(early.try_recv().unwrap().unwrap_err(), Failure::Elapsed);
        assert!(late.try_recv().is_err(), "it is not overdue yet");
        assert_eq!(waiters.len(), 1);
    }

    #[tokio::test]
    async fn a_request_that_ends_before_the_next_look_asks_for_one() {
        let waiters = online();
        let _first = enter(&waiters, "a");
        waiters.sooner().await;
        let _same = enter(&waiters, "b");
        let mut sooner = std::pin::pin!(waiters.sooner());
        assert!(futures_util::poll!(&mut sooner).is_pending());
        waiters.enter(|_| "c".into(), waiting(oneshot::channel().0, 1)).unwrap().unwrap();
        assert!(futures_util::poll!(&mut sooner).is_ready());
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
    fn a_denial_that_nobody_waits_for_is_kept_if_it_is_of_a_message() {
        let waiters = online();
        let _other = enter(&waiters, "b");
        for subject in ["a", "$KV.b.a", "$JS.API.INFO"] {
            let words = format!("Permissions Violation for Publish to \"{subject}\"");
            waiters.denied(parse_denial(&words).unwrap(), "_INBOX.x.*");
        }
        let unheard = waiters.unheard();
        assert_eq!((unheard.count, unheard.last.unwrap().subject.as_str()), (1, "a"));
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
