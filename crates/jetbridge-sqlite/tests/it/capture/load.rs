//! Load without a pause.

use std::time::{Duration, Instant};

use jetbridge_core::Tasks;
use jetbridge_sqlite::capture::{Capture, Options};
use jetbridge_sqlite::uplink::{FenceOptions, StoreUplink};
use jetbridge_testkit::Release;

use super::history::History;
use super::source::{Source, closed, options, synced};
use crate::rig::Row;

/// How long the load lasts, and the pause between two transactions: about 40 MiB of log in all.
const LOAD: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(3);
/// What the log may reach while it is moved every 60 pages: what is written during one round trip.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// The application leaves all moving of the log to the capture.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_under_load() {
    let source = Source::new();
    let mut history = History::begin(&source.path());
    history.aside("PRAGMA wal_autocheckpoint = 0");
    let mut options = options(source.dir());
    options.log_bytes_max = 1 << 20;
    let capture = source.capture_as(options).await;
    let log = source.log_path();
    let writing = std::thread::spawn(move || {
        let (begun, mut longest) = (Instant::now(), 0);
        while begun.elapsed() < LOAD {
            history.step();
            std::thread::sleep(PAUSE);
            longest = longest.max(std::fs::metadata(&log).unwrap().len());
        }
        (history.at, longest)
    });
    let (written, longest) = tokio::task::spawn_blocking(|| writing.join().unwrap()).await.unwrap();
    source.check(&capture).await;
    assert!(written > 100, "{written}");
    assert!(longest < LOG_BYTES_MAX, "{longest} bytes of log after {written} commits");
    closed(capture).await;
}

/// A reader that stays keeps the log from being moved; when it goes, all is well again.
#[tokio::test]
async fn a_reader_that_stays_is_outlived() {
    let source = Source::new();
    let mut reader = source.app();
    let mut app = source.app();
    app.write(10);
    let capture = source.capture().await;
    source.check(&capture).await;
    reader.run("BEGIN; SELECT count(*) FROM w");
    for _ in 0..4 {
        app.write(40);
        source.check(&capture).await;
    }
    reader.run("COMMIT");
    app.write(40);
    source.check(&capture).await;
    closed(capture).await;
}

/// How long it takes from a commit until it is durable on a server, and what is asked of it here,
/// where nothing is optimised and the machine is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_durable_soon() {
    const COMMITS: usize = 40;
    const MEDIAN_MAX: Duration = Duration::from_millis(250);
    let source = Source::new();
    let rig = Row::Nats(Release::Newest).open().await;
    let uplink = StoreUplink::new(rig.replica(), FenceOptions::new("a"), Tasks::new());
    let mut history = History::begin(&source.path());
    let options = Options::new(source.path());
    let capture = Capture::start(options, std::sync::Arc::new(uplink)).await.unwrap();
    synced(&capture).await;
    let mut status = capture.status();
    let mut lags = Vec::new();
    for _ in 0..COMMITS {
        // Sparse: what was written before has long been shipped.
        tokio::time::sleep(Duration::from_millis(120)).await;
        let before = status.borrow_and_update().txid;
        history.step();
        let committed = Instant::now();
        status.wait_for(|it| it.txid > before).await.unwrap();
        lags.push(committed.elapsed());
    }
    lags.sort();
    assert!(lags[COMMITS / 2] < MEDIAN_MAX, "{lags:?}");
    let (median, most) = (lags[COMMITS / 2], lags[COMMITS - 1]);
    println!("lag: median {median:?}, most {most:?}");
    closed(capture).await;
}
