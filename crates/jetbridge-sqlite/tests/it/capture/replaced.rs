//! The file under the name becomes another one.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::source::{Source, closed};

fn remove_database(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", path.display())).unwrap_or_default();
    }
}

fn make_other(path: &Path, rows: u32, page_size: u32) {
    let other = Connection::open(path).unwrap();
    other
        .execute_batch(&format!(
            "PRAGMA page_size = {page_size}; CREATE TABLE o (a); BEGIN;
             WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {rows})
             INSERT INTO o SELECT hex(randomblob(500)) FROM c; COMMIT"
        ))
        .unwrap();
}

/// Puts another database in the place of the one that is captured, or was.
async fn replace(while_captured: bool, page_size: u32) {
    let source = Source::new();
    let mut app = source.app();
    app.write(50);
    let mut capture = Some(source.capture().await);
    source.check(capture.as_ref().unwrap()).await;
    app.run("close");
    if !while_captured {
        closed(capture.take().unwrap()).await;
    }
    let other = source.dir().join("other.db");
    make_other(&other, 90, page_size);
    remove_database(&source.path());
    fs::rename(&other, source.path()).unwrap();
    let capture = match capture {
        Some(capture) => capture,
        None => source.capture().await,
    };
    source.check(&capture).await;
    app.run("open");
    app.write(10);
    source.check(&capture).await;
    closed(capture).await;
}

#[tokio::test]
async fn a_file_put_in_its_place_is_replicated() {
    replace(true, 4096).await;
    replace(false, 4096).await;
}

#[tokio::test]
async fn a_file_with_pages_of_another_size_is_replicated() {
    replace(true, 1024).await;
    replace(false, 16384).await;
}

#[tokio::test]
async fn a_backup_written_over_it_is_replicated() {
    let source = Source::new();
    let mut app = source.app();
    app.write(50);
    let capture = source.capture().await;
    source.check(&capture).await;
    let other = source.dir().join("other.db");
    make_other(&other, 20, 4096);
    app.run(&format!("backup {}", other.display()));
    source.check(&capture).await;
    app.run("INSERT INTO o VALUES (1)");
    source.check(&capture).await;
    closed(capture).await;
}

#[tokio::test]
async fn a_database_that_is_deleted_and_made_again_is_replicated() {
    let source = Source::new();
    let mut app = source.app();
    app.write(50);
    let capture = source.capture().await;
    source.check(&capture).await;
    app.run("close");
    remove_database(&source.path());
    app.run("open");
    app.write(3);
    source.check(&capture).await;
    closed(capture).await;
}

#[tokio::test]
async fn a_database_that_comes_later_is_waited_for() {
    let source = Source::new();
    let capture = source.capture().await;
    let mut status = capture.status();
    status.wait_for(|it| it.error.is_some()).await.unwrap();
    let mut app = source.app();
    app.write(3);
    source.check(&capture).await;
    assert_eq!(capture.status().borrow().error, None);
    closed(capture).await;
}

/// A copy of the files as they were earlier, put back while nobody looked.
#[tokio::test]
async fn an_earlier_state_put_back_is_replicated() {
    let source = Source::new();
    let mut app = source.app();
    app.write(30);
    let capture = source.capture().await;
    source.check(&capture).await;
    closed(capture).await;
    app.run("close");
    let earlier = source.dir().join("earlier.db");
    fs::copy(source.path(), &earlier).unwrap();
    app.run("open");
    app.write(30);
    let capture = source.capture().await;
    source.check(&capture).await;
    closed(capture).await;
    app.run("close");
    remove_database(&source.path());
    fs::rename(&earlier, source.path()).unwrap();
    let capture = source.capture().await;
    source.check(&capture).await;
    assert_eq!(source.folder.counts().1, 1, "one base");
    closed(capture).await;
}
