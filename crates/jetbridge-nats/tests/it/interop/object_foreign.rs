//! Objects that other clients write and we read, in whatever pieces they come.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use jetbridge_core::{Digest, ErrorKind, Objects, Scope};
use jetbridge_testkit::Release;
use serde_json::json;

use super::base64;
use super::object::{both, name, of, open, put, read_ours, read_theirs, sample, store_ours};
use crate::store::Store;

jetbridge_testkit::on_every_server!(
    theirs_are_read_whole_and_in_part,
    their_links_are_followed,
    irregular_chunks_are_read,
    a_digest_that_does_not_match_is_corrupt,
);

async fn part(objects: &dyn Objects, text: &str, from: usize, to: usize) -> Vec<u8> {
    let range = u64::try_from(from).unwrap()..u64::try_from(to).unwrap();
    let found = objects.get(&name(text), Some(range)).await.unwrap().unwrap();
    found.body.try_collect::<Vec<Bytes>>().await.unwrap().concat()
}

/// Every kind of range that `data` has.
async fn parts_are_right(objects: &dyn Objects, text: &str, data: &[u8]) {
    let end = data.len();
    for from in [0, 1, end / 3, end / 2, end.saturating_sub(1), end] {
        for to in [from, from + 1, from + 700, end] {
            let (from, to) = (from.min(end), to.min(end));
            assert!(part(objects, text, from, to).await == data[from..to], "{text} {from}..{to}");
        }
    }
}

async fn theirs_are_read_whole_and_in_part(release: Release) {
    let (store, objects, mut go) = both(release).await;
    for (size, chunk_bytes) in
        [(0, 0), (0, 7), (1, 0), (2000, 7), (5000, 999), (999, 999), (1998, 999), (400_000, 0)]
    {
        let data = sample(size);
        let text = format!("of {size} bytes/ü.{chunk_bytes}*>");
        let mut request = put(&text, &data);
        request["chunk_bytes"] = chunk_bytes.into();
        request["description"] = "What it is".into();
        request["headers"] = json!({"x-lower": ["1", "2"], "Accept": ["*/*"]});
        request["metadata"] = json!({"owner": "go"});
        let theirs = go.does(request).await;
        assert!(read_ours(&*objects, &text).await.unwrap() == data, "{text}");
        parts_are_right(&*objects, &text, &data).await;
        let info = objects.info(&name(&text)).await.unwrap().unwrap();
        assert_eq!(theirs["chunks"], info.chunks);
        assert_eq!(theirs["digest"], info.digest.unwrap().to_string());
        assert_eq!((info.digest, info.size), (Some(Digest::of(&data)), size as u64));
        assert_eq!(info.description.as_deref(), Some("What it is"));
        let headers: Vec<_> = info.headers.iter().collect();
        assert_eq!(headers, [("Accept", "*/*"), ("x-lower", "1"), ("x-lower", "2")]);
        assert!(info.modified > std::time::UNIX_EPOCH);
    }
    let listed: Vec<_> = objects.list(Scope::All).try_collect().await.unwrap();
    assert_eq!(listed.len(), 8);
    store.close().await;
}

async fn their_links_are_followed(release: Release) {
    let (store, objects, mut go) = both(release).await;
    let other = open(&store, "other").await;
    store_ours(&*other, "a target", &sample(5000)).await;
    go.does(json!({"op": "object_link", "bucket": "b", "name": "link", "to_bucket": "other",
        "key": "a target"}))
        .await;
    go.does(json!({"op": "object_link_bucket", "bucket": "b", "name": "all",
        "to_bucket": "other"}))
        .await;
    assert!(read_ours(&*objects, "link").await.unwrap() == sample(5000));
    assert_eq!(part(&*objects, "link", 10, 20).await, sample(20)[10..]);
    let link = objects.info(&name("link")).await.unwrap().unwrap().link.unwrap();
    assert_eq!((link.bucket.as_str(), link.name), ("other", Some(name("a target"))));
    let all = objects.info(&name("all")).await.unwrap().unwrap().link.unwrap();
    assert_eq!((all.bucket.as_str(), all.name), ("other", None));
    let whole = objects.get(&name("all"), None).await.unwrap_err();
    assert_eq!(whole.kind(), ErrorKind::InvalidInput);
    store.close().await;
}

/// Writes an object message by message, as clients do that send whatever one read gave them.
async fn write_in_pieces(store: &Store, text: &str, pieces: &[&[u8]], digest: Digest) {
    let client = store.backend.client();
    for piece in pieces {
        let chunk = Bytes::copy_from_slice(piece);
        client.request(format!("$O.b.C.{text}NUID"), chunk).await.unwrap();
    }
    let size: usize = pieces.iter().map(|piece| piece.len()).sum();
    let meta = json!({"name": text, "options": {"max_chunk_size": 131_072}, "bucket": "b",
        "nuid": format!("{text}NUID"), "size": size, "chunks": pieces.len(),
        "mtime": "2024-01-01T00:00:00Z", "digest": digest.to_string()});
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    // The meta's name is base64url, which for this one is the same as base64.
    let subject = format!("$O.b.M.{}", base64(text));
    let meta = Bytes::from(meta.to_string());
    client.request_with_headers(subject, headers, meta).await.unwrap();
}

async fn irregular_chunks_are_read(release: Release) {
    let (store, objects, mut go) = both(release).await;
    let data = sample(9000);
    let cuts = [0, 1, 1449, 1450, 1450 + 1448, 4000, 4003, 9000];
    let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &data[cut[0]..cut[1]]).collect();
    write_in_pieces(&store, "odd", &pieces, Digest::of(&data)).await;
    assert!(read_ours(&*objects, "odd").await.unwrap() == data);
    parts_are_right(&*objects, "odd", &data).await;
    assert!(read_theirs(&mut go, "odd").await == data);
    store_ours(&*objects, "odd", b"replaced").await;
    assert_eq!(read_theirs(&mut go, "odd").await, b"replaced");
    assert_eq!(objects.sweep(std::time::Duration::ZERO).await.unwrap(), 0, "no orphans");
    store.close().await;
}

async fn a_digest_that_does_not_match_is_corrupt(release: Release) {
    let (store, objects, mut go) = both(release).await;
    write_in_pieces(&store, "bad", &[b"one", b"two"], Digest::of(b"another")).await;
    let found = objects.get(&name("bad"), None).await.unwrap().unwrap();
    let error = found.body.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(go.fails(of("object_get", "bad")).await.contains("digest"));
    store.close().await;
}
