//! Hosts that each have a connection of their own, while acknowledgements are lost and servers
//! die: what guests count stays exact, and what they wrote they read.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{BucketName, BucketSpec, Tasks};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{AckLoss, NatsServer, Proxy, Release, ServerOptions, eventually};
use jetbridge_wasi::{Link, Stores};
use wasmtime::component::Val;

use crate::guest::*;

/// How long a host waits for an acknowledgement that was lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it waits where none is lost, but all hosts share two processors.
const PATIENCE_IN_CROWDS: Duration = Duration::from_secs(10);
/// One acknowledgement of ten.
const ACKS_LOST: AckLoss = AckLoss::Seeded { seed: 11, per_mille: 100 };

/// The stores of a host with a connection of its own.
async fn host(url: &str, spec: &BucketSpec) -> Stores {
    // A cluster elects a leader for a new bucket before it answers.
    let patience = if spec.replicas > 1 { PATIENCE_IN_CROWDS } else { PATIENCE };
    patient_host(url, spec, patience).await
}

async fn patient_host(url: &str, spec: &BucketSpec, patience: Duration) -> Stores {
    let mut options = ConnectOptions::default();
    options.servers = url.split(',').map(str::to_owned).collect();
    options.request_timeout = patience;
    let backend = Arc::new(NatsBackend::connect(&options).await.unwrap());
    let stores = Stores::new();
    let bucket = BucketName::parse("hosts").unwrap();
    stores.add("", Link::new(backend, bucket).create(spec.clone()));
    stores
}

/// Lets `hosts` guests add 1 to `n` `steps` times each, and returns the answers.
async fn count(url: &str, (hosts, steps): (usize, usize), patience: Duration) -> Vec<i64> {
    let tasks = Tasks::new();
    let (sums, mut received) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..hosts {
        let stores = patient_host(url, &BucketSpec::default(), patience).await;
        let sums = sums.clone();
        tasks.spawn(async move {
            let mut guest = Guest::new(DRAFT2, &stores).await;
            let b = guest.open("").await;
            for _ in 0..steps {
                let step = [b.clone(), string("n"), Val::S64(1)];
                sums.send(guest.call("increment", &step).await).unwrap();
            }
        });
    }
    drop(sums);
    let mut answers = Vec::new();
    while let Some(answer) = received.recv().await {
        match answer {
            Ok(Val::S64(sum)) => answers.push(sum),
            other => panic!("{other:?}"),
        }
    }
    answers.sort_unstable();
    answers
}

async fn lost_acknowledgements_are_not_counted_twice(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let proxy = Proxy::start(server.address()).await;
    // The bucket is made before anything is lost.
    let stores = host(&proxy.url(), &BucketSpec::default()).await;
    Guest::new(DRAFT2, &stores).await.open("").await;
    proxy.lose_acks(ACKS_LOST);
    let answers = count(&proxy.url(), (4, 20), PATIENCE).await;
    assert!(proxy.acks_lost() > 0, "nothing was lost");
    assert_eq!(answers, (1..=80).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_acknowledgements_are_not_counted_twice_2_9_25() {
    lost_acknowledgements_are_not_counted_twice(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_acknowledgements_are_not_counted_twice_2_15_2() {
    lost_acknowledgements_are_not_counted_twice(Release::Newest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_hosts_count_to_800() {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let answers = count(&server.url(), (32, 25), PATIENCE_IN_CROWDS).await;
    assert_eq!(answers, (1..=800).collect::<Vec<_>>());
}

/// Each waits for one attempt at most, however many ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guests_hear_of_an_outage_together() {
    const GUESTS: usize = 32;
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let stores = host(&server.url(), &BucketSpec::default()).await;
    server.kill();
    let begun = std::time::Instant::now();
    let opens = (0..GUESTS).map(|_| async {
        let mut guest = Guest::new(DRAFT2, &stores).await;
        guest.call("open", &[string("")]).await
    });
    for opened in futures_util::future::join_all(opens).await {
        opened.unwrap_err();
    }
    let waited = begun.elapsed();
    assert!(waited < PATIENCE * 8, "one after the other they took {waited:?}");
    server.restart().await;
    let opened = eventually("it opens again", PATIENCE * 60, async || {
        let mut guest = Guest::new(DRAFT2, &stores).await;
        guest.call("open", &[string("")]).await.ok()
    });
    opened.await;
}

/// What takes a cluster.
mod slow {
    use jetbridge_testkit::NatsCluster;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_guest_reads_its_own_writes_on_three_replicas() {
        let cluster = NatsCluster::shared(Release::Newest).await;
        let mut spec = BucketSpec::default();
        spec.replicas = 3;
        let stores = host(&cluster.url(), &spec).await;
        let mut guest = Guest::new(DRAFT, &stores).await;
        let b = guest.open("").await;
        for i in 0..500 {
            let value = bytes(format!("{i}"));
            guest.call("set", &[b.clone(), string("k"), value.clone()]).await.unwrap();
            assert_eq!(guest.call("get", &[b.clone(), string("k")]).await, Ok(some(value)));
        }
    }
}
