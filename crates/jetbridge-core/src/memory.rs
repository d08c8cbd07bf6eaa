//! The store in memory: the reference for every other backend, and the store of tests.
//!
//! It is the shortest code that keeps the promises of the seam, with the semantics of JetStream.
//! It runs no task of its own: whatever is due (expiry, redelivery) happens when somebody looks,
//! and whoever waits for it sleeps until then on the store's clock. So a
//! [`ManualClock`](crate::ManualClock) is all a test needs to own its time.

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::bucket::Table;
use self::bus::{MemoryBus, Traffic};
use self::kv::{MemoryKv, Value};
use self::object::{MemoryObjects, Stored};
use crate::backend::{
    Backend, BucketInfo, BucketKind, BucketSpec, Capabilities, Check, ConnectionState, Open,
    StopReport, StoreStatus, Support, Verdict,
};
use crate::bus::Bus;
use crate::clock::{Clock, StoreClock, StoreTime, SystemClock};
use crate::counter::{Counters, KvCounters};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Kv;
use crate::name::BucketName;
use crate::object::Objects;

mod bucket;
mod bus;
mod durable;
mod follow;
mod journal;
mod kv;
mod log;
mod object;
mod reader;
mod subscriber;

/// Bytes of a value or message with its headers at most: the default of nats-server, so that
/// what works here works there.
const VALUE_BYTES_MAX: u64 = 1 << 20;

/// The store of this process. Clones share it.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use jetbridge_core::{Backend, BucketName, BucketSpec, Key, MemoryBackend, Open, PutOpts, Read};
///
/// let store = MemoryBackend::new();
/// let kv = store.kv(&BucketName::parse("config")?, Open::ensure(BucketSpec::default())).await?;
/// let key = Key::parse("app/port")?;
/// kv.put(&key, "8080".into(), PutOpts::create()).await?;
/// assert_eq!(kv.get(&key, Read::Fresh).await?.unwrap().value, "8080");
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBackend(Arc<Store>);

/// What the handles share.
#[derive(Debug)]
struct Store {
    clock: Arc<dyn Clock>,
    estimate: StoreClock,
    kv: Table<Value>,
    objects: Table<Stored>,
    bus: Mutex<Traffic>,
    closed: CancellationToken,
}

impl MemoryBackend {
    /// An empty store on the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store whose time is `clock`'s.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Store {
            clock,
            estimate: StoreClock::default(),
            kv: Table::new(BucketKind::Kv),
            objects: Table::new(BucketKind::Object),
            bus: Mutex::default(),
            closed: CancellationToken::new(),
        }))
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Display for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory:")
    }
}

impl Store {
    /// The time of an operation that begins now, if the store is open.
    fn time(&self, operation: &'static str) -> Result<SystemTime> {
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Unavailable, operation)
                .because("the store is closed")
                .with("store", "memory:")
                .for_good());
        }
        let (now, instant) = (self.clock.now(), Instant::now());
        self.estimate.observe(instant, instant, now);
        Ok(now)
    }

    fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Returns when something has changed, something is due, or the store closes.
    async fn wait(&self, changed: Notified<'_>, due: Option<SystemTime>) {
        let due = async {
            match due {
                Some(due) => self.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = due => {}
            () = self.closed.cancelled() => {}
        }
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            key_ttl: Support::Native,
            counters: Support::Native,
            snapshot_reads: Support::Native,
            value_bytes_max: VALUE_BYTES_MAX,
            shared: false,
            durable: false,
            replicas_max: 1,
        }
    }

    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>> {
        let now = self.0.time("bucket.open")?;
        let bucket = self.0.kv.open(bucket, open.create.as_ref(), now)?;
        Ok(Arc::new(MemoryKv::new(Arc::clone(&self.0), &bucket, open.keys)))
    }

    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>> {
        let now = self.0.time("bucket.open")?;
        let bucket = self.0.objects.open(bucket, open.create.as_ref(), now)?;
        Ok(Arc::new(MemoryObjects::new(Arc::clone(&self.0), bucket.name.clone())))
    }

    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>> {
        // A bucket of keys adds under its lock: nothing could be more native.
        let kv = self.kv(bucket, Open::ensure(BucketSpec::default())).await?;
        Ok(Arc::new(KvCounters::new(kv)))
    }

    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(MemoryBus(Arc::clone(&self.0)))
    }

    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        let now = self.0.time("bucket.create")?;
        match kind {
            BucketKind::Kv => self.0.kv.create(bucket, spec, now),
            BucketKind::Object => self.0.objects.create(bucket, spec, now),
        }
    }

    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        let now = self.0.time("bucket.update")?;
        match kind {
            BucketKind::Kv => self.0.kv.update(bucket, spec, now),
            BucketKind::Object => self.0.objects.update(bucket, spec, now),
        }
    }

    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>> {
        let now = self.0.time("bucket.list")?;
        match kind {
            BucketKind::Kv => self.0.kv.list(now),
            BucketKind::Object => self.0.objects.list(now),
        }
    }

    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo> {
        let now = self.0.time("bucket.info")?;
        match kind {
            BucketKind::Kv => self.0.kv.find(bucket, "bucket.info")?.info(now),
            BucketKind::Object => self.0.objects.find(bucket, "bucket.info")?.info(now),
        }
    }

    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool> {
        self.0.time("bucket.delete")?;
        match kind {
            BucketKind::Kv => Ok(self.0.kv.delete(bucket)),
            BucketKind::Object => Ok(self.0.objects.delete(bucket)),
        }
    }

    fn clock(&self) -> &StoreClock {
        &self.0.estimate
    }

    async fn now(&self) -> Result<StoreTime> {
        Ok(StoreTime { now: self.0.time("store.now")?, error: Duration::ZERO })
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        let closed = self.0.closed.clone();
        let states = async move {
            closed.cancelled().await;
            ConnectionState::Closed
        };
        let connected = stream::iter((!self.0.is_closed()).then_some(ConnectionState::Connected));
        connected.chain(stream::once(states)).boxed()
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.0.time("store.status")?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut status = StoreStatus::new("memory", "memory:".to_owned(), version, Duration::ZERO);
        status.facts.push(("copies", "1".to_owned()));
        Ok(status)
    }

    async fn diagnose(&self) -> Vec<Check> {
        let connection = if self.0.is_closed() {
            Check::new("connection", Verdict::Fails, "the store is closed")
        } else {
            Check::new("connection", Verdict::Passes, "the store is in this process")
        };
        let durability =
            Check::new("durability", Verdict::Warns, "everything is gone when this process ends")
                .hint("use `--store local:DIR` or a NATS server to keep it");
        vec![connection, durability]
    }

    async fn close(&self, _grace: Duration) -> StopReport {
        // There is no task to join: waiting readers are woken and end.
        self.0.closed.cancel();
        StopReport::default()
    }
}

/// The error that `what` has `is` bytes (or messages) where at most `max` are allowed.
fn over_limit(operation: &'static str, what: &'static str, is: u64, max: u64) -> Error {
    Error::new(ErrorKind::LimitExceeded, operation)
        .because(format!("{what} would hold {is}, at most {max} are allowed"))
        .with("limit", max)
}
