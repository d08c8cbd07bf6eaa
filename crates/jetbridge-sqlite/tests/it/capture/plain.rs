//! A plain run: everything that is committed arrives, and nothing twice.

use jetbridge_sqlite::Txid;

use super::source::{Source, closed, synced};

#[tokio::test]
async fn what_is_committed_is_replicated() {
    let source = Source::new();
    let mut app = source.app();
    app.run("PRAGMA journal_mode = WAL");
    app.write(20);
    let capture = source.capture().await;
    source.check(&capture).await;
    for _ in 0..5 {
        app.write(20);
        source.check(&capture).await;
    }
    assert_eq!(source.folder.counts().1, 1, "one base");
    closed(capture).await;
}

#[tokio::test]
async fn a_database_that_is_not_in_wal_mode_is_switched() {
    let source = Source::new();
    let mut app = source.app();
    app.write(3);
    let capture = source.capture().await;
    source.check(&capture).await;
    app.run("SELECT count(*) FROM w");
    assert_eq!(app.ask("PRAGMA journal_mode"), "[[\"wal\"]]");
    // The application cannot leave it while it is replicated, and is told so.
    assert!(app.ask("PRAGMA journal_mode = DELETE").contains("locked"));
    app.write(3);
    source.check(&capture).await;
    closed(capture).await;
    // It can afterwards, and is replicated all the same.
    app.run("PRAGMA journal_mode = DELETE");
    app.write(3);
    let capture = source.capture().await;
    source.check(&capture).await;
    assert_eq!(source.folder.counts().1, 1, "one base");
    closed(capture).await;
}

#[tokio::test]
async fn nothing_is_shipped_when_nothing_is_written() {
    let source = Source::new();
    let mut app = source.app();
    app.write(5);
    let capture = source.capture().await;
    let txid = source.check(&capture).await;
    for _ in 0..3 {
        assert_eq!(synced(&capture).await, txid);
    }
    closed(capture).await;
    let capture = source.capture().await;
    assert_eq!(synced(&capture).await, txid, "nothing after a restart");
    // Neither if the log was moved and taken away meanwhile.
    closed(capture).await;
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    app.run("close");
    let capture = source.capture().await;
    assert_eq!(synced(&capture).await, txid);
    closed(capture).await;
}

#[tokio::test]
async fn a_restart_ships_what_differs_only() {
    let source = Source::new();
    let mut app = source.app();
    app.write(300);
    let capture = source.capture().await;
    let txid = source.check(&capture).await;
    assert!(txid >= Txid(1));
    closed(capture).await;
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    app.run("UPDATE w SET pad = 'x' WHERE id = 150");
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let capture = source.capture().await;
    source.check(&capture).await;
    let sizes = source.folder.sizes_after(txid);
    assert!(sizes.len() == 1 && sizes[0] <= 3, "{sizes:?}");
    closed(capture).await;
}

#[tokio::test]
async fn a_sync_is_answered_while_others_write_all_the_time() {
    let source = Source::new();
    let mut app = source.app();
    app.write(1);
    let capture = source.capture().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            app.write(5);
        }
        app
    });
    for _ in 0..20 {
        synced(&capture).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let _app = writer.join().unwrap();
    source.check(&capture).await;
    closed(capture).await;
}

/// SQLite keeps the log beside the file, not beside a link to it.
#[tokio::test]
async fn a_database_behind_a_link_is_replicated() {
    let source = Source::new();
    let kept = source.dir().join("kept.db");
    super::app::App::open(&kept).write(10);
    std::os::unix::fs::symlink(&kept, source.path()).unwrap();
    let capture = source.capture().await;
    synced(&capture).await;
    let mut app = source.app();
    app.write(10);
    synced(&capture).await;
    closed(capture).await;
    // What is restored has the rows; the files lie elsewhere than the comparison looks.
    let restored = source.dir().join("restored.db");
    source.folder.restore(&restored);
    let restored = rusqlite::Connection::open(restored).unwrap();
    let rows: i64 = restored.query_row("SELECT count(*) FROM w", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 20);
}

/// Nothing is remembered of the chain, and yet no base is shipped.
#[tokio::test]
async fn a_chain_of_which_nothing_is_remembered_is_taken_over() {
    let source = Source::new();
    let mut app = source.app();
    app.write(100);
    let capture = source.capture().await;
    let txid = source.check(&capture).await;
    closed(capture).await;
    let state = source.dir().join(".app.db-jetbridge");
    std::fs::remove_dir_all(&state).unwrap();
    let capture = source.capture().await;
    assert_eq!(synced(&capture).await, txid, "nothing was missed, and nothing is shipped");
    closed(capture).await;
    std::fs::remove_dir_all(&state).unwrap();
    app.run("UPDATE w SET pad = 'x' WHERE id = 50");
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let capture = source.capture().await;
    source.check(&capture).await;
    let sizes = source.folder.sizes_after(txid);
    assert!(sizes.len() == 1 && sizes[0] <= 3, "{sizes:?}");
    closed(capture).await;
}
