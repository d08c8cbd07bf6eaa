//! The connector: keys, values and messages of an application, through one handle.
//!
//! It is what evo's NATS connector promises on its page, over any store. It adds names (default
//! bucket, prefixes), types (codecs), handlers and an orderly end to the seam of
//! `jetbridge-core`, and knows nothing else of stores; where settings come from is the business
//! of [`settings`](crate::settings). There is no global state. `docs/guide/connector.md` is its
//! page.

mod builder;
mod consume;
mod intake;
mod memo;
mod message;
mod open;
mod publish;
mod request;
mod runner;
mod shutdown;
mod subscribe;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    Backend, Bus, Error, ErrorKind, Pattern, Result, StreamInfo, StreamName, StreamSpec, Subject,
};
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::codec::Codecs;

pub use crate::worker::{Counts, HandlerError};
pub use builder::ConnectorBuilder;
pub use consume::{ConsumeCall, Deliveries, Delivery};
pub use memo::{Call, CreateBucket, Expiring, Expiry, Memo};
pub use message::{DeliveryInfo, Message};
pub use publish::{AppendCall, PublishCall};
pub use request::RequestCall;
pub use runner::Running;
pub use shutdown::ShutdownReport;
pub use subscribe::{SubscribeCall, Subscription};

/// What the calls of the memo return before they are awaited.
pub mod calls {
    pub use super::memo::{
        Delete, Expire, Flush, Get, GetRaw, GetRawWithExpiration, GetWithExpiration, Increment,
        IncrementPresent, ItemCount, OpenTyped, Replace, Set, SetAbsent,
    };
}

/// A handle on the keys, values and messages of one store. Cheap to clone and to share.
///
/// Handlers that were started run until [`Connector::shutdown`], whether or not a handle is left.
///
/// ```
/// use jetbridge::Connector;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge::Result<()> {
/// let connector = Connector::new(jetbridge::connect("memory:").await?);
/// connector.kv().set("user:1", &"Ada").await?;
/// assert_eq!(connector.kv().get("user:1").await?, Some("Ada".to_owned()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    bus: Arc<dyn Bus>,
    codecs: Codecs,
    memo: Memo,
    topic_prefix: String,
    drain_timeout: Duration,
    /// Cancelled when nothing more is to be taken in.
    closing: CancellationToken,
    /// Cancelled when what still runs is to be given up.
    abandon: CancellationToken,
    runners: Mutex<Runners>,
    report: OnceCell<ShutdownReport>,
}

/// The handlers at work, and what those came to that have ended.
#[derive(Default)]
struct Runners {
    live: Vec<Running>,
    past: Counts,
}

impl Connector {
    /// A connector with the defaults: bucket `default`, no prefixes, JSON, 30 s to drain.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        ConnectorBuilder::default().assemble(backend)
    }

    /// A connector with settings of one's own.
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder::default()
    }

    /// Its keys and values.
    pub fn kv(&self) -> &Memo {
        &self.0.memo
    }

    /// Makes a bucket with settings, or changes the one that is there; see [`CreateBucket`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jetbridge::connector::Connector;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> jetbridge::Result<()> {
    /// # let connector = Connector::new(jetbridge::connect("memory:").await?);
    /// let day = Duration::from_secs(24 * 3600);
    /// connector.create_bucket("sessions").max_age(day).await?;
    /// let info = connector.create_bucket("sessions").history(5).await?;
    /// assert_eq!((info.spec.max_age, info.spec.history), (Some(day), 5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_bucket(&self, name: impl Into<String>) -> CreateBucket {
        self.0.memo.create_bucket(name.into())
    }

    /// Makes a stream that keeps the messages on `topics`, patterns behind the topic prefix. One
    /// that is there with the same settings is fine; with others it is
    /// [`AlreadyExists`](ErrorKind::AlreadyExists). For more settings: [`Connector::bus`].
    pub async fn create_stream<T: AsRef<str>>(
        &self,
        name: &str,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<StreamInfo> {
        let subjects: Result<Vec<Pattern>> =
            topics.into_iter().map(|topic| self.pattern(topic.as_ref(), Prefix::Applied)).collect();
        self.0.bus.create_stream(&StreamSpec::new(StreamName::parse(name)?, subjects?)).await
    }

    /// Sends `value` to whoever listens on `topic` now: at most once. With
    /// [`jetstream`](PublishCall::jetstream), at least once.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        topic: impl Into<String>,
        value: &T,
    ) -> PublishCall {
        PublishCall::typed(self.clone(), topic.into(), value)
    }

    /// As [`Connector::publish`], bytes as they are.
    pub fn publish_bytes(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> PublishCall {
        PublishCall::raw(self.clone(), topic.into(), payload.into())
    }

    /// Asks whoever listens on `topic`, and takes the first answer, an `R`.
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if nobody listens, at once, or if no answer comes
    /// in time; [`Internal`](ErrorKind::Internal) with the responder's words if it failed.
    pub fn request<R>(
        &self,
        topic: impl Into<String>,
        value: &(impl Serialize + ?Sized),
    ) -> RequestCall<R> {
        RequestCall::new(PublishCall::typed(self.clone(), topic.into(), value))
    }

    /// Listens to the messages on `pattern`, which hold a `T` each: as a stream, or with a
    /// handler.
    pub fn subscribe<T>(&self, pattern: impl Into<String>) -> SubscribeCall<T> {
        SubscribeCall::new(self.clone(), pattern.into())
    }

    /// Takes the messages that `stream` keeps, which hold a `T` each, as the consumer `durable`:
    /// as a stream of deliveries, or with a handler.
    pub fn consume<T>(
        &self,
        stream: impl Into<String>,
        durable: impl Into<String>,
    ) -> ConsumeCall<T> {
        ConsumeCall::new(self.clone(), stream.into(), durable.into())
    }

    /// The store.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.0.backend
    }

    /// The store's subjects and streams.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.0.bus
    }

    fn subject(&self, topic: &str, prefix: Prefix) -> Result<Subject> {
        Subject::parse(format!("{}{topic}", self.prefix(prefix)))
    }

    fn pattern(&self, topic: &str, prefix: Prefix) -> Result<Pattern> {
        Pattern::parse(format!("{}{topic}", self.prefix(prefix)))
    }

    fn prefix(&self, prefix: Prefix) -> &str {
        match prefix {
            Prefix::Applied => &self.0.topic_prefix,
            Prefix::Ignored => "",
        }
    }

    /// Refuses to take anything in once the end has begun.
    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.0.closing.is_cancelled() {
            return Err(Error::new(ErrorKind::Unavailable, operation)
                .because("the connector is shutting down"));
        }
        Ok(())
    }

    fn remember(&self, running: Running) {
        let mut runners = self.0.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, mut live): (Vec<_>, Vec<_>) =
            runners.live.drain(..).partition(Running::has_ended);
        live.push(running);
        let past = ended.iter().map(Running::counts).fold(runners.past, Counts::plus);
        *runners = Runners { live, past };
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("backend", &self.0.backend)
            .field("memo", &self.0.memo)
            .field("topic_prefix", &self.0.topic_prefix)
            .finish_non_exhaustive()
    }
}

/// Whether the topic prefix goes before a topic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Prefix {
    #[default]
    Applied,
    Ignored,
}

#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guide/connector.md")]
struct Guide;
