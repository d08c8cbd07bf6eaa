//! A followed database: whoever reads it sees states of the history and nothing else, whatever
//! is killed, and however far it fell behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{ErrorKind, Tasks};
use jetbridge_nats::NatsBackend;
use jetbridge_sqlite::capture::Capture;
use jetbridge_sqlite::follow::{Begun, Follow};
use jetbridge_sqlite::restore::{Options, Overwrite};
use jetbridge_sqlite::store::{Level, Put, Replica};
use jetbridge_sqlite::uplink::{FenceOptions, StoreUplink};
use jetbridge_sqlite::{PageSize, Txid, TxidRange, ltx};
use jetbridge_testkit::process::{Process, say};
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use rusqlite::{Connection, OpenFlags};

use super::child::ROLES;
use super::history::{History, Judge};
use super::killed::{URL_FILE, replica_at, scattered};
use super::source::{DEADLINE, Source, closed, options, synced};

const CYCLES: u64 = 20;

fn followed_in(dir: &Path) -> PathBuf {
    dir.join("followed.db")
}

pub(super) async fn begin(
    replica: Replica,
    output: &Path,
) -> jetbridge_core::Result<(Follow, Begun)> {
    Follow::begin(replica, &Options::new(output), &|_bytes| ()).await
}

/// A child that follows the bucket of the server that a file of the directory names.
pub(crate) async fn follow(dir: &Path) {
    let url = std::fs::read_to_string(dir.join(URL_FILE)).unwrap();
    let (_backend, replica) = replica_at(&url).await;
    let (mut follow, _begun) = begin(replica, &followed_in(dir)).await.unwrap();
    loop {
        say(follow.txid());
        follow.next().await.unwrap();
    }
}

/// A child that reads on and on, and ends at the first state that is none.
pub(crate) fn read(dir: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(followed_in(dir), flags).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let mut before = 0;
    loop {
        connection.execute_batch("BEGIN").unwrap();
        let n = number("SELECT n FROM meta");
        assert!(n >= before, "{n} after {before}");
        assert_eq!(number("SELECT max(id) FROM t"), n);
        assert_eq!(number("SELECT count(*) FROM t NOT INDEXED"), number("SELECT count(v) FROM t"));
        let check = "PRAGMA integrity_check";
        let check: String = connection.query_row(check, [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        assert_eq!(number("SELECT n FROM meta"), n);
        connection.execute_batch("COMMIT").unwrap();
        before = n;
        say(n);
    }
}

/// A database that is replicated to a server.
pub(super) struct Rig {
    pub(super) source: Source,
    server: NatsServer,
    _backend: NatsBackend,
    pub(super) replica: Replica,
    pub(super) history: History,
}

impl Rig {
    pub(super) async fn start(release: Release) -> Self {
        let source = Source::new();
        let server = NatsServer::start(release, ServerOptions::default()).await;
        std::fs::write(source.dir().join(URL_FILE), server.url()).unwrap();
        let (backend, replica) = replica_at(&server.url()).await;
        let mut history = History::begin(&source.path());
        history.step();
        Self { source, server, _backend: backend, replica, history }
    }

    pub(super) async fn capture(&self) -> Capture {
        let fence = FenceOptions::new("replicator");
        let uplink = StoreUplink::new(self.replica.clone(), fence, Tasks::new());
        Capture::start(options(self.source.dir()), Arc::new(uplink)).await.unwrap()
    }

    pub(super) fn followed(&self) -> PathBuf {
        followed_in(self.source.dir())
    }
}

/// Follows until the database is at `txid`.
pub(super) async fn reaches(follow: &mut Follow, txid: Txid) {
    while follow.txid() < txid {
        tokio::time::timeout(DEADLINE, follow.next()).await.expect("in time").unwrap();
    }
}

async fn readers_see_states_whatever_is_killed(release: Release, cycles: u64) {
    let mut rig = Rig::start(release).await;
    let capture = rig.capture().await;
    synced(&capture).await;
    let dir = rig.source.dir().to_owned();
    let mut judge = Judge::new();
    let mut reader: Option<Process> = None;
    for cycle in 0..cycles {
        let random = scattered(cycle);
        let mut follower = ROLES.start("follow", &dir);
        follower.line();
        let reading = reader.get_or_insert_with(|| ROLES.start("read", &dir));
        for _ in 0..random % 12 + 3 {
            rig.history.step();
        }
        if random >> 8 & 3 == 0 {
            synced(&capture).await;
            reading.line();
        }
        tokio::time::sleep(Duration::from_millis(u64::from(random >> 12 & 0x1f))).await;
        follower.kill();
        judge.number_of(&rig.followed());
        if random >> 20 & 3 == 0 {
            // Killed in the middle of a rollback too.
            reader.take().unwrap().kill();
        }
    }
    let txid = synced(&capture).await;
    let (mut follow, begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    assert!(matches!(begun, Begun::Resumed(_)), "{begun:?}");
    reaches(&mut follow, txid).await;
    assert_eq!(judge.number_of(&rig.followed()), rig.history.at);
    // It lives to the end.
    if let Some(mut reader) = reader {
        reader.said();
        reader.line();
    }
    closed(capture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_states_whatever_is_killed_at_random() {
    readers_see_states_whatever_is_killed(Release::Newest, CYCLES).await;
}

/// Replaces all files by one that merges them, as an upkeep that was far ahead does.
async fn merge_all(replica: &Replica) -> Txid {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("all.db");
    let options = Options::new(&output);
    let restored = jetbridge_sqlite::restore::restore(replica, &options, &|_bytes| ());
    let txid = restored.await.unwrap().txid;
    let old: Vec<_> = replica.manifest().await.unwrap().files().cloned().collect();
    let pages = pages_of(&std::fs::read(&output).unwrap());
    put(replica, (Level::SNAPSHOT, TxidRange::new(Txid(1), txid).unwrap()), &pages).await;
    for file in old {
        replica.delete(file.level, file.range).await.unwrap();
    }
    txid
}

/// All pages of a database of pages of 4096 bytes, numbered.
pub(super) fn pages_of(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    (1..).zip(bytes.chunks(4096).map(<[u8]>::to_vec)).collect()
}

/// Stores a file that carries `pages`, of a database that ends with the last of them.
pub(super) async fn put(
    replica: &Replica,
    (level, range): (Level, TxidRange),
    pages: &[(u32, Vec<u8>)],
) {
    let header = ltx::Header {
        page_size: PageSize::new(4096).unwrap(),
        commit: pages.last().unwrap().0,
        range,
        timestamp_ms: 1_800_000_000_000,
        wal: None,
    };
    let mut encoder = ltx::Encoder::new(Vec::new(), header).unwrap();
    for (at, page) in pages {
        encoder.page(*at, page).unwrap();
    }
    let file = encoder.finish().unwrap().0;
    let put = Put { level, range, time: header.time(), base: None };
    replica.put(put, file.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_merged_away_is_caught_up_with() {
    let mut rig = Rig::start(Release::Newest).await;
    let capture = rig.capture().await;
    synced(&capture).await;
    let (follow, begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    assert!(matches!(begun, Begun::Restored(_)), "{begun:?}");
    let before = follow.txid();
    drop(follow);
    for _ in 0..30 {
        rig.history.step();
    }
    synced(&capture).await;
    closed(capture).await;
    let txid = merge_all(&rig.replica).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    assert_eq!(follow.txid(), before);
    reaches(&mut follow, txid).await;
    assert_eq!(Judge::new().number_of(&rig.followed()), rig.history.at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_shrinks_and_grows_is_followed_page_by_page() {
    let mut rig = Rig::start(Release::Oldest).await;
    let capture = rig.capture().await;
    synced(&capture).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    for round in 0..4 {
        for _ in 0..40 {
            rig.history.step();
        }
        if round % 2 == 1 {
            rig.history.aside("VACUUM");
        }
        let txid = synced(&capture).await;
        reaches(&mut follow, txid).await;
        assert_eq!(Judge::new().number_of(&rig.followed()), rig.history.at);
        let position = std::fs::read_to_string(rig.source.dir().join("followed.db-txid"));
        assert_eq!(position.unwrap(), format!("{txid}\n"));
    }
    closed(capture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_server_is_waited_for() {
    let mut rig = Rig::start(Release::Newest).await;
    let capture = rig.capture().await;
    synced(&capture).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    rig.server.kill();
    rig.history.step();
    let waited = tokio::time::timeout(Duration::from_millis(300), follow.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    rig.server.restart().await;
    let txid = synced(&capture).await;
    reaches(&mut follow, txid).await;
    assert_eq!(Judge::new().number_of(&rig.followed()), rig.history.at);
    closed(capture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_reader_delays_and_keeps_its_state() {
    let mut rig = Rig::start(Release::Newest).await;
    let capture = rig.capture().await;
    synced(&capture).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    let reader = Connection::open(rig.followed()).unwrap();
    let number = || reader.query_row("SELECT n FROM meta", [], |row| row.get::<_, i64>(0));
    reader.execute_batch("BEGIN").unwrap();
    let before = number().unwrap();
    rig.history.step();
    let txid = synced(&capture).await;
    let draft = rig.source.dir().join("followed.db.jetbridge-follow-journal");
    let reading = async {
        let prepared = async || draft.exists().then_some(());
        eventually("the follower waits for the reader", DEADLINE, prepared).await;
        assert_eq!(number().unwrap(), before);
        reader.execute_batch("COMMIT").unwrap();
    };
    tokio::join!(reaches(&mut follow, txid), reading);
    assert_eq!(number().unwrap(), before + 1, "the same connection sees what is new");
    closed(capture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_not_followed_is_refused() {
    let rig = Rig::start(Release::Newest).await;
    let capture = rig.capture().await;
    synced(&capture).await;
    let own = rig.source.dir().join("own.db");
    Connection::open(&own).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    let bytes = std::fs::read(&own).unwrap();
    let error = begin(rig.replica.clone(), &own).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("cannot resume follow mode"), "{error}");
    assert!(std::fs::read(&own).unwrap() == bytes);

    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    let other = begin(rig.replica.clone(), &rig.followed()).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict, "{other}");
    let meddler = Connection::open(rig.followed()).unwrap();
    meddler.execute_batch("CREATE TABLE mine (a)").unwrap();
    let error = follow.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    drop((follow, meddler));
    let error = begin(rig.replica.clone(), &rig.followed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let mut options = Options::new(rig.followed());
    options.overwrite = Overwrite::Yes;
    Follow::begin(rig.replica.clone(), &options, &|_bytes| ()).await.unwrap();
    closed(capture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_followed_is_not_replaced_under_its_follower() {
    let mut rig = Rig::start(Release::Newest).await;
    let capture = rig.capture().await;
    synced(&capture).await;
    let (mut follow, _begun) = begin(rig.replica.clone(), &rig.followed()).await.unwrap();
    let mut options = Options::new(rig.followed());
    options.overwrite = Overwrite::Yes;
    let error = Follow::begin(rig.replica.clone(), &options, &|_bytes| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    rig.history.step();
    let txid = synced(&capture).await;
    reaches(&mut follow, txid).await;
    assert_eq!(Judge::new().number_of(&rig.followed()), rig.history.at);
    drop(follow);

    let position = rig.source.dir().join("followed.db-txid");
    std::fs::write(&position, "00000000000000ff\n").unwrap();
    let (follow, _begun) =
        Follow::begin(rig.replica.clone(), &options, &|_bytes| ()).await.unwrap();
    let noted = std::fs::read_to_string(&position).unwrap();
    assert_eq!(noted, format!("{}\n", follow.txid()));
    closed(capture).await;
}

mod slow {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn readers_see_states_whatever_is_killed_200_times() {
        let release = jetbridge_testkit::Release::Oldest;
        super::readers_see_states_whatever_is_killed(release, 200).await;
    }
}
