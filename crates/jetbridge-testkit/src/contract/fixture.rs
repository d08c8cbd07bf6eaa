//! What a case is given.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend, BucketName, BucketSpec, KEY_BYTES_MAX, Kv, Objects, Open, Support};

use crate::Storm;

/// How long a backend may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// An open store, and whatever keeps it alive.
pub struct Fixture {
    /// The backend under test.
    pub backend: Arc<dyn Backend>,
    /// A second connection to the same store, as another process would have it; the same handle
    /// where there is nothing else.
    pub peer: Arc<dyn Backend>,
    /// Bytes that a wrapper puts before every name and subject, which are missing at their ends.
    pub prefix_bytes: usize,
    /// Copies of every bucket and stream that a case makes.
    pub replicas: u8,
    storm: Option<Arc<dyn Storm>>,
    guard: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// A backend, a second connection to its store, and what has to outlive both: a server, a
    /// directory, or `()`.
    pub fn new(
        backend: Arc<dyn Backend>,
        peer: Arc<dyn Backend>,
        guard: impl Any + Send + Sync,
    ) -> Self {
        Self { backend, peer, prefix_bytes: 0, replicas: 1, storm: None, guard: Box::new(guard) }
    }

    /// Keeps so many copies of every bucket and stream that a case makes.
    #[must_use]
    pub fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas;
        self
    }

    /// Says how many bytes a wrapper puts before every name and subject.
    #[must_use]
    pub fn prefix_bytes(mut self, bytes: usize) -> Self {
        self.prefix_bytes = bytes;
        self
    }

    /// Gives the cases of [`contract::storm`](crate::contract::storm) what they break things with.
    #[must_use]
    pub fn with_storm(mut self, storm: Arc<dyn Storm>) -> Self {
        self.storm = Some(storm);
        self
    }

    /// What breaks things.
    ///
    /// # Panics
    /// If there is none.
    pub fn storm(&self) -> &dyn Storm {
        self.storm.as_deref().expect("a fixture made with a storm")
    }

    /// Bytes of the longest key or object name.
    pub(crate) fn name_bytes_max(&self) -> usize {
        KEY_BYTES_MAX - self.prefix_bytes
    }

    /// Closes both connections; what keeps the store alive is dropped last.
    ///
    /// # Panics
    /// If a task or a write is left behind.
    pub async fn close(self) {
        let Self { backend, peer, guard, storm, .. } = self;
        if !Arc::ptr_eq(&backend, &peer) {
            close(&*peer).await;
        }
        close(&*backend).await;
        drop((backend, peer, storm));
        drop(guard);
    }

    /// How a new bucket of this store keeps single keys from staying for ever.
    pub(crate) fn key_ttl(&self) -> Support {
        self.backend.capabilities().key_ttl
    }

    /// The settings of a bucket where a case has no wish.
    pub(crate) fn spec(&self) -> BucketSpec {
        let mut spec = BucketSpec::default();
        spec.replicas = self.replicas;
        spec
    }

    /// A new bucket of keys with history 1.
    pub(crate) async fn kv(&self) -> Arc<dyn Kv> {
        self.kv_with(self.spec()).await
    }

    /// A new bucket of keys.
    pub(crate) async fn kv_with(&self, spec: BucketSpec) -> Arc<dyn Kv> {
        self.backend.kv(&fresh_bucket(), Open::ensure(spec)).await.unwrap()
    }

    /// A new bucket of keys that keeps `history` revisions.
    pub(crate) async fn kv_keeping(&self, history: u8) -> Arc<dyn Kv> {
        let mut spec = self.spec();
        spec.history = history;
        self.kv_with(spec).await
    }

    /// The same bucket through the other connection.
    pub(crate) async fn peer_kv(&self, kv: &Arc<dyn Kv>) -> Arc<dyn Kv> {
        self.peer.kv(kv.bucket(), Open::existing()).await.unwrap()
    }

    /// A new bucket of objects.
    pub(crate) async fn objects(&self) -> Arc<dyn Objects> {
        self.objects_with(self.spec()).await
    }

    /// A new bucket of objects.
    pub(crate) async fn objects_with(&self, spec: BucketSpec) -> Arc<dyn Objects> {
        self.backend.objects(&fresh_bucket(), Open::ensure(spec)).await.unwrap()
    }

    /// The same bucket through the other connection.
    pub(crate) async fn peer_objects(&self, objects: &Arc<dyn Objects>) -> Arc<dyn Objects> {
        self.peer.objects(objects.bucket(), Open::existing()).await.unwrap()
    }
}

impl Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("backend", &self.backend)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

async fn close(backend: &dyn Backend) {
    let report = tokio::time::timeout(CLOSE_WITHIN * 2, backend.close(CLOSE_WITHIN)).await;
    let report = report.unwrap_or_else(|_late| panic!("{backend} does not keep its own deadline"));
    assert!(report.is_clean(), "{backend} left something behind: {report:?}");
}

/// A bucket that nobody else uses.
pub(crate) fn fresh_bucket() -> BucketName {
    BucketName::parse(format!("T-{}", jetbridge_core::random::name())).unwrap()
}
