//! Requests: one message out, its answer back, under a deadline.
//!
//! What makes this different from the client's own requests: a connection that dies settles a
//! request at once, saying whether it may have left; a permission violation fails it at once,
//! naming the subject; a message the server would close the shared connection for is refused
//! before it is sent; and a dropped or expired request leaves nothing behind.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::client::traits::Publisher as _;
use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Message, PublishError, StatusCode, Subject};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::unconstrained;

use jetbridge_core::{Error, ErrorKind, Result};

pub(crate) use crate::call::{Call, Repeat};
use crate::error::{lost, not_sent};
use crate::headers;
use crate::link::Link;
use crate::publish::units;
use crate::waiters::{ANSWERS_MAX, Answer, Denial, Failure, Room, Sink, Waiters, Waiting};

/// The server's protocol line, which holds both subjects and two sizes.
const CONTROL_LINE_BYTES_MAX: usize = 4096;
/// `HPUB `, two sizes of up to ten digits, spaces and the line end.
const CONTROL_LINE_FRAME: usize = 40;
/// How often a request that nobody listens for is sent again, and when: what an election of a
/// leader or a restarting server needs.
const NO_RESPONDER_RETRIES: u32 = 2;
const NO_RESPONDER_WAIT: Duration = Duration::from_millis(250);

/// A message on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

impl Outgoing {
    pub(crate) fn new(subject: impl Into<Subject>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), headers: None, payload: payload.into() }
    }

    pub(crate) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = (!headers.is_empty()).then_some(headers);
        self
    }

    /// Bytes that count against the server's `max_payload`.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.len() + self.headers.as_ref().map_or(0, headers::wire_bytes)
    }
}

/// How one attempt ended without an answer.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nobody listens on the subject.
    NoResponders,
    /// It surely has not left.
    NotSent,
    /// It may have left.
    Unclear(&'static str),
    /// No use in trying again.
    Final(Error),
}

/// The entry of one request in the table, removed when this is dropped.
#[derive(Debug)]
struct Entry {
    token: u64,
    /// Whether it is settled, and thereby removed.
    settled: bool,
    waiters: Arc<Waiters>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.settled {
            self.waiters.leave(self.token);
        }
    }
}

/// A request that was handed to the client. Dropping it forgets the request.
#[derive(Debug)]
pub(crate) struct Pending {
    entry: Entry,
    receiver: oneshot::Receiver<Answer>,
    operation: &'static str,
}

impl Future for Pending {
    type Output = std::result::Result<Message, Ended>;

    /// Waits for the answer.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Answers pace it, not the scheduler, which would poll thousands in vain.
        let answer = ready!(unconstrained(&mut self.receiver).poll_unpin(cx));
        self.entry.settled = true;
        Poll::Ready(match answer {
            Ok(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(Ended::NoResponders)
            }
            Ok(Ok(message)) => Ok(message),
            Ok(Err(failure)) => Err(failed(failure, self.operation)),
            Err(_dropped) => Err(Ended::Unclear("the connection was closed")),
        })
    }
}

impl Pending {
    /// Waits until the message turns out to be denied, which may be never.
    pub(crate) async fn denied(&mut self) -> Denial {
        if !self.receiver.is_terminated()
            && let Ok(Err(Failure::Denied(denial))) = (&mut self.receiver).await
        {
            return denial;
        }
        std::future::pending().await
    }
}

/// A message that was given to the client, or not yet.
enum Given {
    Now(Pending),
    /// The client's queue is full; the request is entered, and the message is to be made again.
    Full(Pending),
}

/// Whether a message counts as in flight until it is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Counted {
    No,
    Yes,
}

// The futures of requests are made by the thousand. What is rare in them is boxed, so that they
// stay small enough for the allocator's fast lists and the cache.
impl Link {
    /// Sends `out` and returns the answer.
    ///
    /// A status of 503 (nobody listens) is tried again twice, then
    /// [`Unavailable`](ErrorKind::Unavailable) with the fact `no_responders`; any other status is
    /// an answer. The outcome of an error is unknown only if the request may have left, is not
    /// repeatable, and neither answer nor refusal came.
    pub(crate) async fn request(&self, out: &Outgoing, call: &Call) -> Result<Message> {
        self.request_made(|| out.clone(), Counted::No, call).await
    }

    /// As [`Link::request`], for a message that `make` makes for every attempt: usually there is
    /// one, which nobody has to copy.
    pub(crate) async fn request_made(
        &self,
        make: impl Fn() -> Outgoing,
        counted: Counted,
        call: &Call,
    ) -> Result<Message> {
        let mut retry = Retry::default();
        loop {
            let mut out = make();
            let mut room = None;
            if counted == Counted::Yes {
                let units = units(&out);
                room = self.room_now(units);
                if room.is_none() {
                    drop(out);
                    room = Some(Box::pin(self.room_later(units, call)).await?);
                    out = make();
                }
            }
            let ended = match self.give(out, call, room) {
                Ok(Given::Now(pending)) => match pending.await {
                    Ok(message) => return Ok(message),
                    Err(ended) => ended,
                },
                Ok(Given::Full(pending)) => {
                    match Box::pin(self.answer_later(make(), pending)).await {
                        Ok(message) => return Ok(message),
                        Err(ended) => ended,
                    }
                }
                Err(ended) => ended,
            };
            Box::pin(self.after(&mut retry, ended, &make, call)).await?;
        }
    }

    async fn answer_later(
        &self,
        out: Outgoing,
        pending: Pending,
    ) -> std::result::Result<Message, Ended> {
        self.give_later(out, pending).await?.await
    }

    /// Hands `out` to the client; its answer is to be waited for. `room` is given back when the
    /// answer has come, whether or not somebody has looked at it.
    pub(crate) async fn begin(
        &self,
        out: &Outgoing,
        call: &Call,
        room: Option<Room>,
    ) -> std::result::Result<Pending, Ended> {
        self.online(call.operation, call.deadline).await.map_err(Ended::Final)?;
        match self.give(out.clone(), call, room)? {
            Given::Now(pending) => Ok(pending),
            Given::Full(pending) => Box::pin(self.give_later(out.clone(), pending)).await,
        }
    }

    /// Enters a request and gives its message to the client, which has room nearly always.
    fn give(
        &self,
        out: Outgoing,
        call: &Call,
        room: Option<Room>,
    ) -> std::result::Result<Given, Ended> {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { sink: Sink::One(sender), ends: call.attempt_ends(), room };
        let entry = self.enter(&out, call, waiting)?;
        let reply = Subject::from(self.inbox().subject(entry.token));
        let pending = Pending { entry, receiver, operation: call.operation };
        match unconstrained(self.send(out, Some(reply))).now_or_never() {
            Some(Ok(())) => Ok(Given::Now(pending)),
            Some(Err(cause)) => Err(Ended::Final(refused(&cause, call.operation))),
            None => Ok(Given::Full(pending)),
        }
    }

    /// Gives the message of an entered request to the client when it has room.
    async fn give_later(
        &self,
        out: Outgoing,
        mut pending: Pending,
    ) -> std::result::Result<Pending, Ended> {
        let (operation, token) = (pending.operation, pending.entry.token);
        let reply = Subject::from(self.inbox().subject(token));
        let sent = tokio::select! {
            biased;
            // Settled before it was handed to the client, so it has not left.
            answer = &mut pending.receiver => return Err(unsent(answer, operation)),
            sent = self.send(out, Some(reply)) => sent,
        };
        match sent {
            Ok(()) => Ok(pending),
            Err(cause) => Err(Ended::Final(refused(&cause, operation))),
        }
    }

    /// Returns when the next attempt is due; an error is the last word.
    async fn after(
        &self,
        retry: &mut Retry,
        ended: Ended,
        make: impl Fn() -> Outgoing,
        call: &Call,
    ) -> Result<()> {
        if matches!(ended, Ended::NotSent) {
            self.online(call.operation, call.deadline).await?;
        }
        retry.after(ended, &make().subject, call).await
    }

    /// Sends `out` and returns its answers as they come, at most `answers` of them; the caller
    /// knows which is the last. The deadline bounds the wait for each.
    pub(crate) async fn request_many(
        &self,
        out: &Outgoing,
        answers: usize,
        call: &Call,
    ) -> Result<Answers> {
        loop {
            self.online(call.operation, call.deadline).await?;
            let (sender, receiver) = mpsc::channel(answers.min(ANSWERS_MAX));
            let waiting = Waiting { sink: Sink::Many(sender), ends: call.deadline, room: None };
            let entry = match self.enter(out, call, waiting) {
                Ok(entry) => entry,
                Err(Ended::Final(error)) => return Err(error),
                Err(_down_again) if !call.is_over() => continue,
                Err(_down_again) => {
                    return Err(not_sent(call.operation, "the connection was lost"));
                }
            };
            let reply = Subject::from(self.inbox().subject(entry.token));
            let answers = Answers { _entry: entry, receiver, call: *call };
            self.send(out.clone(), Some(reply))
                .await
                .map_err(|cause| refused(&cause, call.operation))?;
            return Ok(answers);
        }
    }

    /// Hands `out` to the client without expecting an answer; waits while it is offline or has no
    /// room. `reply` is the subject that answers go to, if there are any.
    pub(crate) async fn tell(
        &self,
        out: Outgoing,
        reply: Option<Subject>,
        operation: &'static str,
    ) -> Result<()> {
        // Messages go by the hundred thousand a second: what is rare is boxed, and the time is
        // looked up only for those who wait.
        if !self.waiters().is_online() {
            Box::pin(self.online(operation, self.once(operation).deadline)).await?;
        }
        self.check(&out, operation)?;
        let mut sending = std::pin::pin!(self.send(out, reply));
        let sent = match futures_util::poll!(&mut sending) {
            Poll::Ready(sent) => Ok(sent),
            Poll::Pending => {
                let deadline = self.once(operation).deadline;
                Box::pin(tokio::time::timeout_at(deadline, sending)).await
            }
        };
        match sent {
            Ok(sent) => sent.map_err(|cause| refused(&cause, operation)),
            Err(_elapsed) => Err(not_sent(operation, "the connection does not take the message")),
        }
    }

    /// As [`Link::tell`], with a handle by which a denial can be heard of; `None` if the connection
    /// was lost, and the message with it.
    pub(crate) async fn tell_watched(
        &self,
        out: &Outgoing,
        call: &Call,
    ) -> Result<Option<Pending>> {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { sink: Sink::One(sender), ends: call.deadline, room: None };
        let entry = match self.enter(out, call, waiting) {
            Ok(entry) => entry,
            Err(Ended::Final(error)) => return Err(error),
            Err(_offline) => return Ok(None),
        };
        let sent = self.send(out.clone(), None).await;
        sent.map_err(|cause| refused(&cause, call.operation))?;
        Ok(Some(Pending { entry, receiver, operation: call.operation }))
    }

    /// Returns when the server has seen everything sent before: a message to ourselves comes
    /// back, or is denied, which is an answer too.
    pub(crate) async fn barrier(&self, call: &Call) -> Result<()> {
        loop {
            self.online(call.operation, call.deadline).await?;
            let (sender, receiver) = oneshot::channel();
            let to_ourselves = |token| self.inbox().subject(token).into();
            let waiting = Waiting { sink: Sink::One(sender), ends: call.deadline, room: None };
            let token = match self.waiters().enter(to_ourselves, waiting) {
                Ok(Some(token)) => token,
                Ok(None) if call.is_over() => {
                    return Err(not_sent(call.operation, "the connection was lost"));
                }
                Ok(None) => continue,
                Err(failure) => return Err(final_error(failure, call.operation)),
            };
            let entry = Entry { token, settled: false, waiters: Arc::clone(self.waiters()) };
            let out = Outgoing::new(self.inbox().subject(entry.token), Bytes::new());
            self.send(out, None).await.map_err(|cause| refused(&cause, call.operation))?;
            return match receiver.await {
                Ok(Ok(_) | Err(Failure::Denied(Denial { action: "publish", .. }))) => Ok(()),
                Ok(Err(failure)) => match failed(failure, call.operation) {
                    Ended::Final(error) => Err(error),
                    Ended::Unclear(why) => Err(lost(call.operation, why)),
                    _ => Err(lost(call.operation, "the connection was lost")),
                },
                Err(_dropped) => Err(lost(call.operation, "the connection was closed")),
            };
        }
    }

    fn enter(
        &self,
        out: &Outgoing,
        call: &Call,
        waiting: Waiting,
    ) -> std::result::Result<Entry, Ended> {
        self.check(out, call.operation).map_err(Ended::Final)?;
        match self.waiters().enter(|_token| out.subject.clone(), waiting) {
            Ok(Some(token)) => {
                Ok(Entry { token, settled: false, waiters: Arc::clone(self.waiters()) })
            }
            Ok(None) => Err(Ended::NotSent),
            Err(failure) => Err(Ended::Final(final_error(failure, call.operation))),
        }
    }

    fn send(
        &self,
        out: Outgoing,
        reply: Option<Subject>,
    ) -> impl Future<Output = std::result::Result<(), PublishError>> {
        let Outgoing { subject, headers, payload } = out;
        self.client().publish_message(OutboundMessage { subject, reply, payload, headers })
    }

    /// Refuses what the server would close the connection for, and everybody's with it.
    pub(crate) fn check(&self, out: &Outgoing, operation: &'static str) -> Result<()> {
        let subject = out.subject.as_str();
        let line = subject.len() + self.inbox().pattern().len() + CONTROL_LINE_FRAME;
        if line > CONTROL_LINE_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidInput, operation)
                .because("the subject is too long for the protocol's line")
                .with("bytes", subject.len())
                .with("line_bytes_max", CONTROL_LINE_BYTES_MAX));
        }
        if subject.is_empty() || subject.bytes().any(|c| c <= b' ' || c == 0x7f) {
            return Err(Error::new(ErrorKind::InvalidInput, operation)
                .because("a subject is not empty and holds no white space or control characters")
                .with("subject", format!("{subject:?}")));
        }
        let (bytes, max) = (out.bytes(), self.client().max_payload());
        if bytes > max {
            return Err(Error::new(ErrorKind::LimitExceeded, operation)
                .because("the message with its headers is over the server's limit")
                .with("bytes", bytes)
                .with("max_payload", max)
                .hint("store large values as objects, or raise `max_payload` on the server"));
        }
        Ok(())
    }
}

/// What an attempt that failed leads to.
#[derive(Debug, Default)]
struct Retry {
    /// How often nobody listened.
    deaf: u32,
}

impl Retry {
    /// Returns when the next attempt is due; an error is the last word.
    async fn after(&mut self, ended: Ended, subject: &Subject, call: &Call) -> Result<()> {
        match ended {
            Ended::Final(error) => Err(error),
            Ended::NoResponders if self.deaf < NO_RESPONDER_RETRIES && !call.is_over() => {
                self.deaf += 1;
                tokio::time::sleep(NO_RESPONDER_WAIT).await;
                Ok(())
            }
            Ended::NoResponders => Err(no_responders(call.operation, subject)),
            Ended::NotSent if call.is_over() => {
                Err(not_sent(call.operation, "the connection was lost"))
            }
            Ended::NotSent => Ok(()),
            Ended::Unclear(why) if call.repeat == Repeat::Never => {
                Err(lost(call.operation, why).with("subject", subject))
            }
            Ended::Unclear(why) if call.is_over() => {
                Err(not_sent(call.operation, why).with("subject", subject))
            }
            Ended::Unclear(_) => Ok(()),
        }
    }
}

fn refused(cause: &PublishError, operation: &'static str) -> Error {
    not_sent(operation, "the connection does not take the message").caused_by(cause.to_string())
}

/// An attempt that was settled before its message was handed to the client.
fn unsent(
    answer: std::result::Result<Answer, oneshot::error::RecvError>,
    operation: &'static str,
) -> Ended {
    match answer {
        Ok(Err(Failure::Lost | Failure::Elapsed)) | Err(_) => Ended::NotSent,
        Ok(Err(failure)) => Ended::Final(final_error(failure, operation)),
        Ok(Ok(_impossible)) => Ended::Unclear("an answer came before the request"),
    }
}

fn failed(failure: Failure, operation: &'static str) -> Ended {
    match failure {
        Failure::Lost => Ended::Unclear("the connection was lost before the answer came"),
        Failure::Closed => Ended::Unclear("the connection was closed before the answer came"),
        Failure::Elapsed => Ended::Unclear("no answer in time"),
        denied @ Failure::Denied(_) => Ended::Final(final_error(denied, operation)),
    }
}

fn final_error(failure: Failure, operation: &'static str) -> Error {
    match failure {
        Failure::Closed => not_sent(operation, "the connection is closed"),
        Failure::Lost => lost(operation, "the connection was lost"),
        Failure::Elapsed => lost(operation, "no answer in time"),
        Failure::Denied(denial) => denied(operation, &denial),
    }
}

/// The error of an operation on a subject that the credentials do not cover.
pub(crate) fn denied(operation: &'static str, denial: &Denial) -> Error {
    Error::new(ErrorKind::PermissionDenied, operation)
        .because(format!("the credentials do not allow to {} this subject", denial.action))
        .with(DENIED, denial.action)
        .with("subject", &denial.subject)
        .hint(format!("add it to the user's `{}` permissions", denial.action))
}

/// The fact that says what is denied.
const DENIED: &str = "denied";

/// True if the credentials do not allow to ask, while others may be asked.
pub(crate) fn may_not_ask(error: &Error) -> bool {
    error.fact(DENIED) == Some("publish")
}

/// The fact that marks an error of [`no_responders`].
const NO_RESPONDERS: &str = "no_responders";

fn no_responders(operation: &'static str, subject: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation)
        .because("nobody listens on this subject")
        .with(NO_RESPONDERS, subject)
}

/// True if an error of [`Link::request`] means that nobody listens on the subject.
pub(crate) fn is_no_responders(error: &Error) -> bool {
    error.fact(NO_RESPONDERS).is_some()
}

/// The answers to one request, as they come. Dropping it forgets the request.
#[derive(Debug)]
pub(crate) struct Answers {
    _entry: Entry,
    receiver: mpsc::Receiver<Answer>,
    call: Call,
}

impl Answers {
    /// The next answer. A lost connection is [`Unavailable`](ErrorKind::Unavailable) with nothing
    /// applied: requests with several answers are reads.
    pub(crate) async fn next(&mut self) -> Result<Message> {
        let operation = self.call.operation;
        match self.receiver.recv().await {
            Some(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(no_responders(operation, &message.subject))
            }
            Some(Ok(message)) => Ok(message),
            Some(Err(Failure::Denied(denial))) => Err(denied(operation, &denial)),
            Some(Err(Failure::Elapsed)) => Err(not_sent(operation, "no answer in time")),
            Some(Err(_)) | None => Err(not_sent(operation, "the connection was lost")),
        }
    }
}
