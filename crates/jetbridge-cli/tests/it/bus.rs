//! `pub`, `sub`, `req`, `reply` and `stream` over several processes.

use std::time::Duration;

use jetbridge_testkit::Release;
use rustix::process::Signal;

use crate::binary::Store;

async fn messages_reach_the_subscribers(store: Store) {
    let mut sub = store.start(&["sub", "a.>", "--json"]);
    assert_eq!(sub.note().await, "listening on a.>");
    store.does("pub a.b hello").await;
    assert_eq!(sub.line().await, r#"{"subject":"a.b","payload":"hello"}"#);
    store.feed(&["pub", "a.c", "-", "-H", "K: v"], b"\xff").await;
    assert_eq!(
        sub.line().await,
        r#"{"subject":"a.c","headers":{"K":["v"]},"payload_base64":"/w=="}"#
    );
    store.does("pub other x").await;
    store.does("pub a.d last").await;
    assert_eq!(sub.line().await, r#"{"subject":"a.d","payload":"last"}"#);
    sub.signal(Signal::TERM);
    assert_eq!(sub.end().await, (vec![], 0));
}

async fn a_group_shares_the_messages(store: Store) {
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut member = store.start(&["sub", "jobs", "--queue", "g"]);
        member.note().await;
        members.push(member);
    }
    let mut all = store.start(&["sub", "jobs", "--count", "100"]);
    all.note().await;
    store.does("pub jobs x --count 100").await;
    // When one that gets them all has them, the members have theirs.
    assert_eq!(all.end().await.1, 0);
    let mut lines = 0;
    for member in members {
        member.signal(Signal::INT);
        let (got, code) = member.end().await;
        assert_eq!(code, 0);
        lines += got.len();
    }
    assert_eq!(lines, 100);
}

async fn requests_are_answered_by_another_process(store: Store) {
    let mut reply = store.start(&["reply", "q.*", "--command", "tr a-z A-Z", "--count", "2"]);
    assert_eq!(reply.note().await, "answering on q.*");
    assert_eq!(store.does("req q.a shout").await, "SHOUT");
    let json = store.does("req q.a shout --json").await;
    assert!(json.ends_with("\"payload\":\"SHOUT\"}\n"), "{json}");
    assert_eq!(reply.end().await, (vec![], 0));
    let err = store.fails(3, "req q.a shout").await;
    assert!(err.starts_with("error: bus.request: unavailable: "), "{err}");
    assert!(err.contains("\nhint: "), "{err}");
}

async fn streams_keep_messages(store: Store) {
    store.does("stream add S --subjects a.>").await;
    assert_eq!(store.does("pub a.b one -J").await, "stream S, sequence 1\n");
    assert_eq!(store.does("pub a.b two -J --id x").await, "stream S, sequence 2\n");
    assert_eq!(store.does("pub a.b two -J --id x").await, "stream S, a duplicate, sequence 2\n");
    assert_eq!(store.does("stream get S 2").await, "two");
    assert_eq!(store.does("stream view S --raw").await, "one\ntwo\n");
    let mut view = store.start(&["stream", "view", "S", "--raw", "--follow"]);
    assert_eq!((view.line().await, view.line().await), ("one".to_owned(), "two".to_owned()));
    let many = store.does("pub a.c more -J --count 50").await;
    assert_eq!(many.lines().count(), 50);
    assert!(many.contains("stream S, sequence 52\n"), "{many}");
    for _ in 0..50 {
        assert_eq!(view.line().await, "more");
    }
    view.signal(Signal::INT);
    assert_eq!(view.end().await, (vec![], 0));
    assert_eq!(store.does("stream purge S --subject a.c").await, "50\n");
    store.does("stream rm S").await;
    store.fails(2, "stream info S").await;
}

async fn silence_is_unavailable_after_the_time_out(store: Store) {
    let mut sub = store.start(&["sub", "q"]);
    sub.note().await;
    let began = std::time::Instant::now();
    let err = store.fails(3, "req q ping --timeout 300ms").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(err.contains("(may have been applied)"), "{err}");
    assert_eq!(sub.line().await, "q ping");
}

on_every_store! {
    a_group_shares_the_messages,
    messages_reach_the_subscribers,
    requests_are_answered_by_another_process,
    silence_is_unavailable_after_the_time_out,
    streams_keep_messages,
}

#[tokio::test]
async fn a_lost_connection_is_told_and_got_over() {
    let store = Store::nats(Release::Newest).await;
    let mut sub = store.start(&["sub", "a"]);
    assert_eq!(sub.note().await, "listening on a");
    store.server().kill();
    let note = sub.note().await;
    assert!(note.starts_with("connection lost, reconnecting: "), "{note}");
    store.server().restart().await;
    assert_eq!(sub.note().await, "connected again");
    store.does("pub a hello").await;
    assert_eq!(sub.line().await, "a hello");
    sub.signal(Signal::INT);
    assert_eq!(sub.end().await, (vec![], 0));
}

#[tokio::test]
async fn a_server_that_stands_still_is_unavailable() {
    let store = Store::nats(Release::Newest).await;
    store.does("kv add b").await;
    store.server().pause().await;
    let err = store.fails(3, "kv get b k --timeout 500ms").await;
    assert!(err.starts_with("error: nats.connect: unavailable: "), "{err}");
    store.server().resume();
    store.fails(1, "kv get b k").await;
}
