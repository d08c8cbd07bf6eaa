//! Upkeep where something is broken: it goes on with the rest, and what was lost comes again from
//! the database.

use std::time::Duration;

use jetbridge_sqlite::restore::{Integrity, Options, Overwrite, restore};
use jetbridge_sqlite::store::{Level, LtxFile};
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_sqlite::{Replication, capture};
use jetbridge_testkit::eventually;

use super::faults;
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
