//! The contract over a directory that two other processes have open too, and write to.
//!
//! The first of them owns the hub's socket, so that everything the cases say to each other passes
//! through a process that is not theirs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge_core::{
    Backend, BucketKind, BucketSpec, ErrorKind, IncrementOpts, Message, Open, PutOpts, Result,
    Scope, Subject,
};
use jetbridge_local::LocalBackend;
use jetbridge_testkit::process::{Process, dismissed, say};
use jetbridge_testkit::{Fixture, eventually};

use crate::child::ROLES;
use crate::support::{
    DEADLINE, body, bucket, close, key, kv, object, objects, open as open_store, pattern,
};

async fn open() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut neighbours = Vec::new();
    for _ in 0..2 {
        let mut neighbour = ROLES.start("neighbour", &path);
        assert_eq!(neighbour.line(), "here");
        neighbours.push(neighbour);
    }
    let backend = open_store(&path).await;
    let peer = open_store(&path).await;
    Fixture::new(Arc::new(backend), Arc::new(peer), Guard { neighbours, dir })
}

jetbridge_testkit::contract!(open);

/// Lives as long as its fixture: the processes end before their directory goes.
struct Guard {
    neighbours: Vec<Process>,
    dir: tempfile::TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        for neighbour in self.neighbours.drain(..) {
            if !std::thread::panicking() {
                neighbour.finish();
            }
        }
        assert!(self.dir.path().exists());
    }
}

/// Between two rounds of noise: often enough to meet every case, rare enough to leave it time.
const NOISE_PAUSE: Duration = Duration::from_millis(5);

/// A process with the same directory open: it writes to a bucket of its own, and looks into those
/// of others as they come and go.
pub(crate) async fn neighbour(directory: &Path) {
    let store = open_store(directory).await;
    make_noise(&store, 0).await.unwrap();
    say("here");
    let noise = async {
        for round in 1.. {
            match make_noise(&store, round).await {
                Ok(()) => {}
                // Somebody deleted what we were looking at.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => panic!("{error:?}"),
            }
            tokio::time::sleep(NOISE_PAUSE).await;
        }
    };
    tokio::select! {
        () = dismissed() => {}
        () = noise => {}
    }
    close(store).await;
}

async fn make_noise(store: &LocalBackend, round: u64) -> Result<()> {
    let noise = kv(store, "noise").await;
    let opts = PutOpts::new().ttl(Duration::from_millis(20));
    noise.put(&key(&format!("noise.{}", round % 50)), "loud".into(), opts).await?;
    noise.increment(&key("rounds"), 1, IncrementOpts::new()).await?;
    let subject = Subject::parse("noise.of.the.neighbours").unwrap();
    store.bus().publish(Message::new(subject, "loud")).await?;
    if round.is_multiple_of(20) {
        let files = objects(store, "noise").await;
        let bytes = body(pattern(10_000, round));
        files.put(&object("noise"), bytes, jetbridge_core::ObjectPut::new()).await?;
        look_around(store).await?;
    }
    Ok(())
}

async fn look_around(store: &LocalBackend) -> Result<()> {
    for found in store.buckets(BucketKind::Kv).await? {
        let kv = store.kv(&found.name, Open::existing()).await?;
        let mut keys = kv.keys(Scope::All);
        while let Some(key) = keys.next().await {
            kv.get(&key?, jetbridge_core::Read::Fresh).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_neighbours_make_noise() {
    let fixture = open().await;
    let noise = fixture.backend.kv(&bucket("noise"), Open::ensure(BucketSpec::default())).await;
    let noise = noise.unwrap();
    let rounds = async || {
        let entry = noise.get(&key("rounds"), jetbridge_core::Read::Fresh).await.unwrap().unwrap();
        String::from_utf8_lossy(&entry.value).parse::<u64>().unwrap()
    };
    let before = rounds().await;
    let louder = async || (rounds().await > before + 20).then_some(());
    eventually("noise", DEADLINE, louder).await;
    drop(noise);
    fixture.close().await;
}
