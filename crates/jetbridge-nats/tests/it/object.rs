//! Objects: what the stream looks like before and after, which the contract cannot see.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use jetbridge_core::{
    Backend as _, Body, BucketName, BucketSpec, DeleteOpts, ErrorKind, ObjectName, ObjectPut,
    Objects, Open, Result, Scope, StreamName,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{Release, ServerOptions, eventually};

use crate::store::{GRACE, Store, options};

const CHUNK: usize = 128 * 1024;

async fn objects(store: &Store) -> Arc<dyn Objects> {
    let config = r#"{"name":"OBJ_b","subjects":["$O.b.C.>","$O.b.M.>"],"discard":"new",
        "allow_rollup_hdrs":true,"allow_direct":true,"storage":"file","num_replicas":1}"#;
    let made = store.backend.client().request("$JS.API.STREAM.CREATE.OBJ_b", config.into()).await;
    assert!(!String::from_utf8_lossy(&made.unwrap().payload).contains("\"error\""));
    let bucket = BucketName::parse("b").unwrap();
    store.backend.objects(&bucket, Open::existing()).await.unwrap()
}

fn name(raw: &str) -> ObjectName {
    ObjectName::parse(raw).unwrap()
}

/// Bytes that differ from chunk to chunk.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 7 + at / CHUNK + seed) % 251).unwrap()).collect()
}

fn body(bytes: &[u8], piece: usize) -> Body {
    let pieces: Vec<Result<Bytes>> =
        bytes.chunks(piece.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures_util::stream::iter(pieces).boxed()
}

async fn read(objects: &dyn Objects, raw: &str, range: Option<std::ops::Range<u64>>) -> Vec<u8> {
    let object = objects.get(&name(raw), range).await.unwrap().unwrap();
    let pieces: Vec<_> = object.body.map(|piece| piece.unwrap()).collect().await;
    pieces.concat()
}

async fn state(store: &Store) -> (u64, u64) {
    let info = store.backend.bus().stream(&StreamName::parse("OBJ_b").unwrap()).await.unwrap();
    (info.messages, info.consumers)
}

async fn what_is_read_again_is_what_is_there_now(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    let put = async |content: Vec<u8>| {
        objects.put(&name("a"), body(&content, CHUNK), ObjectPut::new()).await.unwrap();
        content
    };
    for content in [bytes(9, 0), bytes(9, 1), bytes(CHUNK + 1, 2), bytes(0, 3), bytes(9, 4)] {
        let content = put(content).await;
        for _again in 0..2 {
            assert_eq!(read(&*objects, "a", None).await, content);
        }
    }
    objects.delete(&name("a"), DeleteOpts::new()).await.unwrap();
    assert!(objects.get(&name("a"), None).await.unwrap().is_none());
    store.close().await;
}

async fn a_get_of_many_chunks_brings_them_in_order_whoever_wrote_in_between(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    let content = bytes(100 * 1000 + 1, 0);
    let small = ObjectPut::new().chunk_bytes(1000);
    objects.put(&name("alone"), body(&content, CHUNK), small.clone()).await.unwrap();
    let (l, r) = (name("l"), name("r"));
    let (one, other) = tokio::join!(
        objects.put(&l, body(&content, 1000), small.clone()),
        objects.put(&r, body(&content, 1000), small.clone()),
    );
    assert!(one.is_ok() && other.is_ok());
    for raw in ["alone", "l", "r"] {
        assert_eq!(read(&*objects, raw, None).await, content, "{raw}");
        assert_eq!(read(&*objects, raw, Some(2500..2501)).await, content[2500..2501], "{raw}");
        assert_eq!(read(&*objects, raw, Some(999..99_000)).await, content[999..99_000], "{raw}");
    }
    store.close().await;
}

async fn what_was_put_is_read_in_whole_and_in_part(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 17] {
        let content = bytes(len, 0);
        let info = objects.put(&name("a"), body(&content, 1448), ObjectPut::new()).await.unwrap();
        assert_eq!(info.size, len as u64);
        assert_eq!(info.chunks, len.div_ceil(CHUNK) as u64);
        assert_eq!(read(&*objects, "a", None).await, content, "{len}");
        let messages = 1 + len.div_ceil(CHUNK) as u64;
        assert_eq!(state(&store).await.0, messages, "nothing of the earlier object is left");
    }
    // Two uploads at once, so that the chunks of neither lie side by side.
    let (left, right) = (bytes(9 * CHUNK, 1), bytes(9 * CHUNK + 5, 2));
    let (l, r) = (name("l"), name("r"));
    let (a, b) = tokio::join!(
        objects.put(&l, body(&left, CHUNK), ObjectPut::new()),
        objects.put(&r, body(&right, CHUNK), ObjectPut::new()),
    );
    assert!(a.is_ok() && b.is_ok());
    for (raw, content) in [("l", &left), ("r", &right)] {
        for range in [0..1, 0..content.len(), CHUNK - 1..CHUNK + 1, 5 * CHUNK..content.len()] {
            let wanted = range.start as u64..range.end as u64;
            assert_eq!(read(&*objects, raw, Some(wanted)).await, content[range.clone()]);
        }
    }
    eventually("no consumer is left", Duration::from_secs(20), async || {
        (state(&store).await.1 == 0).then_some(())
    })
    .await;
    store.close().await;
}

async fn what_comes_to_nothing_leaves_nothing(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    let content = bytes(30 * CHUNK, 0);
    // A body that fails.
    let broken = futures_util::stream::iter([
        Ok(Bytes::from(content.clone())),
        Err(jetbridge_core::Error::new(ErrorKind::Internal, "test.body")),
    ]);
    let error = objects.put(&name("a"), broken.boxed(), ObjectPut::new()).await.unwrap_err();
    assert_eq!(error.operation(), "test.body");
    assert_eq!(state(&store).await.0, 0);
    // A put that is dropped while its body still comes.
    let (pulled, mut progress) = tokio::sync::watch::channel(0_usize);
    let endless = futures_util::stream::repeat_with(move || {
        pulled.send_modify(|pieces| *pieces += 1);
        Ok(Bytes::from(vec![7; CHUNK]))
    });
    let a = name("a");
    tokio::select! {
        put = objects.put(&a, endless.boxed(), ObjectPut::new()) => panic!("{put:?}"),
        seen = progress.wait_for(|pieces| *pieces > 200) => drop(seen.unwrap()),
    }
    eventually("the chunks are removed", Duration::from_secs(20), async || {
        (state(&store).await.0 == 0).then_some(())
    })
    .await;
    // Eight writers of one name: one object is left, and the chunks of one.
    let puts = (0..8).map(|seed| {
        let objects = Arc::clone(&objects);
        async move {
            objects.put(&name("a"), body(&bytes(3 * CHUNK, seed), CHUNK), ObjectPut::new()).await
        }
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    assert_eq!(state(&store).await.0, 4);
    assert!(objects.delete(&name("a"), DeleteOpts::new()).await.unwrap().is_some());
    eventually("not even a tombstone is left", Duration::from_secs(30), async || {
        (state(&store).await.0 == 0).then_some(())
    })
    .await;
    store.close().await;
}

async fn an_object_replaced_in_mid_read_is_a_conflict(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    let content = bytes(400 * CHUNK, 0);
    objects.put(&name("a"), body(&content, CHUNK), ObjectPut::new()).await.unwrap();
    let mut object = objects.get(&name("a"), None).await.unwrap().unwrap();
    let first = object.body.next().await.unwrap().unwrap();
    assert_eq!(first, content[..first.len()]);
    objects.put(&name("a"), body(b"new", 1), ObjectPut::new()).await.unwrap();
    let rest: Vec<_> = object.body.collect().await;
    let error = rest.into_iter().find_map(Result::err).expect("it cannot end well");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(read(&*objects, "a", None).await, b"new");
    store.close().await;
}

async fn a_killed_upload_is_swept(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    objects.put(&name("kept"), body(&bytes(3 * CHUNK, 0), CHUNK), ObjectPut::new()).await.unwrap();
    // What a client leaves that dies in mid-upload.
    let client = store.backend.client();
    for _ in 0..3 {
        client.request("$O.b.C.ORPHAN", Bytes::from(vec![1; CHUNK])).await.unwrap();
    }
    assert_eq!(objects.sweep(Duration::from_secs(3600)).await.unwrap(), 0, "it may be under way");
    let freed = objects.sweep(Duration::ZERO).await.unwrap();
    assert!(freed >= 3 * CHUNK as u64, "{freed}");
    assert_eq!(state(&store).await.0, 4);
    assert_eq!(read(&*objects, "kept", None).await, bytes(3 * CHUNK, 0));
    store.close().await;
}

async fn a_foreign_meta_touches_no_other_object(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    let content = bytes(3 * CHUNK, 0);
    objects.put(&name("a"), body(&content, CHUNK), ObjectPut::new()).await.unwrap();
    for (nuid, chunks) in [("*", 3), (">", 3), ("", 3), ("x.y", u64::MAX)] {
        let meta = format!(
            r#"{{"name":"b","bucket":"b","nuid":"{nuid}","size":{chunks},"chunks":{chunks},
            "options":{{"max_chunk_size":1}}}}"#
        );
        let client = store.backend.client();
        client.request("$O.b.M.Yg==", meta.into()).await.unwrap();
        let error = objects.get(&name("b"), Some(1..2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{nuid:?}: {error}");
        objects.delete(&name("b"), DeleteOpts::new()).await.unwrap();
        assert_eq!(read(&*objects, "a", None).await, content, "{nuid:?}");
    }
    store.close().await;
}

async fn a_foreign_meta_that_is_unreadable_hides_no_object(release: Release) {
    let store = Store::start(release).await;
    let objects = objects(&store).await;
    for raw in ["a", "z"] {
        objects.put(&name(raw), body(b"1", 1), ObjectPut::new()).await.unwrap();
    }
    for meta in ["{", "null", "[]", r#"{"name":""}"#, r#"{"name":"m","digest":"MD5=x"}"#] {
        store.backend.client().request("$O.b.M.bQ==", meta.into()).await.unwrap();
        let listed: Vec<_> = objects.list(Scope::All).collect().await;
        let listed: Vec<_> = listed.into_iter().map(|info| info.unwrap().name).collect();
        assert_eq!(listed, [name("a"), name("z")], "{meta}");
        let error = objects.info(&name("m")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{meta}: {error:?}");
    }
    store.close().await;
}

async fn through_a_domain_objects_work_or_are_refused(release: Release) {
    let store = Store::start_with(release, ServerOptions::new().domain("hub")).await;
    let bucket = BucketName::parse("b").unwrap();
    let through = async |domain: &str| {
        let mut options = options(&store.server.url());
        options.domain = Some(domain.to_owned());
        NatsBackend::connect(&options).await.unwrap()
    };
    let near = through("hub").await;
    let objects = near.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
    let content = bytes(2 * CHUNK + 1, 0);
    objects.put(&name("a"), body(&content, CHUNK), ObjectPut::new()).await.unwrap();
    assert_eq!(read(&*objects, "a", None).await, content);
    let far = through("leaf").await;
    let refused = far.objects(&bucket, Open::existing()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    assert!(refused.hint_text().is_some());
    for backend in [near, far] {
        assert!(backend.close(GRACE).await.is_clean());
    }
    store.close().await;
}

jetbridge_testkit::on_every_server!(
    a_foreign_meta_that_is_unreadable_hides_no_object,
    through_a_domain_objects_work_or_are_refused,
    what_was_put_is_read_in_whole_and_in_part,
    what_is_read_again_is_what_is_there_now,
    a_get_of_many_chunks_brings_them_in_order_whoever_wrote_in_between,
    what_comes_to_nothing_leaves_nothing,
    a_foreign_meta_touches_no_other_object,
    an_object_replaced_in_mid_read_is_a_conflict,
    a_killed_upload_is_swept,
);
