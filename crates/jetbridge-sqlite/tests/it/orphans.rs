//! What Litestream leaves behind: names without bodies after a full bucket, and a chain that
//! stands on a log which was begun anew behind its back.

use jetbridge_core::{BucketSpec, DeleteOpts, ErrorKind, ObjectName, ObjectPut, ObjectsExt as _};
use jetbridge_sqlite::restore::{Integrity, Options, Overwrite, restore};
use jetbridge_sqlite::store::Target;
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_sqlite::{Replication, Txid, capture};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

use super::interop::{application, insert, rows};
use super::litestream::NEWEST;
use super::rig::{Rig, connect};

const WITHIN: Duration = Duration::from_secs(60);
/// Bytes that the bucket may hold, and how many of them others have.
const BUCKET_BYTES: u64 = 5 << 20;
const OTHERS_BYTES: usize = 7 << 19;

async fn bucket(spec: BucketSpec) -> (Arc<NatsServer>, Rig) {
    let server = Arc::new(NatsServer::start(Release::Newest, ServerOptions::default()).await);
    let backend = Arc::new(connect(&server.url()).await);
    let rig = Rig::with(backend, Box::new(Arc::clone(&server)), spec).await;
    (server, rig)
}

async fn ours(rig: &Rig) -> Replication {
    let options = capture::Options::new(rig.dir.path().join("app.db"));
    Replication::start(options, rig.replica(), UpkeepOptions::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_without_bodies_are_found_and_the_newest_good_state_is_offered() {
    let mut spec = BucketSpec::default();
    spec.max_bytes = Some(BUCKET_BYTES);
    let (server, rig) = bucket(spec).await;
    let others = ObjectName::parse("others").unwrap();
    rig.objects.put_bytes(&others, vec![7; OTHERS_BYTES], ObjectPut::new()).await.unwrap();
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    // Each a file of some 200 KB, until one does not fit: its name does.
    let mut states = Vec::new();
    let missing = loop {
        insert(&application, 1000);
        let done = NEWEST.try_replicate_once(&server.url(), &database);
        let manifest = rig.replica().manifest().await.unwrap();
        let newest = manifest.files().max_by_key(|file| file.range.max()).unwrap().clone();
        match rig.replica().bytes(&newest).await {
            Ok(_) => states.push((newest.range.max(), rows(&database))),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                break newest;
            }
        }
        assert!(states.len() < 30, "the bucket is never full: {done:?}");
    };
    let output = rig.dir.path().join("out.db");
    let mut options = Options::new(&output);
    (options.overwrite, options.integrity) = (Overwrite::Yes, Integrity::Full);
    let error = restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap_err();
    let (good, expected) = states.last().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert_eq!(error.fact("lost_from"), Some(&*good.next().to_string()), "{error:?}");
    assert_eq!(error.fact("lost_to"), Some(&*missing.range.max().to_string()), "{error:?}");
    assert_eq!(error.fact("newest_good"), Some(&*good.to_string()), "{error:?}");
    assert!(error.hint_text().unwrap().contains(&format!("-txid {good}")), "{error:?}");
    options.target = Target::Txid(*good);
    restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
    assert_eq!(&rows(&output), expected);

    // There is room again, and whoever goes on does not stand on what is not there.
    rig.objects.delete(&others, DeleteOpts::new()).await.unwrap();
    let replication = ours(&rig).await;
    let synced = timeout(WITHIN, replication.sync()).await;
    let late = || format!("no sync in time: {:?}", *replication.status().borrow());
    let txid = synced.unwrap_or_else(|_late| panic!("{}", late())).unwrap();
    options.target = Target::Latest;
    let done = restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
    assert_eq!((done.txid, rows(&output)), (txid, rows(&database)));
    assert!(replication.close(WITHIN).await);
}

/// Litestream has ended, frames behind its place are moved into the file, and the log is begun
/// anew by fewer: it would go on from there, and miss them. Whoever takes its chain over does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_litestream_would_miss_is_not_missed_by_who_takes_over() {
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let (server, rig) = bucket(BucketSpec::default()).await;
        let database = rig.dir.path().join("app.db");
        let application = application(&database);
        insert(&application, 300);
        NEWEST.replicate_once(&server.url(), &database);
        let before = rig.replica().manifest().await.unwrap();
        let before = before.files().map(|file| file.range.max()).max().unwrap();
        for id in 1..=20 {
            let change = "UPDATE t SET a = 'changed' WHERE id = ?1 * 10";
            application.execute(change, [id]).unwrap();
        }
        let moved = format!("PRAGMA wal_checkpoint({mode})");
        application.query_row(&moved, [], |_row| Ok(())).unwrap();
        application.execute("UPDATE t SET a = 'last' WHERE id = 1", []).unwrap();
        let replication = ours(&rig).await;
        let txid = timeout(WITHIN, replication.sync()).await.unwrap().unwrap();
        assert!(txid > before, "{mode}: {txid} after {before}");
        let output = rig.dir.path().join("out.db");
        restore(&rig.replica(), &Options::new(&output), &|_bytes| ()).await.unwrap();
        assert_eq!(rows(&output), rows(&database), "{mode}");
        let theirs = rig.dir.path().join("theirs.db");
        NEWEST.restore(&server.url(), &theirs, &["-integrity-check", "full"]).unwrap();
        assert_eq!(rows(&theirs), rows(&database), "{mode}");
        // What differs was shipped, and not everything.
        let manifest = rig.replica().manifest().await.unwrap();
        assert!(manifest.files().all(|file| file.base.is_none()), "{mode}: a base");
        assert!(replication.close(WITHIN).await);
        assert!(txid >= Txid(2));
    }
}
