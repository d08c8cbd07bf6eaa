//! Two writers, and somebody who checkpoints all the time in every way: whatever is restored
//! meanwhile is a state of the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::app::App;
use super::history::{History, Judge};
use super::source::{DEADLINE, Source, closed, options, synced};

const RESTORE_EVERY: Duration = Duration::from_millis(300);

/// Works until it is told to end.
fn until(ended: &Arc<AtomicBool>, mut work: impl FnMut() + Send + 'static) -> impl FnOnce() {
    let ended = Arc::clone(ended);
    let working = std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            work();
        }
    });
    move || working.join().unwrap()
}

/// Returns how often was restored, and how far the history came.
async fn a_storm(length: Duration) -> (usize, u64) {
    let source = Source::new();
    let mut history = History::begin(&source.path());
    history.wait(DEADLINE);
    history.aside("PRAGMA wal_autocheckpoint = 1000");
    let mut capture_options = options(source.dir());
    capture_options.log_bytes_max = 1 << 20;
    let capture = source.capture_as(capture_options).await;
    synced(&capture).await;
    let ended = Arc::new(AtomicBool::new(false));
    // Its SQLite is an older one, in another process.
    let (mut other, mut checkpointer) = (source.app(), source.app());
    other.run("PRAGMA wal_autocheckpoint = 1000");
    other.run("PRAGMA busy_timeout = 20000");
    other.write(1);
    checkpointer.run("PRAGMA busy_timeout = 20");
    let joins: [Box<dyn FnOnce()>; 3] = [
        Box::new(until(&ended, move || {
            history.step();
            std::thread::sleep(Duration::from_millis(2));
        })),
        Box::new(until(&ended, move || other.write(1))),
        Box::new(until(&ended, move || checkpoint(&mut checkpointer))),
    ];
    let (begun, mut judge, mut last, mut rounds) = (Instant::now(), Judge::new(), 0, 0);
    while begun.elapsed() < length {
        tokio::time::sleep(RESTORE_EVERY).await;
        synced(&capture).await;
        let restored = source.dir().join(format!("restored-{rounds}.db"));
        source.folder.restore(&restored);
        let found = judge.number_of(&restored);
        assert!(found >= last, "{found} after {last}");
        (last, rounds) = (found, rounds + 1);
    }
    ended.store(true, Ordering::Relaxed);
    for join in joins {
        tokio::task::block_in_place(join);
    }
    source.check(&capture).await;
    assert_eq!(source.folder.counts().1, 1, "one base");
    closed(capture).await;
    (rounds, last)
}

/// What cannot be done while the log is held is refused, and may be.
fn checkpoint(app: &mut App) {
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        app.ask(&format!("PRAGMA wal_checkpoint({mode})"));
        // One that waits keeps writers out all the while.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_checkpoints_beside_two_writers_is_outlived() {
    let (rounds, last) = a_storm(Duration::from_secs(5)).await;
    assert!(rounds > 2 && last > 20, "{rounds} restores, {last} commits");
}

mod slow {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_storm_of_a_minute_is_outlived() {
        let (rounds, last) = a_storm(Duration::from_secs(60)).await;
        println!("{rounds} restores, the last at {last}");
    }
}
