//! Objects: whole, in ranges, and not at all.

use std::sync::Arc;

use jetbridge_core::{Backend, BucketName, BucketSpec, Link, MemoryBackend, ObjectName, Open};
use jetbridge_testkit::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Served, on_every_store};
use crate::rig::WITHIN;

on_every_store!(objects_come_whole_and_in_ranges, half_an_upload_is_refused_and_not_stored);

async fn objects_come_whole_and_in_ranges(backend: Arc<dyn Backend>) {
    let served = Served::start(backend, ", max_object: 2000000").await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let head = "Content-Type: text/html\r\nIf-None-Match: *\r\n";
    let put = served.ask("PUT", "/v1/objects/o/a/b", head, &bytes).await;
    assert_eq!((put.status, &put.json()["size"]), (200, &json!(1_000_000)));
    let etag = put.header("etag").unwrap().to_owned();
    assert_eq!(served.ask("PUT", "/v1/objects/o/a/b", head, b"x").await.status, 412);

    let whole = served.ask("GET", "/v1/objects/o/a/b", "", b"").await;
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    assert_eq!(whole.header("content-length"), Some("1000000"));
    assert_eq!(whole.header("content-type"), Some("text/html"));
    assert!(whole.header("content-security-policy").unwrap().contains("sandbox"));
    assert!(whole.header("repr-digest").unwrap().starts_with("sha-256=:"));
    for (range, status, part) in [
        ("bytes=10-19", 206, &bytes[10..20]),
        ("bytes=999999-", 206, &bytes[999_999..]),
        ("bytes=-5", 206, &bytes[999_995..]),
        ("bytes=0-1,4-5", 200, &bytes[..]),
    ] {
        let head = format!("Range: {range}\r\nIf-Range: {etag}\r\n");
        let got = served.ask("GET", "/v1/objects/o/a/b", &head, b"").await;
        assert_eq!((got.status, got.body == part), (status, true), "{range}");
    }
    let beyond = served.ask("GET", "/v1/objects/o/a/b", "Range: bytes=1000000-\r\n", b"").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */1000000")));
    let other = "Range: bytes=0-1\r\nIf-Range: \"0\"\r\n";
    assert_eq!(served.ask("GET", "/v1/objects/o/a/b", other, b"").await.status, 200);
    let known = format!("If-None-Match: {etag}\r\n");
    assert_eq!(served.ask("GET", "/v1/objects/o/a/b", &known, b"").await.status, 304);
    let described = served.ask("HEAD", "/v1/objects/o/a/b", "", b"").await;
    assert_eq!((described.status, described.body.len()), (200, 0));

    let list = served.ask("GET", "/v1/objects/o?prefix=a/", "", b"").await.json();
    assert_eq!((&list["objects"][0]["name"], &list["more"]), (&json!("a/b"), &json!(false)));
    let large = vec![0; 2_000_001];
    assert_eq!(served.ask("PUT", "/v1/objects/o/large", "", &large).await.status, 413);
    assert_eq!(served.ask("GET", "/v1/objects/o/large", "", b"").await.status, 404);
    assert_eq!(
        served.ask("DELETE", "/v1/objects/o/a/b", "If-Match: \"0\"\r\n", b"").await.status,
        412
    );
    let over = format!("If-Match: {etag}\r\n");
    assert_eq!(served.ask("DELETE", "/v1/objects/o/a/b", &over, b"").await.status, 204);
    assert_eq!(served.ask("GET", "/v1/objects/o/a/b", "", b"").await.status, 404);
    assert!(served.rig.stop().await.0.is_clean());
}

async fn half_an_upload_is_refused_and_not_stored(backend: Arc<dyn Backend>) {
    let served = Served::start(Arc::clone(&backend), "").await;
    assert_eq!(served.ask("PUT", "/v1/objects/o/half", "", b"before").await.status, 200);
    for length in ["Content-Length: 400000", "Transfer-Encoding: chunked"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head =
            format!("PUT /v1/objects/o/half HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        if length.ends_with("chunked") {
            stream.write_all(b"30D40\r\n").await.unwrap();
        }
        stream.write_all(&[b'x'; 200_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(WITHIN, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"hint\""), "{answer}");
        let kept = served.ask("GET", "/v1/objects/o/half", "", b"").await;
        assert_eq!((kept.status, &*kept.body), (200, &b"before"[..]));
    }
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let served = Served::start(Arc::new(MemoryBackend::new()), "").await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = "PUT /v1/objects/o/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b'x'; 500]).await.unwrap();
    drop(stream);
    let good = served.ask("PUT", "/v1/objects/o/whole", "", b"x").await;
    assert_eq!(good.status, 200);
    eventually("only the whole one", WITHIN, async || {
        let list = served.ask("GET", "/v1/objects/o", "", b"").await.json();
        (list["objects"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    assert_eq!(served.ask("GET", "/v1/objects/o/half", "", b"").await.status, 404);
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_does_not_lead_out_of_what_is_granted() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let served = Served::start(Arc::clone(&backend), "").await;
    let bucket = BucketName::parse("o").unwrap();
    let objects = backend.objects(&bucket, Open::existing()).await.unwrap();
    let name = |text| ObjectName::parse(text).unwrap();
    let private = BucketName::parse("private").unwrap();
    backend.objects(&private, Open::ensure(BucketSpec::default())).await.unwrap();
    let target = Link::object(private, name("secret"));
    objects.link(&name("out"), target).await.unwrap();
    assert_eq!(served.ask("GET", "/v1/objects/o/out", "", b"").await.status, 403);
    assert!(served.rig.stop().await.0.is_clean());
}
