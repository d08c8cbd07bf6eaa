//! A database under test, the capture of it, and the comparison of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_sqlite::capture::{Capture, Options};
use jetbridge_sqlite::{PageSize, Txid};
use rusqlite::Connection;
use tempfile::TempDir;

use super::app::App;
use super::folder::Folder;

/// How long anything may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A database in a directory of its own, and the replica of it.
pub(crate) struct Source {
    dir: TempDir,
    pub(crate) folder: Arc<Folder>,
}

impl Source {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::new(&dir.path().join("replica")));
        Self { dir, folder }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        database_in(self.dir.path())
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path().with_extension("db-wal")
    }

    /// An application with a connection of its own, in another process.
    pub(crate) fn app(&self) -> App {
        App::open(&self.path())
    }

    pub(crate) async fn capture(&self) -> Capture {
        self.capture_as(options(self.dir.path())).await
    }

    pub(crate) async fn capture_as(&self, options: Options) -> Capture {
        Capture::start(options, Arc::clone(&self.folder) as _).await.unwrap()
    }

    /// Waits until all that is committed is in the replica, and compares every page.
    pub(crate) async fn check(&self, capture: &Capture) -> Txid {
        // Before the first sync the database may not be in WAL mode, which it now must be.
        synced(capture).await;
        let still = self.stilled();
        let txid = synced(capture).await;
        self.compare(&still);
        txid
    }

    /// Keeps everybody from writing until it is dropped: the capture too, which now and then
    /// commits something to cut the log.
    pub(crate) fn stilled(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(DEADLINE).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        connection
    }

    /// Compares every page of the database, to which nobody writes now, with the replica.
    pub(crate) fn compare(&self, still: &Connection) {
        let restored = self.dir.path().join("restored.db");
        self.folder.restore(&restored);
        self.compare_with(&restored, still);
    }

    /// Compares every page of the database, to which nobody writes now, with a restored one.
    pub(crate) fn compare_with(&self, restored: &Path, _still: &Connection) {
        let image = self.image();
        let (ours, theirs) = (fs::read(restored).unwrap(), fs::read(&image).unwrap());
        let page_size = page_size(&theirs);
        assert_eq!(ours.len(), theirs.len(), "sizes, with pages of {page_size}");
        for (place, (our, their)) in
            ours.chunks(page_size.bytes()).zip(theirs.chunks(page_size.bytes())).enumerate()
        {
            let lock_page = place + 1 == page_size.lock_page() as usize;
            assert!(lock_page || our == their, "page {} of {page_size} differs", place + 1);
        }
        assert_intact(restored);
    }

    /// A copy with everything in the file. Made by another process: closing the file in this one
    /// would take away the locks that the capture holds.
    fn image(&self) -> PathBuf {
        let image = self.dir.path().join("image.db");
        for (from, to) in
            [(self.path(), image.clone()), (self.log_path(), image.with_extension("db-wal"))]
        {
            fs::remove_file(&to).unwrap_or_default();
            if from.exists() {
                assert!(Command::new("cp").arg(&from).arg(&to).status().unwrap().success());
            }
        }
        let connection = Connection::open(&image).unwrap();
        let moved = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], moved).unwrap();
        assert_eq!(busy, 0);
        image
    }
}

/// Waits for a sync, but not for ever.
pub(crate) async fn synced(capture: &Capture) -> Txid {
    let synced = tokio::time::timeout(DEADLINE, capture.sync()).await;
    match synced {
        Ok(synced) => synced.unwrap(),
        Err(_elapsed) => panic!("not synced in time: {:?}", *capture.status().borrow()),
    }
}

pub(crate) async fn closed(capture: Capture) {
    assert!(capture.close(DEADLINE).await, "not closed in time");
}

pub(crate) fn database_in(dir: &Path) -> PathBuf {
    dir.join("app.db")
}

/// A capture that is in a hurry, and moves the log often.
pub(crate) fn options(dir: &Path) -> Options {
    let mut options = Options::new(database_in(dir));
    options.batch = Duration::from_millis(1);
    options.checkpoint_pages = 60;
    options.poll = Duration::from_millis(100);
    options.busy = Duration::from_millis(20);
    options
}

pub(crate) fn assert_intact(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let check = "PRAGMA integrity_check";
    let found: String = connection.query_row(check, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

fn page_size(image: &[u8]) -> PageSize {
    let bytes = u32::from(u16::from_be_bytes([image[16], image[17]]));
    PageSize::new(if bytes == 1 { PageSize::MAX } else { bytes }).unwrap()
}
