//! Typed messages, and answers.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CONTENT_TYPE_HEADER, Codec, decode};
use crate::bus::{AppendOpts, Appended, Bus, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::name::Subject;

impl Message {
    /// A message of `value`, encoded by `codec`.
    pub fn encode<T>(codec: &impl Codec, subject: Subject, value: &T) -> Result<Self>
    where
        T: Serialize + ?Sized,
    {
        let payload = codec.encode(value).map_err(|error| error.with("subject", &subject))?;
        let mut message = Self::new(subject, payload);
        message.headers.set(CONTENT_TYPE_HEADER, codec.content_type())?;
        Ok(message)
    }

    /// The payload, decoded by `codec`.
    pub fn decode<T: DeserializeOwned>(&self, codec: &impl Codec) -> Result<T> {
        decode(codec, &self.payload, &self.headers)
            .map_err(|error| error.with("subject", &self.subject))
    }
}

/// Conveniences on every [`Bus`].
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use jetbridge_core::{
///     Backend, BusExt, Json, MemoryBackend, Pattern, Received, Subject, Subscribe,
/// };
/// use futures_util::StreamExt;
///
/// let bus = MemoryBackend::new().bus();
/// let mut orders = bus.subscribe(Subscribe::to(Pattern::parse("orders.*")?)).await?;
/// bus.publish_as(&Json, Subject::parse("orders.new")?, &7).await?;
/// let Some(Received::Message(message)) = orders.next().await.transpose()? else { panic!() };
/// assert_eq!(message.decode::<u32>(&Json)?, 7);
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
/// ```
#[async_trait]
pub trait BusExt: Bus {
    /// Publishes `value`, encoded by `codec`; else as [`Bus::publish`].
    async fn publish_as<T>(&self, codec: &impl Codec, subject: Subject, value: &T) -> Result<()>
    where
        T: Serialize + Sync + ?Sized,
    {
        self.publish(Message::encode(codec, subject, value)?).await
    }

    /// Appends `value`, encoded by `codec`; else as [`Bus::append`].
    async fn append_as<T>(
        &self,
        codec: &impl Codec,
        subject: Subject,
        value: &T,
        opts: AppendOpts,
    ) -> Result<Appended>
    where
        T: Serialize + Sync + ?Sized,
    {
        self.append(Message::encode(codec, subject, value)?, opts).await
    }

    /// Asks with `question` and decodes the answer; else as [`Bus::request`].
    async fn request_as<Q, A>(
        &self,
        codec: &impl Codec,
        subject: Subject,
        question: &Q,
        timeout: Duration,
    ) -> Result<A>
    where
        Q: Serialize + Sync + ?Sized,
        A: DeserializeOwned,
    {
        let question = Message::encode(codec, subject, question)?;
        self.request(question, timeout).await?.decode(codec)
    }

    /// Answers `request`; [`InvalidInput`](ErrorKind::InvalidInput) if it asks for no answer.
    async fn reply(&self, request: &Message, payload: Bytes) -> Result<()> {
        let Some(reply) = request.reply.clone() else {
            return Err(Error::new(ErrorKind::InvalidInput, "bus.reply")
                .because("the message asks for no answer")
                .with("subject", &request.subject));
        };
        self.publish(Message::new(reply, payload)).await
    }
}

impl<B: Bus + ?Sized> BusExt for B {}
