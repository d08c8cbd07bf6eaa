//! Several processes write at once, and some are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend as _, Change, Digest, IncrementOpts, Kv, ManualClock, ObjectPut, PutOpts, Read, Scope,
    Start, Watch, random,
};
use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_testkit::process::{Process, say};

use crate::child::ROLES;
use crate::support::{
    body, bucket, close, fetch, files, key, kv, next, object, objects, open, pattern, store_object,
};

const PROCESSES: usize = 8;
const INCREMENTS_EACH: usize = 500;
/// How often a writer is killed in mid-write.
const KILLS: usize = 12;

#[tokio::test]
async fn increments_of_8_processes_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let children: Vec<Process> = (0..PROCESSES).map(|_| ROLES.start("increment", &path)).collect();
    let mut sums = BTreeSet::new();
    for child in children {
        for line in child.finish() {
            let sum: usize = line.parse().unwrap();
            assert!(sums.insert(sum), "two increments were told {sum}");
        }
    }
    let all = PROCESSES * INCREMENTS_EACH;
    assert_eq!(sums, (1..=all).collect());
    let store = open(&path).await;
    assert_eq!(number(&*kv(&store, "counters").await).await, all);
    close(store).await;
}

/// The role of a process that counts, four callers at once.
pub(crate) async fn increment(directory: &Path) {
    let store = open(directory).await;
    let kv = kv(&store, "counters").await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let kv = Arc::clone(&kv);
        callers.spawn(async move {
            for _ in 0..INCREMENTS_EACH / 4 {
                say(kv.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap());
            }
        });
    }
    callers.join_all().await;
    close(store).await;
}

async fn number(kv: &dyn Kv) -> usize {
    let entry = kv.get(&key("n"), Read::Fresh).await.unwrap();
    entry.map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().unwrap())
}

// The survivor passes messages on while this thread waits for a child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut known = Known::default();
    for kill in 0..KILLS {
        // Every other time nobody else has the store open, so that it is recovered from scratch.
        let survivor = if kill % 2 == 0 { Some(open(&path).await) } else { None };
        let mut child = ROLES.start("write", &path);
        let lines = 5 + random::u64() % 120;
        let mut said: Vec<String> = (0..lines).map(|_| child.line()).collect();
        said.extend(child.kill());
        known.learn(&said);
        let store = match survivor {
            Some(store) => store,
            None => open(&path).await,
        };
        known.check(&store).await;
        close(store).await;
    }
}

/// What killed writers were told.
#[derive(Debug, Default)]
struct Known {
    /// Key to the revision of its value.
    written: BTreeMap<String, u64>,
    /// Name to the digest of its object.
    stored: BTreeMap<String, String>,
    counted: usize,
    /// Writers that may have counted once more than they could say.
    killed: usize,
    newest: u64,
}

impl Known {
    fn learn(&mut self, said: &[String]) {
        self.killed += 1;
        for line in said {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["put", name, revision] => {
                    let revision = revision.parse().unwrap();
                    assert!(revision > self.newest, "{revision} after {}", self.newest);
                    self.newest = revision;
                    self.written.insert(name.to_owned(), revision);
                }
                ["count", sum] => {
                    self.counted += 1;
                    let sum: usize = sum.parse().unwrap();
                    assert!((self.counted..=self.counted + self.killed).contains(&sum));
                }
                ["object", name, digest] => {
                    self.stored.insert(name.to_owned(), digest.to_owned());
                }
                _ => panic!("{line}"),
            }
        }
    }

    async fn check(&self, store: &LocalBackend) {
        let (kv, objects) = (kv(store, "k").await, objects(store, "o").await);
        for (name, revision) in &self.written {
            let entry = kv.get(&key(name), Read::Fresh).await.unwrap();
            let entry = entry.unwrap_or_else(|| panic!("{name} of revision {revision} is gone"));
            assert_eq!((entry.revision.0, entry.value.as_ref()), (*revision, name.as_bytes()));
        }
        let number = number(&*kv).await;
        assert!((self.counted..=self.counted + self.killed).contains(&number), "{number}");
        for (name, digest) in &self.stored {
            let bytes = fetch(&objects, name).await.unwrap_or_else(|| panic!("{name} is gone"));
            assert_eq!(Digest::of(&bytes).to_string(), *digest);
        }
        self.check_leftovers(store).await;
    }

    /// A sweep leaves exactly the bodies that objects have.
    async fn check_leftovers(&self, store: &LocalBackend) {
        let objects = objects(store, "o").await;
        objects.sweep(Duration::ZERO).await.unwrap();
        let listed: Vec<_> =
            futures_util::TryStreamExt::try_collect(objects.list(Scope::All)).await.unwrap();
        let root = store.to_string().strip_prefix("local:").unwrap().to_owned();
        let bodies = files(Path::new(&root).join("objects").as_path());
        let bodies =
            bodies.iter().filter(|path| path.contains("/bodies/") || path.contains("/incoming/"));
        assert_eq!(bodies.count(), listed.len());
    }
}

/// The role of a process that writes until it is killed, and says what it is told.
pub(crate) async fn write(directory: &Path) {
    let store = open(directory).await;
    let (kv, objects) = (kv(&store, "k").await, objects(&store, "o").await);
    for round in 0.. {
        let name = format!("{}.{round}", std::process::id());
        let put = kv.put(&key(&name), name.clone().into(), PutOpts::new()).await.unwrap();
        say(format_args!("put {name} {}", put.revision));
        let sum = kv.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap();
        say(format_args!("count {sum}"));
        if round % 4 == 0 {
            // Small and large ones, new and over old ones.
            let length = usize::try_from(random::u64() % (3 << 20)).unwrap() >> (round % 12);
            let bytes = || body(pattern(length, random::u64()));
            let info = objects.put(&object(&name), bytes(), ObjectPut::new()).await.unwrap();
            say(format_args!("object {name} {}", info.digest.unwrap()));
            objects.put(&object("always.anew"), bytes(), ObjectPut::new()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_expiry_is_one_deletion_for_all_processes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    let options = || LocalOptions::default().clock(Arc::new(clock.clone()));
    let a = LocalBackend::open(dir.path().join("store"), options()).await.unwrap();
    let b = LocalBackend::open(dir.path().join("store"), options()).await.unwrap();
    let (ours, theirs) = (kv(&a, "k").await, kv(&b, "k").await);
    let watch = |kv: &Arc<dyn Kv>| kv.watch(Watch::current(Scope::All).start(Start::Now));
    let mut watches = [watch(&ours), watch(&theirs), watch(&ours)];
    let ttl = Duration::from_secs(60);
    let written = ours.put(&key("a"), "1".into(), PutOpts::new().ttl(ttl)).await.unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch).await.unwrap(), Change::CaughtUp);
        assert_eq!(next(watch).await.unwrap().revision(), Some(written.revision));
    }
    clock.advance(ttl - Duration::from_nanos(1));
    assert!(theirs.get(&key("a"), Read::Fresh).await.unwrap().is_some());
    clock.advance(Duration::from_nanos(1));
    assert!(theirs.get(&key("a"), Read::Fresh).await.unwrap().is_none());
    let mut deletions = Vec::new();
    for watch in &mut watches {
        let Change::Delete { key, revision, at } = next(watch).await.unwrap() else {
            panic!("a deletion comes")
        };
        assert_eq!((key.as_str(), at), ("a", written.at.unwrap() + ttl));
        deletions.push(revision);
    }
    assert!(deletions.iter().all(|revision| *revision == deletions[0]), "{deletions:?}");
    drop(watches);
    close(a).await;
    close(b).await;
}

#[tokio::test]
async fn what_a_reader_has_open_stays_right_while_others_replace_it() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(&dir.path().join("s")).await, open(&dir.path().join("s")).await);
    let (ours, theirs) = (objects(&a, "o").await, objects(&b, "o").await);
    store_object(&ours, "x", pattern(5 << 20, 1)).await;
    let mut reading = ours.get(&object("x"), None).await.unwrap().unwrap().body;
    let first = next(&mut reading).await.unwrap();
    assert_eq!(first, pattern(5 << 20, 1)[..first.len()]);
    store_object(&theirs, "x", pattern(5 << 20, 2)).await;
    let ended = loop {
        match next(&mut reading).await {
            Ok(piece) => assert!(!piece.is_empty()),
            Err(error) => break error,
        }
    };
    assert_eq!(ended.kind(), jetbridge_core::ErrorKind::Conflict, "{ended:?}");
    assert_eq!(fetch(&ours, "x").await.unwrap(), pattern(5 << 20, 2));
    assert!(a.bucket(jetbridge_core::BucketKind::Object, &bucket("o")).await.unwrap().bytes > 0);
    close(a).await;
    close(b).await;
}
