//! Files that are kept true: on servers, on the embedded store, in memory.

mod links;
mod once;
mod storm;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jetbridge::settings::{Environment, StoreRequest};
use jetbridge::template::{Event, RenderSpec, Renderer};
use jetbridge::{StoreSources, connect};
use jetbridge_core::{
    Backend, BucketName, BucketSpec, Key, Kv, MemoryBackend, ObjectName, ObjectPut, Objects, Open,
    PutOpts, Tasks, body_of,
};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use tokio::sync::mpsc;

/// Long enough for a slow machine; nothing waits for it to pass.
const WITHIN: Duration = Duration::from_secs(60);

/// A folder with templates and results, and the stores that they read.
struct Rig {
    folder: tempfile::TempDir,
    server: Option<NatsServer>,
    store: Arc<dyn Backend>,
    sources: Arc<StoreSources>,
}

impl Rig {
    async fn nats(release: Release) -> Self {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let url = server.url();
        Self { server: Some(server), ..Self::at(&url, tempfile::tempdir().unwrap()).await }
    }

    async fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("local:{}", folder.path().join("store").display());
        Self::at(&url, folder).await
    }

    async fn at(url: &str, folder: tempfile::TempDir) -> Self {
        let request = StoreRequest::new().store(Some(url.to_owned()));
        let sources = StoreSources::new(request, Environment::default())
            .timeout(Some(Duration::from_secs(2)))
            .in_background();
        let store = connect(url).await.unwrap();
        Self { folder, server: None, store, sources: Arc::new(sources) }
    }

    fn memory() -> Self {
        let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let sources = StoreSources::new(StoreRequest::new(), Environment::default())
            .over(Arc::clone(&store))
            .secret(["secrets"]);
        let folder = tempfile::tempdir().unwrap();
        Self { folder, server: None, store, sources: Arc::new(sources) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whole at once: half of a template is a template too, and would be rendered.
    fn write(&self, name: &str, text: &str) {
        let written = self.path(&format!("{name}.written"));
        std::fs::write(&written, text).unwrap();
        std::fs::rename(written, self.path(name)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// `t.yml` to `app.yml`, both in the folder.
    fn spec(&self) -> RenderSpec {
        let mut spec = RenderSpec::new(vec![self.path("t.yml")], self.path("app.yml"));
        self.folder.path().clone_into(&mut spec.directory);
        spec
    }

    fn renderer(&self, spec: RenderSpec) -> Renderer {
        let sources = Arc::clone(&self.sources);
        Renderer::new(spec, sources)
    }

    async fn kv(&self, bucket: &str) -> Arc<dyn Kv> {
        let bucket = BucketName::parse(bucket).unwrap();
        self.store.kv(&bucket, Open::ensure(BucketSpec::default())).await.unwrap()
    }

    async fn objects(&self, bucket: &str) -> Arc<dyn Objects> {
        let bucket = BucketName::parse(bucket).unwrap();
        self.store.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap()
    }

    async fn put(&self, bucket: &str, key: &str, value: &str) {
        let kv = self.kv(bucket).await;
        let key = Key::parse(key).unwrap();
        kv.put(&key, value.to_owned().into(), PutOpts::new()).await.unwrap();
    }
}

/// A renderer that follows, and what it tells.
struct Following {
    events: mpsc::UnboundedReceiver<Event>,
    tasks: Tasks,
}

impl Following {
    fn start(mut renderer: Renderer) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let tasks = Tasks::new();
        tasks.spawn_until_stop(async move {
            let never = std::future::pending();
            renderer.follow(never, |event| drop(sender.send(event))).await;
        });
        Self { events, tasks }
    }

    /// The next event that `wanted` takes.
    async fn next<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("it follows");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(WITHIN, found).await.expect("it happens")
    }

    async fn written(&mut self) {
        self.next(|event| match event {
            Event::Rendered(rendering) if rendering.written => Some(()),
            _ => None,
        })
        .await;
    }

    async fn failure(&mut self) -> String {
        self.next(|event| match event {
            Event::Rendered(rendering) => rendering.failure.map(|failure| failure.to_string()),
            _ => None,
        })
        .await
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

fn inode(path: &Path) -> (u64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).unwrap();
    (found.ino(), found.mtime_nsec())
}

async fn put_object(objects: &dyn Objects, name: &str, body: String) -> jetbridge_core::Result<()> {
    let name = ObjectName::parse(name).unwrap();
    objects.put(&name, body_of(body), ObjectPut::default()).await.map(drop)
}
