//! The connection that everything in this crate shares, and what it tells.
//!
//! `async_nats` keeps the socket: it connects, reconnects, writes and delivers. This module adds
//! what the client lacks: the state as a value with a count of connections, permission violations
//! brought to those they concern, and an end that ends. Requests are the business of
//! [`request`](crate::request).

use std::fmt::{self, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Client, ClientError, Event, Message, ServerError, Subscriber};
use futures_core::Stream;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use jetbridge_core::{ConnectionState, Error, Result, StoreClock, Tasks, random};

use crate::consumers::Consumers;
use crate::error::not_sent;
use crate::reader::Tails;
use crate::request::{Call, Repeat};
use crate::waiters::{Denial, Phase, State, Waiters, parse_denial};

/// Payload that may be on its way to streams at once, in units of [`IN_FLIGHT_UNIT`]: half of
/// what a server buffers for one stream (128 MiB) before it refuses more.
pub(crate) const IN_FLIGHT_UNITS: u32 = 4096;
/// Bytes of one unit; a smaller message counts as one, which bounds the number of messages.
pub(crate) const IN_FLIGHT_UNIT: usize = 16 * 1024;

/// Answers handed over in one turn.
const ANSWERS_PER_TURN: usize = 128;

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    waiters: Arc<Waiters>,
    inbox: Inbox,
    tasks: Tasks,
    cleanups: Tasks,
    consumers: Consumers,
    tails: Tails,
    clock: StoreClock,
    in_flight: Arc<Semaphore>,
    /// The connection it was asked in, and what was answered.
    server_id: Mutex<Option<(u64, Arc<str>)>>,
    request_timeout: Duration,
    location: String,
}

/// What a link is made of.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) inbox: Inbox,
    pub(crate) request_timeout: Duration,
    pub(crate) location: String,
}

/// The subjects that answers come on: `PREFIX.NAME.TOKEN`.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    /// Up to and including the dot before the token.
    stem: String,
    /// The subscription that takes them all.
    pattern: String,
}

impl Inbox {
    pub(crate) fn new(prefix: &str) -> Self {
        let stem = format!("{prefix}.{}.", random::name());
        let pattern = format!("{stem}*");
        Self { stem, pattern }
    }

    pub(crate) fn pattern(&self) -> &str {
        &self.pattern
    }

    pub(crate) fn subject(&self, token: u64) -> String {
        /// Digits of the largest token.
        const TOKEN_BYTES_MAX: usize = 20;
        let mut subject = String::with_capacity(self.stem.len() + TOKEN_BYTES_MAX);
        subject.push_str(&self.stem);
        // Writing to a string does not fail.
        let _written = write!(subject, "{token}");
        subject
    }

    /// A subject of its own beside the answers, under the same prefix.
    pub(crate) fn sibling(&self) -> String {
        let prefix =
            self.stem.trim_end_matches('.').rsplit_once('.').map_or("_INBOX", |(it, _)| it);
        format!("{prefix}.{}", random::name())
    }

    fn token(&self, subject: &str) -> Option<u64> {
        subject.strip_prefix(&self.stem)?.parse().ok()
    }

    /// An answer with the token it is addressed to.
    fn addressed(&self, answer: Message) -> Option<(u64, Message)> {
        Some((self.token(&answer.subject)?, answer))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, waiting) = (self.now(), self.0.waiters.len());
        f.debug_struct("Link")
            .field("location", &self.0.location)
            .field("state", &state)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Subscribes to the answers; from then on requests work.
    pub(crate) async fn start(parts: Parts) -> Result<Self> {
        let answers =
            parts.client.subscribe(parts.inbox.pattern().to_owned()).await.map_err(|cause| {
                not_sent("nats.connect", "cannot subscribe to answers").caused_by(cause)
            })?;
        let tasks = Tasks::new();
        tasks.spawn_until_stop(dispatch(answers, parts.inbox.clone(), Arc::clone(&parts.waiters)));
        tasks.spawn_until_stop(look(Arc::clone(&parts.waiters)));
        Ok(Self(Arc::new(Inner {
            client: parts.client,
            waiters: parts.waiters,
            inbox: parts.inbox,
            tasks,
            cleanups: Tasks::new(),
            consumers: Consumers::default(),
            tails: Tails::default(),
            clock: StoreClock::default(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_UNITS as usize)),
            server_id: Mutex::default(),
            request_timeout: parts.request_timeout,
            location: parts.location,
        })))
    }

    /// The client itself, for what this crate does not wrap.
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.0.waiters
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    /// Background work that ends with the connection.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Background work that removes what nobody needs any more, each under its own deadline:
    /// closing waits for it while the connection still answers.
    pub(crate) fn cleanups(&self) -> &Tasks {
        &self.0.cleanups
    }

    /// Consumers to delete before the connection ends.
    pub(crate) fn consumers(&self) -> &Consumers {
        &self.0.consumers
    }

    /// Consumers that many readers share.
    pub(crate) fn tails(&self) -> &Tails {
        &self.0.tails
    }

    /// The store's time, fed by whoever sees a time stamp.
    pub(crate) fn clock(&self) -> &StoreClock {
        &self.0.clock
    }

    pub(crate) fn in_flight(&self) -> &Arc<Semaphore> {
        &self.0.in_flight
    }

    /// The id of the server at the other end. The client copies all that it knows of a server,
    /// which is too much for every write, so it is asked once for each connection.
    pub(crate) fn server_id(&self) -> Arc<str> {
        let epoch = self.epoch();
        let mut known = self.0.server_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, id)) = &*known
            && *of == epoch
        {
            return Arc::clone(id);
        }
        let told = self.0.waiters.has_heard();
        let id: Arc<str> = self.client().server_info().server_id.into();
        // Before the first answer the client may still speak of the server before.
        if told && self.epoch() == epoch {
            *known = Some((epoch, Arc::clone(&id)));
        }
        id
    }

    /// The servers, without secrets.
    pub(crate) fn location(&self) -> &str {
        &self.0.location
    }

    /// The state now, and every change of it.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.0.waiters.state()
    }

    /// The state now.
    pub(crate) fn now(&self) -> State {
        self.0.waiters.now()
    }

    /// How often the connection has been made.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.waiters.epoch()
    }

    /// A call that must not be sent twice, due within the connection's request time-out.
    pub(crate) fn once(&self, operation: &'static str) -> Call {
        Call::new(operation, Repeat::Never, self.0.request_timeout)
    }

    /// A call that may be sent again, due within the connection's request time-out.
    pub(crate) fn repeatable(&self, operation: &'static str) -> Call {
        Call::new(operation, Repeat::Safe, self.0.request_timeout)
    }

    /// The state as the seam has it: now, then every change.
    pub(crate) fn states(&self) -> BoxStream<'static, ConnectionState> {
        let told = None::<Phase>;
        let states =
            futures_util::stream::unfold((self.state(), told), |(mut now, told)| async move {
                if told == Some(Phase::Closed) {
                    return None;
                }
                let news = now.wait_for(|state| told.as_ref() != Some(&state.phase)).await;
                let phase = news.ok()?.phase.clone();
                let state = match &phase {
                    Phase::Closed => ConnectionState::Closed,
                    Phase::Online => ConnectionState::Connected,
                    Phase::Offline(reason) => {
                        ConnectionState::Reconnecting { reason: reason.clone() }
                    }
                };
                Some((state, (now, Some(phase))))
            });
        states.boxed()
    }

    /// Waits until the connection is up.
    pub(crate) async fn online(&self, operation: &'static str, deadline: Instant) -> Result<u64> {
        if self.0.waiters.is_online() {
            return Ok(self.epoch());
        }
        // Rare, so its room is not that of every request.
        Box::pin(self.back_online(operation, deadline)).await
    }

    async fn back_online(&self, operation: &'static str, deadline: Instant) -> Result<u64> {
        let mut state = self.state();
        let up = state.wait_for(|state| !matches!(state.phase, Phase::Offline(_)));
        match tokio::time::timeout_at(deadline, up).await {
            Ok(Ok(state)) if state.phase == Phase::Online => Ok(state.epoch),
            Ok(_) => Err(closed(operation)),
            Err(_elapsed) => Err(self.offline(operation)),
        }
    }

    fn offline(&self, operation: &'static str) -> Error {
        let reason = match &self.now().phase {
            Phase::Offline(reason) => reason.clone(),
            Phase::Online | Phase::Closed => "the connection was just made".to_owned(),
        };
        not_sent(operation, "no server could be reached in time")
            .with("servers", self.location())
            .with("reason", reason)
            .hint("`jetbridge doctor` says what fails")
    }

    /// Subscribes, in `group` if there is one, and returns when the server knows of it.
    pub(crate) async fn subscribe(
        &self,
        subject: &str,
        group: Option<&str>,
        call: &Call,
    ) -> Result<Feed> {
        let feed = self.subscribe_unconfirmed(subject, group, call).await?;
        self.barrier(call).await?;
        feed.confirmed(call.operation)
    }

    /// As [`Link::subscribe`], without the round trip: for those whose next request, which the
    /// server sees after the subscription, is one anyway.
    pub(crate) async fn subscribe_unconfirmed(
        &self,
        subject: &str,
        group: Option<&str>,
        call: &Call,
    ) -> Result<Feed> {
        self.online(call.operation, call.deadline).await?;
        let (token, denied) = self.0.waiters.watch_interest(subject);
        let interest = Interest { token, waiters: Arc::clone(&self.0.waiters) };
        let subscribed = match group {
            None => self.0.client.subscribe(subject.to_owned()).await,
            Some(group) => {
                self.0.client.queue_subscribe(subject.to_owned(), group.to_owned()).await
            }
        };
        let messages = subscribed
            .map_err(|cause| not_sent(call.operation, "cannot subscribe").caused_by(cause))?;
        Ok(Feed { messages, denied, _interest: interest })
    }

    /// Closes for good: what waits is settled, subscriptions end, the socket is shut, tasks are
    /// joined. Returns how many tasks and how many unacknowledged messages were left.
    pub(crate) async fn close(&self, grace: Duration) -> (usize, usize) {
        let deadline = Instant::now() + grace;
        let left = || deadline.saturating_duration_since(Instant::now());
        if self.now().phase == Phase::Online {
            let everything = self.0.in_flight.acquire_many(IN_FLIGHT_UNITS);
            // What does not come back in time is what the report's count is for.
            drop(tokio::time::timeout_at(deadline, everything).await);
            self.0.cleanups.begin_stop();
            drop(tokio::time::timeout_at(deadline, self.0.consumers.delete_all()).await);
        }
        let cleanups = self.0.cleanups.stop(left()).await;
        let unacknowledged = self.0.waiters.unacknowledged();
        self.0.waiters.closed();
        // An error means that the client has ended already; a time-out, that it is offline and
        // will never get to it.
        drop(tokio::time::timeout_at(deadline, self.client().drain()).await);
        (cleanups + self.0.tasks.stop(left()).await, unacknowledged)
    }
}

fn closed(operation: &'static str) -> Error {
    not_sent(operation, "the connection is closed")
}

/// Hands answers over, all that have come in one turn: thousands may be waited for at once.
async fn dispatch(mut answers: Subscriber, inbox: Inbox, waiters: Arc<Waiters>) {
    let mut arrived = Vec::new();
    while let Some(first) = answers.next().await {
        arrived.extend(inbox.addressed(first));
        while arrived.len() < ANSWERS_PER_TURN
            && let Some(Some(next)) = answers.next().now_or_never()
        {
            arrived.extend(inbox.addressed(next));
        }
        waiters.answer(arrived.drain(..));
    }
    waiters.closed();
}

/// Settles requests that are overdue.
async fn look(waiters: Arc<Waiters>) {
    loop {
        match waiters.look(Instant::now()) {
            // An error means that it was time.
            Some(next) => drop(tokio::time::timeout_at(next, waiters.sooner()).await),
            None => waiters.sooner().await,
        }
    }
}

/// Brings an event of the client to those it concerns.
pub(crate) fn observe(event: &Event, waiters: &Waiters, inbox: &Inbox) {
    match event {
        Event::Connected => waiters.connected(),
        Event::Disconnected => waiters.disconnected(),
        Event::Closed | Event::ClientError(ClientError::MaxReconnects) => waiters.closed(),
        Event::ClientError(error) => waiters.attempt_failed(error.to_string()),
        Event::ServerError(ServerError::Other(text)) => match parse_denial(text) {
            Some(denial) => waiters.denied(denial, inbox.pattern()),
            None => {
                tracing::warn!(error = %text, "the server reports an error");
                waiters.attempt_failed(text.clone());
            }
        },
        Event::ServerError(error) => waiters.attempt_failed(error.to_string()),
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "a subscription's buffer is full: messages are dropped");
        }
        Event::LameDuckMode | Event::Draining => {}
    }
}

/// A subscription. Dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct Feed {
    messages: Subscriber,
    denied: mpsc::Receiver<Denial>,
    _interest: Interest,
}

#[derive(Debug)]
struct Interest {
    token: u64,
    waiters: Arc<Waiters>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.waiters.forget_interest(self.token);
    }
}

impl Feed {
    /// Fails if the subscription was denied by now.
    pub(crate) fn confirmed(mut self, operation: &'static str) -> Result<Self> {
        match self.denied.try_recv() {
            Ok(denial) => Err(crate::request::denied(operation, &denial)),
            Err(_not_denied) => Ok(self),
        }
    }

    /// The next message; an error if the server denies the subscription, `None` if the
    /// connection was closed.
    pub(crate) async fn next(&mut self) -> Option<std::result::Result<Message, Denial>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Ends the intake: what has arrived can still be read, then comes the end.
    pub(crate) async fn drain(&mut self) {
        // An error means that the connection is closed, which ends the intake too.
        drop(self.messages.drain().await);
    }
}

impl Stream for Feed {
    type Item = std::result::Result<Message, Denial>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A subscription that is denied brings nothing, so that this is asked only then.
        match self.messages.poll_next_unpin(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            nothing => match self.denied.poll_recv(cx) {
                Poll::Ready(Some(denial)) => Poll::Ready(Some(Err(denial))),
                _ => nothing.map(|_end| None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_finds_its_tokens_again() {
        let inbox = Inbox::new("_INBOX_me");
        assert_eq!(inbox.token(&inbox.subject(17)), Some(17));
        assert_eq!(inbox.token("_INBOX_me.other.17"), None);
        assert!(
            inbox.sibling().starts_with("_INBOX_me.") && inbox.token(&inbox.sibling()).is_none()
        );
        assert!(inbox.pattern().starts_with("_INBOX_me.") && inbox.pattern().ends_with(".*"));
    }
}
