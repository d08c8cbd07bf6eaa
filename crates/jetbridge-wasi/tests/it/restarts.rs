//! Servers that are killed in the midst of what guests write: each write is there once, or it is
//! not and the guest was told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jetbridge_core::{BucketName, BucketSpec, Key, Open, Read, Tasks};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
use jetbridge_wasi::{Link, Stores};
use wasmtime::component::Val;

use crate::guest::*;

/// Hosts, each with a connection of its own, and how often each writes.
const HOSTS: usize = 4;
const STEPS: usize = 100;
/// How often the server is killed.
const KILLS: usize = 3;
/// Long enough for a slow machine; nothing waits for it to pass.
const WITHIN: Duration = Duration::from_secs(60);

/// What all hosts have done so far.
#[derive(Default)]
struct Done {
    writes: AtomicUsize,
    /// Calls whose error says that the write may have happened.
    unclear: AtomicUsize,
}

async fn connect(url: &str) -> NatsBackend {
    let mut options = ConnectOptions::default();
    options.servers = vec![url.to_owned()];
    // Longer than a server takes to come back.
    options.request_timeout = WITHIN;
    NatsBackend::connect(&options).await.unwrap()
}

/// Kills the server three times while `HOSTS` guests write `STEPS` times each by `write`; returns
/// what they were told, and what `n` is in the end.
async fn over_kills<F>(
    release: Release,
    write: impl Fn(Guest, Val, Arc<Done>) -> F,
) -> (Vec<i64>, usize, i64)
where
    F: Future<Output = Vec<i64>> + Send + 'static,
{
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let (tasks, done) = (Tasks::new(), Arc::new(Done::default()));
    let (told, mut received) = tokio::sync::mpsc::unbounded_channel();
    let bucket = BucketName::parse("killed").unwrap();
    for _ in 0..HOSTS {
        let backend = Arc::new(connect(&server.url()).await);
        let stores = Stores::new();
        stores.add("", Link::new(backend, bucket.clone()).create(BucketSpec::default()));
        let mut guest = Guest::new(DRAFT2, &stores).await;
        let b = guest.open("").await;
        let (writing, told) = (write(guest, b, Arc::clone(&done)), told.clone());
        tasks.spawn(async move { told.send(writing.await).unwrap() });
    }
    drop(told);
    for kill in 1..=KILLS {
        let enough = HOSTS * STEPS * kill / (KILLS + 1);
        eventually("more is written", WITHIN, async || {
            (done.writes.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
        server.kill();
        server.restart().await;
    }
    let mut all = Vec::new();
    while let Some(told) = received.recv().await {
        all.extend(told);
    }
    all.sort_unstable();
    let kv = connect(&server.url()).await;
    let kv = jetbridge_core::Backend::kv(&kv, &bucket, Open::existing()).await.unwrap();
    let last = kv.get(&Key::parse("n").unwrap(), Read::Fresh).await.unwrap().unwrap();
    let last = std::str::from_utf8(&last.value).unwrap().parse().unwrap();
    (all, done.unclear.load(Ordering::Relaxed), last)
}

/// Adds 1 by a call of its own; an increment is never unclear.
async fn increments(mut guest: Guest, b: Val, done: Arc<Done>) -> Vec<i64> {
    let mut sums = Vec::new();
    for _ in 0..STEPS {
        let step = [b.clone(), string("n"), Val::S64(1)];
        match guest.call("increment", &step).await {
            Ok(Val::S64(sum)) => sums.push(sum),
            other => panic!("{other:?}"),
        }
        done.writes.fetch_add(1, Ordering::Relaxed);
    }
    sums
}

/// Adds 1 by compare-and-set, as a guest does that has nothing else.
async fn swaps(mut guest: Guest, b: Val, done: Arc<Done>) -> Vec<i64> {
    let mut sums = Vec::new();
    let mut cas = fresh(&mut guest, &b).await;
    while sums.len() < STEPS {
        let seen = guest.call("cas-current", std::slice::from_ref(&cas)).await.unwrap();
        let sum = number(&seen) + 1;
        match guest.call("swap", &[cas, bytes(sum.to_string())]).await {
            Ok(_) => {
                sums.push(sum);
                done.writes.fetch_add(1, Ordering::Relaxed);
                cas = fresh(&mut guest, &b).await;
            }
            Err(lost) if case(&lost) == "cas-failed" => cas = payload(&lost).clone(),
            Err(failed) => {
                done.unclear.fetch_add(1, Ordering::Relaxed);
                assert!(!words(payload(&failed)).is_empty());
                cas = fresh(&mut guest, &b).await;
            }
        }
    }
    sums
}

/// A handle; while the server is away the guest is told so, and asks again.
async fn fresh(guest: &mut Guest, b: &Val) -> Val {
    let new = [b.clone(), string("n")];
    loop {
        match guest.call("cas-new", &new).await {
            Ok(cas) => return cas,
            Err(error) => assert!(!words(&error).is_empty()),
        }
    }
}

fn number(seen: &Val) -> i64 {
    let Val::Option(seen) = seen else { panic!("{seen:?}") };
    let Some(value) = seen else { return 0 };
    let Val::List(digits) = &**value else { panic!("{value:?}") };
    digits.iter().fold(0, |sum, digit| match digit {
        Val::U8(digit) => sum * 10 + i64::from(digit - b'0'),
        other => panic!("{other:?}"),
    })
}

async fn increments_are_exact_though_the_server_is_killed(release: Release) {
    let (sums, _, last) = over_kills(release, increments).await;
    let all = i64::try_from(HOSTS * STEPS).unwrap();
    assert_eq!(sums, (1..=all).collect::<Vec<_>>());
    assert_eq!(last, all);
}

/// No swap that was told as done is lost, none is done twice, and one more than was told may be
/// there only for each that a guest was told is unclear.
async fn swaps_are_exact_though_the_server_is_killed(release: Release) {
    let (mut sums, unclear, last) = over_kills(release, swaps).await;
    let told = sums.len();
    sums.dedup();
    assert_eq!(sums.len(), told, "two hosts won over the same value");
    assert_eq!(told, HOSTS * STEPS);
    assert!(sums.last().is_some_and(|sum| *sum <= last), "a swap that was done is lost");
    let more = usize::try_from(last).unwrap() - told;
    assert!(more <= unclear, "{more} more than told, and {unclear} were unclear");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_are_exact_though_the_server_is_killed_2_9_25() {
    increments_are_exact_though_the_server_is_killed(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_are_exact_though_the_server_is_killed_2_15_2() {
    increments_are_exact_though_the_server_is_killed(Release::Newest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_are_exact_though_the_server_is_killed_2_9_25() {
    swaps_are_exact_though_the_server_is_killed(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_are_exact_though_the_server_is_killed_2_15_2() {
    swaps_are_exact_though_the_server_is_killed(Release::Newest).await;
}
