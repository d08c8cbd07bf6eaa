//! A store and several connections to it, as several processes have them.

use std::any::Any;
use std::sync::Arc;

use jetbridge_core::{
    Backend, BucketName, BucketSpec, Counters, Entry, Key, MemoryBackend, Open, Read, Support,
};
use jetbridge_limit::{Limiter, LimiterOpts, Limits, OnError, Policy, tickets_bucket};
use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

/// Connections to one store.
pub(crate) const PROCESSES: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Memory,
    Local,
    Nats(Release),
}

impl Row {
    pub(crate) async fn open(self) -> Fleet {
        let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
        let keep: Box<dyn Any + Send + Sync> = match self {
            Self::Memory => {
                let store = Arc::new(MemoryBackend::new());
                for _ in 0..PROCESSES {
                    backends.push(Arc::clone(&store) as Arc<dyn Backend>);
                }
                Box::new(())
            }
            Self::Local => {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("store");
                for _ in 0..PROCESSES {
                    let opened = LocalBackend::open(&path, LocalOptions::default()).await;
                    backends.push(Arc::new(opened.unwrap()));
                }
                Box::new(dir)
            }
            Self::Nats(release) => {
                let server = NatsServer::start(release, ServerOptions::default()).await;
                for _ in 0..PROCESSES {
                    let mut options = ConnectOptions::default();
                    options.servers = vec![server.url()];
                    backends.push(Arc::new(NatsBackend::connect(&options).await.unwrap()));
                }
                Box::new(server)
            }
        };
        let mut limits = Vec::new();
        for backend in &backends {
            limits.push(open(Arc::clone(backend)).await);
        }
        Fleet { limits, stores: backends, _keep: keep }
    }
}

/// The limiters of a bucket, made if missing.
pub(crate) async fn open(backend: Arc<dyn Backend>) -> Limits {
    let bucket = BucketName::parse("rate_limits").unwrap();
    Limits::open(backend, &bucket, Open::ensure(BucketSpec::default())).await.unwrap()
}

pub(crate) struct Fleet {
    pub(crate) limits: Vec<Limits>,
    stores: Vec<Arc<dyn Backend>>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fleet {
    /// The limiter `api` in each process. It waits long for a busy machine's store, and lets
    /// nobody through without it.
    pub(crate) fn limiters(&self, policy: Policy) -> Vec<Limiter> {
        let opts = strict();
        self.limits.iter().map(|l| l.limiter_with("api", policy, opts).unwrap()).collect()
    }

    /// The connections.
    pub(crate) fn stores(&self) -> &[Arc<dyn Backend>] {
        &self.stores
    }

    /// The counters beside the limiters, on a store that counts and has several processes.
    pub(crate) async fn counters(&self) -> Option<Arc<dyn Counters>> {
        let store = self.stores[0].capabilities();
        if !store.shared || store.counters != Support::Native {
            return None;
        }
        let bucket = tickets_bucket(&BucketName::parse("rate_limits").unwrap()).unwrap();
        Some(self.stores[0].counters(&bucket).await.unwrap())
    }

    /// What the store has under `key`.
    pub(crate) async fn entry(&self, key: &str) -> Option<Entry> {
        let bucket = BucketName::parse("rate_limits").unwrap();
        let kv = self.stores[0].kv(&bucket, Open::existing()).await.unwrap();
        kv.get(&Key::parse(key).unwrap(), Read::Fresh).await.unwrap()
    }
}

/// Only the store decides, however long it takes.
pub(crate) fn strict() -> LimiterOpts {
    let patience = std::time::Duration::from_secs(30);
    LimiterOpts::default().on_error(OnError::Closed).deadline(patience)
}
