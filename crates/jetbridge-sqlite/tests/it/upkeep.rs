//! Upkeep where something is broken or in the way: it goes on with the rest, what was lost comes
//! again from the database, and nothing goes that is needed.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use jetbridge_sqlite::restore::{Integrity, Options, Overwrite, restore};
use jetbridge_sqlite::store::{Level, LtxFile, Put};
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_sqlite::{Replication, Txid, TxidRange, capture};
use jetbridge_testkit::eventually;
use tokio::time::timeout;

use super::faults;
use super::gate::Gate;
use super::interop::{application, insert, rows};
use super::rig::{Rig, Row};

const WITHIN: Duration = Duration::from_secs(60);

fn hasty() -> UpkeepOptions {
    let mut upkeep = UpkeepOptions::default();
    upkeep.levels = vec![Duration::from_millis(500), Duration::from_secs(2)];
    upkeep.captured_retention = Duration::from_millis(1);
    upkeep.captured_check = Duration::from_millis(500);
    upkeep
}

async fn merged(rig: &Rig, level: u8) -> Option<LtxFile> {
    let manifest = rig.replica().manifest().await.ok()?;
    let captured = manifest.level(Level::CAPTURED).count();
    let newest = manifest.level(Level::new(level)?).next_back()?.clone();
    (captured <= 1).then_some(newest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_in_the_replica_comes_again_from_the_database() {
    let rig = Row::Memory.open().await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    insert(&application, 50);
    let options = capture::Options::new(&database);
    let replication = Replication::start(options, rig.replica(), hasty()).await.unwrap();
    replication.sync().await.unwrap();
    insert(&application, 50);
    replication.sync().await.unwrap();
    let file = eventually("only level 1 has it", WITHIN, async || merged(&rig, 1).await).await;
    faults::flip(&rig, &file).await;
    insert(&application, 50);
    replication.sync().await.unwrap();
    let output = rig.dir.path().join("out.db");
    let mut options = Options::new(&output);
    (options.overwrite, options.integrity) = (Overwrite::Yes, Integrity::Full);
    eventually("it is whole again", WITHIN, async || {
        let done = restore(&rig.replica(), &options, &|_bytes| ()).await.ok()?;
        (done.broken.is_empty() && rows(&output) == rows(&database)).then_some(())
    })
    .await;
    // And what comes behind is merged as ever.
    insert(&application, 50);
    let last = replication.sync().await.unwrap();
    eventually("it goes on", WITHIN, async || {
        merged(&rig, 1).await.filter(|file| file.range.max() >= last)
    })
    .await;
    assert!(replication.close(WITHIN).await);
}

/// What is restored is the database, whole.
async fn check(rig: &Rig, database: &Path) {
    let output = rig.dir.path().join("out.db");
    let mut options = Options::new(&output);
    (options.overwrite, options.integrity) = (Overwrite::Yes, Integrity::Full);
    restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
    assert!(rows(&output) == rows(database), "another database was restored");
}

async fn has(rig: &Rig, level: u8, range: TxidRange) -> bool {
    let manifest = rig.replica().manifest().await.unwrap();
    manifest.level(Level::new(level).unwrap()).any(|file| file.range == range)
}

async fn start(rig: &Rig, upkeep: UpkeepOptions) -> Replication {
    let options = capture::Options::new(rig.dir.path().join("app.db"));
    Replication::start(options, rig.replica(), upkeep).await.unwrap()
}

/// Levels that are merged as seldom as ever.
fn forgetful() -> UpkeepOptions {
    let mut upkeep = hasty();
    upkeep.levels = UpkeepOptions::default().levels;
    upkeep
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_a_hole_of_level_1_stays_until_a_state_is_behind_it() {
    let rig = Row::Memory.open().await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    let replication = start(&rig, UpkeepOptions::default()).await;
    for _ in 0..8 {
        insert(&application, 20);
        replication.sync().await.unwrap();
    }
    assert!(replication.close(WITHIN).await);
    // A merge that was cut off, as another program may leave it: the outer files are in level 1.
    let replica = rig.replica();
    let manifest = replica.manifest().await.unwrap();
    let captured: Vec<_> = manifest.level(Level::CAPTURED).cloned().collect();
    let merged = [&captured[2], &captured[captured.len() - 2]];
    for file in merged {
        let (level, bytes) = (Level::new(1).unwrap(), replica.bytes(file).await.unwrap());
        let put = Put { level, range: file.range, time: file.time, base: None };
        replica.put(put, bytes).await.unwrap();
    }
    let replication = start(&rig, forgetful()).await;
    replication.sync().await.unwrap();
    eventually("what is merged goes", WITHIN, async || {
        (!has(&rig, 0, merged[0].range).await && !has(&rig, 0, merged[1].range).await).then_some(())
    })
    .await;
    check(&rig, &database).await;
    assert!(has(&rig, 0, captured[4].range).await, "what lies in the hole is gone");
    replication.rebase().await.unwrap();
    eventually("what a base is behind goes", WITHIN, async || {
        (!has(&rig, 0, captured[4].range).await).then_some(())
    })
    .await;
    check(&rig, &database).await;
    assert!(replication.close(WITHIN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merges_go_on_while_a_state_is_proven() {
    let gate = Gate::at("object.get", "ltx/3/");
    let rig = gate.rig().await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    insert(&application, 50);
    let mut upkeep = hasty();
    upkeep.levels.truncate(1);
    upkeep.snapshot_retention = Duration::from_millis(1);
    let replication = start(&rig, upkeep).await;
    let old = TxidRange::new(Txid(1), Txid(1)).unwrap();
    replication.sync().await.unwrap();
    assert!(has(&rig, 3, old).await);
    gate.shut();
    replication.rebase().await.unwrap();
    gate.reached().await;
    insert(&application, 50);
    let last = replication.sync().await.unwrap();
    eventually("it is merged", WITHIN, async || {
        merged(&rig, 1).await.filter(|file| file.range.max() >= last)
    })
    .await;
    assert!(has(&rig, 3, old).await, "it went though nothing is proven");
    gate.open();
    let gone = async || (!has(&rig, 3, old).await).then_some(());
    eventually("what the state replaces goes", WITHIN, gone).await;
    check(&rig, &database).await;
    assert!(replication.close(WITHIN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_merged_is_not_deleted_by_command() {
    let gate = Gate::at("object.get", "ltx/1/");
    let rig = gate.rig().await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    let mut upkeep = hasty();
    upkeep.captured_check = Duration::from_secs(3600);
    upkeep.snapshot_retention = Duration::from_millis(1);
    gate.shut();
    let replication = start(&rig, upkeep).await;
    insert(&application, 50);
    replication.sync().await.unwrap();
    // Level 2 is about to be given what level 1 has.
    gate.reached().await;
    let manifest = rig.replica().manifest().await.unwrap();
    let read = manifest.level(Level::new(1).unwrap()).next().unwrap().range;
    for _ in 0..2 {
        insert(&application, 50);
        replication.rebase().await.unwrap();
    }
    let mut forgetting = pin!(replication.enforce_retention());
    let early = timeout(Duration::from_secs(2), &mut forgetting).await;
    assert!(early.is_err(), "it does not wait for who reads: {early:?}");
    gate.open();
    forgetting.await.unwrap();
    assert!(has(&rig, 2, read).await, "the merge was cut off");
    check(&rig, &database).await;
    assert!(replication.close(WITHIN).await);
}
