//! Captured into a store and restored from it, on every store.

use std::sync::Arc;

use jetbridge_core::Tasks;
use jetbridge_sqlite::capture::Capture;
use jetbridge_sqlite::restore::{Options, Overwrite, restore};
use jetbridge_sqlite::uplink::{FenceOptions, StoreUplink};

use super::source::{Source, closed, options, synced};
use crate::rig::Rig;

fn uplink(rig: &Rig, writer: &str) -> Arc<StoreUplink> {
    let mut fence = FenceOptions::new(writer);
    fence.ttl = std::time::Duration::from_secs(2);
    // Small parts, so that a base has some.
    Arc::new(StoreUplink::new(rig.replica(), fence, Tasks::new()).part_bytes(64 << 10))
}

/// Compares every page with what is restored from the store.
async fn check(source: &Source, rig: &Rig, capture: &Capture) {
    synced(capture).await;
    let still = source.stilled();
    let txid = synced(capture).await;
    let mut options = Options::new(source.dir().join("restored.db"));
    options.overwrite = Overwrite::Yes;
    let restored = restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
    assert_eq!(restored.txid, txid);
    source.compare_with(&options.output, &still);
}

pub(crate) async fn what_is_committed_is_restored(rig: &Rig) {
    let source = Source::new();
    let mut app = source.app();
    app.write(100);
    let mut files = Vec::new();
    for _ in 0..3 {
        let up = uplink(rig, "a");
        let capture = Capture::start(options(source.dir()), Arc::clone(&up) as _).await.unwrap();
        check(&source, rig, &capture).await;
        for step in ["VACUUM", "DELETE FROM w WHERE id % 3 = 0", "VACUUM"] {
            app.write(10);
            app.run(step);
            check(&source, rig, &capture).await;
        }
        closed(capture).await;
        up.close().await.unwrap();
        files.push(up.manifest().files().count());
        // Nobody looks.
        app.write(10);
        app.run("PRAGMA wal_checkpoint(TRUNCATE)");
        app.write(1);
    }
    assert!(files.is_sorted(), "{files:?}");
}

/// A second capture of a copy of the database, elsewhere, into the same replica.
pub(crate) async fn a_writer_that_was_overtaken_says_so(rig: &Rig) {
    let (mine, other) = (Source::new(), Source::new());
    mine.app().write(3);
    other.app().write(3);
    let first = Capture::start(options(mine.dir()), uplink(rig, "mine")).await.unwrap();
    synced(&first).await;
    let second = Capture::start(options(other.dir()), uplink(rig, "other")).await.unwrap();
    let mut status = second.status();
    let ended = status.wait_for(|it| it.ended).await.unwrap().clone();
    let error = ended.error.unwrap();
    assert!(error.contains("mine"), "{error}");
    check(&mine, rig, &first).await;
    closed(first).await;
}
