//! A replica that fails, or of which it is not known whether it did.

use std::time::Duration;

use jetbridge_core::ErrorKind;

use super::folder::Fault;
use super::source::{Source, closed, options, synced};

#[tokio::test]
async fn what_was_refused_or_lost_its_answer_comes_again() {
    let source = Source::new();
    let mut app = source.app();
    app.write(10);
    source.folder.will([Fault::Refused, Fault::AnswerLost, Fault::AnswerLost]);
    let capture = source.capture().await;
    source.check(&capture).await;
    for faults in [
        vec![Fault::Refused, Fault::Refused],
        vec![Fault::AnswerLost],
        vec![Fault::AnswerLost, Fault::Refused, Fault::AnswerLost],
    ] {
        source.folder.will(faults);
        app.write(10);
        source.check(&capture).await;
    }
    assert_eq!(capture.status().borrow().error, None);
    closed(capture).await;
}

/// While the replica fails for long the log is let go, and moved and overwritten by others.
#[tokio::test]
async fn a_long_outage_does_not_let_the_log_grow_and_loses_nothing() {
    let source = Source::new();
    let mut app = source.app();
    app.write(10);
    let mut options = options(source.dir());
    options.log_bytes_max = 200 << 10;
    let capture = source.capture_as(options).await;
    source.check(&capture).await;
    source.folder.will(std::iter::repeat_n(Fault::Refused, 6));
    let mut longest = 0;
    for _ in 0..20 {
        app.write(100);
        longest = longest.max(std::fs::metadata(source.log_path()).unwrap().len());
    }
    source.check(&capture).await;
    assert!(longest < 24 << 20, "{longest}");
    assert_eq!(source.folder.counts().1, 1, "one base");
    closed(capture).await;
}

#[tokio::test]
async fn a_slow_replica_is_said_to_be() {
    let source = Source::new();
    let mut app = source.app();
    app.write(10);
    let capture = source.capture().await;
    synced(&capture).await;
    source.folder.will([Fault::Late(Duration::from_millis(4500))]);
    app.write(1);
    let mut status = capture.status();
    let slow = status.wait_for(|it| it.error.is_some()).await.unwrap().clone();
    assert!(slow.error.unwrap().contains("has not answered for 4 s"));
    assert!(slow.behind_since.is_some());
    source.check(&capture).await;
    assert_eq!(capture.status().borrow().error, None);
    closed(capture).await;
}

#[tokio::test]
async fn another_writer_on_the_replica_ends_the_capture_and_is_named() {
    let source = Source::new();
    let mut app = source.app();
    app.write(10);
    source.folder.will([Fault::Conflict]);
    let capture = source.capture().await;
    let error = capture.sync().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("conflict"), "{error}");
    let mut status = capture.status();
    status.wait_for(|it| it.ended).await.unwrap();
}

/// A replica that was lost gets a base again; one that fell behind, too.
#[tokio::test]
async fn a_replica_that_forgot_is_begun_anew() {
    let source = Source::new();
    let mut app = source.app();
    app.write(10);
    let capture = source.capture().await;
    source.check(&capture).await;
    app.write(10);
    source.check(&capture).await;
    closed(capture).await;
    let replica = source.dir().join("replica");
    let mut files: Vec<_> = std::fs::read_dir(&replica).unwrap().map(|it| it.unwrap()).collect();
    files.sort_by_key(std::fs::DirEntry::path);
    std::fs::remove_file(files.pop().unwrap().path()).unwrap();
    let capture = source.capture().await;
    source.check(&capture).await;
    closed(capture).await;
    std::fs::remove_dir_all(&replica).unwrap();
    std::fs::create_dir(&replica).unwrap();
    let capture = source.capture().await;
    source.check(&capture).await;
    closed(capture).await;
}
