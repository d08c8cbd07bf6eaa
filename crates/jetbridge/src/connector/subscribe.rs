//! Listening to topics.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use jetbridge_core::{
    self as core, Error, ErrorKind, GroupName, Pattern, Received, Result,
    SUBSCRIBE_CAPACITY_DEFAULT, Subscribe,
};
use serde::Serialize;

use super::intake::Intake;
use super::message::Message;
use super::runner::{Item, Running};
use super::{Connector, Prefix, request};
use crate::worker::{HandlerError, Worker, contain};

/// Subscribes when awaited: to a stream of messages, or with a handler for each of them.
#[derive(Debug)]
#[must_use = "nothing is subscribed before it is awaited"]
pub struct SubscribeCall<T> {
    connector: Connector,
    pattern: String,
    prefix: Prefix,
    queue: Option<String>,
    capacity: usize,
    value: PhantomData<fn() -> T>,
}

impl<T> SubscribeCall<T> {
    pub(super) fn new(connector: Connector, pattern: String) -> Self {
        Self {
            connector,
            pattern,
            prefix: Prefix::default(),
            queue: None,
            capacity: SUBSCRIBE_CAPACITY_DEFAULT,
            value: PhantomData,
        }
    }

    /// Shares the messages with all who subscribe as `group`, in this process and others: each
    /// goes to one of them.
    pub fn queue(mut self, group: impl Into<String>) -> Self {
        self.queue = Some(group.into());
        self
    }

    /// Leaves the connector's topic prefix out.
    pub fn ignore_prefix(mut self) -> Self {
        self.prefix = Prefix::Ignored;
        self
    }

    /// Holds so many messages for a slow reader; by default 65 536. Those that no longer fit are
    /// dropped, counted and reported.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    async fn open(&self) -> Result<Subscription<T>> {
        self.connector.check_open("bus.subscribe")?;
        let pattern = self.connector.pattern(&self.pattern, self.prefix)?;
        let mut subscribe = Subscribe::to(pattern.clone()).capacity(self.capacity);
        subscribe.group = self.queue.as_ref().map(GroupName::parse).transpose()?;
        let source = self.connector.bus().subscribe(subscribe).await?;
        let token = self.connector.0.closing.child_token();
        Ok(Subscription {
            connector: self.connector.clone(),
            pattern,
            prefix: self.prefix,
            intake: Intake::new(source, token),
            value: PhantomData,
        })
    }
}

impl<T: 'static> SubscribeCall<T> {
    /// Subscribes, and runs `handler` for every message, at most `concurrency` at once: with 1,
    /// one after the other in the order they came. A message is taken in when there is a place
    /// for it. A handler that fails or panics is logged and counted.
    ///
    /// The handlers run until [`Running::stop`] or [`Connector::shutdown`].
    pub async fn handle<H, F>(self, concurrency: usize, handler: H) -> Result<Running>
    where
        H: Fn(Message<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let worker = Worker::new(&self.pattern, concurrency)?;
        let subscription = self.open().await?;
        let handler = Arc::new(handler);
        Ok(subscription.run(worker, move |message| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { handler(message).await })
        }))
    }

    /// As [`SubscribeCall::handle`], and sends what `handler` returns to whoever asked: its answer
    /// in the codec of the question, or its error in the headers of NATS services, on which
    /// [`Connector::request`] fails.
    pub async fn respond<R, H, F>(self, concurrency: usize, handler: H) -> Result<Running>
    where
        R: Serialize + Send + Sync + 'static,
        H: Fn(Message<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
    {
        let worker = Worker::new(&self.pattern, concurrency)?;
        let subscription = self.open().await?;
        let handler = Arc::new(handler);
        Ok(subscription.run(worker, move |question| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let work = contain(async { handler(question.clone()).await });
                request::answer(&question, work.await.and_then(|result| result)).await
            })
        }))
    }
}

impl<T: 'static> IntoFuture for SubscribeCall<T> {
    type Output = Result<Subscription<T>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.open().await })
    }
}

/// Messages of a topic or pattern: a stream. Dropping it unsubscribes.
///
/// Messages that were dropped because the reader was slow come as an error of kind
/// [`LimitExceeded`](ErrorKind::LimitExceeded), with their number as the fact `dropped`; the
/// stream goes on behind it. When the connector shuts down, what had arrived comes out, then the
/// end.
pub struct Subscription<T> {
    connector: Connector,
    pattern: Pattern,
    prefix: Prefix,
    intake: Intake<core::Subscription>,
    value: PhantomData<fn() -> T>,
}

impl<T> Subscription<T> {
    /// Ends the intake: what had arrived comes out, then the end.
    pub fn drain(&mut self) {
        self.intake.token().cancel();
    }
}

impl<T: 'static> Subscription<T> {
    fn run<J>(self, worker: Worker, job: J) -> Running
    where
        J: Fn(Message<T>) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync + 'static,
    {
        let (connector, prefix) = (self.connector, self.prefix);
        let stop = self.intake.token().clone();
        let (shared, abandon) = (connector.clone(), connector.0.abandon.child_token());
        let items = futures_util::StreamExt::map(self.intake, move |received| match received {
            Ok(Received::Message(message)) => {
                Item::Job(job(Message::new(shared.clone(), message, prefix)))
            }
            Ok(Received::Dropped(messages)) => Item::Dropped(messages),
            Err(error) => Item::Failed(error),
        });
        let running = Running::start(worker, items, stop, abandon);
        connector.remember(running.clone());
        running
    }
}

impl<T> Stream for Subscription<T> {
    type Item = Result<Message<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = ready!(Pin::new(&mut self.intake).poll_next(cx));
        Poll::Ready(received.map(|received| match received? {
            Received::Message(message) => {
                Ok(Message::new(self.connector.clone(), message, self.prefix))
            }
            Received::Dropped(messages) => Err(dropped(&self.pattern, messages)),
        }))
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

fn dropped(pattern: &Pattern, messages: u64) -> Error {
    Error::new(ErrorKind::LimitExceeded, "bus.subscribe")
        .because("the reader is too slow: messages did not fit the buffer and were dropped")
        .with("pattern", pattern)
        .with("dropped", messages)
        .hint("handle messages with more concurrency, share them in a queue, or keep them in a stream")
}
