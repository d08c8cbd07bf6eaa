//! Messages that a stream acknowledges: one, or many in a window.
//!
//! What is on its way is bounded for the whole connection, well below what a server buffers for
//! one stream before it refuses more. [`Window`] pipelines: it waits for the oldest
//! acknowledgement only when its bytes are used up, and the first failure ends it.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::{Message, Subject};

use jetbridge_core::{Error, ErrorKind, Result};

use crate::error::{ApiError, lost, malformed, not_sent};
use crate::link::{IN_FLIGHT_UNIT, IN_FLIGHT_UNITS, Link};
use crate::request::{Call, Counted, Ended, Outgoing, Pending, is_no_responders};
use crate::waiters::Room;
use crate::wire::PubAck;

impl Link {
    /// Publishes to a stream and returns its acknowledgement; the inner error is the stream's
    /// refusal. A subject that no stream keeps is [`NotFound`](ErrorKind::NotFound).
    pub(crate) async fn publish(
        &self,
        out: &Outgoing,
        call: &Call,
    ) -> Result<std::result::Result<PubAck, ApiError>> {
        self.publish_made(|| out.clone(), call).await
    }

    /// As [`Link::publish`], for a message that `make` makes for every attempt: usually there is
    /// one, which nobody has to copy.
    pub(crate) async fn publish_made(
        &self,
        make: impl Fn() -> Outgoing,
        call: &Call,
    ) -> Result<std::result::Result<PubAck, ApiError>> {
        match self.request_made(&make, Counted::Yes, call).await {
            Ok(message) => read_ack(&message, call.operation),
            Err(error) if is_no_responders(&error) => {
                Err(no_stream(call.operation, &make().subject).caused_by(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Room for as much in flight, if there is some.
    pub(crate) fn room_now(&self, units: u32) -> Option<Room> {
        Arc::clone(self.in_flight()).try_acquire_many_owned(units).ok()
    }

    /// Room for as much in flight, when there is some.
    pub(crate) async fn room_later(&self, units: u32, call: &Call) -> Result<Room> {
        let room = Arc::clone(self.in_flight()).acquire_many_owned(units);
        match tokio::time::timeout_at(call.deadline, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_closed)) => Err(not_sent(call.operation, "the connection is closed")),
            Err(_elapsed) => Err(not_sent(call.operation, "too much waits for acknowledgement")),
        }
    }
}

/// A message's share of what may be in flight.
pub(crate) fn units(out: &Outgoing) -> u32 {
    let units = u32::try_from(out.bytes() / IN_FLIGHT_UNIT + 1).unwrap_or(u32::MAX);
    units.min(IN_FLIGHT_UNITS)
}

fn read_ack(
    message: &Message,
    operation: &'static str,
) -> Result<std::result::Result<PubAck, ApiError>> {
    let mut ack: PubAck =
        serde_json::from_slice(&message.payload).map_err(|cause| malformed(operation, cause))?;
    match ack.error.take() {
        None => Ok(Ok(ack)),
        Some(refused) => Ok(Err(refused)),
    }
}

fn no_stream(operation: &'static str, subject: &str) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .because("no stream keeps this subject")
        .with("subject", subject)
        .hint("the bucket or stream is not there (any more), or JetStream is off")
}

/// True if an error of [`Link::publish`] means that nobody took the message.
pub(crate) fn is_no_stream(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Messages on their way to a stream, sent and acknowledged in order. Dropping it forgets those
/// that are out; they may still be stored.
#[derive(Debug)]
pub(crate) struct Window {
    link: Link,
    bytes_max: usize,
    bytes: usize,
    out: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    bytes: usize,
    subject: Subject,
    operation: &'static str,
    pending: Pending,
}

impl Window {
    /// A window of `bytes_max` bytes; one message fits however large it is.
    pub(crate) fn new(link: Link, bytes_max: usize) -> Self {
        Self { link, bytes_max, bytes: 0, out: VecDeque::new() }
    }

    /// Sends `message` when there is room for it, after all pushed before. The acknowledgements
    /// that made room are returned; an error may be that of an earlier message, and the window is
    /// of no more use.
    pub(crate) async fn push(&mut self, message: &Outgoing, call: &Call) -> Result<Vec<PubAck>> {
        let (bytes, call) = (message.bytes(), call.patient());
        let mut acks = Vec::new();
        while !self.out.is_empty() && self.bytes + bytes > self.bytes_max {
            acks.push(self.oldest().await?);
        }
        let pending = loop {
            let room = self.link.room_later(units(message), &call).await?;
            match self.link.begin(message, &call, Some(room)).await {
                Ok(pending) => break pending,
                Err(Ended::NotSent) if !call.is_over() => {}
                Err(ended) => return Err(ended_badly(ended, &message.subject, call.operation)),
            }
        };
        self.bytes += bytes;
        let (subject, operation) = (message.subject.clone(), call.operation);
        self.out.push_back(Sent { bytes, subject, operation, pending });
        Ok(acks)
    }

    /// Waits for everything that is out.
    pub(crate) async fn finish(&mut self) -> Result<Vec<PubAck>> {
        let mut acks = Vec::with_capacity(self.out.len());
        while !self.out.is_empty() {
            acks.push(self.oldest().await?);
        }
        Ok(acks)
    }

    /// Waits until nothing is out any more, however it went.
    pub(crate) async fn settle(&mut self) {
        while let Some(sent) = self.out.pop_front() {
            drop(sent.pending.await);
        }
    }

    async fn oldest(&mut self) -> Result<PubAck> {
        let Some(sent) = self.out.pop_front() else {
            return Err(Error::new(ErrorKind::Internal, "nats.window").because("it is empty"));
        };
        self.bytes -= sent.bytes;
        let operation = sent.operation;
        match sent.pending.await {
            Ok(message) => {
                read_ack(&message, operation)?.map_err(|refused| refused.into_error(operation))
            }
            Err(ended) => Err(ended_badly(ended, &sent.subject, operation)),
        }
    }
}

fn ended_badly(ended: Ended, subject: &str, operation: &'static str) -> Error {
    match ended {
        Ended::Final(error) => error,
        Ended::NoResponders => no_stream(operation, subject),
        Ended::NotSent => not_sent(operation, "the connection was lost"),
        Ended::Unclear(why) => lost(operation, why).with("subject", subject),
    }
}
