//! A replica that is begun anew while a database follows it: what was followed and what is there
//! now are never mixed.

use std::path::Path;
use std::time::Duration;

use jetbridge_core::ErrorKind;
use jetbridge_sqlite::follow::{Begun, Follow};
use jetbridge_sqlite::restore::{Options, restore};
use jetbridge_sqlite::store::{Level, Replica};
use jetbridge_sqlite::{Txid, TxidRange};
use jetbridge_testkit::Release;
use rusqlite::Connection;

use super::followed::{Rig, begin, pages_of, put, reaches};
use super::source::{DEADLINE, assert_intact, closed, synced};

/// Fields of the first page that a followed database has for itself.
const HEADER_BYTES: usize = 100;

/// A replica with some files, and a database that follows it.
async fn followed() -> (Rig, Follow) {
    let mut rig = Rig::start(Release::Newest).await;
    let capture = rig.capture().await;
    for _ in 0..8 {
        rig.history.step();
        synced(&capture).await;
    }
    closed(capture).await;
    let (follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    assert!(follow.txid() >= Txid(8), "{follow:?}");
    (rig, follow)
}

async fn empty(replica: &Replica) {
    let files: Vec<_> = replica.manifest().await.unwrap().files().cloned().collect();
    for file in files {
        replica.delete(file.level, file.range).await.unwrap();
    }
}

/// The pages of another database after so many transactions, each of which changes two of them.
fn other(dir: &Path, transactions: u64) -> Vec<(u32, Vec<u8>)> {
    let path = dir.join("other.db");
    let connection = Connection::open(&path).unwrap();
    let rows = "CREATE TABLE IF NOT EXISTS other (id INTEGER PRIMARY KEY, pad TEXT);
        WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 900)
            INSERT OR IGNORE INTO other SELECT i, hex(zeroblob(150)) FROM c;";
    connection.execute_batch(rows).unwrap();
    for n in 0..transactions {
        let change = "UPDATE other SET pad = hex(randomblob(150)) WHERE id = ?1 * 31 % 900";
        connection.execute(change, [n.cast_signed()]).unwrap();
    }
    pages_of(&std::fs::read(&path).unwrap())
}

/// Begins the replica anew: a snapshot of another database, and one transaction behind it each up
/// to `last`.
async fn begin_anew(rig: &Rig, last: Txid) {
    empty(&rig.replica).await;
    let mut before = other(rig.source.dir(), 1);
    put(&rig.replica, (Level::SNAPSHOT, TxidRange::one(Txid(1)).unwrap()), &before).await;
    for txid in 2..=last.0 {
        let after = other(rig.source.dir(), txid);
        let end = after.len() - 1;
        let changed = after.iter().zip(&before).enumerate();
        let changed = changed.filter(|(at, (new, old))| new != old || *at == end);
        let pages: Vec<_> = changed.map(|(_, (new, _))| new.clone()).collect();
        put(&rig.replica, (Level::CAPTURED, TxidRange::one(Txid(txid)).unwrap()), &pages).await;
        before = after;
    }
}

/// Checks that the database is what the replica restores to, whole.
async fn is_the_newest(rig: &Rig) {
    let path = rig.source.dir().join("whole.db");
    restore(&rig.replica, &Options::new(&path), &|_bytes| ()).await.unwrap();
    let (ours, whole) = (std::fs::read(rig.followed()).unwrap(), std::fs::read(&path).unwrap());
    assert!(ours[HEADER_BYTES..] == whole[HEADER_BYTES..], "a mixture");
    assert_intact(&rig.followed());
}

async fn next(follow: &mut Follow) -> jetbridge_core::Result<Txid> {
    let applied = tokio::time::timeout(DEADLINE, follow.next()).await.expect("in time");
    applied.map(|applied| applied.txid)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_come_further_is_taken_whole_by_a_follower_that_was_stopped() {
    let (rig, follow) = followed().await;
    let before = follow.txid();
    drop(follow);
    let reader = Connection::open(rig.followed()).unwrap();
    let count = |table: &str| {
        reader.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
    };
    assert!(count("t").unwrap() > 0);
    begin_anew(&rig, Txid(before.0 + 3)).await;
    let (mut follow, begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    assert!(matches!(begun, Begun::Resumed(txid) if txid == before), "{begun:?}");
    assert_eq!(next(&mut follow).await.unwrap(), Txid(before.0 + 3));
    is_the_newest(&rig).await;
    assert_eq!(count("other").unwrap(), 900);
}

/// Who has the old tables in memory would look for the new ones where those were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_with_other_tables_of_the_same_version_is_refused() {
    let (rig, follow) = followed().await;
    let before = follow.txid();
    drop(follow);
    let bytes = std::fs::read(rig.followed()).unwrap();
    other(rig.source.dir(), 0);
    let version = i64::from(u32::from_be_bytes(bytes[40..44].try_into().unwrap()));
    let connection = Connection::open(rig.source.dir().join("other.db")).unwrap();
    connection.pragma_update(None, "schema_version", version).unwrap();
    drop(connection);
    begin_anew(&rig, Txid(before.0 + 3)).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    let error = next(&mut follow).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(std::fs::read(rig.followed()).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_come_further_is_taken_whole_by_a_follower_that_runs() {
    let (rig, mut follow) = followed().await;
    let before = follow.txid();
    let waited = tokio::time::timeout(Duration::from_millis(300), follow.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    begin_anew(&rig, Txid(before.0 + 3)).await;
    reaches(&mut follow, Txid(before.0 + 3)).await;
    is_the_newest(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_as_far_is_refused_stopped_or_running() {
    let (rig, mut follow) = followed().await;
    let bytes = std::fs::read(rig.followed()).unwrap();
    let before = follow.txid();
    let anew = begin_anew(&rig, Txid(before.0 - 3));
    let (error, ()) = tokio::join!(next(&mut follow), anew);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("ahead of its replica"), "{error}");
    drop(follow);
    let error = begin(rig.replica.clone(), &rig.followed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(std::fs::read(rig.followed()).unwrap() == bytes);
}

/// Nobody who has pages of the old one in memory would see that others took their place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_at_the_same_transaction_is_refused() {
    let (rig, follow) = followed().await;
    let bytes = std::fs::read(rig.followed()).unwrap();
    let before = follow.txid();
    drop(follow);
    begin_anew(&rig, before).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    let error = next(&mut follow).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(std::fs::read(rig.followed()).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_one_is_gone_on_with_by_what_is_new_alone() {
    let (mut rig, follow) = followed().await;
    drop(follow);
    let capture = rig.capture().await;
    rig.history.step();
    let txid = synced(&capture).await;
    closed(capture).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    let new = txid.0 - follow.txid().0;
    let applied = tokio::time::timeout(DEADLINE, follow.next()).await.unwrap().unwrap();
    assert_eq!((applied.txid, applied.files as u64), (txid, new));
    is_the_newest(&rig).await;
}

/// A merge is no other history: it is seen while that which it was merged from is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_merged_while_it_is_followed_is_gone_on_with_by_what_is_new_alone() {
    let (rig, mut follow) = followed().await;
    let waited = tokio::time::timeout(Duration::from_millis(300), follow.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    let path = rig.source.dir().join("merged.db");
    restore(&rig.replica, &Options::new(&path), &|_bytes| ()).await.unwrap();
    let pages = pages_of(&std::fs::read(&path).unwrap());
    let old: Vec<_> = rig.replica.manifest().await.unwrap().files().cloned().collect();
    let range = TxidRange::new(Txid(1), follow.txid()).unwrap();
    put(&rig.replica, (Level::SNAPSHOT, range), &pages).await;
    for file in old {
        rig.replica.delete(file.level, file.range).await.unwrap();
    }
    let range = TxidRange::one(follow.txid().next()).unwrap();
    put(&rig.replica, (Level::CAPTURED, range), &pages[pages.len() - 1..]).await;
    let applied = tokio::time::timeout(DEADLINE, follow.next()).await.unwrap().unwrap();
    assert_eq!((applied.txid, applied.files), (range.max(), 1));
    is_the_newest(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_no_file_has_is_not_made_up() {
    let (rig, mut follow) = followed().await;
    let bytes = std::fs::read(rig.followed()).unwrap();
    let mut pages = pages_of(&bytes);
    let last = u32::try_from(pages.len()).unwrap();
    pages.truncate(1);
    pages.push((last + 2, vec![7; 4096]));
    let range = TxidRange::one(follow.txid().next()).unwrap();
    put(&rig.replica, (Level::CAPTURED, range), &pages).await;
    let waited = tokio::time::timeout(Duration::from_secs(2), follow.next()).await;
    assert!(!matches!(waited, Ok(Ok(_))), "{waited:?}");
    assert!(std::fs::read(rig.followed()).unwrap() == bytes);
}
