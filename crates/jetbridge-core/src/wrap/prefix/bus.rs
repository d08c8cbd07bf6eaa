//! Subjects under a prefix.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;

use super::failed;
use crate::bus::{
    AppendOpts, Appended, Bus, Consume, Consumer, Message, Received, Subscribe, Subscription,
};
use crate::error::Result;
use crate::name::{ConsumerName, Pattern, StreamName, Subject};
use crate::stream::{ReadStream, StreamInfo, StreamMessage, StreamSpec};

#[derive(Debug)]
pub(super) struct PrefixedBus {
    inner: Arc<dyn Bus>,
    prefix: SubjectPrefix,
}

/// The tokens that subjects begin with, and their dot.
#[derive(Clone, Debug)]
struct SubjectPrefix(Arc<str>);

impl PrefixedBus {
    pub(super) fn new(inner: Arc<dyn Bus>, prefix: Subject) -> Self {
        Self { inner, prefix: SubjectPrefix(format!("{prefix}.").into()) }
    }
}

impl SubjectPrefix {
    fn subject(&self, subject: &Subject) -> Result<Subject> {
        if is_transport(subject.as_str()) {
            return Ok(subject.clone());
        }
        Subject::parse(format!("{}{subject}", self.0))
    }

    fn pattern(&self, pattern: &Pattern) -> Result<Pattern> {
        if is_transport(pattern.as_str()) {
            return Ok(pattern.clone());
        }
        Pattern::parse(format!("{}{pattern}", self.0))
    }

    /// The pattern under the prefix; if there is none, everything under the prefix.
    fn filter(&self, filter: Option<&Pattern>) -> Result<Pattern> {
        match filter {
            Some(pattern) => self.pattern(pattern),
            None => Pattern::parse(format!("{}>", self.0)),
        }
    }

    fn message(&self, mut message: Message) -> Result<Message> {
        message.subject = self.subject(&message.subject)?;
        message.reply = message.reply.as_ref().map(|reply| self.subject(reply)).transpose()?;
        Ok(message)
    }

    fn bare_subject(&self, subject: Subject) -> Result<Subject> {
        subject.as_str().strip_prefix(&*self.0).map_or_else(|| Ok(subject.clone()), Subject::parse)
    }

    fn bare_message(&self, mut message: Message) -> Result<Message> {
        message.subject = self.bare_subject(message.subject)?;
        message.reply = message.reply.map(|reply| self.bare_subject(reply)).transpose()?;
        Ok(message)
    }

    fn spec(&self, spec: &StreamSpec) -> Result<StreamSpec> {
        let mut spec = spec.clone();
        if spec.subjects.is_empty() {
            // A stream without subjects keeps the one of its own name.
            spec.subjects.push(Pattern::parse(spec.name.as_str())?);
        }
        for subject in &mut spec.subjects {
            *subject = self.pattern(subject)?;
        }
        Ok(spec)
    }

    fn bare_info(&self, mut info: StreamInfo) -> Result<StreamInfo> {
        for subject in &mut info.spec.subjects {
            if let Some(bare) = subject.as_str().strip_prefix(&*self.0) {
                *subject = Pattern::parse(bare)?;
            }
        }
        Ok(info)
    }
}

/// Inboxes, and what servers speak among themselves.
fn is_transport(subject: &str) -> bool {
    subject.starts_with(['_', '$'])
}

impl Display for PrefixedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Bus for PrefixedBus {
    async fn publish(&self, message: Message) -> Result<()> {
        self.inner.publish(self.prefix.message(message)?).await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended> {
        self.inner.append(self.prefix.message(message)?, opts).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message> {
        let answer = self.inner.request(self.prefix.message(message)?, timeout).await?;
        self.prefix.bare_message(answer)
    }

    async fn subscribe(&self, mut subscribe: Subscribe) -> Result<Subscription> {
        subscribe.pattern = self.prefix.pattern(&subscribe.pattern)?;
        let prefix = self.prefix.clone();
        let inner = self.inner.subscribe(subscribe).await?;
        Ok(inner.map_items(move |received| match received {
            Received::Message(message) => prefix.bare_message(message).map(Received::Message),
            Received::Dropped(count) => Ok(Received::Dropped(count)),
        }))
    }

    async fn consume(&self, mut consume: Consume) -> Result<Consumer> {
        consume.filter = Some(self.prefix.filter(consume.filter.as_ref())?);
        let prefix = self.prefix.clone();
        let inner = self.inner.consume(consume).await?;
        Ok(inner.map_items(move |mut delivery| {
            delivery.message = prefix.bare_message(delivery.message)?;
            Ok(delivery)
        }))
    }

    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool> {
        self.inner.delete_consumer(stream, durable).await
    }

    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        let info = self.inner.create_stream(&self.prefix.spec(spec)?).await?;
        self.prefix.bare_info(info)
    }

    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        let info = self.inner.update_stream(&self.prefix.spec(spec)?).await?;
        self.prefix.bare_info(info)
    }

    async fn streams(&self) -> Result<Vec<StreamInfo>> {
        let infos = self.inner.streams().await?;
        infos.into_iter().map(|info| self.prefix.bare_info(info)).collect()
    }

    async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        let info = self.inner.stream(name).await?;
        self.prefix.bare_info(info)
    }

    async fn delete_stream(&self, name: &StreamName) -> Result<bool> {
        self.inner.delete_stream(name).await
    }

    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64> {
        self.inner.purge_stream(name, Some(&self.prefix.filter(filter)?)).await
    }

    fn read_stream(
        &self,
        name: &StreamName,
        mut read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        read.filter = match self.prefix.filter(read.filter.as_ref()) {
            Ok(filter) => Some(filter),
            Err(error) => return failed(error),
        };
        let prefix = self.prefix.clone();
        let messages = self.inner.read_stream(name, read).map(move |kept| {
            let kept = kept?;
            let message = prefix.bare_message(kept.message)?;
            Ok(StreamMessage { message, ..kept })
        });
        messages.boxed()
    }
}
