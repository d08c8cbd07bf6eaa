//! A server that dies, or stands still, while requests are under way: each is answered with what
//! is known of it, and nothing that was acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jetbridge::nats::{ConnectOptions, NatsBackend};
use jetbridge_core::Backend;
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Ask, Served, ask};
use crate::rig::WITHIN;

/// Who write at once.
const WRITERS: usize = 8;
/// Writes that are to be acknowledged before and after the outage, by all of them.
const ENOUGH: usize = 100;

async fn connect(server: &NatsServer) -> Arc<dyn Backend> {
    let mut options = ConnectOptions::default();
    options.servers = vec![server.url()];
    Arc::new(NatsBackend::connect(&options).await.unwrap())
}

/// What one writer was told: keys that were acknowledged, and other answers.
#[derive(Debug, Default)]
struct Told {
    acknowledged: Vec<String>,
    refused: Vec<(u16, Option<String>)>,
}

/// Writes one key after the other until it is over.
async fn write(address: std::net::SocketAddr, name: usize, over: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{name}/{number}");
        let path = format!("/v1/kv/b/{key}");
        let asked =
            ask(address, Ask { method: "PUT", path: &path, head: "", body: key.as_bytes() });
        let answer = timeout(WITHIN, asked).await.expect("every request is answered");
        match answer.status {
            200 => told.acknowledged.push(key),
            status => {
                let outcome = answer.json()["outcome"].as_str().map(str::to_owned);
                told.refused.push((status, outcome));
            }
        }
    }
    told
}

/// Waits until so many more messages are in the bucket: the writers get on.
async fn more(backend: &Arc<dyn Backend>) {
    let kind = jetbridge_core::BucketKind::Kv;
    let name = jetbridge_core::BucketName::parse("b").unwrap();
    let messages = async || Some(backend.bucket(kind, &name).await.ok()?.messages);
    let before = eventually("the bucket can be seen", WITHIN, messages).await;
    eventually("more is written", WITHIN, async || {
        (messages().await? >= before + ENOUGH as u64).then_some(())
    })
    .await;
}

async fn nothing_acknowledged_is_lost(outage: impl AsyncFnOnce(&NatsServer)) {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let backend = connect(&server).await;
    let served = Served::start(Arc::clone(&backend), ", timeout: 2s").await;
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for name in 0..WRITERS {
        writers.spawn(write(served.address, name, Arc::clone(&over)));
    }
    more(&backend).await;
    outage(&server).await;
    more(&backend).await;
    over.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    while let Some(told) = writers.join_next().await {
        let told = told.unwrap();
        for (status, outcome) in &told.refused {
            // Either it was not done, or nobody knows: never anything else.
            let is_unknown = outcome.as_deref() == Some("unknown");
            assert!(matches!((status, is_unknown), (503 | 504, false) | (504, true)), "{told:?}");
        }
        for key in &told.acknowledged {
            let answer = served.ask("GET", &format!("/v1/kv/b/{key}"), "", b"").await;
            assert_eq!((answer.status, &*answer.body), (200, key.as_bytes()), "{key}");
        }
        acknowledged += told.acknowledged.len();
    }
    assert!(acknowledged >= ENOUGH, "{acknowledged}");
    assert!(served.rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing_acknowledged() {
    nothing_acknowledged_is_lost(async |server| {
        server.kill();
        server.restart().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_loses_nothing_acknowledged() {
    nothing_acknowledged_is_lost(async |server| {
        server.pause().await;
        // Longer than a request has: all that are under way are answered without the server.
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.resume();
    })
    .await;
}
