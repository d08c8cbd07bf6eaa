//! Clients that are slow, gone or encrypted.

use std::sync::Arc;

use jetbridge_core::MemoryBackend;
use jetbridge_testkit::certs::Certificates;
use jetbridge_testkit::fault::{Fault, Faults};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Served;
use crate::rig::{Rig, WITHIN};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_in_mid_request_keeps_nobody_from_stopping() {
    let served = Served::start(Arc::new(MemoryBackend::new()), "").await;
    let mut slow = Vec::new();
    for part in [
        "G",
        "GET /healthz HTTP/1.1\r\nHost: ",
        "PUT /v1/kv/b/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // Nobody waits for them.
    assert_eq!(served.ask("PUT", "/v1/kv/b/k", "", b"x").await.status, 200);
    let report = served.rig.stop().await.0;
    assert!(report.is_clean(), "{report:?}");
    for mut stream in slow {
        let mut rest = Vec::new();
        // The end, or a reset: either way it is over.
        let ended = timeout(WITHIN, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_too_long_is_given_up() {
    let served = Served::start(Arc::new(MemoryBackend::new()), ", timeout: 100ms").await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = "PUT /v1/kv/b/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(WITHIN, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    // What has not come yet is not written: that much is known.
    assert_eq!(&answer, b"HTTP/1.1 408");
    let mut rest = String::new();
    timeout(WITHIN, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("nothing was done with it") && !rest.contains("outcome"), "{rest}");
    assert_eq!(served.ask("GET", "/v1/kv/b/k", "", b"").await.status, 404);
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_too_long_may_have_written() {
    let faults = Faults::script([(0, Fault::Delay(WITHIN * 10))]).only(&["kv.put"]);
    let store = faults.around(Arc::new(MemoryBackend::new()));
    let served = Served::start(store, ", timeout: 100ms").await;
    let answer = served.ask("PUT", "/v1/kv/b/k", "", b"x").await;
    assert_eq!((answer.status, &answer.json()["outcome"]), (504, &json!("unknown")), "{answer:?}");
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_acknowledgement_is_lost_is_no_failure() {
    let faults = Faults::script([(0, Fault::AckLost)]).only(&["kv.put"]);
    let served = Served::start(faults.around(Arc::new(MemoryBackend::new())), "").await;
    let answer = served.ask("PUT", "/v1/kv/b/k", "", b"x").await;
    assert_eq!((answer.status, answer.header("retry-after")), (504, None), "{answer:?}");
    let refusal = answer.json();
    assert_eq!((&refusal["outcome"], &refusal["kind"]), (&json!("unknown"), &json!("unavailable")));
    assert_eq!(served.ask("GET", "/v1/kv/b/k", "", b"").await.body, b"x", "it was written");
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_with_the_file_s_certificate() {
    let certificates = Certificates::new();
    let folder = certificates.dir().display();
    let text = format!(
        "http: {{listen: '127.0.0.1:0', tls: {{cert: {folder}/server.pem, \
         key: {folder}/server-key.pem}}}}"
    );
    let rig = Rig::start(&text).await;
    let address = rig.agent.http_address().unwrap();
    // One that only begins to agree stands in nobody's way.
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificates.ca_pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
    // Who does not speak TLS is not answered in the clear.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(WITHIN, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(ended.is_err() || !answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(rig.agent.http_url(), Some(format!("https://{address}")));
    assert!(rig.stop().await.0.is_clean());
}
