//! A clock that is set back: times of a chain never are, and what is asked for by time is found.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jetbridge_core::{ManualClock, Tasks};
use jetbridge_sqlite::capture::Capture;
use jetbridge_sqlite::restore::{self, Overwrite};
use jetbridge_sqlite::store::{Level, Target};
use jetbridge_sqlite::uplink::{FenceOptions, StoreUplink};
use rusqlite::Connection;

use super::source::{Source, closed, options, synced};
use crate::rig::{Rig, Row};

const HOUR: Duration = Duration::from_secs(3600);

async fn rows_of(rig: &Rig, target: Target) -> i64 {
    let output = rig.dir.path().join("out.db");
    let mut options = restore::Options::new(&output);
    (options.target, options.overwrite) = (target, Overwrite::Yes);
    restore::restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
    let found = Connection::open(output).unwrap();
    found.query_row("SELECT count(*) FROM w", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_back_neither_stops_nor_disorders_the_chain() {
    let (source, rig) = (Source::new(), Row::Memory.open().await);
    let mut app = source.app();
    app.write(1);
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let clock = ManualClock::new(start);
    let mut rows = 1;
    // Forward, back, back across a restart, and forward again.
    for steps in [[HOUR, HOUR * 2], [HOUR, HOUR / 2], [HOUR, HOUR * 5]] {
        let uplink = StoreUplink::new(rig.replica(), FenceOptions::new("a"), Tasks::new());
        let mut options = options(source.dir());
        options.clock = Arc::new(clock.clone());
        let capture = Capture::start(options, Arc::new(uplink)).await.unwrap();
        for step in steps {
            clock.set(start + step);
            app.write(1);
            rows += 1;
            synced(&capture).await;
        }
        closed(capture).await;
    }
    let manifest = rig.replica().manifest().await.unwrap();
    let times: Vec<_> = manifest.level(Level::CAPTURED).map(|file| file.time).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times.last(), Some(&(start + HOUR * 5)));
    assert_eq!(rows_of(&rig, Target::Latest).await, rows);
    // Everything that was written while the clock was behind is as old as the newest before it.
    assert_eq!(rows_of(&rig, Target::Before(start + HOUR * 2)).await, 2);
    assert_eq!(rows_of(&rig, Target::Before(start + HOUR * 2 + HOUR / 60)).await, rows - 1);
}
