//! Many databases at rest.

use std::time::Duration;

use jetbridge_sqlite::capture::{Capture, Options};
use rusqlite::Connection;

use super::folder::Folder;
use super::source::{DEADLINE, closed, synced};

/// One watcher serves all of them, each hears of its own changes, and nobody looks meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_at_rest_hear_each_of_its_own_changes() {
    const DATABASES: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    let mut captures = Vec::new();
    for number in 0..DATABASES {
        let path = dir.path().join(format!("{number}.db"));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap();
        let folder = Folder::new(&dir.path().join(format!("replica-{number}")));
        let mut options = Options::new(&path);
        // Nothing but the system tells of changes in time.
        options.poll = Duration::from_secs(600);
        let capture = Capture::start(options, std::sync::Arc::new(folder)).await.unwrap();
        synced(&capture).await;
        captures.push((connection, capture));
    }
    for (connection, capture) in captures.iter().step_by(10) {
        let mut status = capture.status();
        let before = status.borrow_and_update().txid;
        connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        let shipped = status.wait_for(|it| it.txid > before && it.caught_up);
        tokio::time::timeout(DEADLINE, shipped).await.expect("in time").unwrap();
    }
    for (connection, capture) in captures {
        drop(connection);
        closed(capture).await;
    }
}
