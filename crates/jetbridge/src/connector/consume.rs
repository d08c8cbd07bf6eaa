//! Durable consumers: every message is handled at least once, by one of those who share the name.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _};
use jetbridge_core::{self as core, Consume, ConsumeStart, ConsumerName, Result, StreamName};

use super::intake::Intake;
use super::message::{DeliveryInfo, Message};
use super::runner::{Item, Running};
use super::{Connector, Prefix};
use crate::worker::{HandlerError, Next, Worker, contain};

/// How long a message whose handler failed stays away the first time, unless set otherwise: long
/// enough not to hammer what just failed.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest it stays away, unless set otherwise.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Consumes a stream when awaited: as a stream of deliveries to settle by hand, or with a handler
/// whose result settles them.
#[derive(Debug)]
#[must_use = "nothing is consumed before it is awaited"]
pub struct ConsumeCall<T> {
    connector: Connector,
    stream: String,
    durable: String,
    filter: Option<String>,
    prefix: Prefix,
    ack_wait: Option<Duration>,
    deliver_max: Option<u32>,
    in_flight_max: Option<u32>,
    start: ConsumeStart,
    retry: Retry,
    value: PhantomData<fn() -> T>,
}

impl<T> ConsumeCall<T> {
    pub(super) fn new(connector: Connector, stream: String, durable: String) -> Self {
        Self {
            connector,
            stream,
            durable,
            filter: None,
            prefix: Prefix::default(),
            ack_wait: None,
            deliver_max: None,
            in_flight_max: None,
            start: ConsumeStart::default(),
            retry: Retry { first: RETRY_FIRST, max: RETRY_MAX },
            value: PhantomData,
        }
    }

    /// Takes only messages on this topic or pattern.
    pub fn filter(mut self, topic: impl Into<String>) -> Self {
        self.filter = Some(topic.into());
        self
    }

    /// Leaves the connector's topic prefix out, of the filter and of topics.
    pub fn ignore_prefix(mut self) -> Self {
        self.prefix = Prefix::Ignored;
        self
    }

    /// Delivers again what was not settled for this long; by default 30 s. A handler at work
    /// says so in time, and may take as long as it needs.
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = Some(wait);
        self
    }

    /// Delivers a message at most this often; by default for ever.
    pub fn deliver_max(mut self, times: u32) -> Self {
        self.deliver_max = Some(times);
        self
    }

    /// Has at most this many deliveries unsettled at once, over all who share the consumer; by
    /// default 1000.
    pub fn in_flight_max(mut self, deliveries: u32) -> Self {
        self.in_flight_max = Some(deliveries);
        self
    }

    /// Where the consumer begins if this call makes it; by default with the oldest message.
    pub fn start(mut self, start: ConsumeStart) -> Self {
        self.start = start;
        self
    }

    /// How long a message stays away whose handler failed: `first`, then twice as long each
    /// time, up to `max`; by default 1 s to 60 s.
    pub fn retry(mut self, first: Duration, max: Duration) -> Self {
        self.retry = Retry { first, max };
        self
    }

    fn spec(&self) -> Result<Consume> {
        let stream = StreamName::parse(&self.stream)?;
        let mut consume = Consume::new(stream, ConsumerName::parse(&self.durable)?);
        if let Some(topic) = &self.filter {
            consume.filter = Some(self.connector.pattern(topic, self.prefix)?);
        }
        consume.ack_wait = self.ack_wait.unwrap_or(consume.ack_wait);
        consume.deliver_max = self.deliver_max;
        consume.in_flight_max = self.in_flight_max.unwrap_or(consume.in_flight_max);
        consume.start = self.start;
        Ok(consume)
    }

    async fn open(&self, spec: Consume) -> Result<Deliveries<T>> {
        self.connector.check_open("bus.consume")?;
        let source = self.connector.bus().consume(spec).await?;
        let token = self.connector.0.closing.child_token();
        Ok(Deliveries {
            connector: self.connector.clone(),
            prefix: self.prefix,
            intake: Intake::new(source, token),
            value: PhantomData,
        })
    }
}

impl<T: 'static> ConsumeCall<T> {
    /// Consumes, and runs `handler` for every delivery, at most `concurrency` at once. `Ok`
    /// acknowledges it; an error or a panic brings it again, see [`HandlerError`] and
    /// [`ConsumeCall::retry`].
    ///
    /// The handlers run until [`Running::stop`] or [`Connector::shutdown`]. What a handler was
    /// doing when it was given up comes again after [`ConsumeCall::ack_wait`].
    pub async fn handle<H, F>(self, concurrency: usize, handler: H) -> Result<Running>
    where
        H: Fn(Message<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let worker = Worker::new(format!("{}/{}", self.stream, self.durable), concurrency)?;
        let (spec, handler) = (self.spec()?, Arc::new(handler));
        let (retry, heartbeat) = (self.retry, spec.ack_wait / 2);
        let deliveries = self.open(spec).await?;
        let stop = deliveries.intake.token().clone();
        let (connector, abandon) = (self.connector, deliveries.connector.0.abandon.child_token());
        let items = deliveries.map(move |delivery| match delivery {
            Ok(delivery) => {
                let handler = Arc::clone(&handler);
                Item::Job(Box::pin(async move {
                    let work = contain(async { handler(delivery.message.clone()).await });
                    let result = delivery.keep_alive(heartbeat, work).await;
                    delivery.settle(result.and_then(|result| result), retry).await
                }))
            }
            Err(error) => Item::Failed(error),
        });
        let running = Running::start(worker, items, stop, abandon);
        connector.remember(running.clone());
        Ok(running)
    }
}

impl<T: 'static> IntoFuture for ConsumeCall<T> {
    type Output = Result<Deliveries<T>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.open(self.spec()?).await })
    }
}

/// Deliveries of a durable consumer: a stream. Dropping it leaves the consumer in place.
///
/// When the connector shuts down, what had been delivered comes out, then the end.
pub struct Deliveries<T> {
    connector: Connector,
    prefix: Prefix,
    intake: Intake<core::Consumer>,
    value: PhantomData<fn() -> T>,
}

impl<T> Deliveries<T> {
    /// Ends the intake: what had been delivered comes out, then the end.
    pub fn drain(&mut self) {
        self.intake.token().cancel();
    }
}

impl<T> Stream for Deliveries<T> {
    type Item = Result<Delivery<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let delivery = ready!(Pin::new(&mut self.intake).poll_next(cx));
        Poll::Ready(delivery.map(|delivery| {
            let inner = delivery?;
            let message = Message::new(self.connector.clone(), inner.message.clone(), self.prefix)
                .delivered(DeliveryInfo::of(&inner));
            Ok(Delivery { message, inner })
        }))
    }
}

impl<T> fmt::Debug for Deliveries<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").finish_non_exhaustive()
    }
}

/// One delivery, to be settled. Dropped unsettled, it comes again after
/// [`ConsumeCall::ack_wait`].
pub struct Delivery<T> {
    /// The message.
    pub message: Message<T>,
    inner: core::Delivery,
}

impl<T> Delivery<T> {
    /// Done: it never comes again. Returns when the store has taken note.
    pub async fn ack(self) -> Result<()> {
        self.inner.ack().await
    }

    /// Not now: it comes again after `delay`.
    pub async fn nak(self, delay: Duration) -> Result<()> {
        self.inner.nak(delay).await
    }

    /// Never: it does not come again, done or not.
    pub async fn term(self) -> Result<()> {
        self.inner.term().await
    }

    /// Still at it: [`ConsumeCall::ack_wait`] begins anew.
    pub async fn in_progress(&self) -> Result<()> {
        self.inner.in_progress().await
    }

    /// Runs `work`, and says [`Delivery::in_progress`] every `interval` meanwhile.
    async fn keep_alive<W: Future>(&self, interval: Duration, work: W) -> W::Output {
        let heartbeat = async {
            loop {
                tokio::time::sleep(interval).await;
                if let Err(error) = self.in_progress().await {
                    // The worst that follows is another delivery, which the next beat may
                    // still prevent.
                    tracing::debug!(subject = %self.message.subject(), "in progress: {error}");
                }
            }
        };
        tokio::select! {
            biased;
            output = work => output,
            () = heartbeat => std::future::pending().await,
        }
    }

    /// Settles it by what its handler returned.
    async fn settle(
        self,
        result: Result<(), HandlerError>,
        retry: Retry,
    ) -> Result<(), HandlerError> {
        let attempt = self.inner.attempt;
        match settlement(&result, retry, attempt) {
            Settlement::Ack => self.ack().await?,
            Settlement::Nak(delay) => self.nak(delay).await?,
            Settlement::Term => self.term().await?,
        }
        result
    }
}

impl<T> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("message", &self.message).finish_non_exhaustive()
    }
}

/// How long a message stays away whose handler failed.
#[derive(Clone, Copy, Debug)]
struct Retry {
    first: Duration,
    max: Duration,
}

impl Retry {
    /// The wait after the attempt of this number, the first being 1.
    fn after(self, attempt: u64) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.max)
    }
}

/// How a delivery ends.
#[derive(Debug, Eq, PartialEq)]
enum Settlement {
    Ack,
    Nak(Duration),
    Term,
}

fn settlement(result: &Result<(), HandlerError>, retry: Retry, attempt: u64) -> Settlement {
    match result.as_ref().map_err(HandlerError::next) {
        Ok(()) => Settlement::Ack,
        Err(Next::GiveUp) => Settlement::Term,
        Err(Next::Retry) => Settlement::Nak(retry.after(attempt)),
        Err(Next::RetryAfter(delay)) => Settlement::Nak(delay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry { first: RETRY_FIRST, max: RETRY_MAX };

    #[test]
    fn a_result_settles_its_message() {
        let check = |result: Result<(), HandlerError>, attempt, expected| {
            assert_eq!(settlement(&result, RETRY, attempt), expected);
        };
        check(Ok(()), 1, Settlement::Ack);
        check(Err("no".into()), 1, Settlement::Nak(Duration::from_secs(1)));
        check(Err("no".into()), 4, Settlement::Nak(Duration::from_secs(8)));
        check(Err("no".into()), u64::MAX, Settlement::Nak(RETRY_MAX));
        check(Err(HandlerError::terminal("bad")), 1, Settlement::Term);
        let later = HandlerError::from("later").retry_after(Duration::from_millis(5));
        check(Err(later), 9, Settlement::Nak(Duration::from_millis(5)));
    }
}
