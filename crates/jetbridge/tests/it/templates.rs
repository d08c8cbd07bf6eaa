//! Templates on stores that the settings find.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jetbridge::settings::{Environment, StoreRequest};
use jetbridge::template::{Input, Options, Rendered, render};
use jetbridge::{StoreSources, connect};
use jetbridge_core::{BucketName, BucketSpec, Key, Open, PutOpts};
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions};

const GRACE: Duration = Duration::from_secs(5);

async fn put(url: &str, key: &str, value: &'static str) {
    let store = connect(url).await.unwrap();
    let bucket = BucketName::parse("config").unwrap();
    let kv = store.kv(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
    kv.put(&Key::parse(key).unwrap(), value.into(), PutOpts::new()).await.unwrap();
    store.close(GRACE).await;
}

async fn rendered(sources: &StoreSources, text: &str) -> Result<Rendered, String> {
    let input = vec![Input::new("t.yml", text)];
    render(input, &Options::default(), sources).await.map_err(|failure| failure.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_and_a_target_are_told_apart_and_connected_to_once() {
    let oldest = NatsServer::start(Release::Oldest, ServerOptions::new()).await;
    let newest = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    put(&oldest.url(), "k", "old").await;
    put(&newest.url(), "k", "new").await;
    let environment = Environment::from_iter([("NATS_T_URL", newest.url())]);
    let sources = StoreSources::new(StoreRequest::new().store(Some(oldest.url())), environment);
    let (old, new) = (oldest.url(), newest.url());
    let text = format!(
        "a: (( nats \"kv:config/k\" ))\nb: (( nats \"kv:config/k\" \"{new}\" ))\n\
         c: (( nats@t \"kv:config/k\" ))\nd: (( nats \"kv:config/k\" \"{old}\" ))\n\
         e: (( nats \"kv:config/k\" {{url: \"{new}\", timeout: \"9s\"}} ))\n"
    );
    let result = rendered(&sources, &text).await.unwrap();
    assert_eq!(result.text, "a: old\nb: new\nc: new\nd: old\ne: new\n");
    let reports = sources.close(GRACE).await;
    assert_eq!(reports.len(), 2, "one connection for each server");
}

#[tokio::test]
async fn what_cannot_be_found_is_named() {
    let request = StoreRequest::new().store(Some("memory:".to_owned()));
    let sources = StoreSources::new(request, Environment::default());
    for (call, expected) in [
        ("nats@prod \"kv:b/k\"", "expected NATS_PROD_URL environment variable"),
        ("nats \"kv:b/k\" {url: \"h:1\", retrys: 3}", "unknown key `retrys`"),
        ("nats \"kv:b/k\" {url: \"h:1\", timeout: \"soon\"}", "`timeout`"),
        ("nats \"kv:b/k\" {url: \"h:1\", retries: \"x\"}", "`retries`"),
        ("nats \"kv:b/k\" {url: \"h:1\", tls: \"maybe\"}", "`tls`"),
        ("nats \"kv:b/k\" \"nats://u:s3cr3t@127.0.0.1:1\"", "failed to connect to NATS"),
        ("nats \"kv:b/k\"", "failed to access KV store 'b'"),
    ] {
        let error = rendered(&sources, &format!("a: (( {call} ))\n")).await.unwrap_err();
        assert!(error.contains(expected) && !error.contains("s3cr3t"), "{error}");
    }
    sources.close(GRACE).await;
}

#[tokio::test]
async fn an_unreachable_server_is_tried_as_often_as_the_call_says() {
    for (retries, attempts) in [("", 1), (", retries: 3, retry_interval: \"1ms\"", 4)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let call = format!("a: (( nats \"kv:b/k\" {{url: \"{address}\"{retries}}} ))\n");
        let sources = StoreSources::new(StoreRequest::new(), Environment::default());
        let mut hung_up = 0;
        let refusing = async {
            loop {
                drop(listener.accept().await.unwrap());
                hung_up += 1;
            }
        };
        let error = tokio::select! {
            result = rendered(&sources, &call) => result.unwrap_err(),
            () = refusing => unreachable!("it never ends"),
        };
        assert_eq!(hung_up, attempts, "{error}");
    }
}

/// The round trip of the network in between.
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A server behind a slow network, and sources that read it.
async fn far(release: Release) -> (NatsServer, Proxy, StoreSources) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let address: SocketAddr = server.url().trim_start_matches("nats://").parse().unwrap();
    let proxy = Proxy::start(address).await;
    proxy.latency(ROUND_TRIP);
    let request = StoreRequest::new().store(Some(proxy.url()));
    let sources = StoreSources::new(request, Environment::default());
    (server, proxy, sources)
}

async fn a_hundred_keys_take_few_round_trips(release: Release) {
    let (server, proxy, sources) = far(release).await;
    let mut text = String::new();
    for n in 0..100 {
        put(&server.url(), &format!("k{n}"), "v").await;
        writeln!(text, "k{n}: (( nats \"kv:config/k{n}\" ))").unwrap();
    }
    let result = rendered(&sources, &text).await.unwrap();
    assert_eq!(result.reads.len(), 100);
    // To connect, to find the bucket, to read.
    assert!(proxy.turns() <= 3, "{} round trips", proxy.turns());
    let before = proxy.turns();
    let missing: String =
        (0..100).map(|n| format!("k{n}: (( nats \"kv:config/none{n}\" || 1 ))\n")).collect();
    rendered(&sources, &(missing + "k: (( nats \"kv:config/k1\" ))\n")).await.unwrap();
    let turns = proxy.turns() - before;
    // Before 2.11 the leader is asked about each key that a copy does not have, all at once.
    let most = if release == Release::Oldest { 8 } else { 2 };
    assert!(turns <= most, "missing keys take {turns} round trips");
    let started = Instant::now();
    let error = rendered(&sources, "a: (( nats \"kv:config/none\" ))\n").await.unwrap_err();
    assert!(error.contains("key not found"), "{error}");
    assert!(started.elapsed() < ROUND_TRIP * 25, "{:?}", started.elapsed());
    sources.close(GRACE).await;
}

/// Two keys that are written one after the other, and read while they are.
async fn values_of_a_bucket_are_of_one_state(release: Release) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    put(&server.url(), "a", "0").await;
    put(&server.url(), "b", "0").await;
    let store = connect(server.url()).await.unwrap();
    let bucket = BucketName::parse("config").unwrap();
    let kv = store.kv(&bucket, Open::existing()).await.unwrap();
    let writing = async {
        for n in 1_u64.. {
            for key in ["a", "b"] {
                let value = n.to_string().into();
                kv.put(&Key::parse(key).unwrap(), value, PutOpts::new()).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let request = StoreRequest::new().store(Some(server.url()));
    let sources = StoreSources::new(request, Environment::default());
    tokio::select! {
        () = writing => unreachable!("it never ends"),
        () = read_both(&sources) => {}
    }
    sources.close(GRACE).await;
    store.close(GRACE).await;
}

async fn read_both(sources: &StoreSources) {
    /// States that must be seen.
    const STATES: usize = 60;
    let text = "b: (( nats \"kv:config/b\" as int ))\na: (( nats \"kv:config/a\" as int ))\n";
    let mut seen = std::collections::BTreeSet::new();
    let started = Instant::now();
    while seen.len() < STATES {
        assert!(started.elapsed() < Duration::from_secs(60), "only {seen:?}");
        let text = match rendered(sources, text).await {
            Ok(rendered) => rendered.text,
            Err(busy) => {
                assert!(busy.contains("written to faster than it can be read"), "{busy}");
                continue;
            }
        };
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.parse().unwrap()
        };
        let (a, b) = (number("a: "), number("b: "));
        assert!(a == b || a == b + 1, "a is {a} and b is {b}");
        seen.insert((a, b));
    }
}

jetbridge_testkit::on_every_server!(
    a_hundred_keys_take_few_round_trips,
    values_of_a_bucket_are_of_one_state
);
