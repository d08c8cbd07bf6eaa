//! What cannot be captured, and how that is said.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jetbridge_core::ErrorKind;
use jetbridge_sqlite::capture::Capture;
use jetbridge_testkit::process::{Process, say};

use super::child::ROLES;
use super::folder::Folder;
use super::source::{Source, options};

/// Whom nothing belongs to.
const NOBODY: u32 = 65534;

async fn said_of(source: &Source, ends: bool) -> String {
    let capture = source.capture().await;
    let mut status = capture.status();
    let found = status.wait_for(|it| it.error.is_some() && it.ended == ends).await.unwrap().clone();
    found.error.unwrap()
}

#[tokio::test]
async fn a_file_that_is_no_database_or_encrypted_is_refused() {
    let source = Source::new();
    fs::write(source.path(), [0xa5; 8192]).unwrap();
    let said = said_of(&source, true).await;
    assert!(said.contains("not a SQLite database, or it is encrypted"), "{said}");
    assert!(said.contains("app.db"), "{said}");
}

#[tokio::test]
async fn an_empty_file_is_waited_for() {
    let source = Source::new();
    fs::write(source.path(), []).unwrap();
    let said = said_of(&source, false).await;
    assert!(said.contains("empty so far"), "{said}");
}

/// There is nothing to wait for: the end of an application that has not begun is soon.
#[tokio::test]
async fn what_is_missing_or_empty_is_let_go_of_at_once() {
    for empty in [false, true] {
        let source = Source::new();
        if empty {
            fs::write(source.path(), []).unwrap();
        }
        let capture = source.capture().await;
        let mut status = capture.status();
        status.wait_for(|it| it.error.is_some()).await.unwrap();
        let begun = Instant::now();
        assert!(capture.close(Duration::from_secs(40)).await);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_damaged_database_is_said_to_be() {
    let source = Source::new();
    let mut app = source.app();
    app.write(100);
    app.run("close");
    let mut bytes = fs::read(source.path()).unwrap();
    // A page count that the file does not have, and a root page of no kind.
    bytes[100..2000].fill(0xff);
    fs::write(source.path(), bytes).unwrap();
    let said = said_of(&source, false).await;
    assert!(said.contains("damaged") || said.contains("malformed"), "{said}");
}

/// The half that is gone is not shipped as zeros over what the replica has.
#[tokio::test]
async fn a_truncated_database_is_said_to_be_and_hides_nothing() {
    let source = Source::new();
    let mut app = source.app();
    app.write(200);
    let capture = source.capture().await;
    let txid = source.check(&capture).await;
    super::source::closed(capture).await;
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    app.run("close");
    let whole = fs::read(source.path()).unwrap();
    fs::write(source.path(), &whole[..whole.len() / 2]).unwrap();
    let said = said_of(&source, false).await;
    assert!(said.contains("damaged") || said.contains("malformed"), "{said}");
    let restored = source.dir().join("restored.db");
    assert_eq!(source.folder.restore(&restored), txid);
    super::source::assert_intact(&restored);
}

#[tokio::test]
async fn a_second_capture_is_refused() {
    let source = Source::new();
    source.app().write(1);
    let first = source.capture().await;
    let second = Capture::start(options(source.dir()), Arc::clone(&source.folder) as _).await;
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("another process captures this database"), "{error}");
    super::source::closed(first).await;
}

/// Root may write everything: a child that is nobody tries.
#[tokio::test]
async fn a_database_that_may_not_be_written_is_refused() {
    let source = Source::new();
    let mut app = source.app();
    app.write(1);
    app.run("close");
    let dir = source.dir();
    let binary = dir.join("test");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    for (path, mode) in [(dir, 0o777), (&binary, 0o755), (&source.path(), 0o444)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(dir.join("replica"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = ROLES.command(&binary, "refused", dir);
    command.current_dir(dir);
    if fs::metadata(dir).unwrap().uid() == 0 {
        command.uid(NOBODY);
    }
    let mut child = Process::run(command);
    let said = child.line();
    assert!(said.contains("cannot be written"), "{said}");
    assert!(said.contains("allow this user"), "{said}");
}

/// Says what is wrong with the database in `dir`.
pub(crate) async fn refused(dir: &Path) {
    let folder = Arc::new(Folder::new(&dir.join("replica")));
    let capture = Capture::start(options(dir), folder).await.unwrap();
    let mut status = capture.status();
    let error = status.wait_for(|it| it.error.is_some()).await.unwrap().error.clone();
    say(error.unwrap());
}
