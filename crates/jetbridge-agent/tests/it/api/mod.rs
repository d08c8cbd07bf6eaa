//! The HTTP API: a client for it, and what it answers on every store.

mod access;
mod connections;
mod document;
mod kv;
mod messages;
mod objects;
mod outage;

use std::net::SocketAddr;
use std::sync::Arc;

use jetbridge::nats::{ConnectOptions, NatsBackend};
use jetbridge_core::Backend;
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::rig::{Rig, WITHIN};

/// Each case as a test on every store.
macro_rules! on_every_store {
    ($($case:ident),*) => {
        mod memory {
            use std::sync::Arc;

            use jetbridge_core::MemoryBackend;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(Arc::new(MemoryBackend::new())).await;
            })*
        }
        mod local {
            use std::sync::Arc;

            use jetbridge::local::{LocalBackend, LocalOptions};

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("store");
                let store = LocalBackend::open(&path, LocalOptions::default()).await.unwrap();
                super::$case(Arc::new(store)).await;
            })*
        }
        mod nats_2_9_25 {
            use jetbridge_testkit::Release;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::api::on_nats(Release::Oldest, super::$case).await;
            })*
        }
        mod nats_2_15_2 {
            use jetbridge_testkit::Release;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::api::on_nats(Release::Newest, super::$case).await;
            })*
        }
    };
}

pub(crate) use on_every_store;

/// What is asked.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Header lines, each with its end.
    pub(crate) head: &'a str,
    pub(crate) body: &'a [u8],
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) async fn ask(address: SocketAddr, ask: Ask<'_>) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{} {} HTTP/1.1\r\n{}Connection: close\r\nContent-Length: {}\r\n{}\r\n",
        ask.method,
        ask.path,
        if ask.head.contains("Host: ") { "" } else { "Host: localhost\r\n" },
        ask.body.len(),
        ask.head
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(ask.body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

/// A server that answers about the bucket `b`.
pub(crate) struct Served {
    pub(crate) rig: Rig,
    pub(crate) address: SocketAddr,
}

impl Served {
    pub(crate) async fn start(backend: Arc<dyn Backend>, http: &str) -> Self {
        let text = format!(
            "http: {{listen: '127.0.0.1:0'{http}}}\n\
             buckets: {{b: {{history: 5}}, seen: {{http: read}}, own: {{http: none}}, o: {{kind: object}}}}"
        );
        let rig = Rig::start_on(backend, tempfile::tempdir().unwrap(), &text).await;
        let address = rig.agent.http_address().unwrap();
        let served = Self { rig, address };
        eventually("everything runs", WITHIN, async || {
            (served.ask("GET", "/readyz", "", b"").await.status == 200).then_some(())
        })
        .await;
        served
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, head: &str, body: &[u8]) -> Answer {
        ask(self.address, Ask { method, path, head, body }).await
    }

    pub(crate) async fn events(&self, path: &str, head: &str) -> Events {
        Events::of(self.address, path, head).await
    }
}

/// Events as they come.
pub(crate) struct Events(BufReader<TcpStream>);

#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Events {
    pub(crate) async fn of(address: SocketAddr, path: &str, head: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    /// Reads the first line of the answer.
    pub(crate) async fn has_status(&mut self, status: u16) -> bool {
        let mut line = String::new();
        timeout(WITHIN, self.0.read_line(&mut line)).await.unwrap().unwrap();
        line.starts_with(&format!("HTTP/1.1 {status} "))
    }

    /// The next event, or nothing behind the last.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            let read = timeout(WITHIN, self.0.read_line(&mut line)).await.unwrap().unwrap();
            if read == 0 {
                return None;
            }
            match line.trim_end().split_once(':') {
                Some(("event", name)) => event.name = name.trim().to_owned(),
                Some(("id", id)) => event.id = Some(id.trim().to_owned()),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                None if line.trim().is_empty() && !event.name.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// Waits for the head of the answer, and the comment that it begins with.
    pub(crate) async fn begun(&mut self) {
        let mut line = String::new();
        while !line.starts_with(':') {
            line.clear();
            let read = timeout(WITHIN, self.0.read_line(&mut line)).await.unwrap().unwrap();
            assert_ne!(read, 0, "the answer ended");
        }
    }

    pub(crate) async fn named(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("an event");
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

pub(crate) async fn on_nats<F: Future<Output = ()>>(
    release: Release,
    case: fn(Arc<dyn Backend>) -> F,
) {
    let server = NatsServer::start(release, ServerOptions::default()).await;
    let mut options = ConnectOptions::default();
    options.servers = vec![server.url()];
    case(Arc::new(NatsBackend::connect(&options).await.unwrap())).await;
}
