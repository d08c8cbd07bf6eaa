//! Buckets of counters: added up by the server where it can, and exact over lost acknowledgements,
//! broken connections and killed servers wherever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::future::{join, join_all};
use futures_util::poll;
use jetbridge_core::{
    Backend as _, Backoff, BucketName, BucketSpec, Counters, ErrorKind, Open, Outcome, PutOpts,
    Support,
};
use jetbridge_nats::{NatsBackend, Permissions};
use jetbridge_testkit::eventually;
use jetbridge_testkit::{AckLoss, NatsServer, NatsStorm, Release, ServerOptions, Storm as _};
use serde_json::{Value, json};

use crate::store::{GRACE, SOON, Store, bucket, connect_to, key, options, options_as};

jetbridge_testkit::on_every_server!(
    the_server_adds_where_it_can,
    counts_that_were_begun_in_keys_are_gone_on_with,
    an_addition_whose_acknowledgement_is_lost_counts_once,
    an_addition_over_a_broken_connection_counts_once,
    counting_is_exact_while_acknowledgements_are_lost_and_the_server_is_killed,
    who_may_count_needs_no_more,
    callers_at_once_get_sums_of_their_own,
    callers_at_once_stop_at_the_end_of_the_range,
    a_caller_that_gives_up_takes_nobody_along,
);

/// Twelve on each connection: more than have a message of their own, so that some go together.
const TASKS: usize = 24;
const ROUNDS: usize = 25;
/// Of a thousand acknowledgements of additions, so many are lost.
const ACKS_LOST: u16 = 30;

fn named(text: &str) -> BucketName {
    BucketName::parse(text).unwrap()
}

async fn counters(backend: &NatsBackend) -> Arc<dyn Counters> {
    backend.counters(&bucket()).await.unwrap()
}

async fn add(counters: &dyn Counters, n: i64) -> i64 {
    counters.fetch_add(&key("n"), n).await.unwrap()
}

async fn value(counters: &dyn Counters) -> Option<i64> {
    counters.value(&key("n")).await.unwrap()
}

/// What the server says of the bucket's stream of counters, if it has one.
async fn stream(store: &Store) -> Option<Value> {
    let info = store.ask("$JS.API.STREAM.INFO.CTR_b", Value::Null).await;
    info["error"].is_null().then_some(info)
}

async fn the_server_adds_where_it_can(release: Release) {
    let store = Store::start(release).await;
    let native = store.backend.capabilities().counters == Support::Native;
    assert_eq!(native, release == Release::Newest);
    let counters = counters(&store.backend).await;
    assert_eq!((add(&*counters, 2).await, add(&*counters, -5).await), (2, -3));
    let stream = stream(&store).await;
    assert_eq!(stream.is_some(), native);
    if let Some(stream) = stream {
        assert_eq!(stream["config"]["allow_msg_counter"], true);
        // Another client of the server's counters adds to the same ones.
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Incr", "+10");
        let client = async_nats::jetstream::new(store.backend.client().clone());
        let sent = client.publish_with_headers("$CTR.b.n", headers, Bytes::new()).await;
        assert_eq!(sent.unwrap().await.unwrap().value.as_deref(), Some("7"));
        assert_eq!(value(&*counters).await, Some(7));
    }
    store.close().await;
}

async fn counts_that_were_begun_in_keys_are_gone_on_with(release: Release) {
    let store = Store::start(release).await;
    let kv = store.kv(BucketSpec::default()).await;
    kv.put(&key("n"), Bytes::from_static(b"41"), PutOpts::new()).await.unwrap();
    let counters = counters(&store.backend).await;
    assert_eq!(add(&*counters, 1).await, 42);
    assert!(stream(&store).await.is_none(), "one bucket, one place");
    store.close().await;
}

async fn an_addition_whose_acknowledgement_is_lost_counts_once(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let counters = counters(&store.backend).await;
    assert_eq!(add(&*counters, 1).await, 1);
    proxy.lose_acks(AckLoss::These(vec![0]));
    assert_eq!(add(&*counters, 10).await, 11);
    assert_eq!(proxy.acks_lost(), 1);
    assert_eq!(value(&*counters).await, Some(11));
    store.close().await;
}

async fn an_addition_over_a_broken_connection_counts_once(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let counters = counters(&store.backend).await;
    assert_eq!(add(&*counters, 1).await, 1);
    // It is stored, and its answer is on a connection that ends.
    proxy.lose_acks(AckLoss::All);
    let cut = async {
        let lost = async || (proxy.acks_lost() > 0).then_some(());
        eventually("the acknowledgement is lost", SOON, lost).await;
        proxy.lose_acks(AckLoss::None);
        proxy.reset();
    };
    let (sum, ()) = join(add(&*counters, 10), cut).await;
    assert_eq!((sum, value(&*counters).await), (11, Some(11)));
    store.close().await;
}

/// Adds one until it is said that it was added; what is not known fails the test.
async fn add_one(counters: &dyn Counters) -> i64 {
    let mut backoff = Backoff::outage();
    loop {
        match counters.fetch_add(&key("n"), 1).await {
            Ok(sum) => return sum,
            Err(error) => assert!(error.is_retryable(), "not settled: {error:?}"),
        }
        backoff.wait().await;
    }
}

async fn counting_is_exact_while_acknowledgements_are_lost_and_the_server_is_killed(
    release: Release,
) {
    let storm = NatsStorm::start(release).await;
    let [ours, theirs] = storm.urls();
    let backends = [connect_to(&ours).await, connect_to(&theirs).await];
    let handles = [counters(&backends[0]).await, counters(&backends[1]).await];
    storm.lose_acks(ACKS_LOST);
    let done = AtomicUsize::new(0);
    let tasks = (0..TASKS).map(|task| {
        let (counters, done) = (&handles[task % 2], &done);
        async move {
            let mut sums = Vec::new();
            while sums.len() < ROUNDS {
                sums.push(add_one(&**counters).await);
                done.fetch_add(1, Ordering::Relaxed);
            }
            sums
        }
    });
    let blows = async {
        for blow in 1..=3 {
            let far =
                async || (done.load(Ordering::Relaxed) >= TASKS * ROUNDS * blow / 4).then_some(());
            eventually("the counting goes on", SOON * 3, far).await;
            storm.restart().await;
        }
    };
    let (sums, ()) = join(join_all(tasks), blows).await;
    storm.lose_acks(0);
    assert!(storm.acks_lost() > 0, "there was no storm");
    let sums: BTreeSet<i64> = sums.into_iter().flatten().collect();
    let total = i64::try_from(TASKS * ROUNDS).unwrap();
    assert_eq!(sums, (1..=total).collect::<BTreeSet<i64>>());
    assert_eq!(value(&*handles[1]).await, Some(total));
    for backend in backends {
        assert!(backend.close(GRACE).await.is_clean());
    }
}

async fn who_may_count_needs_no_more(release: Release) {
    let mut allowed = Permissions::new(&options_as("", "user"));
    allowed.count(&bucket());
    let users = format!(
        "accounts {{ A {{ jetstream: enabled, users: [\n\
         {{ user: user, password: secret, {allowed} }}\n] }} }}"
    );
    let server = NatsServer::start(release, ServerOptions::new().config(&users)).await;
    let user = NatsBackend::connect(&options_as(&server.url(), "user")).await.unwrap();
    let counters = user.counters(&bucket()).await.unwrap();
    assert_eq!((add(&*counters, 1).await, value(&*counters).await), (1, Some(1)));
    assert!(counters.remove(&key("n")).await.unwrap());
    // By keys it takes a write to find out.
    let denied = match user.counters(&named("other")).await {
        Ok(other) => other.fetch_add(&key("n"), 1).await.unwrap_err(),
        Err(denied) => denied,
    };
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    assert!(user.close(GRACE).await.is_clean());
}

async fn callers_at_once_get_sums_of_their_own(release: Release) {
    const CALLERS: i64 = 200;
    let store = Store::start(release).await;
    let counters = counters(&store.backend).await;
    let counters = &*counters;
    let sums = join_all((1..=CALLERS).map(|n| async move { (add(counters, n).await, n) })).await;
    // In one order each sum is the one before and what was added.
    let mut sums: Vec<_> = sums;
    sums.sort_unstable();
    let mut before = 0;
    for (sum, n) in sums {
        assert_eq!(sum, before + n);
        before = sum;
    }
    assert_eq!(value(counters).await, Some(CALLERS * (CALLERS + 1) / 2));
    if let Some(stream) = stream(&store).await {
        let messages = stream["state"]["messages"].as_i64().unwrap();
        assert!(messages < CALLERS / 2, "{messages} messages for {CALLERS} callers at once");
    }
    store.close().await;
}

async fn callers_at_once_stop_at_the_end_of_the_range(release: Release) {
    const LEFT: i64 = 10;
    let store = Store::start(release).await;
    let counters = counters(&store.backend).await;
    add(&*counters, i64::MAX - LEFT).await;
    let n = key("n");
    let told = join_all((0..50).map(|_| counters.fetch_add(&n, 1))).await;
    let (sums, refused): (Vec<_>, Vec<_>) = told.into_iter().partition(Result::is_ok);
    let mut sums: Vec<i64> = sums.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (i64::MAX - LEFT + 1..=i64::MAX).collect::<Vec<_>>());
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
    }
    assert_eq!(value(&*counters).await, Some(i64::MAX));
    store.close().await;
}

async fn a_caller_that_gives_up_takes_nobody_along(release: Release) {
    let (store, proxy) = Store::start_behind_proxy(release).await;
    let counters = counters(&store.backend).await;
    add(&*counters, 0).await;
    proxy.stall();
    let n = key("n");
    let mut callers: Vec<_> = (0..20).map(|_| Box::pin(counters.fetch_add(&n, 1))).collect();
    for caller in &mut callers {
        assert!(poll!(caller).is_pending());
    }
    // Those at the front are under way, those behind them wait.
    let kept = callers.split_off(2);
    drop(callers);
    proxy.resume();
    let mut sums: Vec<i64> = join_all(kept).await.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    sums.dedup();
    assert_eq!(sums.len(), 18, "each has a sum of its own");
    let now = value(&*counters).await.unwrap();
    assert!((18..=20).contains(&now), "{now}");
    assert_eq!(sums.last(), Some(&now));
    store.close().await;
}

#[tokio::test]
async fn callers_at_once_all_hear_of_a_failure() {
    let store = Store::start(Release::Newest).await;
    let counters = counters(&store.backend).await;
    add(&*counters, 1).await;
    let deleted = store.ask("$JS.API.STREAM.DELETE.CTR_b", Value::Null).await;
    assert_eq!(deleted["success"], true, "{deleted}");
    let n = key("n");
    for told in join_all((0..20).map(|_| counters.fetch_add(&n, 1))).await {
        let error = told.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
    }
    store.close().await;
}

/// Where the messages that would tell are gone, and with them the memory of a server that was
/// restarted, nobody is told that it was not counted, and it is not counted again.
#[tokio::test]
async fn what_cannot_be_found_out_is_said() {
    let (store, proxy) = Store::start_behind_proxy(Release::Newest).await;
    let counters = counters(&store.backend).await;
    let mut config = stream(&store).await.unwrap()["config"].take();
    config["max_msgs_per_subject"] = json!(1);
    let changed = store.ask("$JS.API.STREAM.UPDATE.CTR_b", config).await;
    assert!(changed["error"].is_null(), "{changed}");
    let counters_of_one = store.backend.counters(&bucket()).await.unwrap();
    drop(counters);
    let peer = connect_to(&store.server.url()).await;
    let theirs = peer.counters(&bucket()).await.unwrap();
    proxy.lose_acks(AckLoss::All);
    let meanwhile = async {
        let lost = async || (proxy.acks_lost() > 0).then_some(());
        eventually("the acknowledgement is lost", SOON, lost).await;
        proxy.refuse();
        proxy.reset();
        add(&*theirs, 1).await;
        store.server.restart().await;
        proxy.lose_acks(AckLoss::None);
        proxy.accept();
    };
    let n = key("n");
    let counting = counters_of_one.fetch_add(&n, 10);
    let (told, ()) = join(counting, meanwhile).await;
    let error = told.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    let now = eventually("the server is back", SOON, async || theirs.value(&n).await.ok()).await;
    assert_eq!(now, Some(11), "counted once, whatever was told");
    assert!(peer.close(GRACE).await.is_clean());
    store.close().await;
}

/// Through a domain the server takes no messages for counters: what is counted natively there is
/// not counted a second time in keys here.
#[tokio::test]
async fn native_counters_behind_a_domain_are_refused() {
    let domain = ServerOptions::new().domain("hub");
    let store = Store::start_with(Release::Newest, domain).await;
    let mut through = options(&store.server.url());
    through.domain = Some("hub".to_owned());
    let far = NatsBackend::connect(&through).await.unwrap();
    assert_eq!(far.capabilities().counters, Support::Emulated);
    add(&*counters(&store.backend).await, 1).await;
    let refused = far.counters(&bucket()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    let free = named("free");
    assert_eq!(add(&*far.counters(&free).await.unwrap(), 3).await, 3);
    let near = store.backend.counters(&free).await.unwrap();
    assert_eq!(add(&*near, 1).await, 4, "both count in one place");
    drop(far.kv(&free, Open::existing()).await.unwrap());
    assert!(far.close(GRACE).await.is_clean());
    store.close().await;
}
