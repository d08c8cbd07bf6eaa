//! Sending messages: at most once, or at least once.

use std::future::IntoFuture;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jetbridge_core::{self as core, AppendOpts, Appended, Headers, Result, StreamName};
use serde::Serialize;

use super::{Connector, Prefix};
use crate::codec::CONTENT_TYPE;

/// Sends a message when awaited, at most once: it returns when the message was handed to the
/// transport. A message over the store's limit is
/// [`LimitExceeded`](crate::ErrorKind::LimitExceeded).
#[derive(Debug)]
#[must_use = "nothing is sent before it is awaited"]
pub struct PublishCall {
    connector: Connector,
    topic: String,
    prefix: Prefix,
    /// Or why the value could not be encoded, which whoever awaits the call is told.
    content: Result<(Bytes, Headers)>,
    headers: Headers,
}

impl PublishCall {
    pub(super) fn typed<T: Serialize + ?Sized>(
        connector: Connector,
        topic: String,
        value: &T,
    ) -> Self {
        let mut headers = Headers::new();
        let content = connector.0.codecs.encode(value, &mut headers);
        Self::new(connector, topic, content.map(|payload| (payload, headers)))
    }

    pub(super) fn raw(connector: Connector, topic: String, payload: Bytes) -> Self {
        Self::new(connector, topic, Ok((payload, Headers::new())))
    }

    fn new(connector: Connector, topic: String, content: Result<(Bytes, Headers)>) -> Self {
        Self { connector, topic, prefix: Prefix::default(), content, headers: Headers::new() }
    }

    /// Sends `headers` too. A `Content-Type` among them wins over the codec's.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Leaves the connector's topic prefix out.
    pub fn ignore_prefix(mut self) -> Self {
        self.prefix = Prefix::Ignored;
        self
    }

    /// Waits until a stream has the message: at least once. A topic that no stream keeps is
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub fn jetstream(self) -> AppendCall {
        AppendCall { publish: self, id: None, stream: None, last: None }
    }

    /// The connector and the message.
    pub(super) fn message(self) -> Result<(Connector, core::Message)> {
        let subject = self.connector.subject(&self.topic, self.prefix)?;
        let (payload, stamped) = self.content?;
        let mut headers = self.headers;
        if let (None, Some(content_type)) = (headers.get(CONTENT_TYPE), stamped.get(CONTENT_TYPE)) {
            headers.set(CONTENT_TYPE, content_type)?;
        }
        Ok((self.connector, core::Message::new(subject, payload).headers(headers)))
    }
}

impl IntoFuture for PublishCall {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (connector, message) = self.message()?;
            connector.bus().publish(message).await
        })
    }
}

/// Sends a message when awaited, and returns what the stream made of it.
#[derive(Debug)]
#[must_use = "nothing is sent before it is awaited"]
pub struct AppendCall {
    publish: PublishCall,
    id: Option<String>,
    stream: Option<String>,
    last: Option<u64>,
}

impl AppendCall {
    /// Names the message: within the stream's window another one of this name is a duplicate,
    /// and is not stored again.
    pub fn msg_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Refuses with [`Conflict`](crate::ErrorKind::Conflict) unless this stream keeps the topic.
    pub fn expect_stream(mut self, name: impl Into<String>) -> Self {
        self.stream = Some(name.into());
        self
    }

    /// Refuses with [`Conflict`](crate::ErrorKind::Conflict) unless the last message on the topic
    /// has this sequence; 0 is "none".
    pub fn expect_last_sequence(mut self, sequence: u64) -> Self {
        self.last = Some(sequence);
        self
    }

    /// As [`PublishCall::headers`].
    pub fn headers(mut self, headers: Headers) -> Self {
        self.publish = self.publish.headers(headers);
        self
    }

    /// As [`PublishCall::ignore_prefix`].
    pub fn ignore_prefix(mut self) -> Self {
        self.publish = self.publish.ignore_prefix();
        self
    }
}

impl IntoFuture for AppendCall {
    type Output = Result<Appended>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut opts = AppendOpts::new();
            opts.id = self.id.map(String::into_boxed_str);
            opts.stream = self.stream.map(StreamName::parse).transpose()?;
            opts.expect_last_on_subject = self.last;
            let (connector, message) = self.publish.message()?;
            connector.bus().append(message, opts).await
        })
    }
}
