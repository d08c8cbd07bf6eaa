//! Objects whose acknowledgements are lost, above all that of what describes them: it is found
//! out whether the name appeared, and nothing is doubled or left behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend as _, Body, BucketSpec, DeleteOpts, ErrorKind, ObjectName, ObjectPut, Objects, Open,
    Outcome, Scope, StreamName,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{AckLoss, NatsServer, Proxy, Release, ServerOptions, eventually};

use crate::store::{GRACE, SOON, Store, bucket, connect, options};

jetbridge_testkit::on_every_server!(
    a_new_object_whose_last_acknowledgement_is_lost_is_there_once,
    an_overwrite_whose_last_acknowledgement_is_lost_is_there_once,
    an_overwrite_that_was_overwritten_meanwhile_touches_nothing,
    a_deletion_whose_acknowledgement_is_lost_is_done_once,
    a_last_acknowledgement_lost_with_its_server_is_settled,
    a_put_that_is_dropped_behind_its_last_message_is_whole,
    a_chunk_whose_acknowledgement_is_lost_leaves_the_object_as_it_was,
);

const CHUNK: usize = 64 * 1024;
/// Chunks of every object here; so many acknowledgements come before the one that counts.
const CHUNKS: u64 = 3;
/// What a lost acknowledgement costs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);

fn content(letter: u8) -> Vec<u8> {
    vec![letter; CHUNK * usize::try_from(CHUNKS).unwrap()]
}

fn body(letter: u8) -> Body {
    futures_util::stream::iter([Ok(Bytes::from(content(letter)))]).boxed()
}

fn chunked() -> ObjectPut {
    ObjectPut::new().chunk_bytes(u32::try_from(CHUNK).unwrap())
}

fn name() -> ObjectName {
    ObjectName::parse("a").unwrap()
}

async fn open(backend: &NatsBackend) -> Arc<dyn Objects> {
    backend.objects(&bucket(), Open::ensure(BucketSpec::default())).await.unwrap()
}

/// Objects through a network that loses what it is told to, and how they are seen by others.
struct Scene {
    /// Straight to the server.
    store: Store,
    proxy: Proxy,
    ours: NatsBackend,
    objects: Arc<dyn Objects>,
}

impl Scene {
    async fn start(release: Release) -> Self {
        let server = NatsServer::start(release, ServerOptions::default()).await;
        let proxy = Proxy::start(server.address()).await;
        let mut through = options(&proxy.url());
        through.request_timeout = REQUEST_TIMEOUT;
        let ours = NatsBackend::connect(&through).await.unwrap();
        let objects = open(&ours).await;
        let store = Store { backend: connect(&server).await, server };
        Self { store, proxy, ours, objects }
    }

    /// Loses the acknowledgement behind the next `passed`.
    fn lose_behind(&self, passed: u64) {
        self.proxy.lose_acks(AckLoss::These(vec![passed]));
    }

    async fn until_lost(&self) {
        let lost = async || (self.proxy.acks_lost() > 0).then_some(());
        eventually("the acknowledgement is lost", SOON, lost).await;
    }

    /// The one object is what `letter` was put as, and nothing else is stored.
    async fn holds(&self, letter: u8) {
        let theirs = open(&self.store.backend).await;
        let listed: Vec<_> = theirs.list(Scope::All).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        let object = theirs.get(&name(), None).await.unwrap().unwrap();
        let pieces: Vec<Bytes> = object.body.try_collect().await.unwrap();
        assert_eq!(pieces.concat(), content(letter));
        self.stores(CHUNKS + 1).await;
    }

    /// So many messages are stored, as soon as what is cleared away is gone.
    async fn stores(&self, messages: u64) {
        let (bus, stream) = (self.store.backend.bus(), StreamName::parse("OBJ_b").unwrap());
        eventually("nothing else is stored", SOON, async || {
            (bus.stream(&stream).await.ok()?.messages == messages).then_some(())
        })
        .await;
    }

    async fn end(self) {
        assert!(self.ours.close(GRACE).await.is_clean());
        self.store.close().await;
    }
}

async fn a_new_object_whose_last_acknowledgement_is_lost_is_there_once(release: Release) {
    let scene = Scene::start(release).await;
    scene.lose_behind(CHUNKS);
    let info = scene.objects.put(&name(), body(1), chunked()).await.unwrap();
    assert_eq!(scene.proxy.acks_lost(), 1);
    let there = scene.objects.info(&name()).await.unwrap().unwrap();
    assert_eq!((there.revision, there.digest), (info.revision, info.digest));
    scene.holds(1).await;
    scene.end().await;
}

async fn an_overwrite_whose_last_acknowledgement_is_lost_is_there_once(release: Release) {
    let scene = Scene::start(release).await;
    let first = scene.objects.put(&name(), body(1), chunked()).await.unwrap();
    scene.lose_behind(CHUNKS);
    let over = chunked().expect(jetbridge_core::Expect::Exactly(first.revision));
    let info = scene.objects.put(&name(), body(2), over).await.unwrap();
    assert!(info.revision > first.revision);
    assert_eq!(scene.proxy.acks_lost(), 1);
    scene.holds(2).await;
    scene.end().await;
}

/// Whether ours was there for a moment cannot be told; what is there now is the other's, whole.
async fn an_overwrite_that_was_overwritten_meanwhile_touches_nothing(release: Release) {
    let scene = Scene::start(release).await;
    scene.objects.put(&name(), body(1), chunked()).await.unwrap();
    scene.lose_behind(CHUNKS);
    let theirs = open(&scene.store.backend).await;
    let meanwhile = async {
        scene.until_lost().await;
        theirs.put(&name(), body(3), chunked()).await.unwrap();
    };
    let named = name();
    let (ours, ()) = join(scene.objects.put(&named, body(2), chunked()), meanwhile).await;
    let error = ours.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    scene.holds(3).await;
    scene.end().await;
}

async fn a_deletion_whose_acknowledgement_is_lost_is_done_once(release: Release) {
    let scene = Scene::start(release).await;
    scene.objects.put(&name(), body(1), chunked()).await.unwrap();
    scene.lose_behind(0);
    assert!(scene.objects.delete(&name(), DeleteOpts::new()).await.unwrap().is_some());
    assert_eq!(scene.proxy.acks_lost(), 1);
    assert_eq!(scene.objects.info(&name()).await.unwrap(), None);
    scene.stores(0).await;
    assert_eq!(scene.objects.delete(&name(), DeleteOpts::new()).await.unwrap(), None);
    scene.end().await;
}

async fn a_last_acknowledgement_lost_with_its_server_is_settled(release: Release) {
    let scene = Scene::start(release).await;
    scene.objects.put(&name(), body(1), chunked()).await.unwrap();
    scene.lose_behind(CHUNKS);
    let blow = async {
        scene.until_lost().await;
        scene.store.server.restart().await;
    };
    let named = name();
    let (put, ()) = join(scene.objects.put(&named, body(2), chunked()), blow).await;
    let info = put.unwrap();
    let there = eventually("the server answers", SOON, async || {
        scene.objects.info(&name()).await.ok().flatten()
    })
    .await;
    assert_eq!(there.revision, info.revision);
    scene.holds(2).await;
    scene.end().await;
}

async fn a_chunk_whose_acknowledgement_is_lost_leaves_the_object_as_it_was(release: Release) {
    let scene = Scene::start(release).await;
    scene.objects.put(&name(), body(1), chunked()).await.unwrap();
    scene.lose_behind(1);
    let error = scene.objects.put(&name(), body(2), chunked()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
    scene.holds(1).await;
    scene.end().await;
}

/// What the name stands for when nobody waits for the answer any more still has its chunks.
async fn a_put_that_is_dropped_behind_its_last_message_is_whole(release: Release) {
    let scene = Scene::start(release).await;
    scene.objects.put(&name(), body(1), chunked()).await.unwrap();
    scene.lose_behind(CHUNKS);
    let named = name();
    tokio::select! {
        put = scene.objects.put(&named, body(2), chunked()) => panic!("{put:?}"),
        () = scene.until_lost() => {}
    }
    scene.holds(2).await;
    scene.end().await;
}
