//! Subjects to messages: at most once, at least once, and asked.

use std::fmt::{Debug, Display};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use crate::error::Result;
use crate::headers::Headers;
use crate::name::{ConsumerName, GroupName, Pattern, StreamName, Subject};
use crate::stream::{ReadStream, StreamInfo, StreamMessage, StreamSpec};

/// Messages on subjects, and the streams that keep them.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use futures_util::StreamExt;
/// use jetbridge_core::{
///     AppendOpts, Backend, Consume, ConsumerName, MemoryBackend, Message, Pattern, StreamName,
///     StreamSpec, Subject,
/// };
///
/// let bus = MemoryBackend::new().bus();
/// let orders = StreamName::parse("ORDERS")?;
/// bus.create_stream(&StreamSpec::new(orders.clone(), vec![Pattern::parse("orders.>")?])).await?;
/// let order = Message::new(Subject::parse("orders.new")?, "7 apples");
/// bus.append(order.clone(), AppendOpts::new().id("order-1")).await?;
/// assert!(bus.append(order, AppendOpts::new().id("order-1")).await?.duplicate);
///
/// let mailer = Consume::new(orders, ConsumerName::parse("mailer")?);
/// let mut deliveries = bus.consume(mailer).await?;
/// let delivery = deliveries.next().await.expect("a stream goes on")?;
/// assert_eq!((delivery.sequence, delivery.attempt), (1, 1));
/// delivery.ack().await?;
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[async_trait]
pub trait Bus: Debug + Display + Send + Sync + 'static {
    /// At most once: returns when handed to the transport. A message over the store's limit is
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded).
    async fn publish(&self, message: Message) -> Result<()>;

    /// Returns when the store has seen everything published before through this handle.
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), with the subject, if it refused
    /// some of it; what others publish over the same connection may be told here too.
    async fn flush(&self) -> Result<()>;

    /// At least once: returns when a stream has it, deduplicated by [`AppendOpts::id`]. A
    /// subject that no stream keeps is [`NotFound`](crate::ErrorKind::NotFound).
    async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended>;

    /// Asks one responder. Nobody listening is [`Unavailable`](crate::ErrorKind::Unavailable) at
    /// once, no answer within `timeout` is the same then with an unknown outcome.
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message>;

    /// Messages from now on: when this returns, the store knows of the interest. A buffer that
    /// overflows reports how many messages it dropped.
    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription>;

    /// The deliveries of a durable consumer, which is made if missing. Each comes until it is
    /// acknowledged or terminated, at most [`Consume::deliver_max`] times.
    async fn consume(&self, consume: Consume) -> Result<Consumer>;

    /// Forgets a durable consumer; `false` if there was none.
    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool>;

    /// Makes a stream. One that is there with the same settings is fine, with others it is
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo>;

    /// Changes what may be changed of a stream.
    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo>;

    /// All streams, those behind buckets left out.
    async fn streams(&self) -> Result<Vec<StreamInfo>>;

    /// One stream; [`NotFound`](crate::ErrorKind::NotFound) if it is not there.
    async fn stream(&self, name: &StreamName) -> Result<StreamInfo>;

    /// Deletes a stream and what it holds; `false` if there was none.
    async fn delete_stream(&self, name: &StreamName) -> Result<bool>;

    /// Removes the messages on subjects of `filter` (all, if `None`); returns how many.
    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64>;

    /// The messages of a stream in order, from where `read` says. Ends with an error rather than
    /// skip one, survives reconnects, leaves no consumer behind.
    fn read_stream(
        &self,
        name: &StreamName,
        read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>>;
}

/// A message.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// Where it goes, or came from.
    pub subject: Subject,
    /// Where an answer goes.
    pub reply: Option<Subject>,
    /// Header fields.
    pub headers: Headers,
    /// The bytes.
    pub payload: Bytes,
}

impl Message {
    /// A message without headers and reply.
    pub fn new(subject: Subject, payload: impl Into<Bytes>) -> Self {
        Self { subject, reply: None, headers: Headers::new(), payload: payload.into() }
    }

    /// Sets the header fields.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Sets where an answer goes.
    #[must_use]
    pub fn reply(mut self, reply: Subject) -> Self {
        self.reply = Some(reply);
        self
    }
}

/// Options of [`Bus::append`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AppendOpts {
    /// Names the message for deduplication, within the stream's window. With an id, a lost
    /// acknowledgement is settled by sending the same message again.
    pub id: Option<Box<str>>,
    /// Refuse with [`Conflict`](crate::ErrorKind::Conflict) unless this stream keeps the subject.
    pub stream: Option<StreamName>,
    /// Refuse with [`Conflict`](crate::ErrorKind::Conflict) unless the last message on this
    /// subject has this sequence; 0 is "none".
    pub expect_last_on_subject: Option<u64>,
}

impl AppendOpts {
    /// No deduplication, no condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the message for deduplication.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Demands that `stream` keeps the subject.
    #[must_use]
    pub fn stream(mut self, stream: StreamName) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Demands that the last message on the subject has this sequence.
    #[must_use]
    pub fn expect_last_on_subject(mut self, sequence: u64) -> Self {
        self.expect_last_on_subject = Some(sequence);
        self
    }
}

/// What [`Bus::append`] left behind.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Appended {
    /// The stream that has it.
    pub stream: StreamName,
    /// Its sequence there; 0 if it was a duplicate and the stream does not say which.
    pub sequence: u64,
    /// True if the stream had a message of that id already.
    pub duplicate: bool,
}

impl Appended {
    /// A message kept at `sequence`.
    pub fn new(stream: StreamName, sequence: u64, duplicate: bool) -> Self {
        Self { stream, sequence, duplicate }
    }
}

/// Messages a [`Subscription`] holds before it drops, by default. At 128 bytes each this is
/// 8 MiB; a reader that is further behind is not keeping up.
pub const SUBSCRIBE_CAPACITY_DEFAULT: usize = 65_536;

/// What [`Bus::subscribe`] is to deliver.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscribe {
    /// Which subjects.
    pub pattern: Pattern,
    /// Share the messages with the other members of this group: each goes to one.
    pub group: Option<GroupName>,
    /// Messages held for a slow reader before the newest are dropped, and reported.
    pub capacity: usize,
}

impl Subscribe {
    /// Every message on subjects of `pattern`.
    pub fn to(pattern: Pattern) -> Self {
        Self { pattern, group: None, capacity: SUBSCRIBE_CAPACITY_DEFAULT }
    }

    /// As a member of `group`.
    #[must_use]
    pub fn group(mut self, group: GroupName) -> Self {
        self.group = Some(group);
        self
    }

    /// Sets how many messages are held for a slow reader.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }
}

/// What a [`Subscription`] delivers.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "to ignore dropped messages is a bug")]
pub enum Received {
    /// A message.
    Message(Message),
    /// The buffer was full: this many messages were dropped here.
    Dropped(u64),
}

/// The receiving end of [`Bus::subscribe`]: a stream. Dropping it unsubscribes.
pub struct Subscription {
    stream: BoxStream<'static, Result<Received>>,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Subscription {
    /// For backends: `stop` ends the intake, after which `stream` delivers what it holds and ends.
    pub fn new(
        stream: BoxStream<'static, Result<Received>>,
        stop: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { stream, stop: Some(Box::new(stop)) }
    }

    /// Ends the intake: the stream delivers what had arrived, then ends.
    pub fn drain(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }

    /// The same with every item changed by `change`, for wrappers.
    pub(crate) fn map_items(
        mut self,
        mut change: impl FnMut(Received) -> Result<Received> + Send + 'static,
    ) -> Self {
        let stop = self.stop.take();
        let stream = std::mem::replace(&mut self.stream, stream::empty().boxed());
        Self { stream: stream.map(move |item| change(item?)).boxed(), stop }
    }
}

impl Stream for Subscription {
    type Item = Result<Received>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("draining", &self.stop.is_none())
            .finish_non_exhaustive()
    }
}

/// What [`Bus::consume`] is to deliver, and how often.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Consume {
    /// The stream.
    pub stream: StreamName,
    /// The consumer's name: those who use the same one share its messages.
    pub durable: ConsumerName,
    /// Only messages on subjects of this pattern.
    pub filter: Option<Pattern>,
    /// Deliver again if not settled for this long; by default 30 s.
    pub ack_wait: Duration,
    /// Deliver at most this often; `None` for ever.
    pub deliver_max: Option<u32>,
    /// Unsettled deliveries at once, over all who share the consumer; by default 1000.
    pub in_flight_max: u32,
    /// Where a consumer that is made now begins.
    pub start: ConsumeStart,
}

impl Consume {
    /// All messages of `stream` from the first, shared under the name `durable`.
    pub fn new(stream: StreamName, durable: ConsumerName) -> Self {
        Self {
            stream,
            durable,
            filter: None,
            ack_wait: Duration::from_secs(30),
            deliver_max: None,
            in_flight_max: 1000,
            start: ConsumeStart::First,
        }
    }

    /// Only messages on subjects of `filter`.
    #[must_use]
    pub fn filter(mut self, filter: Pattern) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Sets after how long a delivery comes again.
    #[must_use]
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait;
        self
    }

    /// Sets how often a message is delivered at most.
    #[must_use]
    pub fn deliver_max(mut self, times: u32) -> Self {
        self.deliver_max = Some(times);
        self
    }

    /// Sets how many deliveries may be unsettled at once.
    #[must_use]
    pub fn in_flight_max(mut self, deliveries: u32) -> Self {
        self.in_flight_max = deliveries;
        self
    }

    /// Sets where a new consumer begins.
    #[must_use]
    pub fn start(mut self, start: ConsumeStart) -> Self {
        self.start = start;
        self
    }
}

/// Where a consumer begins when it is made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend must handle every start")]
pub enum ConsumeStart {
    /// With the oldest message.
    #[default]
    First,
    /// With the first message after it was made.
    New,
}

/// The receiving end of [`Bus::consume`]: a stream. Dropping it leaves the durable in place.
pub struct Consumer {
    stream: BoxStream<'static, Result<Delivery>>,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Consumer {
    /// For backends: `stop` ends the intake, after which `stream` delivers what it holds and ends.
    pub fn new(
        stream: BoxStream<'static, Result<Delivery>>,
        stop: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { stream, stop: Some(Box::new(stop)) }
    }

    /// Ends the intake: what had been delivered to this process comes out, then the end.
    pub fn drain(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }

    /// The same with every item changed by `change`, for wrappers.
    pub(crate) fn map_items(
        mut self,
        mut change: impl FnMut(Delivery) -> Result<Delivery> + Send + 'static,
    ) -> Self {
        let stop = self.stop.take();
        let stream = std::mem::replace(&mut self.stream, stream::empty().boxed());
        Self { stream: stream.map(move |item| change(item?)).boxed(), stop }
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("draining", &self.stop.is_none()).finish_non_exhaustive()
    }
}

/// One delivery of a message by a durable consumer. Dropped unsettled, it comes again after
/// [`Consume::ack_wait`].
#[non_exhaustive]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// How often it has been delivered, this time included.
    pub attempt: u64,
    /// When the stream took it, by the store's clock.
    pub stored: SystemTime,
    acker: Box<dyn Acker>,
}

impl Delivery {
    /// For backends.
    pub fn new(
        message: Message,
        sequence: u64,
        attempt: u64,
        stored: SystemTime,
        acker: Box<dyn Acker>,
    ) -> Self {
        Self { message, sequence, attempt, stored, acker }
    }

    /// Done: it never comes again. Returns when the store has taken note.
    pub async fn ack(self) -> Result<()> {
        self.acker.settle(Settle::Ack).await
    }

    /// Not now: it comes again after `delay`.
    pub async fn nak(self, delay: Duration) -> Result<()> {
        self.acker.settle(Settle::Nak(delay)).await
    }

    /// Never: it does not come again, done or not.
    pub async fn term(self) -> Result<()> {
        self.acker.settle(Settle::Term).await
    }

    /// Still at it: [`Consume::ack_wait`] begins anew.
    pub async fn in_progress(&self) -> Result<()> {
        self.acker.settle(Settle::InProgress).await
    }
}

impl Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("sequence", &self.sequence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a backend must handle every settlement")]
pub enum Settle {
    /// Done.
    Ack,
    /// Again, after this long.
    Nak(Duration),
    /// Never again.
    Term,
    /// The waiting time begins anew.
    InProgress,
}

/// How a backend settles one delivery.
#[async_trait]
pub trait Acker: Send + Sync {
    /// Returns when the store has taken note.
    async fn settle(&self, how: Settle) -> Result<()>;
}
