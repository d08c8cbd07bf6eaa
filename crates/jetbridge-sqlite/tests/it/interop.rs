//! Both ways with Litestream.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{SystemClock, Tasks};
use jetbridge_sqlite::capture::{self, Uplink as _};
use jetbridge_sqlite::restore::{Integrity, Options, Overwrite, restore};
use jetbridge_sqlite::store::Target;
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_sqlite::{PageSize, Replication, Txid};
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use rusqlite::Connection;

use super::litestream::{FRAMES, Litestream, NEWEST};
use super::rig::{Rig, connect};
use super::uplink::{file_delta, uplink};

struct Bench {
    server: Arc<NatsServer>,
    rig: Rig,
}

async fn bench(release: Release) -> Bench {
    let server = Arc::new(NatsServer::start(release, ServerOptions::default()).await);
    let backend = Arc::new(connect(&server.url()).await);
    let rig = Rig::over(backend, Box::new(Arc::clone(&server))).await;
    Bench { server, rig }
}

/// An application's database, in WAL mode, its log never moved by itself.
pub(crate) fn application(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, a TEXT)",
        )
        .unwrap();
    connection
}

pub(crate) fn insert(connection: &Connection, rows: u32) {
    connection
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO t (a) SELECT hex(randomblob(200)) FROM n",
            [rows],
        )
        .unwrap();
}

/// All rows, as they are read back.
pub(crate) fn rows(path: &Path) -> Vec<(i64, String)> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT id, a FROM t ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

async fn what_it_wrote_is_restored(release: Release, litestream: Litestream) {
    let bench = bench(release).await;
    let (server, dir) = (bench.server.url(), bench.rig.dir.path());
    let database = dir.join("app.db");
    let application = application(&database);
    let mut states = Vec::new();
    for round in 1..=4_u32 {
        insert(&application, 200 * round);
        litestream.replicate_once(&server, &database);
        let head = bench.rig.replica().manifest().await.unwrap();
        let txid = head.files().map(|file| file.range.max()).max().unwrap();
        states.push((txid, rows(&database), jetbridge_core::Clock::now(&SystemClock)));
    }
    let output = dir.join("out.db");
    let mut options = Options::new(&output);
    options.overwrite = Overwrite::Yes;
    options.integrity = Integrity::Full;
    let replica = bench.rig.replica();
    let newest = restore(&replica, &options, &|_bytes| ()).await.unwrap();
    assert_eq!((newest.txid, rows(&output)), (states[3].0, states[3].1.clone()));
    for (txid, expected, then) in &states {
        for target in [Target::Txid(*txid), Target::Before(*then)] {
            options.target = target;
            let done = restore(&replica, &options, &|_bytes| ()).await.unwrap();
            assert_eq!((done.txid, &rows(&output)), (*txid, expected), "{target:?}");
        }
    }
    assert!(states[0].0 >= Txid(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_litestream_wrote_is_restored_from_the_newest_server() {
    what_it_wrote_is_restored(Release::Newest, NEWEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_litestream_wrote_is_restored_from_the_oldest_server() {
    what_it_wrote_is_restored(Release::Oldest, NEWEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_litestream_wrote_as_frames_is_restored() {
    what_it_wrote_is_restored(Release::Newest, FRAMES).await;
}

/// What the application has committed, as its database file.
fn checkpointed(application: &Connection, path: &Path) -> Vec<u8> {
    application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(())).unwrap();
    std::fs::read(path).unwrap()
}

async fn what_we_wrote_is_restored_by_litestream(release: Release) {
    let bench = bench(release).await;
    let (server, dir) = (bench.server.url(), bench.rig.dir.path());
    let database = dir.join("app.db");
    let application = application(&database);
    let tasks = Tasks::new();
    let up = uplink(&bench.rig, "a", &tasks);
    let (mut before, mut txid) = (Vec::new(), Txid::NONE);
    for round in 1..=4_u32 {
        insert(&application, 100 * round);
        if round == 3 {
            // A base over what is there, as after a restart without memory.
            before.clear();
        }
        let after = checkpointed(&application, &database);
        let delta = file_delta(txid.next(), &before, &after, PageSize::new(4096).unwrap());
        txid = up.ship(delta).await.unwrap();
        let output = dir.join(format!("out-{round}.db"));
        NEWEST.restore(&server, &output, &["-integrity-check", "full"]).unwrap();
        assert_eq!(rows(&output), rows(&database), "round {round}");
        assert!(std::fs::read(&output).unwrap() == after, "round {round}");
        before = after;
    }
    let parts = up.manifest().files().filter(|file| file.base.is_some()).count();
    assert!(parts > 8, "{parts} parts are not many");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_wrote_is_restored_by_litestream_from_the_newest_server() {
    what_we_wrote_is_restored_by_litestream(Release::Newest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_wrote_is_restored_by_litestream_from_the_oldest_server() {
    what_we_wrote_is_restored_by_litestream(Release::Oldest).await;
}

const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Levels that are merged as fast as they can be, and files that go as soon as they may.
fn hasty() -> UpkeepOptions {
    let mut upkeep = UpkeepOptions::default();
    upkeep.levels = vec![Duration::from_secs(1); 3];
    upkeep.snapshot_interval = Duration::from_secs(3);
    upkeep.snapshot_retention = Duration::from_millis(1);
    upkeep.captured_retention = Duration::from_millis(1);
    upkeep.captured_check = Duration::from_secs(1);
    upkeep
}

async fn replicate(bench: &Bench, database: &Path, upkeep: UpkeepOptions) -> Replication {
    let options = capture::Options::new(database);
    Replication::start(options, bench.rig.replica(), upkeep).await.unwrap()
}

async fn restored_by_us(bench: &Bench) -> (Txid, Vec<(i64, String)>) {
    let output = bench.rig.dir.path().join("ours.db");
    let mut options = Options::new(&output);
    options.overwrite = Overwrite::Yes;
    options.integrity = Integrity::Full;
    let done = restore(&bench.rig.replica(), &options, &|_bytes| ()).await.unwrap();
    (done.txid, rows(&output))
}

async fn a_live_database_is_restored_by_both_in_the_middle_of_a_load(release: Release) {
    let bench = bench(release).await;
    let (server, dir) = (bench.server.url(), bench.rig.dir.path());
    let database = dir.join("app.db");
    let application = application(&database);
    insert(&application, 500);
    let replication = replicate(&bench, &database, hasty()).await;
    for round in 0..12 {
        for _ in 0..20 {
            insert(&application, 5);
        }
        let acknowledged = replication.sync().await.unwrap();
        let expected = rows(&database);
        let (txid, ours) = restored_by_us(&bench).await;
        assert!(txid >= acknowledged);
        assert_eq!(ours, expected, "round {round}");
        let output = dir.join(format!("theirs-{round}.db"));
        // It lists objects until the server says that none are left, which servers also say for a
        // moment when one has just been overwritten: then it finds too few.
        let theirs = async || {
            match NEWEST.restore(&server, &output, &["-integrity-check", "full"]) {
                Err(error) if error.contains("no matching backup files") => return None,
                restored => restored.unwrap(),
            }
            Some(())
        };
        eventually("it finds the files", CLOSE_WITHIN, theirs).await;
        assert_eq!(rows(&output), expected, "round {round}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let level = |level| jetbridge_sqlite::store::Level::new(level).unwrap();
    // An old snapshot stays until the new one is proven.
    eventually("what is merged and superseded goes", CLOSE_WITHIN, async || {
        let manifest = bench.rig.replica().manifest().await.unwrap();
        let files = |number| manifest.level(level(number)).count();
        (files(9) == 1 && files(1) > 0 && files(0) < 12).then_some(())
    })
    .await;
    assert!(replication.close(CLOSE_WITHIN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_on_the_newest_server_is_restored_by_both() {
    a_live_database_is_restored_by_both_in_the_middle_of_a_load(Release::Newest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_on_the_oldest_server_is_restored_by_both() {
    a_live_database_is_restored_by_both_in_the_middle_of_a_load(Release::Oldest).await;
}

/// C4: each goes on from where the other stopped, in the same bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_is_handed_over_and_back() {
    let bench = bench(Release::Newest).await;
    let (server, dir) = (bench.server.url(), bench.rig.dir.path());
    let database = dir.join("app.db");
    let application = application(&database);
    for round in 0..3 {
        insert(&application, 100);
        let ours = replicate(&bench, &database, UpkeepOptions::default()).await;
        ours.sync().await.unwrap();
        insert(&application, 100);
        let last = ours.sync().await.unwrap();
        assert!(ours.close(CLOSE_WITHIN).await);
        let (txid, restored) = restored_by_us(&bench).await;
        assert_eq!((txid, restored), (last, rows(&database)), "round {round}");
        insert(&application, 100);
        NEWEST.replicate_once(&server, &database);
        let (txid, restored) = restored_by_us(&bench).await;
        assert!(txid > last, "Litestream went on from {last}, to {txid}");
        assert_eq!(restored, rows(&database), "round {round}");
        let output = dir.join(format!("theirs-{round}.db"));
        NEWEST.restore(&server, &output, &["-integrity-check", "full"]).unwrap();
        assert_eq!(rows(&output), rows(&database), "round {round}");
    }
}

mod slow {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    /// Commits in a second, and how long they go on: level 1 is merged meanwhile.
    const PER_SECOND: u32 = 1000;
    const LOAD: Duration = Duration::from_secs(45);

    fn load(database: &Path, (written, ended): (&AtomicU32, &AtomicBool)) {
        let connection = application(database);
        connection.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
        connection.busy_timeout(CLOSE_WITHIN).unwrap();
        let begun = Instant::now();
        let mut count = 0;
        while !ended.load(Ordering::Relaxed) {
            insert(&connection, 1);
            count += 1;
            written.store(count, Ordering::Relaxed);
            let due = begun + Duration::from_secs(1) / PER_SECOND * count;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stock_litestream_restores_in_the_middle_of_1000_commits_a_second() {
        let bench = bench(Release::Newest).await;
        let (server, dir) = (bench.server.url(), bench.rig.dir.path().to_owned());
        let database = dir.join("app.db");
        drop(application(&database));
        let replication = replicate(&bench, &database, UpkeepOptions::default()).await;
        let shared = Arc::new((AtomicU32::new(0), AtomicBool::new(false)));
        let (theirs, path) = (Arc::clone(&shared), database.clone());
        let writing = tokio::task::spawn_blocking(move || load(&path, (&theirs.0, &theirs.1)));
        let begun = Instant::now();
        let mut round = 0;
        while begun.elapsed() < LOAD {
            tokio::time::sleep(Duration::from_secs(4)).await;
            let written = shared.0.load(Ordering::Relaxed);
            replication.sync().await.unwrap();
            let output = dir.join(format!("theirs-{round}.db"));
            let arguments = ["-integrity-check", "full"];
            let (url, to) = (server.clone(), output.clone());
            let restored =
                tokio::task::spawn_blocking(move || NEWEST.restore(&url, &to, &arguments)).await;
            restored.unwrap().unwrap();
            let found = rows(&output);
            assert!(found.len() >= written as usize, "{} of {written}", found.len());
            assert!(found.iter().map(|(id, _)| *id).eq(1..=found.len() as i64), "a row is missing");
            round += 1;
        }
        shared.1.store(true, Ordering::Relaxed);
        writing.await.unwrap();
        let written = shared.0.load(Ordering::Relaxed);
        println!("{written} commits in {:?}, {round} restores", begun.elapsed());
        assert!(round > 5 && written > 10_000, "{written} commits, {round} restores");
        let one = jetbridge_sqlite::store::Level::new(1).unwrap();
        assert!(bench.rig.replica().manifest().await.unwrap().level(one).count() > 0);
        assert!(replication.close(CLOSE_WITHIN).await);
    }
}
