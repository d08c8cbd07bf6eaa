//! `sqlite follow` and `restore -f`, on every store.

use std::time::Duration;

use jetbridge_testkit::eventually;
use rustix::process::Signal;

use super::{COUNT, CREATE, INSERT, application};
use crate::binary::Store;

const WITHIN: Duration = Duration::from_secs(30);

on_every_store!(a_database_is_followed_and_gone_on_with,);

async fn a_database_is_followed_and_gone_on_with(store: Store) {
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let words = ["sqlite", "replicate", "app.db", "--bucket", "backups", "--path", "p"];
    let replicator = store.start(&words);
    let words = ["sqlite", "ltx", "--bucket", "backups", "--path", "p", "-level", "all", "-json"];
    eventually("there is something to follow", WITHIN, async || {
        store.run(&words).await.text().contains("min_txid").then_some(())
    })
    .await;
    let words = ["sqlite", "follow", "--bucket", "backups", "--path", "p", "-o", "read.db"];
    let reaches = async |rows: &str| {
        eventually("the followed database has the row", WITHIN, async || {
            let there = std::path::Path::new(&store.path("read.db")).exists();
            (there && application(&store.path("read.db"), COUNT) == rows).then_some(())
        })
        .await;
    };
    let mut follower = store.start(&words);
    assert!(follower.line().await.starts_with("restored read.db to transaction"));
    reaches("1").await;
    application(&store.path("app.db"), INSERT);
    reaches("2").await;
    follower.signal(Signal::TERM);
    assert_eq!(follower.end().await.1, 0);

    application(&store.path("app.db"), INSERT);
    let words = ["sqlite", "restore", "--bucket", "backups", "--path", "p", "-f", "-o", "read.db"];
    let follower = store.start(&words);
    reaches("3").await;
    follower.signal(Signal::INT);
    assert_eq!(follower.end().await.1, 0);
    let error = store.fails(4, "sqlite follow --bucket backups --path p -o app.db").await;
    assert!(error.contains("cannot resume follow mode"), "{error}");
    let error = store.fails(2, "sqlite restore --bucket backups -f -txid 0000000000000001").await;
    assert!(error.contains("cannot be used with"), "{error}");
    for flag in ["-if-replica-exists", "-if-db-not-exists"] {
        let line = format!("sqlite restore --bucket backups -f {flag} -o new.db");
        let error = store.fails(2, &line).await;
        assert!(error.contains("cannot be used with"), "{error}");
    }
    let error =
        store.fails(2, "sqlite restore --bucket backups -follow-interval 1s -o new.db").await;
    assert!(error.contains("--follow"), "{error}");

    // Another replica, which has not come as far.
    application(&store.path("other.db"), CREATE);
    store.does("sqlite replicate -once other.db --bucket backups --path q").await;
    let error = store.fails(4, "sqlite follow --bucket backups --path q -o read.db").await;
    assert!(error.contains("ahead of its replica") && error.contains("-force"), "{error}");
    let words =
        ["sqlite", "follow", "--bucket", "backups", "--path", "q", "-force", "-o", "read.db"];
    let mut follower = store.start(&words);
    assert!(follower.line().await.starts_with("restored read.db to transaction"));
    reaches("1").await;
    follower.signal(Signal::TERM);
    assert_eq!(follower.end().await.1, 0);
    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
}
