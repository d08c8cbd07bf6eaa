//! Templates on stores that the settings find.

use std::time::Duration;

use jetbridge::settings::{Environment, StoreRequest};
use jetbridge::template::{Input, Options, Rendered, render};
use jetbridge::{StoreSources, connect};
use jetbridge_core::{BucketName, BucketSpec, Key, Open, PutOpts};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

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
