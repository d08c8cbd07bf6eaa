//! What clients of these servers are known to get wrong, where no other module has the case.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend as _, Body, BucketSpec, Change, DeleteOpts, ErrorKind, Message, ObjectName, ObjectPut,
    Objects, Open, PutOpts, Read, Result, Scope, Subject, Subscribe, Watch,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions, eventually};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::store::{GRACE, SOON, Store, ask, bucket, connect_to, key, options, options_as, put};

jetbridge_testkit::on_every_server!(
    a_put_waits_for_no_single_chunk,
    more_gets_than_a_stream_may_have_consumers,
    without_flow_control_a_large_object_is_read_or_says_so,
    an_object_that_lacks_a_chunk_ends_badly,
    publishing_while_the_server_is_away_keeps_its_deadline,
    a_watch_that_nobody_reads_outlives_a_restart,
    a_full_server_says_so_and_takes_more_when_there_is_room,
);

const CHUNK: usize = 128 * 1024;
/// Well above what an answer takes, and below what waiting for ever looks like.
const AT_LAST: Duration = Duration::from_secs(20);

fn name() -> ObjectName {
    ObjectName::parse("a").unwrap()
}

async fn objects(backend: &NatsBackend) -> Arc<dyn Objects> {
    backend.objects(&bucket(), Open::ensure(BucketSpec::default())).await.unwrap()
}

/// Chunks in which every byte is the chunk's number, in pieces as a socket gives them.
fn content(chunks: usize) -> Vec<u8> {
    (0..chunks).flat_map(|n| vec![u8::try_from(n % 251).unwrap(); CHUNK]).collect()
}

fn body(content: &[u8]) -> Body {
    let pieces: Vec<Result<Bytes>> =
        content.chunks(1448).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures_util::stream::iter(pieces).boxed()
}

async fn read(objects: &dyn Objects) -> Result<Vec<u8>> {
    let object = objects.get(&name(), None).await?.unwrap();
    let pieces: Vec<Bytes> = object.body.try_collect().await?;
    Ok(pieces.concat())
}

/// The defect: each chunk waits for the acknowledgement of the one before, a round trip each.
async fn a_put_waits_for_no_single_chunk(release: Release) {
    const CHUNKS: usize = 64;
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let objects = objects(&store.backend).await;
    proxy.latency(ROUND_TRIP);
    let began = Instant::now();
    let all = content(CHUNKS);
    let info = objects.put(&name(), body(&all), ObjectPut::new()).await.unwrap();
    let took = began.elapsed();
    assert_eq!(info.chunks, CHUNKS as u64, "a chunk is not what one read returned");
    assert!(took < ROUND_TRIP * u32::try_from(CHUNKS).unwrap() / 2, "{took:?}");
    proxy.latency(Duration::ZERO);
    assert!(read(&*objects).await.unwrap() == all);
    store.close().await;
}

/// The defect: every get leaves a consumer behind, and a stream may have a thousand.
async fn more_gets_than_a_stream_may_have_consumers(release: Release) {
    const AT_ONCE: usize = 10;
    const ROUNDS: usize = 110;
    let store = Store::start(release).await;
    let objects = objects(&store.backend).await;
    let all = content(3);
    objects.put(&name(), body(&all), ObjectPut::new()).await.unwrap();
    for _ in 0..ROUNDS {
        for got in join_all((0..AT_ONCE).map(|_| read(&*objects))).await {
            assert!(got.unwrap() == all);
        }
    }
    eventually("no consumer is left", SOON, async || {
        let info = store.ask("$JS.API.STREAM.INFO.OBJ_b", json!(null)).await;
        (info["state"]["consumer_count"] == 0).then_some(())
    })
    .await;
    store.close().await;
}

/// The defect: the read stands still for ever behind the first two mebibytes.
async fn without_flow_control_a_large_object_is_read_or_says_so(release: Release) {
    let users = r#"accounts { A { jetstream: enabled, users: [
        { user: admin, password: secret },
        { user: user, password: secret, permissions: {
            publish: { allow: ">", deny: "$JS.FC.>" }, subscribe: ["_INBOX_user.>"] } }
    ] } }"#;
    let server = NatsServer::start(release, ServerOptions::new().config(users)).await;
    let admin = NatsBackend::connect(&options_as(&server.url(), "admin")).await.unwrap();
    let all = content(96);
    let put = objects(&admin).await.put(&name(), body(&all), ObjectPut::new()).await;
    assert_eq!(put.unwrap().chunks, 96);
    let user = NatsBackend::connect(&options_as(&server.url(), "user")).await.unwrap();
    let theirs = user.objects(&bucket(), Open::existing()).await.unwrap();
    match timeout(AT_LAST, read(&*theirs)).await.expect("an end") {
        Ok(got) => assert!(got == all),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
            assert!(error.fact("subject").unwrap().starts_with("$JS.FC.OBJ_b."), "{error:?}");
        }
    }
    for backend in [user, admin] {
        assert!(backend.close(GRACE).await.is_clean());
    }
}

/// The defect: a read waits for ever for what was removed, or ends well without it.
async fn an_object_that_lacks_a_chunk_ends_badly(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store.backend).await;
    for (chunks, gone) in [(1, 1), (5, 1), (5, 3), (5, 5)] {
        store.ask("$JS.API.STREAM.PURGE.OBJ_b", json!({})).await;
        let state = store.ask("$JS.API.STREAM.INFO.OBJ_b", json!(null)).await;
        let before = state["state"]["last_seq"].as_u64().unwrap();
        objects.put(&name(), body(&content(chunks)), ObjectPut::new()).await.unwrap();
        let removed = json!({ "seq": before + gone, "no_erase": true });
        let done = store.ask("$JS.API.STREAM.MSG.DELETE.OBJ_b", removed).await;
        assert_eq!(done["success"], true, "{done}");
        let error = timeout(AT_LAST, read(&*objects)).await.expect("an end").unwrap_err();
        let told = matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Corrupt);
        assert!(told, "{gone} of {chunks}: {error:?}");
    }
    store.close().await;
}

/// The defect: with 2048 messages queued, publishing blocks until the server is back, and all of
/// them arrive long after their callers gave up.
async fn publishing_while_the_server_is_away_keeps_its_deadline(release: Release) {
    const MESSAGES: usize = 5000;
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let proxy = Proxy::start(server.address()).await;
    let mut through = options(&proxy.url());
    through.request_timeout = Duration::from_millis(500);
    let backend = NatsBackend::connect(&through).await.unwrap();
    let peer = connect_to(&server.url()).await;
    let listening = Subscribe::to("a".parse().unwrap());
    let mut heard = peer.bus().subscribe(listening).await.unwrap();
    proxy.refuse();
    proxy.reset();
    eventually("the client notices", SOON, async || {
        let state = backend.connection().next().await.unwrap();
        matches!(state, jetbridge_core::ConnectionState::Reconnecting { .. }).then_some(())
    })
    .await;
    let bus = backend.bus();
    let message = |text: &'static str| Message::new(Subject::parse("a").unwrap(), text);
    let publishing = join_all((0..MESSAGES).map(|_| bus.publish(message("late"))));
    for published in timeout(AT_LAST, publishing).await.expect("an end") {
        assert_eq!(published.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    proxy.accept();
    eventually("publishing works again", SOON, async || bus.publish(message("now")).await.ok())
        .await;
    bus.flush().await.unwrap();
    let first = timeout(SOON, heard.next()).await.expect("a message").unwrap().unwrap();
    let jetbridge_core::Received::Message(first) = first else { panic!("{first:?}") };
    assert_eq!(first.payload, "now", "what was refused came after all");
    for backend in [backend, peer] {
        assert!(backend.close(GRACE).await.is_clean());
    }
}

/// The defect: a watch that is not read during a restart never goes on.
async fn a_watch_that_nobody_reads_outlives_a_restart(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    put(&*kv, "before", "1").await;
    let mut changes = kv.watch(Watch::default());
    while changes.next().await.unwrap().unwrap() != Change::CaughtUp {}
    store.server.restart().await;
    let revision = put(&*kv, "after", "2").await;
    let change = timeout(AT_LAST, changes.next()).await.expect("it goes on").unwrap().unwrap();
    assert_eq!(change.revision(), Some(revision), "{change:?}");
    drop(changes);
    store.close().await;
}

/// A server whose disk has no more to give.
async fn a_full_server_says_so_and_takes_more_when_there_is_room(release: Release) {
    let limited = ServerOptions::new().jetstream("max_file_store: 4MB");
    let store = Store::start_with(release, limited).await;
    let kv = store.kv(BucketSpec::default()).await;
    let value = Bytes::from(vec![b'x'; 256 << 10]);
    let mut stored = 0;
    let refused = loop {
        let text = key(format!("k{stored}"));
        match timeout(AT_LAST, kv.put(&text, value.clone(), PutOpts::new())).await.unwrap() {
            Ok(_) => stored += 1,
            Err(refused) => break refused,
        }
        assert!(stored < 64, "4 MB hold {stored} values of 256 KiB");
    };
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{refused:?}");
    assert!(refused.hint_text().is_some_and(|hint| hint.contains("free space")), "{refused:?}");
    for n in 0..stored {
        let entry = kv.get(&key(format!("k{n}")), Read::Fresh).await.unwrap().unwrap();
        assert_eq!(entry.value, value, "what was acknowledged is there");
    }
    assert_eq!(kv.purge(Scope::All).await.unwrap(), stored);
    assert_eq!(kv.delete(&key("k0"), DeleteOpts::new()).await.unwrap(), None);
    eventually("there is room again", SOON, async || {
        kv.put(&key("again"), value.clone(), PutOpts::new()).await.ok()
    })
    .await;
    let info = ask(&store.backend, "$JS.API.STREAM.INFO.KV_b", json!(null)).await;
    assert_eq!(info["state"]["messages"], 1, "{info}");
    store.close().await;
}
