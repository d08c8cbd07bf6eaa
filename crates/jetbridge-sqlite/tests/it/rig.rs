//! A bucket of objects on a store of its own.

use std::any::Any;
use std::sync::Arc;

use jetbridge_core::{Backend, BucketKind, BucketName, BucketSpec, MemoryBackend, Objects, Open};
use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_sqlite::store::Replica;
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

/// The bucket that tests share with Litestream.
pub(crate) const BUCKET: &str = "backups";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Memory,
    Local,
    Nats(Release),
}

impl Row {
    pub(crate) async fn open(self) -> Rig {
        self.open_as(BucketSpec::default()).await
    }

    /// As [`Row::open`], with a bucket that is limited.
    pub(crate) async fn open_as(self, spec: BucketSpec) -> Rig {
        let (backend, keep): (Arc<dyn Backend>, Box<dyn Any + Send + Sync>) = match self {
            Self::Memory => (Arc::new(MemoryBackend::new()), Box::new(())),
            Self::Local => {
                let dir = tempfile::tempdir().unwrap();
                let opened = LocalBackend::open(dir.path().join("s"), LocalOptions::default());
                (Arc::new(opened.await.unwrap()), Box::new(dir))
            }
            Self::Nats(release) => {
                let server = NatsServer::start(release, ServerOptions::default()).await;
                (Arc::new(connect(&server.url()).await), Box::new(server))
            }
        };
        Rig::with(backend, keep, spec).await
    }
}

pub(crate) async fn connect(url: &str) -> NatsBackend {
    let mut options = ConnectOptions::default();
    options.servers = vec![url.to_owned()];
    NatsBackend::connect(&options).await.unwrap()
}

pub(crate) struct Rig {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) dir: tempfile::TempDir,
    backend: Arc<dyn Backend>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Rig {
    pub(crate) async fn over(backend: Arc<dyn Backend>, keep: Box<dyn Any + Send + Sync>) -> Self {
        Self::with(backend, keep, BucketSpec::default()).await
    }

    /// As [`Rig::over`], with a bucket that is limited.
    pub(crate) async fn with(
        backend: Arc<dyn Backend>,
        keep: Box<dyn Any + Send + Sync>,
        spec: BucketSpec,
    ) -> Self {
        let bucket = BucketName::parse(BUCKET).unwrap();
        let open = Open::ensure(spec);
        let objects = backend.objects(&bucket, open).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { objects, dir, backend, _keep: keep }
    }

    /// How much the bucket holds.
    pub(crate) async fn stored_bytes(&self) -> u64 {
        let bucket = BucketName::parse(BUCKET).unwrap();
        self.backend.bucket(BucketKind::Object, &bucket).await.unwrap().bytes
    }

    pub(crate) fn replica(&self) -> Replica {
        Replica::new(Arc::clone(&self.objects), "")
    }
}
