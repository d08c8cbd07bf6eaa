//! Requests: one message out, its answer back, under a deadline.
//!
//! What makes this different from the client's own requests: a connection that dies settles a
//! request at once, saying whether it may have left; a permission violation fails it at once,
//! naming the subject; a message the server would close the shared connection for is refused
//! before it is sent; and a dropped or expired request leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message, PublishError, StatusCode, Subject};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use jetbridge_core::{Error, ErrorKind, Result};

use crate::error::{lost, not_sent};
use crate::headers;
use crate::link::Link;
use crate::waiters::{ANSWERS_MAX, Answer, Denial, Failure, Room, Sink, Waiters};

/// The server's protocol line, which holds both subjects and two sizes.
const CONTROL_LINE_BYTES_MAX: usize = 4096;
/// `HPUB `, two sizes of up to ten digits, spaces and the line end.
const CONTROL_LINE_FRAME: usize = 40;
/// How often a request that nobody listens for is sent again, and when: what an election of a
/// leader or a restarting server needs.
const NO_RESPONDER_RETRIES: u32 = 2;
const NO_RESPONDER_WAIT: Duration = Duration::from_millis(250);
/// Within its deadline a repeatable request is sent at most this often on a healthy connection,
/// so that one lost answer does not cost it all the time there is.
const ATTEMPTS_PER_DEADLINE: u32 = 3;

/// One operation: its name, its deadline, and whether it may be sent twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) deadline: Instant,
    pub(crate) repeat: Repeat,
    attempt: Duration,
}

/// Whether a request may be sent again when its answer is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Repeat {
    /// Twice is the same as once.
    Safe,
    /// The answer's loss is the caller's to settle.
    Never,
}

impl Call {
    pub(crate) fn new(operation: &'static str, repeat: Repeat, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        Self { operation, deadline, repeat, attempt: timeout / ATTEMPTS_PER_DEADLINE }
    }

    /// The same call, to be sent at most once.
    pub(crate) fn never_repeated(self) -> Self {
        Self { repeat: Repeat::Never, ..self }
    }

    /// The same call, whose one attempt may take all the time there is.
    pub(crate) fn patient(self) -> Self {
        Self { attempt: self.deadline.saturating_duration_since(Instant::now()), ..self }
    }

    /// The same call, which may be sent again.
    pub(crate) fn repeatable(self) -> Self {
        Self { repeat: Repeat::Safe, ..self }
    }

    /// The same call with the time of one attempt.
    pub(crate) fn first_attempt(self) -> Self {
        Self { deadline: self.attempt_ends(), ..self }
    }

    /// True if there is no time left.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// When the attempt that begins now is given up.
    fn attempt_ends(&self) -> Instant {
        (Instant::now() + self.attempt).min(self.deadline)
    }
}

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
    waiters: Arc<Waiters>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.waiters.leave(self.token);
    }
}

/// A request that was handed to the client. Dropping it forgets the request.
#[derive(Debug)]
pub(crate) struct Pending {
    _entry: Entry,
    receiver: oneshot::Receiver<Answer>,
    operation: &'static str,
    ends: Instant,
}

impl Pending {
    /// Waits for the answer.
    pub(crate) async fn answer(self) -> std::result::Result<Message, Ended> {
        match tokio::time::timeout_at(self.ends, self.receiver).await {
            Ok(Ok(Ok(message))) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(Ended::NoResponders)
            }
            Ok(Ok(Ok(message))) => Ok(message),
            Ok(Ok(Err(failure))) => Err(failed(failure, self.operation)),
            Ok(Err(_dropped)) => Err(Ended::Unclear("the connection was closed")),
            Err(_elapsed) => Err(Ended::Unclear("no answer in time")),
        }
    }

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

impl Link {
    /// Sends `out` and returns the answer.
    ///
    /// A status of 503 (nobody listens) is tried again twice, then
    /// [`Unavailable`](ErrorKind::Unavailable) with the fact `no_responders`; any other status is
    /// an answer. The outcome of an error is unknown only if the request may have left, is not
    /// repeatable, and neither answer nor refusal came.
    pub(crate) async fn request(&self, out: &Outgoing, call: &Call) -> Result<Message> {
        self.request_within(out, call, None).await
    }

    /// As [`Link::request`], for a message that takes `room`.
    pub(crate) async fn request_within(
        &self,
        out: &Outgoing,
        call: &Call,
        room: Option<Room>,
    ) -> Result<Message> {
        let mut deaf = 0;
        loop {
            let ended = match self.attempt(out, call, room.clone()).await {
                Ok(message) => return Ok(message),
                Err(ended) => ended,
            };
            match ended {
                Ended::Final(error) => return Err(error),
                Ended::NoResponders if deaf < NO_RESPONDER_RETRIES && !call.is_over() => {
                    deaf += 1;
                    tokio::time::sleep(NO_RESPONDER_WAIT).await;
                }
                Ended::NoResponders => return Err(no_responders(call.operation, &out.subject)),
                Ended::NotSent if call.is_over() => {
                    return Err(not_sent(call.operation, "the connection was lost"));
                }
                Ended::NotSent => {}
                Ended::Unclear(why) if call.repeat == Repeat::Never => {
                    return Err(lost(call.operation, why).with("subject", &out.subject));
                }
                Ended::Unclear(why) if call.is_over() => {
                    return Err(not_sent(call.operation, why).with("subject", &out.subject));
                }
                Ended::Unclear(_) => {}
            }
        }
    }

    async fn attempt(
        &self,
        out: &Outgoing,
        call: &Call,
        room: Option<Room>,
    ) -> std::result::Result<Message, Ended> {
        self.begin(out, call, room).await?.answer().await
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
        let (sender, mut receiver) = oneshot::channel();
        let entry = self.enter(out, call, Sink::One(sender), room)?;
        let reply = self.inbox().subject(entry.token);
        tokio::select! {
            biased;
            // Settled before it was handed to the client, so it has not left.
            answer = &mut receiver => Err(unsent(answer, call.operation)),
            sent = self.send(out, Some(reply)) => match sent {
                Ok(()) => {
                    let (operation, ends) = (call.operation, call.attempt_ends());
                    Ok(Pending { _entry: entry, receiver, operation, ends })
                }
                Err(cause) => Err(Ended::Final(self.refused(&cause, out, call.operation))),
            },
            () = tokio::time::sleep_until(call.deadline) => Err(Ended::NotSent),
        }
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
            let entry = match self.enter(out, call, Sink::Many(sender), None) {
                Ok(entry) => entry,
                Err(Ended::Final(error)) => return Err(error),
                Err(_down_again) if !call.is_over() => continue,
                Err(_down_again) => {
                    return Err(not_sent(call.operation, "the connection was lost"));
                }
            };
            let reply = self.inbox().subject(entry.token);
            let answers = Answers { _entry: entry, receiver, call: *call };
            self.send(out, Some(reply))
                .await
                .map_err(|cause| self.refused(&cause, out, call.operation))?;
            return Ok(answers);
        }
    }

    /// Hands `out` to the client without expecting an answer; waits while it is offline.
    pub(crate) async fn tell(&self, out: &Outgoing, call: &Call) -> Result<()> {
        self.tell_with(out, None, call).await
    }

    /// As [`Link::tell`], with `reply` as the subject that answers go to, if there are any.
    pub(crate) async fn tell_from(&self, out: &Outgoing, reply: String, call: &Call) -> Result<()> {
        self.tell_with(out, Some(reply), call).await
    }

    async fn tell_with(&self, out: &Outgoing, reply: Option<String>, call: &Call) -> Result<()> {
        self.online(call.operation, call.deadline).await?;
        self.check(out, call.operation)?;
        match tokio::time::timeout_at(call.deadline, self.send(out, reply)).await {
            Ok(sent) => sent.map_err(|cause| self.refused(&cause, out, call.operation)),
            Err(_elapsed) => {
                Err(not_sent(call.operation, "the connection does not take the message"))
            }
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
        let entry = match self.enter(out, call, Sink::One(sender), None) {
            Ok(entry) => entry,
            Err(Ended::Final(error)) => return Err(error),
            Err(_offline) => return Ok(None),
        };
        self.send(out, None).await.map_err(|cause| self.refused(&cause, out, call.operation))?;
        let (operation, ends) = (call.operation, call.deadline);
        Ok(Some(Pending { _entry: entry, receiver, operation, ends }))
    }

    /// Returns when the server has seen everything sent before: a message to ourselves comes
    /// back, or is denied, which is an answer too.
    pub(crate) async fn barrier(&self, call: &Call) -> Result<()> {
        loop {
            self.online(call.operation, call.deadline).await?;
            let (sender, receiver) = oneshot::channel();
            let to_ourselves = |token| self.inbox().subject(token).into();
            let token = match self.waiters().enter(to_ourselves, Sink::One(sender), None) {
                Ok(Some(token)) => token,
                Ok(None) if call.is_over() => {
                    return Err(not_sent(call.operation, "the connection was lost"));
                }
                Ok(None) => continue,
                Err(failure) => return Err(final_error(failure, call.operation)),
            };
            let entry = Entry { token, waiters: Arc::clone(self.waiters()) };
            let out = Outgoing::new(self.inbox().subject(entry.token), Bytes::new());
            self.send(&out, None)
                .await
                .map_err(|cause| self.refused(&cause, &out, call.operation))?;
            return match tokio::time::timeout_at(call.deadline, receiver).await {
                Ok(Ok(Ok(_)) | Ok(Err(Failure::Denied(Denial { action: "publish", .. })))) => {
                    Ok(())
                }
                Ok(Ok(Err(failure))) => match failed(failure, call.operation) {
                    Ended::Final(error) => Err(error),
                    _ => Err(lost(call.operation, "the connection was lost")),
                },
                Ok(Err(_dropped)) => Err(lost(call.operation, "the connection was closed")),
                Err(_elapsed) => Err(lost(call.operation, "no answer in time")),
            };
        }
    }

    fn enter(
        &self,
        out: &Outgoing,
        call: &Call,
        sink: Sink,
        room: Option<Room>,
    ) -> std::result::Result<Entry, Ended> {
        self.check(out, call.operation).map_err(Ended::Final)?;
        match self.waiters().enter(|_token| out.subject.clone(), sink, room) {
            Ok(Some(token)) => Ok(Entry { token, waiters: Arc::clone(self.waiters()) }),
            Ok(None) => Err(Ended::NotSent),
            Err(failure) => Err(Ended::Final(final_error(failure, call.operation))),
        }
    }

    async fn send(
        &self,
        out: &Outgoing,
        reply: Option<String>,
    ) -> std::result::Result<(), PublishError> {
        let (subject, payload) = (out.subject.clone(), out.payload.clone());
        let client = self.client();
        match (reply, out.headers.clone()) {
            (None, None) => client.publish(subject, payload).await,
            (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
            (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
            (Some(reply), Some(headers)) => {
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
        }
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

    fn refused(&self, cause: &PublishError, out: &Outgoing, operation: &'static str) -> Error {
        not_sent(operation, "the connection does not take the message")
            .with("subject", &out.subject)
            .caused_by(cause.to_string())
    }
}

/// An attempt that was settled before its message was handed to the client.
fn unsent(
    answer: std::result::Result<Answer, oneshot::error::RecvError>,
    operation: &'static str,
) -> Ended {
    match answer {
        Ok(Err(Failure::Lost)) | Err(_) => Ended::NotSent,
        Ok(Err(failure)) => Ended::Final(final_error(failure, operation)),
        Ok(Ok(_impossible)) => Ended::Unclear("an answer came before the request"),
    }
}

fn failed(failure: Failure, operation: &'static str) -> Ended {
    match failure {
        Failure::Lost => Ended::Unclear("the connection was lost before the answer came"),
        Failure::Closed => Ended::Unclear("the connection was closed before the answer came"),
        denied @ Failure::Denied(_) => Ended::Final(final_error(denied, operation)),
    }
}

fn final_error(failure: Failure, operation: &'static str) -> Error {
    match failure {
        Failure::Closed => not_sent(operation, "the connection is closed"),
        Failure::Lost => lost(operation, "the connection was lost"),
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
        match tokio::time::timeout_at(self.call.deadline, self.receiver.recv()).await {
            Ok(Some(Ok(message))) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(no_responders(operation, &message.subject))
            }
            Ok(Some(Ok(message))) => Ok(message),
            Ok(Some(Err(Failure::Denied(denial)))) => Err(denied(operation, &denial)),
            Ok(Some(Err(_)) | None) => Err(not_sent(operation, "the connection was lost")),
            Err(_elapsed) => Err(not_sent(operation, "no answer in time")),
        }
    }
}
