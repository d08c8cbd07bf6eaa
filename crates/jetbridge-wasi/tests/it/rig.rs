//! A store for a case, and the links a guest finds on it.

use std::any::Any;
use std::sync::Arc;

use jetbridge_core::{Backend, BucketName, BucketSpec, Kv, MemoryBackend, Open};
use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{NatsServer, Release};
use jetbridge_wasi::{Link, Stores};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Memory,
    Local,
    Nats(Release),
}

pub(crate) struct Rig {
    pub(crate) backend: Arc<dyn Backend>,
    /// The default store: a bucket of this case alone.
    pub(crate) stores: Stores,
    pub(crate) bucket: BucketName,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

impl Row {
    pub(crate) async fn open(self) -> Rig {
        let mut keep: Option<Box<dyn Any + Send + Sync>> = None;
        let backend: Arc<dyn Backend> = match self {
            Self::Memory => Arc::new(MemoryBackend::new()),
            Self::Local => {
                let dir = tempfile::tempdir().unwrap();
                let store = LocalBackend::open(dir.path().join("s"), LocalOptions::default());
                let store = Arc::new(store.await.unwrap());
                keep = Some(Box::new(dir));
                store
            }
            Self::Nats(release) => {
                Arc::new(connect(&NatsServer::shared(release).await.url()).await)
            }
        };
        let bucket = BucketName::parse(format!("b{:016x}", jetbridge_core::random::u64())).unwrap();
        let stores = Stores::new();
        let link = Link::new(Arc::clone(&backend), bucket.clone()).create(BucketSpec::default());
        stores.add("", link);
        Rig { backend, stores, bucket, _keep: keep }
    }
}

pub(crate) async fn connect(url: &str) -> NatsBackend {
    let mut options = ConnectOptions::default();
    options.servers = vec![url.to_owned()];
    NatsBackend::connect(&options).await.unwrap()
}

impl Rig {
    /// The bucket behind the default store, as a program beside the guest has it.
    pub(crate) async fn kv(&self) -> Arc<dyn Kv> {
        self.backend.kv(&self.bucket, Open::ensure(BucketSpec::default())).await.unwrap()
    }

    /// A link to another bucket of this case.
    pub(crate) fn link(&self, name: &str) -> Link {
        let bucket = BucketName::parse(format!("{}-{name}", self.bucket)).unwrap();
        Link::new(Arc::clone(&self.backend), bucket)
    }
}
