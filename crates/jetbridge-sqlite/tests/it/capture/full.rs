//! Disks without room: a small one of its own, in a process that alone sees it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use jetbridge_core::ErrorKind;
use jetbridge_core::Tasks;
use jetbridge_sqlite::capture::Capture;
use jetbridge_sqlite::follow::Follow;
use jetbridge_sqlite::restore::{self, restore};
use jetbridge_sqlite::uplink::{FenceOptions, StoreUplink};
use jetbridge_testkit::process::{Process, say};
use rusqlite::Connection;

use super::child::ROLES;
use super::folder::Folder;
use super::source::{DEADLINE, assert_intact, closed, options, synced};
use crate::rig::{Rig, Row};

/// The folder on which the small disk is, and how much it holds.
const SMALL: &str = "small";
const SMALL_BYTES: usize = 2 << 20;

/// Has `role` played where the folder is a disk of its own.
fn played(role: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join(SMALL);
    std::fs::create_dir(&small).unwrap();
    let binary = std::env::current_exe().unwrap();
    let inner = ROLES.command(&binary, role, dir.path());
    let mount = format!("mount -t tmpfs -o size={SMALL_BYTES} small \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    // Root of a namespace of its own may mount there, whoever runs this.
    command.args(["-Urm", "sh", "-c", &mount]).arg(&small);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Process::run(command).finish()
}

#[test]
fn a_disk_that_is_full_does_not_keep_commits_from_the_replica() {
    assert_eq!(played("full_state"), ["shipped", "remembered"]);
}

#[test]
fn a_disk_that_is_full_is_named_by_a_restore_and_nothing_is_left_on_it() {
    assert_eq!(played("full_output"), ["refused", "restored"]);
}

#[test]
fn a_disk_that_is_full_leaves_what_is_followed_as_it_was() {
    assert_eq!(played("full_follow"), ["refused", "followed"]);
}

/// Takes all the room there is.
fn fill(small: &Path) {
    let (mut bytes, mut size) = (Vec::new(), SMALL_BYTES);
    let path = small.join("ballast");
    let mut written = 0;
    while size > 0 {
        bytes.resize(written + size, 7);
        match std::fs::write(&path, &bytes) {
            Ok(()) => written += size,
            Err(_full) => size /= 2,
        }
    }
    // What was written last did not fit, and was cut off.
    let left = std::fs::metadata(&path).unwrap().len();
    assert!(left > 0);
}

fn empty(small: &Path) {
    std::fs::remove_file(small.join("ballast")).unwrap();
}

fn application(dir: &Path) -> Connection {
    let connection = Connection::open(dir.join("app.db")).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size = 512; PRAGMA journal_mode = WAL;
             CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(1000))",
        )
        .unwrap();
    connection
}

/// What is remembered has no room: it is no reason to stop.
pub(crate) async fn state(dir: &Path) {
    let small = dir.join(SMALL);
    let folder = Arc::new(Folder::new(&dir.join("replica")));
    let application = application(dir);
    let mut options = options(dir);
    options.state = Some(small.join("state"));
    let capture = Capture::start(options.clone(), Arc::clone(&folder) as _).await.unwrap();
    synced(&capture).await;
    fill(&small);
    let matches = || {
        let restored = dir.join("restored.db");
        folder.restore(&restored);
        let rows = |connection: &Connection| {
            let sums = "SELECT count(*), sum(length(a)) FROM t";
            connection.query_row(sums, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        };
        let restored = Connection::open(restored).unwrap();
        assert_eq!(rows(&application).unwrap(), rows(&restored).unwrap());
    };
    // Digests of so many pages need more room than there is.
    for _ in 0..4 {
        application.execute_batch("INSERT INTO t VALUES (randomblob(6000000))").unwrap();
        synced(&capture).await;
        matches();
    }
    assert_eq!(capture.status().borrow().error, None);
    say("shipped");
    empty(&small);
    application.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    synced(&capture).await;
    matches();
    closed(capture).await;
    let bases = folder.counts().1;
    let capture = Capture::start(options, Arc::clone(&folder) as _).await.unwrap();
    synced(&capture).await;
    assert_eq!(folder.counts().1, bases, "what it did was forgotten");
    closed(capture).await;
    say("remembered");
}

/// A replica of a database that some bytes were added to.
async fn replica(dir: &Path) -> (Rig, Connection, Capture) {
    let rig = Row::Memory.open().await;
    let application = application(dir);
    let uplink = StoreUplink::new(rig.replica(), FenceOptions::new("a"), Tasks::new());
    let capture = Capture::start(options(dir), Arc::new(uplink)).await.unwrap();
    synced(&capture).await;
    (rig, application, capture)
}

pub(crate) async fn output(dir: &Path) {
    let small = dir.join(SMALL);
    let (rig, application, capture) = replica(dir).await;
    application.execute_batch("INSERT INTO t VALUES (randomblob(600000))").unwrap();
    synced(&capture).await;
    fill(&small);
    let options = restore::Options::new(small.join("out.db"));
    let error = restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
    let left: Vec<_> = std::fs::read_dir(&small).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    say("refused");
    empty(&small);
    restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
    assert_intact(&options.output);
    closed(capture).await;
    say("restored");
}

pub(crate) async fn follow(dir: &Path) {
    let small = dir.join(SMALL);
    let (rig, application, capture) = replica(dir).await;
    let options = restore::Options::new(small.join("read.db"));
    let (mut follow, _begun) = Follow::begin(rig.replica(), &options, &|_bytes| ()).await.unwrap();
    let before = follow.txid();
    fill(&small);
    application.execute_batch("INSERT INTO t VALUES (randomblob(600000))").unwrap();
    let txid = synced(&capture).await;
    let error = follow.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
    assert_eq!(follow.txid(), before);
    drop(follow);
    assert_intact(&options.output);
    say("refused");
    empty(&small);
    let (mut follow, _begun) = Follow::begin(rig.replica(), &options, &|_bytes| ()).await.unwrap();
    while follow.txid() < txid {
        tokio::time::timeout(DEADLINE, follow.next()).await.unwrap().unwrap();
    }
    assert_intact(&options.output);
    closed(capture).await;
    say("followed");
}
