//! The store of one directory, as one process sees it.

use std::fmt::{self, Display};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{
    Backend, BucketInfo, BucketKind, BucketName, BucketSpec, Bus, Capabilities, Check, Clock,
    ConnectionState, Counters, Kv, KvCounters, Objects, Open, Result, StopReport, StoreClock,
    StoreStatus, StoreTime, Support, SystemClock, Tasks,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bucket::catalog::{Catalog, blocking};
use crate::bucket::handle::Handle;
use crate::bucket::{Bucket, Context};
use crate::bus::LocalBus;
use crate::db::{Durability, closed};
use crate::fault::from_io;
use crate::hub::Hub;
use crate::kv::{LocalKv, VALUE_BYTES_MAX};
use crate::layout;
use crate::object::{LocalObjects, sweep};
use crate::stream::StreamContext;

/// Where the buckets of keys are, in the store's directory.
const KV_DIRECTORY: &str = "kv";
/// Where the buckets of objects are.
const OBJECTS_DIRECTORY: &str = "objects";

/// How a directory is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalOptions {
    /// When an acknowledged write is on the disk. Processes that share a directory may differ.
    pub durability: Durability,
    /// Whose time entries are stamped with and expire by. All processes that share a directory
    /// must agree on it.
    pub clock: Arc<dyn Clock>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), clock: Arc::new(SystemClock) }
    }
}

impl LocalOptions {
    /// Every commit waits for the disk.
    #[must_use]
    pub fn full_sync(mut self) -> Self {
        self.durability = Durability::Full;
        self
    }

    /// Sets whose time it is.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// The store of a directory, shared with whatever other processes have it open. Clones share it.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use jetbridge_core::{Backend, BucketName, BucketSpec, Key, Open, PutOpts, Read};
/// use jetbridge_local::{LocalBackend, LocalOptions};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("jetbridge-data");
/// let store = LocalBackend::open(&path, LocalOptions::default()).await?;
/// let kv = store.kv(&BucketName::parse("config")?, Open::ensure(BucketSpec::default())).await?;
/// let key = Key::parse("app/port")?;
/// kv.put(&key, "8080".into(), PutOpts::create()).await?;
/// assert_eq!(kv.get(&key, Read::Fresh).await?.unwrap().value, "8080");
/// # store.close(std::time::Duration::from_secs(5)).await;
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LocalBackend(Arc<Store>);

#[derive(Debug)]
struct Store {
    directory: PathBuf,
    options: LocalOptions,
    estimate: StoreClock,
    kv: Catalog,
    objects: Catalog,
    bus: LocalBus,
    tasks: Tasks,
    closed: CancellationToken,
}

impl LocalBackend {
    /// Opens the store in `directory`, which is made if missing.
    ///
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if something else is there,
    /// [`Unsupported`](jetbridge_core::ErrorKind::Unsupported) if a newer version wrote it or if
    /// it is on a network file system,
    /// [`PermissionDenied`](jetbridge_core::ErrorKind::PermissionDenied) if it cannot be written,
    /// [`Unavailable`](jetbridge_core::ErrorKind::Unavailable) if the process that passes messages
    /// on among those that share it does not answer.
    pub async fn open(directory: impl AsRef<Path>, options: LocalOptions) -> Result<Self> {
        let (wanted, durability) = (directory.as_ref().to_owned(), options.durability);
        let directory = blocking(move || {
            layout::prepare(&wanted, durability)?;
            wanted.canonicalize().map_err(|error| from_io(error, "local.open", &wanted))
        })
        .await?;
        let tasks = Tasks::new();
        let store = match Store::open(directory, options, tasks.clone()).await {
            Ok(store) => store,
            Err(error) => {
                tasks.begin_stop();
                return Err(error);
            }
        };
        Ok(Self(Arc::new(store)))
    }
}

impl Store {
    async fn open(directory: PathBuf, options: LocalOptions, tasks: Tasks) -> Result<Self> {
        let hub = Hub::join(&directory, tasks.clone()).await?;
        let (durability, clock) = (options.durability, Arc::clone(&options.clock));
        let streams = StreamContext { hub: hub.clone(), clock: Arc::clone(&clock), durability };
        let context = Context { hub, clock, durability };
        blocking(move || {
            let open = |kind, name, context| Catalog::open(kind, directory.join(name), context);
            let kv = open(BucketKind::Kv, KV_DIRECTORY, context.clone())?;
            let objects = open(BucketKind::Object, OBJECTS_DIRECTORY, context)?;
            let bus = LocalBus::open(&directory, streams)?;
            if durability == Durability::Full {
                let synced = File::open(&directory).and_then(|it| it.sync_all());
                synced.map_err(|error| from_io(error, "local.open", &directory))?;
            }
            let (estimate, closed) = (StoreClock::default(), CancellationToken::new());
            Ok(Self { directory, options, estimate, kv, objects, bus, tasks, closed })
        })
        .await
    }

    fn catalog(&self, kind: BucketKind) -> &Catalog {
        match kind {
            BucketKind::Kv => &self.kv,
            BucketKind::Object => &self.objects,
        }
    }

    /// The time now, if the store is open.
    fn time(&self, operation: &'static str) -> Result<SystemTime> {
        if self.closed.is_cancelled() {
            return Err(closed(operation));
        }
        let (now, instant) = (self.options.clock.now(), Instant::now());
        self.estimate.observe(instant, instant, now);
        Ok(now)
    }

    /// Clears away what a crash has left of objects, the first time this process meets `bucket`.
    fn sweep_once(&self, bucket: &Arc<Bucket>) {
        if bucket.is_swept() {
            return;
        }
        let bucket = Arc::clone(bucket);
        self.tasks.spawn(async move {
            let name = bucket.name.clone();
            match blocking(move || sweep(&bucket, Duration::ZERO)).await {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bucket = %name, bytes, "leftovers of a crash are gone"),
                Err(error) => tracing::debug!(bucket = %name, %error, "the sweep was cut short"),
            }
        });
    }

    fn location(&self) -> String {
        format!("local:{}", self.directory.display())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whoever does not close leaves at least no tasks behind.
        self.tasks.begin_stop();
    }
}

impl Display for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.location())
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.key_ttl = Support::Native;
        capabilities.counters = Support::Native;
        capabilities.snapshot_reads = Support::Native;
        capabilities.value_bytes_max = VALUE_BYTES_MAX;
        capabilities.shared = true;
        capabilities.durable = true;
        capabilities.replicas_max = 1;
        capabilities
    }

    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>> {
        self.0.time("bucket.open")?;
        let found = self.0.kv.open_or_make(bucket, &open).await?;
        Ok(Arc::new(LocalKv::new(Handle::new(self.0.kv.clone(), found), open.keys)))
    }

    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>> {
        self.0.time("bucket.open")?;
        let found = self.0.objects.open_or_make(bucket, &open).await?;
        self.0.sweep_once(&found);
        Ok(Arc::new(LocalObjects::new(Handle::new(self.0.objects.clone(), found))))
    }

    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>> {
        // A bucket of keys adds inside its write transaction: nothing could be more native.
        let kv = self.kv(bucket, Open::ensure(BucketSpec::default())).await?;
        Ok(Arc::new(KvCounters::new(kv)))
    }

    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(self.0.bus.clone())
    }

    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.0.time("bucket.create")?;
        self.0.catalog(kind).create(bucket, spec).await
    }

    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        self.0.time("bucket.update")?;
        self.0.catalog(kind).update(bucket, spec).await
    }

    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>> {
        self.0.time("bucket.list")?;
        self.0.catalog(kind).list().await
    }

    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo> {
        self.0.time("bucket.info")?;
        let bucket = self.0.catalog(kind).find(bucket, "bucket.info").await?;
        bucket.collect("bucket.info").await?;
        bucket.info()
    }

    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool> {
        self.0.time("bucket.delete")?;
        self.0.catalog(kind).delete(bucket).await
    }

    fn clock(&self) -> &StoreClock {
        &self.0.estimate
    }

    async fn now(&self) -> Result<StoreTime> {
        // All processes of one machine have one clock.
        Ok(StoreTime { now: self.0.time("store.now")?, error: Duration::ZERO })
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        let closed = self.0.closed.clone();
        let open = !closed.is_cancelled();
        let end = async move {
            closed.cancelled().await;
            ConnectionState::Closed
        };
        stream::iter(open.then_some(ConnectionState::Connected)).chain(stream::once(end)).boxed()
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.0.time("store.status")?;
        let began = Instant::now();
        let buckets = (self.0.kv.count()?, self.0.objects.count()?);
        let version = format!("layout {}", layout::VERSION);
        let mut status = StoreStatus::new("local", self.0.location(), version, began.elapsed());
        let sync = match self.0.options.durability {
            Durability::Full => "every commit",
            Durability::Process => "soon after a commit",
        };
        status.facts.push(("copies", "1".to_owned()));
        status.facts.push(("synced", sync.to_owned()));
        status.facts.push(("kv_buckets", buckets.0.to_string()));
        status.facts.push(("object_buckets", buckets.1.to_string()));
        Ok(status)
    }

    async fn diagnose(&self) -> Vec<Check> {
        crate::diagnose::checks(&self.0.directory, &self.0.options, self.0.closed.is_cancelled())
            .await
    }

    async fn close(&self, grace: Duration) -> StopReport {
        let store = &*self.0;
        let deadline = Instant::now() + grace;
        store.closed.cancel();
        let flush = async {
            store.kv.close().await;
            store.objects.close().await;
            store.bus.close().await;
        };
        let flushed = tokio::time::timeout_at(deadline, flush).await;
        let unacknowledged = match flushed {
            Ok(()) => 0,
            Err(_elapsed) => store.kv.pending() + store.objects.pending(),
        };
        let abandoned = store.tasks.stop(deadline.saturating_duration_since(Instant::now())).await;
        StopReport::new(abandoned, unacknowledged)
    }
}
