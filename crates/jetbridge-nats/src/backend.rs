//! [`NatsBackend`]: one account on nats-server.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;

use jetbridge_core::{
    Backend, BucketInfo, BucketKind, BucketName, BucketSpec, Bus, Capabilities, Check,
    ConnectionState, Counters, Error, ErrorKind, Kv, KvCounters, Objects, Open, Result, StopReport,
    StoreClock, StoreStatus, StoreTime, Support,
};

use crate::api::Api;
use crate::bus::NatsBus;
use crate::clock::Witness;
use crate::connect::connect;
use crate::counters::NatsCounters;
use crate::diagnose::Patient;
use crate::facts::Facts;
use crate::kv::{Bucket, NatsKv, value_bytes_max};
use crate::link::Link;
use crate::object::{NatsObjects, Shelf};
use crate::options::ConnectOptions;
use crate::probe::{LEVEL_COUNTERS, LEVEL_TTL, Probe};
use crate::request::{Call, may_not_ask};
use crate::{bucket, buckets, counters};

/// Copies that a cluster keeps at most.
const REPLICAS_MAX: u8 = 5;

/// A NATS account, reached through one connection.
pub struct NatsBackend {
    api: Api,
    options: ConnectOptions,
    probe: Probe,
    witness: Arc<Witness>,
    open: Mutex<HashMap<BucketName, Arc<Bucket>>>,
}

impl fmt::Debug for NatsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBackend").field("link", self.link()).finish_non_exhaustive()
    }
}

impl fmt::Display for NatsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.link().location())
    }
}

impl NatsBackend {
    /// Connects. With [`ConnectOptions::connect_in_background`] it returns at once and what needs
    /// the server waits for it.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let link = connect(options).await?;
        let api = Api::new(link, options.domain.as_deref(), options.api_prefix.as_deref())?;
        let backend = Self {
            api,
            options: options.clone(),
            probe: Probe::new(),
            witness: Arc::default(),
            open: Mutex::default(),
        };
        let may_ask = options.ask_level && !options.connect_in_background;
        if may_ask && backend.jetstream_is_near() {
            let call = backend.link().repeatable("nats.connect");
            // A user without that permission, or a server that is still starting, is no reason
            // not to connect: the version stands in until a stream says more.
            drop(backend.probe.ask(&backend.api, &call).await);
        }
        Ok(backend)
    }

    /// The client itself, for what the seam does not have. Its requests do not share this crate's
    /// promises.
    pub fn client(&self) -> &async_nats::Client {
        self.link().client()
    }

    fn link(&self) -> &Link {
        self.api.link()
    }

    /// Whether the server at the other end of the socket says that it has JetStream. Others of
    /// its cluster may have it when it does not.
    fn jetstream_is_near(&self) -> bool {
        self.client().server_info().jetstream
    }

    /// What the handles on one bucket share.
    fn shared(&self, name: &BucketName) -> Arc<Bucket> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let make =
            || Arc::new(Bucket::new(self.api.clone(), name.clone(), Arc::clone(&self.witness)));
        Arc::clone(open.entry(name.clone()).or_insert_with(make))
    }

    fn patient(&self) -> Patient<'_> {
        Patient {
            api: &self.api,
            options: &self.options,
            witness: &self.witness,
            probe: &self.probe,
        }
    }

    async fn open_kv(&self, name: &BucketName, open: &Open) -> Result<Arc<Bucket>> {
        let call = self.link().repeatable("bucket.open");
        let shared = self.shared(name);
        match buckets::ensure(&self.api, BucketKind::Kv, name, open.create.as_ref(), &call).await {
            Ok(stream) => {
                self.probe.learn(&stream.config);
                self.witness.note(&stream.config);
                shared.remember(Facts::of(name, &stream));
                Ok(shared)
            }
            // Who may not ask about the stream may still read and write its keys.
            Err(error) if may_not_ask(&error) => {
                shared.remember(Facts::unknown(name));
                Ok(shared)
            }
            Err(error) => Err(error),
        }
    }

    /// A domain's prefix leads keys to its servers and objects nowhere: their messages go to the
    /// server that is connected, which must be of that domain.
    async fn objects_are_near(&self, bucket: &BucketName, call: &Call) -> Result<()> {
        let Some(domain) = &self.options.domain else { return Ok(()) };
        self.link().online(call.operation, call.deadline).await?;
        let here = self.client().server_info().domain;
        if here.as_ref() == Some(domain) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, call.operation)
            .because("objects cannot be reached through the domain of other servers")
            .with("bucket", bucket)
            .with("domain", domain)
            .with("server_domain", here.as_deref().unwrap_or("none"))
            .hint("connect to a server of that domain, or mirror the bucket here"))
    }

    /// The bucket as a stream that counts; `None` if it is, or has to be, a bucket of keys.
    async fn native_counters(&self, bucket: &BucketName) -> Result<Option<NatsCounters>> {
        let call = self.link().repeatable("counter.open");
        let adds = self.capabilities().counters == Support::Native;
        let native = |info| NatsCounters::new(self.api.clone(), bucket.clone(), &info);
        match self.api.stream(&counters::stream_name(bucket), &call).await {
            Ok(Some(info)) if self.api.is_remote() => Err(counters::out_of_reach(bucket, &info)),
            Ok(Some(info)) => Ok(info.config.allow_msg_counter.then(|| native(info))),
            Ok(None) if !adds => Ok(None),
            // Who counts by keys needs no permission for what is not there.
            Err(error) if !adds && may_not_ask(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(None) => {
                // Counts that were begun in a bucket of keys are gone on with.
                let begun = bucket::stream_name(BucketKind::Kv, bucket.as_str());
                if self.api.stream(&begun, &call).await?.is_some() {
                    return Ok(None);
                }
                Ok(counters::create(&self.api, bucket, &call).await?.map(native))
            }
        }
    }
}

#[async_trait]
impl Backend for NatsBackend {
    fn capabilities(&self) -> Capabilities {
        let level = self.probe.level(&self.api);
        let since_2_11 = |otherwise| if level >= LEVEL_TTL { Support::Native } else { otherwise };
        let mut capabilities = Capabilities::default();
        capabilities.key_ttl = since_2_11(Support::Emulated);
        capabilities.snapshot_reads = since_2_11(Support::No);
        let adds = level >= LEVEL_COUNTERS && !self.api.is_remote();
        capabilities.counters = if adds { Support::Native } else { Support::Emulated };
        capabilities.value_bytes_max = value_bytes_max(self.client().max_payload()) as u64;
        capabilities.shared = true;
        capabilities.durable = true;
        let clustered = self.client().server_info().cluster.is_some();
        capabilities.replicas_max = if clustered { REPLICAS_MAX } else { 1 };
        capabilities
    }

    async fn kv(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Kv>> {
        let shared = self.open_kv(bucket, &open).await?;
        Ok(Arc::new(NatsKv::new(shared, open.keys)))
    }

    async fn objects(&self, bucket: &BucketName, open: Open) -> Result<Arc<dyn Objects>> {
        let call = self.link().repeatable("bucket.open");
        self.objects_are_near(bucket, &call).await?;
        let spec = open.create.as_ref();
        let stream = buckets::ensure(&self.api, BucketKind::Object, bucket, spec, &call).await?;
        self.probe.learn(&stream.config);
        self.witness.note(&stream.config);
        let shelf = Shelf::new(self.api.clone(), bucket.clone(), &stream);
        Ok(Arc::new(NatsObjects::new(shelf)))
    }

    async fn counters(&self, bucket: &BucketName) -> Result<Arc<dyn Counters>> {
        if let Some(native) = self.native_counters(bucket).await? {
            return Ok(Arc::new(native));
        }
        let kv = self.kv(bucket, Open::ensure(BucketSpec::default())).await?;
        Ok(Arc::new(KvCounters::new(kv)))
    }

    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(NatsBus::new(self.api.clone()))
    }

    async fn create_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        let call = self.link().repeatable("bucket.create");
        let stream = buckets::create(&self.api, kind, bucket, spec, &call).await?;
        self.probe.learn(&stream.config);
        Ok(bucket::info(kind, bucket.clone(), &stream))
    }

    async fn update_bucket(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        spec: &BucketSpec,
    ) -> Result<BucketInfo> {
        let call = self.link().repeatable("bucket.update");
        buckets::update(&self.api, kind, bucket, spec, &call).await
    }

    async fn buckets(&self, kind: BucketKind) -> Result<Vec<BucketInfo>> {
        buckets::list(&self.api, kind, &self.link().repeatable("bucket.list")).await
    }

    async fn bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<BucketInfo> {
        buckets::one(&self.api, kind, bucket, &self.link().repeatable("bucket.info")).await
    }

    async fn delete_bucket(&self, kind: BucketKind, bucket: &BucketName) -> Result<bool> {
        let call = self.link().repeatable("bucket.delete");
        self.api.delete_stream(&bucket::stream_name(kind, bucket.as_str()), &call).await
    }

    fn clock(&self) -> &StoreClock {
        self.link().clock()
    }

    async fn now(&self) -> Result<StoreTime> {
        self.witness.now(&self.api, &self.link().repeatable("nats.now")).await
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.link().states()
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.patient().status().await
    }

    async fn diagnose(&self) -> Vec<Check> {
        self.patient().examine().await
    }

    async fn close(&self, grace: Duration) -> StopReport {
        let (tasks, requests) = self.link().close(grace).await;
        StopReport::new(tasks, requests)
    }
}
