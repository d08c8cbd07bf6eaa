//! Making a bucket with settings of one's own, or bringing one that is there up to them.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jetbridge_core::{
    Backend, BucketInfo, BucketKind, BucketName, BucketSpec, ErrorKind, Placement, Result, Storage,
};

/// Makes a bucket of keys when awaited, or changes the one that is there. What was not set
/// stays as it is, or becomes the default in a new bucket.
///
/// What cannot be changed is [`InvalidInput`](ErrorKind::InvalidInput) naming it; what the
/// server cannot do is an error with the server's words.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateBucket {
    backend: Arc<dyn Backend>,
    name: String,
    settings: Settings,
}

/// What was set.
#[derive(Clone, Debug, Default)]
struct Settings {
    history: Option<u8>,
    max_age: Option<Duration>,
    max_bytes: Option<u64>,
    max_value_bytes: Option<u32>,
    replicas: Option<u8>,
    storage: Option<Storage>,
    placement: Option<Placement>,
    description: Option<String>,
}

impl CreateBucket {
    pub(super) fn new(backend: Arc<dyn Backend>, name: String) -> Self {
        Self { backend, name, settings: Settings::default() }
    }

    /// Keeps this many revisions of each key, 1 to 64.
    pub fn history(mut self, revisions: u8) -> Self {
        self.settings.history = Some(revisions);
        self
    }

    /// Lets every value expire that is older than this.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = Some(age);
        self
    }

    /// Holds at most so many bytes.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_bytes = Some(bytes);
        self
    }

    /// Refuses values of more bytes than this.
    pub fn max_value_bytes(mut self, bytes: u32) -> Self {
        self.settings.max_value_bytes = Some(bytes);
        self
    }

    /// Keeps so many copies. The embedded store keeps one.
    pub fn replicas(mut self, copies: u8) -> Self {
        self.settings.replicas = Some(copies);
        self
    }

    /// Keeps it on disk, or in the server's memory.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.settings.storage = Some(storage);
        self
    }

    /// Puts the copies there.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.settings.placement = Some(placement);
        self
    }

    /// Describes it to people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.settings.description = Some(text.into());
        self
    }

    async fn run(&self) -> Result<BucketInfo> {
        let (kind, name) = (BucketKind::Kv, BucketName::parse(&self.name)?);
        match self.backend.bucket(kind, &name).await {
            Ok(present) => self.update(&name, present).await,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let spec = self.settings.over(BucketSpec::default());
                match self.backend.create_bucket(kind, &name, &spec).await {
                    // Somebody was faster.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        self.update(&name, self.backend.bucket(kind, &name).await?).await
                    }
                    settled => settled,
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn update(&self, name: &BucketName, present: BucketInfo) -> Result<BucketInfo> {
        let wanted = self.settings.over(present.spec.clone());
        if wanted == present.spec {
            return Ok(present);
        }
        self.backend.update_bucket(BucketKind::Kv, name, &wanted).await
    }
}

impl Settings {
    /// `spec` with what was set.
    fn over(&self, mut spec: BucketSpec) -> BucketSpec {
        let set = self.clone();
        spec.history = set.history.unwrap_or(spec.history);
        spec.max_age = set.max_age.or(spec.max_age);
        spec.max_bytes = set.max_bytes.or(spec.max_bytes);
        spec.max_value_bytes = set.max_value_bytes.or(spec.max_value_bytes);
        spec.replicas = set.replicas.unwrap_or(spec.replicas);
        spec.storage = set.storage.unwrap_or(spec.storage);
        spec.placement = set.placement.or(spec.placement);
        spec.description = set.description.or(spec.description);
        spec
    }
}

impl IntoFuture for CreateBucket {
    type Output = Result<BucketInfo>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.run().await })
    }
}

impl std::fmt::Debug for CreateBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateBucket")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
