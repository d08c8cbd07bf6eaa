//! Stores in trouble: full, forbidden, gone, killed in the middle. Nothing that was acknowledged is
//! lost, the cause is named, and when the trouble is over everything is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jetbridge_core::{
    Backend, BucketSpec, DeleteOpts, ErrorKind, ObjectName, ObjectPut, ObjectsExt as _, Secret,
};
use jetbridge_nats::{Auth, ConnectOptions, NatsBackend};
use jetbridge_sqlite::restore::{Integrity, Options, Overwrite, restore};
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_sqlite::{Replication, Txid, capture};
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, timeout};

use super::interop::{application, insert, rows};
use super::rig::{Rig, Row, connect};

/// How long what comes behind trouble may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(90);
/// An outage is to be known within 5 s; the rest is the machine's.
const KNOWN_WITHIN: Duration = Duration::from_secs(7);

async fn served(release: Release) -> (Arc<NatsServer>, Rig) {
    let server = Arc::new(NatsServer::start(release, ServerOptions::default()).await);
    let backend = Arc::new(connect(&server.url()).await);
    let rig = Rig::over(backend, Box::new(Arc::clone(&server))).await;
    (server, rig)
}

async fn replicate(rig: &Rig) -> Replication {
    let options = capture::Options::new(rig.dir.path().join("app.db"));
    Replication::start(options, rig.replica(), UpkeepOptions::default()).await.unwrap()
}

async fn synced(replication: &Replication) -> Txid {
    let late = || format!("no sync in time: {:?}", *replication.status().borrow());
    let synced = timeout(WITHIN, replication.sync()).await;
    synced.unwrap_or_else(|_late| panic!("{}", late())).unwrap()
}

/// What fails, once something does.
async fn said(replication: &Replication, within: Duration) -> String {
    let mut status = replication.status();
    let failing = timeout(within, status.wait_for(|it| it.error.is_some())).await;
    failing.expect("trouble is said in time").unwrap().error.clone().unwrap()
}

/// The newest state, as its transaction and its rows.
async fn restored(rig: &Rig) -> (Txid, Vec<(i64, String)>) {
    let output = rig.dir.path().join("out.db");
    let mut options = Options::new(&output);
    (options.overwrite, options.integrity) = (Overwrite::Yes, Integrity::Full);
    let done = restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
    (done.txid, rows(&output))
}

/// Bytes that a bucket may hold, and how many of them others have.
const BUCKET_BYTES: u64 = 4 << 20;
const OTHERS_BYTES: usize = 2 << 20;

async fn a_full_bucket_is_said_and_hides_nothing(release: Release) {
    let mut spec = BucketSpec::default();
    spec.max_bytes = Some(BUCKET_BYTES);
    let rig = Row::Nats(release).open_as(spec).await;
    let others = ObjectName::parse("others").unwrap();
    rig.objects.put_bytes(&others, vec![7; OTHERS_BYTES], ObjectPut::new()).await.unwrap();
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    insert(&application, 100);
    let replication = replicate(&rig).await;
    synced(&replication).await;
    let mut status = replication.status();
    let begun = Instant::now();
    while status.borrow_and_update().error.is_none() {
        assert!(begun.elapsed() < WITHIN, "the bucket is never full");
        insert(&application, 300);
        timeout(Duration::from_millis(200), status.changed()).await.unwrap_or(Ok(())).unwrap();
    }
    let error = status.borrow().error.clone().unwrap();
    assert!(error.contains("limit") || error.contains("maximum bytes"), "{error}");
    let acknowledged = status.borrow().txid;
    let lie = timeout(Duration::from_secs(2), replication.sync()).await;
    assert!(lie.is_err(), "it is not there, and was acknowledged: {lie:?}");

    // What was acknowledged is there, and every file that is listed can be read.
    let (txid, found) = restored(&rig).await;
    assert!(txid >= acknowledged, "{txid} of {acknowledged}");
    assert!(rows(&database).starts_with(&found) && !found.is_empty());
    let manifest = rig.replica().manifest().await.unwrap();
    for file in manifest.files() {
        rig.replica().bytes(file).await.unwrap();
    }

    rig.objects.delete(&others, DeleteOpts::new()).await.unwrap();
    let txid = synced(&replication).await;
    assert_eq!(restored(&rig).await, (txid, rows(&database)));
    assert_eq!(replication.status().borrow().error, None);
    assert!(replication.close(WITHIN).await);
}

const USERS: &str = "authorization { users: [ {user: up, password: pw, permissions: {}} ] }";
const DENIED: &str = "permissions: {publish: {deny: [\"$O.backups.>\"]}}";

async fn as_up(server: &NatsServer) -> NatsBackend {
    let mut options = ConnectOptions::default();
    options.servers = vec![server.url()];
    options.auth =
        Auth::UserPassword { user: "up".to_owned(), password: Secret::new("pw".to_owned()) };
    NatsBackend::connect(&options).await.unwrap()
}

/// Has the server read another configuration while it runs.
fn reconfigure(server: &NatsServer, from: &str, to: &str) {
    let path = server.dir().join("server.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    let pid = i32::try_from(server.pid().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
}

async fn a_permission_that_is_taken_away_is_named(release: Release) {
    let server = Arc::new(NatsServer::start(release, ServerOptions::new().config(USERS)).await);
    let backend: Arc<dyn Backend> = Arc::new(as_up(&server).await);
    let rig = Rig::over(backend, Box::new(Arc::clone(&server))).await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    insert(&application, 100);
    let replication = replicate(&rig).await;
    let before = synced(&replication).await;
    reconfigure(&server, "permissions: {}", DENIED);
    let wait = Duration::from_secs(20);
    eventually("the server has read it", wait, async || {
        server.log().contains("Reloaded").then_some(())
    })
    .await;
    insert(&application, 100);
    let error = said(&replication, wait).await;
    assert!(error.contains("$O.backups."), "{error}");
    let lie = timeout(Duration::from_secs(2), replication.sync()).await;
    assert!(lie.is_err(), "{lie:?}");
    assert!(restored(&rig).await.0 >= before);
    reconfigure(&server, DENIED, "permissions: {}");
    let txid = synced(&replication).await;
    assert_eq!(restored(&rig).await, (txid, rows(&database)));
    assert!(replication.close(WITHIN).await);
}

/// Returns how long it took to be known, and to be caught up with when the server was back.
async fn an_outage_is_known_in_time_and_caught_up_with(
    release: Release,
    length: Duration,
) -> (Duration, Duration) {
    let (server, rig) = served(release).await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    insert(&application, 100);
    let replication = replicate(&rig).await;
    let before = synced(&replication).await;
    server.kill();
    let begun = Instant::now();
    insert(&application, 100);
    said(&replication, KNOWN_WITHIN).await;
    let known = begun.elapsed();
    while begun.elapsed() < length {
        insert(&application, 10);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let status = replication.status().borrow().clone();
    assert!(status.behind_since.is_some() && status.failures > 0, "{status:?}");
    server.restart().await;
    let back = Instant::now();
    let txid = synced(&replication).await;
    let caught_up = back.elapsed();
    assert!(txid > before);
    assert_eq!(restored(&rig).await, (txid, rows(&database)));
    let status = replication.status().borrow().clone();
    assert_eq!((status.error, status.behind_since), (None, None));
    assert!(status.failed.is_some(), "what failed last is remembered");
    assert!(replication.close(WITHIN).await);
    (known, caught_up)
}

/// Rows of 400 bytes: enough to take a while to send and to read.
const MANY: u32 = 60_000;

async fn a_server_killed_in_mid_put_and_in_mid_get_is_outlived(release: Release) {
    let (server, rig) = served(release).await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    insert(&application, MANY);
    let replication = replicate(&rig).await;
    // Chunks of the base are there, and the file is not.
    eventually("the base is on its way", WITHIN, async || {
        (rig.stored_bytes().await > 1 << 20).then_some(())
    })
    .await;
    assert!(rig.replica().manifest().await.unwrap().is_empty(), "the base is there already");
    server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.restart().await;
    let txid = synced(&replication).await;

    let output = rig.dir.path().join("killed.db");
    let (options, replica, bytes) = (Options::new(&output), rig.replica(), AtomicU64::new(0));
    let count = |more: u64| {
        bytes.fetch_add(more, Ordering::Relaxed);
    };
    let killed = async {
        while bytes.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill();
        let at = bytes.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.restart().await;
        at
    };
    let restoring = timeout(WITHIN, restore(&replica, &options, &count));
    let (done, at) = tokio::join!(restoring, killed);
    assert_eq!(done.unwrap().unwrap().txid, txid);
    assert!(at < bytes.load(Ordering::Relaxed), "it was all read before");
    assert_eq!(rows(&output), rows(&database));
    assert!(replication.close(WITHIN).await);
}

jetbridge_testkit::on_every_server! {
    a_full_bucket_is_said_and_hides_nothing,
    a_permission_that_is_taken_away_is_named,
    a_short_outage_is_known_in_time_and_caught_up_with,
    a_server_killed_in_mid_put_and_in_mid_get_is_outlived,
}

async fn a_short_outage_is_known_in_time_and_caught_up_with(release: Release) {
    an_outage_is_known_in_time_and_caught_up_with(release, Duration::from_secs(8)).await;
}

/// What is not there when nothing can be read is no empty replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_replica_is_not_an_empty_one() {
    let (server, rig) = served(Release::Newest).await;
    let database = rig.dir.path().join("app.db");
    insert(&application(&database), 10);
    let replication = replicate(&rig).await;
    synced(&replication).await;
    assert!(replication.close(WITHIN).await);
    server.kill();
    let output = rig.dir.path().join("out.db");
    let error = restore(&rig.replica(), &Options::new(&output), &|_bytes| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!output.exists());
}

mod slow {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_outage_of_60_s_is_known_in_time_and_caught_up_with() {
        let length = Duration::from_secs(60);
        let (known, caught_up) =
            an_outage_is_known_in_time_and_caught_up_with(Release::Newest, length).await;
        println!("known after {known:?}, caught up with after {caught_up:?}");
    }

    /// A reader that takes 2 MB/s: no request has a deadline for the whole of what it brings.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_slow_reader_gets_everything() {
        let (_server, rig) = served(Release::Newest).await;
        let database = rig.dir.path().join("app.db");
        let application = application(&database);
        insert(&application, 150_000);
        let replication = replicate(&rig).await;
        let txid = synced(&replication).await;
        let output = rig.dir.path().join("slow.db");
        let slowly = |bytes: u64| std::thread::sleep(Duration::from_micros(bytes / 2));
        let begun = Instant::now();
        let done = restore(&rig.replica(), &Options::new(&output), &slowly).await.unwrap();
        assert!(begun.elapsed() > Duration::from_secs(12), "{:?}", begun.elapsed());
        assert_eq!((done.txid, rows(&output)), (txid, rows(&database)));
        assert!(replication.close(WITHIN).await);
    }
}
