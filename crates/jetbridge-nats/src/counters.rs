//! Counters that the server adds up: a stream of 2.12 or newer whose messages say what to add.
//!
//! The acknowledgement holds the sum. Every addition has a name, by which the stream drops a copy
//! for as long as it remembers. A server that was restarted remembers only what it still stores,
//! so many messages of each counter are kept, and an addition whose acknowledgement is lost is
//! looked for among them before it is sent again. It is sent again only if it is surely not
//! there, and while the stream would know the first copy; else its outcome stays unknown.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use jetbridge_core::{
    Backoff, BucketKind, BucketName, Counters, Error, ErrorKind, Key, Outcome, Result, codec,
    random,
};

use crate::api::{Api, Purge, Stored, Which};
use crate::combine::{self, Combine, Part, Turn};
use crate::copies::Copies;
use crate::error::{ApiError, malformed};
use crate::request::{Call, Outgoing};
use crate::wire::{Discard, PubAck, StreamConfig, StreamInfo};
use crate::{headers, time};

/// Messages kept of each counter: how many others may be counted before a lost acknowledgement is
/// settled. Some 100 bytes each.
const KEPT_PER_COUNTER: u64 = 1024;
/// How long the stream remembers names. Long enough for what follows, and short, because a server
/// keeps every name in memory.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How long after it was first sent an addition may be sent again. What is left of
/// [`REMEMBERED`] is for the way, and for clocks that run apart.
const SENT_AGAIN_WITHIN: Duration = Duration::from_secs(20);
/// Messages looked through for one, in a stream that somebody else made to keep more.
const LOOKED_THROUGH_MAX: u64 = 4096;
const ADD: &str = "counter.add";

/// A bucket of counters.
#[derive(Clone, Debug)]
pub(crate) struct NatsCounters(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    api: Api,
    bucket: BucketName,
    copies: Copies,
    writer: String,
    operations: AtomicU64,
    /// The newest sequence that the stream is known to have.
    seen: AtomicU64,
    /// Messages of each counter that the stream surely keeps.
    kept: u64,
    combine: Combine,
}

/// One message to a counter on its way; when it ends, what has come meanwhile goes next.
struct Flight {
    counters: NatsCounters,
    key: Key,
}

/// The stream behind a bucket of counters.
pub(crate) fn stream_name(bucket: &BucketName) -> String {
    format!("CTR_{bucket}")
}

/// What to make for a bucket of counters. Whether the server can count is read off its answer.
pub(crate) fn config(bucket: &BucketName) -> StreamConfig {
    let mut config = StreamConfig::new(stream_name(bucket), vec![format!("$CTR.{bucket}.>")]);
    config.discard = Discard::Old;
    config.allow_direct = true;
    config.allow_msg_counter = true;
    config.duplicate_window = time::to_nanos(REMEMBERED);
    config.max_msgs_per_subject = i64::try_from(KEPT_PER_COUNTER).unwrap_or(i64::MAX);
    config
}

/// How many messages of one counter a stream surely keeps: with another limit, none.
fn kept(config: &StreamConfig) -> u64 {
    let limited = config.max_age > 0 || config.max_msgs > 0 || config.max_bytes > 0;
    match u64::try_from(config.max_msgs_per_subject) {
        _ if limited => 0,
        Ok(0) | Err(_) => LOOKED_THROUGH_MAX,
        Ok(kept) => kept.min(LOOKED_THROUGH_MAX),
    }
}

/// Makes the stream behind a bucket of counters; `None` if the server that keeps it is older than
/// the one that was asked, and cannot count.
pub(crate) async fn create(
    api: &Api,
    bucket: &BucketName,
    call: &Call,
) -> Result<Option<StreamInfo>> {
    let made = api.create_stream(&config(bucket), call).await?;
    let info = made.map_err(|refused| refused.into_error(call.operation).with("bucket", bucket))?;
    if info.config.allow_msg_counter {
        return Ok(Some(info));
    }
    api.delete_stream(&info.config.name, call).await?;
    Ok(None)
}

/// A domain's server takes writes to keys through its prefix, and no others.
pub(crate) fn out_of_reach(bucket: &BucketName, info: &StreamInfo) -> Error {
    Error::new(ErrorKind::Unsupported, "counter.open")
        .because("counters that the server adds up cannot be reached through a domain or prefix")
        .with("bucket", bucket)
        .with("stream", &info.config.name)
        .hint("connect to a server of that domain, or count in another bucket")
}

/// The body of a counter's message.
#[derive(Deserialize)]
struct Sum {
    val: String,
}

/// One addition on its way.
struct Addition<'a> {
    counters: &'a Inner,
    subject: String,
    /// Tells it from all others.
    name: String,
    out: Outgoing,
    call: Call,
    /// The newest sequence that was known before it was sent: it can only be behind that.
    floor: u64,
    /// Who was at the other end when it was first sent.
    server: Arc<str>,
}

/// Where an addition in doubt is.
enum Found {
    Here(Stored),
    Nowhere,
    /// Not among those that are left, but some are gone.
    Unknown,
}

impl NatsCounters {
    pub(crate) fn new(api: Api, bucket: BucketName, info: &StreamInfo) -> Self {
        Self(Arc::new(Inner {
            copies: Copies::of(BucketKind::Kv, bucket.clone(), info),
            api,
            bucket,
            writer: format!("{:x}", random::u64()),
            operations: AtomicU64::new(0),
            seen: AtomicU64::new(info.state.last_seq),
            kept: kept(&info.config),
            combine: Combine::default(),
        }))
    }

    fn about(&self, error: Error, key: &Key) -> Error {
        let error = if error.kind() == ErrorKind::NotFound {
            Error::new(ErrorKind::NotFound, error.operation())
                .because("the bucket of counters is not there any more")
                .hint("open it again: that makes it")
                .caused_by(error)
        } else {
            error
        };
        error.with("bucket", &self.0.bucket).with("key", key)
    }

    /// Adds and returns the sum, whatever it is.
    async fn add(&self, key: &Key, n: i128) -> Result<i128> {
        let addition = Addition::new(&self.0, key, n);
        match self.0.publish(&addition).await {
            Ok(Ok(ack)) => self.0.sum_of(&ack, &addition.call).await,
            // Rare, so its room is not that of every addition.
            answered => Box::pin(addition.settle(answered)).await,
        }
    }
}

impl NatsCounters {
    /// Adds `n` alone, and returns the sum if it is in range.
    async fn add_one(&self, key: &Key, n: i64) -> Result<i64> {
        let n = i128::from(n);
        let sum = self.add(key, n).await.map_err(|error| self.about(error, key))?;
        match i64::try_from(sum) {
            Ok(sum) => Ok(sum),
            Err(_beyond) => {
                self.take_back(key, n).await?;
                let error = Error::new(ErrorKind::LimitExceeded, ADD);
                Err(self.about(error.because("the sum is out of range").with("delta", n), key))
            }
        }
    }

    /// The server counts on beyond what a sum may be, so what was added is taken back.
    async fn take_back(&self, key: &Key, n: i128) -> Result<()> {
        let taken = self.add(key, -n).await;
        taken.map(drop).map_err(|error| self.about(error.outcome_unknown(), key))
    }

    /// Adds what several callers wait for, and tells each its sum.
    async fn add_together(&self, key: &Key, parts: Vec<Part>) {
        let total = combine::total(&parts);
        let added = match self.add(key, total).await {
            Ok(sum) => match combine::sums(&parts, sum) {
                Some(sums) => Ok(sums),
                // Which of them fit is for the server to say, one by one.
                None => match self.take_back(key, total).await {
                    Ok(()) => return self.add_each(key, parts).await,
                    Err(error) => Err(error),
                },
            },
            Err(error) => Err(self.about(error, key)),
        };
        match added {
            Ok(sums) => parts.into_iter().zip(sums).for_each(|(part, sum)| part.tell(Ok(sum))),
            Err(error) => parts.into_iter().for_each(|part| part.tell(Err(error.clone()))),
        }
    }

    async fn add_each(&self, key: &Key, parts: Vec<Part>) {
        for part in parts {
            let sum = self.add_one(key, part.n).await;
            part.tell(sum);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let parts = self.counters.0.combine.end(&self.key);
        if parts.is_empty() {
            return;
        }
        let flight = Self { counters: self.counters.clone(), key: self.key.clone() };
        // A caller may be dropped where there is no runtime any more: then nobody waits either.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.counters.0.api.link().tasks().spawn_until_stop(async move {
            flight.counters.add_together(&flight.key, parts).await;
        });
    }
}

impl Inner {
    fn subject(&self, key: &Key) -> String {
        format!("$CTR.{}.{}", self.bucket, codec::encode(key.as_str()))
    }

    async fn publish(
        &self,
        addition: &Addition<'_>,
    ) -> Result<std::result::Result<PubAck, ApiError>> {
        let call = self.api.link().once(addition.call.operation);
        self.api.link().publish(&addition.out, &call).await
    }

    async fn sum_of(&self, ack: &PubAck, call: &Call) -> Result<i128> {
        self.seen.fetch_max(ack.seq, Ordering::Relaxed);
        if let Some(text) = &ack.val {
            return text.parse().map_err(|cause| malformed(call.operation, cause));
        }
        // A duplicate: the sum stands where the first one is.
        let (api, stream) = self.copies.leader(&self.api);
        match api.message(&stream, &Which::at(ack.seq), &self.reading(call)).await? {
            Some(stored) => sum(&stored, call.operation),
            None => Err(Error::new(ErrorKind::Unavailable, call.operation)
                .because("it was added, once, but the sum at that time is not kept any more")
                .outcome_unknown()),
        }
    }

    /// A call with time of its own: to find out is worth it.
    fn reading(&self, call: &Call) -> Call {
        self.api.link().repeatable(call.operation)
    }
}

impl<'a> Addition<'a> {
    fn new(counters: &'a Inner, key: &Key, n: i128) -> Self {
        let subject = counters.subject(key);
        let number = counters.operations.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number:x}", counters.writer);
        let mut map = HeaderMap::new();
        map.insert(headers::INCREMENT, format!("{n:+}"));
        map.insert(headers::MESSAGE_ID, name.as_str());
        let out = Outgoing::new(subject.clone(), Bytes::new()).headers(map);
        let link = counters.api.link();
        let (call, server) = (link.once(ADD), link.server_id());
        let floor = counters.seen.load(Ordering::Relaxed);
        Self { counters, subject, name, out, call, floor, server }
    }

    /// Goes on with an addition that was `answered` otherwise than usual, until it is known what
    /// became of it, or that this cannot be known.
    async fn settle(
        &self,
        mut answered: Result<std::result::Result<PubAck, ApiError>>,
    ) -> Result<i128> {
        let mut backoff = Backoff::outage();
        // The error of the last attempt that nobody answered.
        let mut unclear: Option<Error> = None;
        loop {
            match answered {
                Ok(Ok(ack)) => return self.counters.sum_of(&ack, &self.call).await,
                Ok(Err(refused)) if !may_pass(&refused) => {
                    let error = refused.into_error(ADD);
                    // The first copy may still be on its way to a stream that refuses this one.
                    return Err(if unclear.is_none() { error } else { error.outcome_unknown() });
                }
                Ok(Err(refused)) if unclear.is_none() && self.call.is_over() => {
                    return Err(refused.into_error(ADD));
                }
                Ok(Err(_refused)) => backoff.wait().await,
                Err(error) if error.outcome() == Outcome::Unknown => unclear = Some(error),
                Err(error) if unclear.is_none() => self.explain(error, &mut backoff).await?,
                Err(_later) => backoff.wait().await,
            }
            if let Some(error) = &unclear {
                match self.find_in_time(&mut backoff).await {
                    Some(Found::Here(stored)) => return sum(&stored, ADD),
                    Some(Found::Nowhere) if self.may_be_sent_again() => {}
                    _ => return Err(nobody_knows(error)),
                }
            }
            answered = self.counters.publish(self).await;
        }
    }

    /// An attempt failed that surely added nothing: it is tried again while the bucket is there
    /// and there is time.
    async fn explain(&self, error: Error, backoff: &mut Backoff) -> Result<()> {
        let silent = error.kind() == ErrorKind::NotFound;
        let Inner { api, copies, .. } = self.counters;
        let error = copies.explain_silence(api, error, &self.counters.reading(&self.call)).await;
        if !silent || !error.is_retryable() || self.call.is_over() {
            return Err(error);
        }
        backoff.wait().await;
        Ok(())
    }

    /// As [`Addition::find`], again and again while nobody answers and an answer would be of use.
    async fn find_in_time(&self, backoff: &mut Backoff) -> Option<Found> {
        loop {
            match self.find().await {
                Ok(found) => return Some(found),
                Err(error) if error.kind() != ErrorKind::Unavailable => return None,
                Err(_silence) if !self.may_be_sent_again() => return None,
                Err(_silence) => backoff.wait().await,
            }
        }
    }

    /// Looks for it among the messages of its counter.
    async fn find(&self) -> Result<Found> {
        let (api, stream) = self.counters.copies.leader(&self.counters.api);
        let mut from = self.floor + 1;
        let mut oldest: Option<SystemTime> = None;
        let mut passed = 0;
        while passed < LOOKED_THROUGH_MAX {
            let subject = Some(self.subject.as_str());
            let which = Which { seq: Some(from), next_by_subj: subject, ..Which::default() };
            let call = self.counters.reading(&self.call);
            let Some(stored) = api.message(&stream, &which, &call).await? else { break };
            if stored.header(headers::MESSAGE_ID) == Some(&self.name) {
                return Ok(Found::Here(stored));
            }
            oldest.get_or_insert(stored.time);
            from = stored.sequence + 1;
            passed += 1;
        }
        // If as many have come as are kept, earlier ones may be gone; this one only if it landed
        // before the oldest that is left.
        let none_is_gone = passed < self.counters.kept
            || oldest.zip(self.began()).is_some_and(|(oldest, began)| oldest < began);
        let surely = none_is_gone || self.is_remembered();
        Ok(if surely { Found::Nowhere } else { Found::Unknown })
    }

    /// A time before it was first sent, by the store's clock.
    fn began(&self) -> Option<SystemTime> {
        let now = self.counters.api.link().clock().now()?;
        now.now.checked_sub(now.error)?.checked_sub(self.call.began.elapsed())
    }

    /// True if whoever would have taken the first copy surely still knows its name.
    fn is_remembered(&self) -> bool {
        let alone = self.counters.copies.hides_mirrors;
        alone && *self.counters.api.link().server_id() == *self.server
    }

    /// True while the stream knows a copy again.
    fn may_be_sent_again(&self) -> bool {
        Instant::now() < self.call.began + SENT_AGAIN_WITHIN
    }
}

/// True for a refusal that goes by: the stream is busy, or just deals with the first copy.
fn may_pass(refused: &ApiError) -> bool {
    matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::Conflict)
}

fn nobody_knows(unclear: &Error) -> Error {
    let error = Error::new(ErrorKind::Unavailable, ADD).outcome_unknown();
    match unclear.message() {
        Some(why) => error.because(why),
        None => error,
    }
    .hint("read the counter: whether this was added cannot be told for certain")
}

/// The sum that a counter's message holds.
fn sum(stored: &Stored, operation: &'static str) -> Result<i128> {
    let sum: Sum =
        serde_json::from_slice(&stored.payload).map_err(|cause| no_sum(operation, cause))?;
    sum.val.parse().map_err(|cause| no_sum(operation, cause))
}

fn no_sum(
    operation: &'static str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(ErrorKind::Corrupt, operation)
        .because("the message holds no sum in range")
        .caused_by(cause)
}

impl Display for NatsCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counters {} of {}", self.0.bucket, self.0.api.link().location())
    }
}

#[async_trait]
impl Counters for NatsCounters {
    fn bucket(&self) -> &BucketName {
        &self.0.bucket
    }

    async fn fetch_add(&self, key: &Key, n: i64) -> Result<i64> {
        match self.0.combine.begin(key, n) {
            Turn::Now => {
                let _flight = Flight { counters: self.clone(), key: key.clone() };
                self.add_one(key, n).await
            }
            Turn::Later(hear) => hear.await.unwrap_or_else(|_stopped| {
                let error = Error::new(ErrorKind::Unavailable, ADD).outcome_unknown();
                Err(self.about(error.because("the connection was closed meanwhile"), key))
            }),
        }
    }

    async fn value(&self, key: &Key) -> Result<Option<i64>> {
        let call = self.0.api.link().repeatable("counter.value");
        let last = self.0.copies.fresh(&self.0.api, &self.0.subject(key), &call).await;
        let Some(stored) = last.map_err(|error| self.about(error, key))? else { return Ok(None) };
        let sum = sum(&stored, call.operation).map_err(|error| self.about(error, key))?;
        // Another client may have counted beyond the range.
        let sum = i64::try_from(sum).map_err(|cause| no_sum(call.operation, cause));
        sum.map(Some).map_err(|error| self.about(error, key))
    }

    async fn remove(&self, key: &Key) -> Result<bool> {
        let call = self.0.api.link().repeatable("counter.remove");
        let (api, stream) = self.0.copies.leader(&self.0.api);
        let subject = self.0.subject(key);
        let purge = Purge { filter: Some(&subject), ..Purge::default() };
        let purged = api.purge(&stream, &purge, &call).await;
        Ok(purged.map_err(|error| self.about(error, key))? > 0)
    }
}
