//! A message as a handler sees it.

use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

use bytes::Bytes;
use jetbridge_core::{self as core, Error, ErrorKind, Headers, Result, Subject};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Connector, Prefix};
use crate::codec::Codecs;

/// A message that holds a `T`.
///
/// It is decoded when asked, so that one that does not decode is still a message: its handler
/// sees it and decides.
pub struct Message<T> {
    connector: Connector,
    inner: core::Message,
    topic_at: usize,
    delivery: Option<DeliveryInfo>,
    value: PhantomData<fn() -> T>,
}

/// What a durable consumer knows of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DeliveryInfo {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// How often it has been delivered, this time included.
    pub attempt: u64,
    /// When the stream took it, by the store's clock.
    pub stored: SystemTime,
}

impl DeliveryInfo {
    pub(super) fn of(delivery: &core::Delivery) -> Self {
        Self { sequence: delivery.sequence, attempt: delivery.attempt, stored: delivery.stored }
    }
}

impl<T> Message<T> {
    /// `prefix` says whether the subscription's pattern had the topic prefix.
    pub(super) fn new(connector: Connector, inner: core::Message, prefix: Prefix) -> Self {
        let topic_prefix = connector.prefix(prefix);
        let topic_at =
            if inner.subject.as_str().starts_with(topic_prefix) { topic_prefix.len() } else { 0 };
        Self { connector, inner, topic_at, delivery: None, value: PhantomData }
    }

    pub(super) fn delivered(mut self, delivery: DeliveryInfo) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// Where it was sent, without the topic prefix.
    pub fn topic(&self) -> &str {
        self.inner.subject.as_str().get(self.topic_at..).unwrap_or_default()
    }

    /// Where it was sent, with the topic prefix.
    pub fn subject(&self) -> &Subject {
        &self.inner.subject
    }

    /// Its headers.
    pub fn headers(&self) -> &Headers {
        &self.inner.headers
    }

    /// Where an answer goes, if one is waited for.
    pub fn reply(&self) -> Option<&Subject> {
        self.inner.reply.as_ref()
    }

    /// The bytes as they came.
    pub fn payload(&self) -> &Bytes {
        &self.inner.payload
    }

    /// What the stream knows of it; `None` if no durable consumer delivered it.
    pub fn delivery(&self) -> Option<&DeliveryInfo> {
        self.delivery.as_ref()
    }

    /// Answers it, in the codec it was written in.
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if nobody waits for an answer.
    pub async fn respond<R: Serialize + ?Sized>(&self, answer: &R) -> Result<()> {
        let Some(reply) = self.reply() else {
            return Err(Error::new(ErrorKind::InvalidInput, "message.respond")
                .because("nobody waits for an answer")
                .with("subject", self.subject()));
        };
        let mut headers = Headers::new();
        let payload = self.codecs().like(self.headers()).encode(answer, &mut headers)?;
        let answer = core::Message::new(reply.clone(), payload).headers(headers);
        self.connector.bus().publish(answer).await
    }

    /// What it is as the seam has it.
    pub fn into_inner(self) -> core::Message {
        self.inner
    }

    fn codecs(&self) -> &Codecs {
        &self.connector.0.codecs
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }
}

impl<T: DeserializeOwned> Message<T> {
    /// The value; [`Corrupt`](ErrorKind::Corrupt) if the bytes are no `T`.
    pub fn decode(&self) -> Result<T> {
        self.codecs()
            .decode(self.headers(), self.payload())
            .map_err(|error| error.with("subject", self.subject()))
    }
}

impl<T> Clone for Message<T> {
    fn clone(&self) -> Self {
        Self {
            connector: self.connector.clone(),
            inner: self.inner.clone(),
            topic_at: self.topic_at,
            delivery: self.delivery,
            value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", self.subject())
            .field("bytes", &self.payload().len())
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}
