//! Many writes at once, which go without a name: what is told of them when acknowledgements are
//! lost is true, or that nobody knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use jetbridge_core::{
    Backend as _, Change, Error, ErrorKind, Kv, Open, Outcome, PutOpts, Read, Result, Revision,
    Written,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{AckLoss, NatsServer, Proxy, Release, ServerOptions};
use serde_json::{Value, json};

use crate::store::{GRACE, Store, ask, bucket, connect_to, keeping, key, options, put};

jetbridge_testkit::on_every_server!(
    only_a_burst_goes_without_names,
    what_a_burst_is_told_over_lost_acknowledgements_is_true,
    what_a_burst_is_told_over_a_killed_server_is_true,
    the_same_bytes_do_not_make_a_write_ours,
);

/// Writes at once: more than are named.
const BURST: usize = 200;

/// Behind a proxy, with little patience.
async fn impatient(release: Release) -> (NatsServer, Proxy, NatsBackend) {
    let server = NatsServer::start(release, ServerOptions::default()).await;
    let proxy = Proxy::start(server.address()).await;
    let mut options = options(&proxy.url());
    options.request_timeout = Duration::from_secs(2);
    let backend = NatsBackend::connect(&options).await.unwrap();
    (server, proxy, backend)
}

async fn open(backend: &NatsBackend) -> Arc<dyn Kv> {
    backend.kv(&bucket(), Open::ensure(keeping(10))).await.unwrap()
}

/// The values under `name`, oldest first.
async fn history(kv: &dyn Kv, name: &str) -> Vec<(String, Revision)> {
    let changes = loop {
        match kv.history(&key(name)).await {
            Ok(changes) => break changes,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
    };
    let value = |change| match change {
        Change::Put(entry) => (String::from_utf8_lossy(&entry.value).into_owned(), entry.revision),
        other => panic!("nobody wrote this: {other:?}"),
    };
    changes.into_iter().map(value).collect()
}

/// Writes `value` under a key for each of a burst.
async fn burst(kv: &dyn Kv, value: &str) -> Vec<Result<Written>> {
    let puts = (0..BURST).map(|n| {
        let value = Bytes::from(format!("{value}-{n}"));
        async move { kv.put(&key(format!("k{n}")), value, PutOpts::new()).await }
    });
    join_all(puts).await
}

fn is_unknown(error: &Error) -> bool {
    error.outcome() == Outcome::Unknown
}

/// Holds what every write of `bursts` was told against what is stored.
async fn check(kv: &dyn Kv, bursts: &[(String, Vec<Result<Written>>)]) {
    for n in 0..BURST {
        let stored = history(kv, &format!("k{n}")).await;
        for (value, told) in bursts {
            let value = format!("{value}-{n}");
            let found: Vec<_> = stored.iter().filter(|(it, _)| *it == value).collect();
            match &told[n] {
                Ok(written) => assert_eq!(found, [&(value, written.revision)], "{stored:?}"),
                Err(error) if is_unknown(error) => assert!(found.len() <= 1, "{stored:?}"),
                Err(error) => assert!(found.is_empty(), "{error:?}: {stored:?}"),
            }
        }
    }
}

async fn stored_headers(backend: &NatsBackend, name: &str) -> Value {
    let body = json!({ "last_by_subj": format!("$KV.b.{name}") });
    ask(backend, "$JS.API.STREAM.MSG.GET.KV_b", body).await["message"]["hdrs"].take()
}

async fn only_a_burst_goes_without_names(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(keeping(10)).await;
    put(&*kv, "alone", "1").await;
    assert!(stored_headers(&store.backend, "alone").await.is_string());
    let told = burst(&*kv, "v").await;
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    assert!(stored_headers(&store.backend, "k0").await.is_string());
    assert!(stored_headers(&store.backend, &format!("k{}", BURST - 1)).await.is_null());
    put(&*kv, "alone", "2").await;
    assert!(stored_headers(&store.backend, "alone").await.is_string(), "the burst is over");
    store.close().await;
}

async fn what_a_burst_is_told_over_lost_acknowledgements_is_true(release: Release) {
    let (_server, proxy, backend) = impatient(release).await;
    let kv = open(&backend).await;
    put(&*kv, "warm", "1").await;
    proxy.lose_acks(AckLoss::Seeded { seed: 3, per_mille: 100 });
    let told = burst(&*kv, "v").await;
    proxy.lose_acks(AckLoss::None);
    assert!(told.iter().any(|it| it.as_ref().is_err_and(is_unknown)), "nothing was tried");
    // Nothing but an acknowledgement was lost.
    assert!(told.iter().flat_map(|it| it.as_ref().err()).all(is_unknown), "{told:?}");
    check(&*kv, &[("v".to_owned(), told)]).await;
    assert!(backend.close(GRACE).await.is_clean());
}

async fn what_a_burst_is_told_over_a_killed_server_is_true(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(keeping(64)).await;
    let done = AtomicBool::new(false);
    let writing = async {
        let mut bursts = Vec::new();
        while bursts.len() < 60 && !done.load(Ordering::Relaxed) {
            let value = format!("v{}", bursts.len());
            let told = burst(&*kv, &value).await;
            bursts.push((value, told));
        }
        bursts
    };
    let killing = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            store.server.restart().await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (bursts, ()) = join(writing, killing).await;
    check(&*kv, &bursts).await;
    store.close().await;
}

/// A write is lost on its way, and somebody else writes the same bytes meanwhile: it is not ours
/// that is there. A copy may still arrive, over whatever was acknowledged by then, so that nobody
/// may say it was applied.
async fn the_same_bytes_do_not_make_a_write_ours(release: Release) {
    let (server, proxy, backend) = impatient(release).await;
    let kv = open(&backend).await;
    put(&*kv, "warm", "1").await;
    let other = connect_to(&server.url()).await;
    let theirs = open(&other).await;
    proxy.stall();
    let writing = async {
        let (key, value) = (key("k"), Bytes::from_static(b"v"));
        join_all((0..BURST).map(|_| kv.put(&key, value.clone(), PutOpts::new()))).await
    };
    let meddling = async {
        put(&*theirs, "k", "v").await;
        proxy.reset();
        proxy.resume();
    };
    let (told, ()) = join(writing, meddling).await;
    let stored = theirs.get(&key("k"), Read::Fresh).await.unwrap().unwrap();
    for (n, told) in told.iter().enumerate() {
        match told {
            // Surely had not left, and was sent over the new connection.
            Ok(written) => assert!(written.revision <= stored.revision, "{written:?}"),
            Err(error) => assert!(is_unknown(error), "{n}: {error:?}"),
        }
    }
    let last = told.last().unwrap().as_ref().unwrap_err();
    assert!(is_unknown(last), "{last:?}");
    assert!(other.close(GRACE).await.is_clean());
    assert!(backend.close(GRACE).await.is_clean());
}
