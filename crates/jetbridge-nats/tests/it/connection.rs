//! The connection: what it survives, what it says at once, and how it ends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, poll};
use jetbridge_core::{
    AppendOpts, Backend as _, BucketSpec, ConnectionState, ErrorKind, Message, Open, Outcome,
    PutOpts, Read, Subject, Verdict,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions, eventually};
use tokio::time::{Instant, timeout};

use crate::store::{
    GRACE, SOON, Store, bucket, connect_to, key, nothing_waits, options, options_as, put, read,
};

/// Well below the time-out of a request: what ends within it did not wait for that.
const AT_ONCE: Duration = Duration::from_secs(3);

jetbridge_testkit::on_every_server!(
    a_brief_outage_costs_no_time_out,
    requests_in_flight_are_settled_when_the_connection_dies,
    what_was_not_sent_is_not_applied,
    dropped_requests_leave_no_entry,
    requests_that_are_given_up_leave_answers_to_others,
    a_server_without_jetstream_says_so_at_once,
    a_value_over_the_limit_does_not_close_the_connection,
    closing_ends_everything,
    closing_while_the_server_is_away_keeps_its_deadline,
    connecting_in_the_background_goes_on_until_a_server_is_there,
    a_denied_inbox_fails_at_once,
    diagnosis_says_what_is_wrong,
);

/// The defect: requests in flight wait out their time-out, so that an outage of 0.2 s costs 5 s.
async fn a_brief_outage_costs_no_time_out(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "a", "0").await;
    proxy.refuse();
    proxy.stall();
    let writing = async {
        let names: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
        join_all(names.iter().map(|name| put(&*kv, name, "1"))).await
    };
    let breaking = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.reset();
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.resume();
        proxy.accept();
    };
    let (revisions, ()) =
        timeout(AT_ONCE, futures_util::future::join(writing, breaking)).await.unwrap();
    assert_eq!(revisions.len(), 50);
    for n in 0..50 {
        assert_eq!(read(&*kv, &format!("k{n}")).await.as_deref(), Some("1"));
    }
    store.close().await;
}

/// A write in flight when the connection dies for good is reported then, as unknown.
async fn requests_in_flight_are_settled_when_the_connection_dies(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let proxy = Proxy::start(server.address()).await;
    let mut options = options(&proxy.url());
    options.reconnects_max = Some(1);
    let backend = NatsBackend::connect(&options).await.unwrap();
    let kv = backend.kv(&bucket(), Open::ensure(BucketSpec::default())).await.unwrap();
    put(&*kv, "a", "0").await;
    proxy.stall();
    let name = key("a");
    let writing = kv.put(&name, Bytes::from_static(b"1"), PutOpts::new());
    let breaking = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.refuse();
        proxy.reset();
    };
    let ended = timeout(AT_ONCE, futures_util::future::join(writing, breaking)).await.unwrap();
    let error = ended.0.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    assert!(nothing_waits(&backend));
}

/// What could not leave says so: it is safe to try it again elsewhere.
async fn what_was_not_sent_is_not_applied(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let mut options = options(&server.url());
    options.request_timeout = Duration::from_millis(500);
    let backend = NatsBackend::connect(&options).await.unwrap();
    let kv = backend.kv(&bucket(), Open::ensure(BucketSpec::default())).await.unwrap();
    put(&*kv, "a", "0").await;
    server.kill();
    eventually("the client notices", SOON, async || {
        let state = backend.connection().next().await.unwrap();
        matches!(state, ConnectionState::Reconnecting { .. }).then_some(())
    })
    .await;
    let error = kv.put(&key("a"), Bytes::from_static(b"1"), PutOpts::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(error.is_retryable() && error.hint_text().is_some(), "{error:?}");
    server.restart().await;
    eventually("the bucket answers again", SOON, async || {
        kv.get(&key("a"), Read::Fresh).await.ok()
    })
    .await;
    assert_eq!(read(&*kv, "a").await.as_deref(), Some("0"), "the refused write came after all");
}

/// The defect: a request without a reply stays in the client's table for ever.
async fn dropped_requests_leave_no_entry(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "a", "0").await;
    proxy.stall();
    let name = key("a");
    for _ in 0..100 {
        let get = timeout(Duration::from_millis(1), kv.get(&name, Read::Fresh)).await;
        assert!(get.is_err(), "nothing passes");
    }
    assert!(nothing_waits(&store.backend), "{:?}", store.backend);
    proxy.resume();
    assert_eq!(read(&*kv, "a").await.as_deref(), Some("0"), "late answers disturb nobody");
    store.close().await;
}

/// Whoever waits must not depend on those that came before and are gone.
async fn requests_that_are_given_up_leave_answers_to_others(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "k", "v").await;
    let key = key("k");
    for again in [false, true] {
        proxy.stall();
        let mut first = Box::pin(kv.get(&key, Read::Fresh));
        assert!(poll!(&mut first).is_pending());
        let mut second = Box::pin(kv.get(&key, Read::Fresh));
        assert!(poll!(&mut second).is_pending());
        if again {
            assert!(poll!(&mut first).is_pending());
        }
        drop(first);
        proxy.resume();
        assert_eq!(second.await.unwrap().unwrap().value, "v");
        // And one that nobody waits for any more.
        let mut given_up = Box::pin(kv.get(&key, Read::Fresh));
        assert!(poll!(&mut given_up).is_pending());
        drop(given_up);
        assert_eq!(read(&*kv, "k").await.as_deref(), Some("v"));
    }
    assert!(nothing_waits(&store.backend));
    store.close().await;
}

async fn a_server_without_jetstream_says_so_at_once(release: Release) {
    let options = ServerOptions::new().without_jetstream();
    let store = Store::start_with(release, options).await;
    let name = bucket();
    let opening = store.backend.kv(&name, Open::ensure(BucketSpec::default()));
    let error = timeout(AT_ONCE, opening).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.hint_text().unwrap().contains("jetstream"), "{error:?}");
    let message = Message::new(Subject::parse("a").unwrap(), "x");
    let bus = store.backend.bus();
    let appending = bus.append(message, AppendOpts::new());
    let error = timeout(AT_ONCE, appending).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.hint_text().unwrap().contains("jetstream"), "{error:?}");
    let checks = store.backend.diagnose().await;
    let jetstream = checks.iter().find(|check| check.name == "jetstream").unwrap();
    assert_eq!(jetstream.verdict, Verdict::Fails, "{checks:?}");
    assert!(jetstream.hint.is_some());
    store.close().await;
}

/// The defect: payload and headers over `max_payload` close the connection, and everybody's with
/// it.
async fn a_value_over_the_limit_does_not_close_the_connection(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    let limit = usize::try_from(store.backend.capabilities().value_bytes_max).unwrap();
    for size in [limit + 1, 1024 * 1024, 4 * 1024 * 1024] {
        let put = kv.put(&key("a"), Bytes::from(vec![0; size]), PutOpts::create()).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::LimitExceeded, "{size}");
    }
    kv.put(&key("a"), Bytes::from(vec![0; limit]), PutOpts::create()).await.unwrap();
    let status = store.backend.status().await.unwrap();
    assert!(status.facts.contains(&("connections", "1".to_owned())), "{status:?}");
    store.close().await;
}

async fn closing_ends_everything(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "a", "1").await;
    let mut states = store.backend.connection();
    assert_eq!(states.next().await, Some(ConnectionState::Connected));
    let mut watching = kv.watch(jetbridge_core::Watch::default());
    watching.next().await.unwrap().unwrap();
    let report = store.backend.close(GRACE).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(states.next().await, Some(ConnectionState::Closed));
    assert_eq!(states.next().await, None);
    let asked = Instant::now();
    let get = kv.get(&key("a"), Read::Fresh).await;
    assert_eq!(get.unwrap_err().kind(), ErrorKind::Unavailable);
    while let Some(change) = watching.next().await {
        if let Err(error) = change {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
    }
    assert!(asked.elapsed() < AT_ONCE);
    eventually("the socket is shut", SOON, async || (proxy.connections() == 0).then_some(())).await;
    let peer = Store { backend: connect_to(&store.server.url()).await, server: store.server };
    assert_eq!(peer.messages_and_consumers().await, (1, 0), "the watch's consumer is gone");
    peer.close().await;
}

async fn closing_while_the_server_is_away_keeps_its_deadline(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "a", "1").await;
    store.server.kill();
    eventually("the client notices", SOON, async || {
        let state = store.backend.connection().next().await.unwrap();
        matches!(state, ConnectionState::Reconnecting { .. }).then_some(())
    })
    .await;
    let closing = store.backend.close(Duration::from_secs(1));
    timeout(AT_ONCE, closing).await.unwrap();
    assert_eq!(store.backend.connection().next().await, Some(ConnectionState::Closed));
}

async fn connecting_in_the_background_goes_on_until_a_server_is_there(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let proxy = Proxy::start(server.address()).await;
    proxy.refuse();
    let mut options = options(&proxy.url());
    options.connect_in_background = true;
    let backend = NatsBackend::connect(&options).await.unwrap();
    let mut states = backend.connection();
    assert!(matches!(states.next().await, Some(ConnectionState::Reconnecting { .. })));
    let name = bucket();
    let opening = backend.kv(&name, Open::ensure(BucketSpec::default()));
    let arriving = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.accept();
    };
    let (kv, ()) = futures_util::future::join(opening, arriving).await;
    put(&*kv.unwrap(), "a", "1").await;
    assert!(backend.close(GRACE).await.is_clean());
    let mut foreground = options.clone();
    foreground.connect_in_background = false;
    proxy.refuse();
    let refused = NatsBackend::connect(&foreground).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
}

/// The defect: a denied inbox makes every request time out.
async fn a_denied_inbox_fails_at_once(release: Release) {
    let users = r#"authorization { users: [
        { user: a, password: secret, permissions: { publish: ">", subscribe: "else.>" } }
    ] }"#;
    let server = NatsServer::start(release, ServerOptions::new().config(users)).await;
    let backend = NatsBackend::connect(&options_as(&server.url(), "a")).await.unwrap();
    let opening = timeout(AT_ONCE, backend.kv(&bucket(), Open::existing())).await.unwrap();
    let error = opening.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.fact("subject").unwrap().starts_with("_INBOX_a."), "{error:?}");
    let checks = backend.diagnose().await;
    assert_eq!((checks[0].name, checks[0].verdict), ("connection", Verdict::Fails), "{checks:?}");
    assert!(backend.close(GRACE).await.is_clean());
}

async fn diagnosis_says_what_is_wrong(release: Release) {
    let store = Store::start(release).await;
    for check in store.backend.diagnose().await {
        assert_eq!(check.verdict, Verdict::Passes, "{check:?}");
    }
    store.server.kill();
    eventually("the connection's check fails", SOON, async || {
        let checks = store.backend.diagnose().await;
        (checks[0].verdict == Verdict::Fails && checks[0].hint.is_some()).then_some(())
    })
    .await;
}
