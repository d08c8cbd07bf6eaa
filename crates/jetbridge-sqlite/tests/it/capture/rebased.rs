//! A database whose snapshot would be too large for one object: it gets a new base now and then,
//! what is older goes, and whatever is killed meanwhile, what is needed is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jetbridge_core::wrap::{Answer, Call, Layer, Layered};
use jetbridge_core::{Backend as _, BucketName, BucketSpec, Open, Result};
use jetbridge_sqlite::restore::{self, Overwrite};
use jetbridge_sqlite::store::{Level, LtxFile, Manifest, Replica, Target};
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_sqlite::{Replication, Txid, TxidRange};
use jetbridge_testkit::process::say;
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use rusqlite::Connection;
use tokio::time::Instant;

use super::child::ROLES;
use super::history::{History, Judge};
use super::killed::{URL_FILE, replica_at};
use super::source::{DEADLINE, Source, options};
use crate::rig::{BUCKET, Rig, connect};

/// Between two states that later ones stand on.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long one of them may take to come and what is older to go, on a busy machine.
const WITHIN: Duration = Duration::from_secs(40);
/// Bytes that no encoding makes smaller: more than a snapshot may have.
const BALLAST_BYTES: u32 = 17 << 20;
const COMMIT_PAUSE: Duration = Duration::from_millis(2);
/// Where a child finds after which request it is to stand still.
const POINT_FILE: &str = "point";

fn hasty() -> UpkeepOptions {
    let mut upkeep = UpkeepOptions::default();
    upkeep.levels = vec![Duration::from_secs(1); 3];
    upkeep.snapshot_interval = INTERVAL;
    upkeep.snapshot_retention = Duration::from_millis(1);
    upkeep.captured_retention = Duration::from_millis(1);
    upkeep.captured_check = Duration::from_secs(1);
    upkeep
}

async fn replicate(dir: &Path, replica: Replica) -> Replication {
    Replication::start(options(dir), replica, hasty()).await.unwrap()
}

async fn synced(replication: &Replication) -> Txid {
    let synced = tokio::time::timeout(WITHIN, replication.sync()).await;
    let late = || format!("a sync in time: {:?}", *replication.status().borrow());
    synced.unwrap_or_else(|_elapsed| panic!("{}", late())).unwrap()
}

fn add_ballast(database: &Path) {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection.execute_batch("CREATE TABLE ballast (a BLOB)").unwrap();
    connection.execute("INSERT INTO ballast VALUES (randomblob(?1))", [BALLAST_BYTES]).unwrap();
}

fn ballast(database: &Path) -> Vec<u8> {
    let connection = Connection::open(database).unwrap();
    connection.query_row("SELECT a FROM ballast", [], |row| row.get(0)).unwrap()
}

/// Commits the history until it is told to end.
struct Writer {
    ended: Arc<AtomicBool>,
    writing: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(source: &Source) -> Self {
        let (ended, path) = (Arc::new(AtomicBool::new(false)), source.path());
        let told = Arc::clone(&ended);
        let writing = std::thread::spawn(move || {
            let mut history = History::go_on(&path);
            while !told.load(Ordering::Relaxed) {
                history.step();
                std::thread::sleep(COMMIT_PAUSE);
            }
        });
        Self { ended, writing }
    }

    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.writing.join().unwrap();
    }
}

/// The bases that are whole and stand on nothing.
fn bases(manifest: &Manifest) -> BTreeSet<TxidRange> {
    let leads = |file: &&LtxFile| file.range.min() == Txid(1);
    let bases = manifest.files().filter(leads).filter_map(|file| file.base);
    bases.filter(|base| manifest.is_complete(*base)).collect()
}

fn newest_base(manifest: &Manifest) -> Option<Txid> {
    bases(manifest).last().map(|base: &TxidRange| TxidRange::max(*base))
}

fn level(number: u8) -> Level {
    Level::new(number).unwrap()
}

/// Restores a state, and says which transaction of the history it is.
async fn judged(source: &Source, replica: &Replica, (target, judge): (Target, &mut Judge)) -> u64 {
    let restored = source.dir().join("restored.db");
    let done = restored_to(&restored, replica, target).await;
    if let Target::Txid(txid) = target {
        assert_eq!(done, txid);
    }
    assert!(ballast(&restored) == ballast(&source.path()), "the ballast of {target:?}");
    judge.number_of(&restored)
}

async fn restored_to(output: &Path, replica: &Replica, target: Target) -> Txid {
    let mut options = restore::Options::new(output);
    options.overwrite = Overwrite::Yes;
    options.target = target;
    match restore::restore(replica, &options, &|_bytes| ()).await {
        Ok(restored) => restored.txid,
        Err(error) => {
            let there = replica.manifest().await.unwrap();
            panic!("{target:?}: {error}; there is {:?}", there.files().collect::<Vec<_>>())
        }
    }
}

/// Compares the newest state, and others that are the same, with the database, page by page.
async fn compare(source: &Source, replication: &Replication, targets: &[Target]) {
    let still = source.stilled();
    synced(replication).await;
    for target in [Target::Latest].iter().chain(targets) {
        let restored = source.dir().join("restored.db");
        restored_to(&restored, replication.replica(), *target).await;
        source.compare_with(&restored, &still);
    }
}

/// What the next state of its own will make superfluous: all of `manifest` that ends before its
/// newest snapshot, but for the newest file of each level.
fn doomed(manifest: &Manifest) -> Vec<LtxFile> {
    let snapshot = manifest.last_of(Level::SNAPSHOT).unwrap();
    let is_doomed = |file: &&LtxFile| match file.level {
        Level::SNAPSHOT => true,
        level => file.range.max() < snapshot && Some(file.range.max()) < manifest.last_of(level),
    };
    manifest.files().filter(is_doomed).cloned().collect()
}

async fn gone(replica: &Replica, files: &[LtxFile]) {
    eventually("what is old is gone", WITHIN, async || {
        let manifest = replica.manifest().await.unwrap();
        let left = files.iter().filter(|it| manifest.level(it.level).any(|file| file == *it));
        (left.count() == 0).then_some(())
    })
    .await;
}

async fn what_is_too_large_for_a_snapshot_gets_a_base(rig: &Rig) {
    let (source, replica) = (Source::new(), rig.replica());
    drop(History::begin(&source.path()));
    let replication = replicate(source.dir(), rig.replica()).await;
    let writer = Writer::start(&source);
    let small =
        eventually("there is a snapshot, and more than one file before it", WITHIN, async || {
            let manifest = replica.manifest().await.unwrap();
            let merged = manifest.level(level(1)).count() > 1;
            (merged && manifest.last_of(Level::SNAPSHOT).is_some()).then_some(manifest)
        })
        .await;
    add_ballast(&source.path());
    let first = newest_base(&small);
    eventually("there is a new base", WITHIN, async || {
        newest_base(&replica.manifest().await.unwrap()).filter(|newest| Some(*newest) > first)
    })
    .await;

    // Now nothing changes in the replica, and the database does.
    assert!(replication.close(DEADLINE).await);
    let listed = replica.manifest().await.unwrap();
    let missing = || format!("{listed:?}, and as known {:?}", replication.manifest());
    let based = newest_base(&listed).unwrap_or_else(|| panic!("no base: {}", missing()));
    let mut judge = Judge::new();
    let at_base = judged(&source, &replica, (Target::Txid(based), &mut judge)).await;
    let at_close = judged(&source, &replica, (Target::Latest, &mut judge)).await;
    assert!(at_base > 0 && at_close >= at_base);

    let replication = replicate(source.dir(), rig.replica()).await;
    let doomed = doomed(&small);
    assert!(doomed.iter().any(|file| file.level == level(1)), "{doomed:?}");
    gone(&replica, &doomed).await;
    judged(&source, &replica, (Target::Latest, &mut judge)).await;
    writer.end();
    no_more_than_are_due(&source, &replication).await;
    assert!(replication.close(DEADLINE).await);
}

/// Once nobody writes, there is a base that has everything, and no other follows.
async fn no_more_than_are_due(source: &Source, replication: &Replication) {
    let replica = replication.replica();
    let settled = eventually("a base has everything and is alone", WITHIN, async || {
        let newest = synced(replication).await;
        let manifest = replica.manifest().await.unwrap();
        let last = newest_base(&manifest).filter(|base| base.next() == newest);
        let alone = bases(&manifest).len() == 1 && manifest.level(Level::SNAPSHOT).count() == 0;
        last.filter(|_| alone)
    })
    .await;
    let quiet_since = Instant::now();
    compare(source, replication, &[Target::Txid(settled)]).await;
    tokio::time::sleep_until(quiet_since + INTERVAL + Duration::from_millis(1500)).await;
    let manifest = replica.manifest().await.unwrap();
    assert_eq!(newest_base(&manifest), Some(settled), "a base without news");
    let newest = manifest.files().map(|file| file.range.max()).max();
    assert_eq!(newest, Some(settled.next()), "nothing is shipped without news");
}

/// Stands still for ever behind one request, and says so.
#[derive(Debug)]
struct Stall {
    operation: &'static str,
    prefix: &'static str,
    /// How many such requests come before it.
    passed: std::sync::atomic::AtomicUsize,
}

impl Stall {
    fn at(point: &str) -> Self {
        let (operation, prefix, passed) = match point {
            // Of the base that is asked for: the first is there from the start.
            "lead" => ("object.put", "ltx/3/0000000000000001-", 1),
            _ => ("object.delete", "ltx/3/0000000000000001-", 0),
        };
        Self { operation, prefix, passed: passed.into() }
    }
}

impl Layer for Stall {
    async fn call<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        mut run: impl FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> Result<T> {
        let answer = run().await;
        let met = call.operation == self.operation
            && call.name.is_some_and(|name| name.starts_with(self.prefix));
        let counted = |count: usize| Some(count.saturating_sub(1));
        if met && self.passed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, counted) == Ok(0) {
            say(self.operation);
            std::future::pending::<()>().await;
        }
        answer
    }
}

/// A child that replicates and stands still at the point that a file of the directory names.
pub(crate) async fn replicate_to_a_point(dir: &Path) {
    let url = std::fs::read_to_string(dir.join(URL_FILE)).unwrap();
    let stall = Stall::at(&std::fs::read_to_string(dir.join(POINT_FILE)).unwrap());
    let backend = Layered::new(Arc::new(connect(&url).await), stall);
    let bucket = BucketName::parse(BUCKET).unwrap();
    let objects = backend.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
    let _replication = replicate(dir, Replica::new(objects, "")).await;
    std::future::pending::<()>().await;
}

/// Replicates in a process of its own, and kills it where it stands still.
fn killed_at(point: &str, source: &Source) {
    std::fs::write(source.dir().join(POINT_FILE), point).unwrap();
    let mut child = ROLES.start("replicate_to_a_point", source.dir());
    child.line_within(WITHIN);
    child.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_behind_what_leads_to_a_base_or_in_mid_deletion_loses_nothing() {
    let source = Source::new();
    let server = NatsServer::start(Release::Newest, ServerOptions::default()).await;
    std::fs::write(source.dir().join(URL_FILE), server.url()).unwrap();
    let (_backend, replica) = replica_at(&server.url()).await;
    drop(History::begin(&source.path()));
    add_ballast(&source.path());
    let writer = Writer::start(&source);
    let mut judge = Judge::new();

    killed_at("lead", &source);
    let manifest = replica.manifest().await.unwrap();
    let base = newest_base(&manifest).unwrap();
    assert_eq!(bases(&manifest).len(), 2, "the new base is whole, and the old one is there");
    assert!(manifest.last_of(Level::CAPTURED) < Some(base), "the base was acknowledged");
    let at_base = judged(&source, &replica, (Target::Txid(base), &mut judge)).await;
    let newest = judged(&source, &replica, (Target::Latest, &mut judge)).await;
    assert!(at_base > 0 && newest == at_base);

    killed_at("delete", &source);
    let manifest = replica.manifest().await.unwrap();
    assert!(!manifest.abandoned().is_empty(), "the old base is gone whole");
    let base = newest_base(&manifest).unwrap();
    judged(&source, &replica, (Target::Txid(base), &mut judge)).await;
    judged(&source, &replica, (Target::Latest, &mut judge)).await;

    let replication = replicate(source.dir(), replica.clone()).await;
    synced(&replication).await;
    judged(&source, &replica, (Target::Latest, &mut judge)).await;
    writer.end();
    compare(&source, &replication, &[]).await;
    eventually("no part of a base is left over", WITHIN, async || {
        replica.manifest().await.unwrap().abandoned().is_empty().then_some(())
    })
    .await;
    assert!(replication.close(DEADLINE).await);
}

macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            use crate::rig::Row;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_is_too_large_for_a_snapshot_gets_a_base() {
                crate::capture::rebased::what_is_too_large_for_a_snapshot_gets_a_base(
                    &$row.open().await,
                )
                .await;
            }
        }
    };
}

row!(memory, Row::Memory);
row!(nats_2_15_2, Row::Nats(jetbridge_testkit::Release::Newest));

mod slow {
    row!(local, Row::Local);
    row!(nats_2_9_25, Row::Nats(jetbridge_testkit::Release::Oldest));
}
