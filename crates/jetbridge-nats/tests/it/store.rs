//! A server and a connection to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    Backend as _, BucketName, BucketSpec, DeleteOpts, Key, Kv, Open, PutOpts, Read, Revision,
    Secret,
};
use jetbridge_nats::{Auth, ConnectOptions, NatsBackend};
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions, eventually};
use serde_json::{Value, json};

pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long something may take that is not the server's to delay.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Store {
    pub(crate) server: NatsServer,
    pub(crate) backend: NatsBackend,
}

impl Store {
    pub(crate) async fn start(release: Release) -> Self {
        Self::start_with(release, ServerOptions::default()).await
    }

    pub(crate) async fn start_with(release: Release, options: ServerOptions) -> Self {
        let server = NatsServer::start(release, options).await;
        let backend = connect(&server).await;
        Self { server, backend }
    }

    /// A connection through a network that can be made to fail.
    pub(crate) async fn start_behind_proxy(release: Release) -> (Self, Proxy) {
        let server = NatsServer::start(release, ServerOptions::default()).await;
        let proxy = Proxy::start(server.address()).await;
        let backend = connect_to(&proxy.url()).await;
        (Self { server, backend }, proxy)
    }

    /// A new bucket `b`.
    pub(crate) async fn kv(&self, spec: BucketSpec) -> Arc<dyn Kv> {
        self.backend.kv(&bucket(), Open::ensure(spec)).await.unwrap()
    }

    /// Asks the server by the client itself.
    pub(crate) async fn ask(&self, subject: &str, body: Value) -> Value {
        ask(&self.backend, subject, body).await
    }

    /// Makes a stream as another client would.
    pub(crate) async fn make_stream(&self, config: Value) {
        make_stream(&self.backend, config).await;
    }

    /// What the server says of the stream behind bucket `b`.
    pub(crate) async fn stream(&self) -> Value {
        self.ask("$JS.API.STREAM.INFO.KV_b", Value::Null).await
    }

    /// Messages and consumers of the stream behind bucket `b`.
    pub(crate) async fn messages_and_consumers(&self) -> (u64, u64) {
        let state = &self.stream().await["state"];
        (state["messages"].as_u64().unwrap(), state["consumer_count"].as_u64().unwrap())
    }

    /// Closes the connection, which must leave nothing running.
    pub(crate) async fn close(self) {
        let report = self.backend.close(GRACE).await;
        assert!(report.is_clean(), "{report:?}");
    }
}

pub(crate) async fn ask(backend: &NatsBackend, subject: &str, body: Value) -> Value {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let answer = backend.client().request(subject.to_owned(), body).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Makes a stream as another client would.
pub(crate) async fn make_stream(backend: &NatsBackend, config: Value) {
    let name = config["name"].as_str().unwrap().to_owned();
    let made = ask(backend, &format!("$JS.API.STREAM.CREATE.{name}"), config).await;
    assert!(made["error"].is_null(), "{made}");
}

pub(crate) async fn connect(server: &NatsServer) -> NatsBackend {
    connect_to(&server.url()).await
}

pub(crate) async fn connect_to(url: &str) -> NatsBackend {
    NatsBackend::connect(&options(url)).await.unwrap()
}

pub(crate) fn options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.servers = vec![url.to_owned()];
    options
}

/// A bucket `b` that forgets deletions after a second.
pub(crate) async fn forgetful_bucket(store: &Store) -> Arc<dyn Kv> {
    store
        .make_stream(json!({
            "name": "KV_b", "subjects": ["$KV.b.>"], "max_msgs_per_subject": 1,
            "allow_direct": true, "allow_rollup_hdrs": true, "num_replicas": 1,
            "allow_msg_ttl": true, "subject_delete_marker_ttl": 1_000_000_000,
        }))
        .await;
    store.backend.kv(&bucket(), Open::existing()).await.unwrap()
}

/// Cuts the connection of `store` until `a` has been deleted and that was forgotten.
pub(crate) async fn away_while_a_deletion_is_forgotten(store: &Store, proxy: &Proxy, kv: &dyn Kv) {
    proxy.refuse();
    proxy.reset();
    let peer = connect(&store.server).await;
    let theirs = peer.kv(kv.bucket(), Open::existing()).await.unwrap();
    theirs.delete(&key("a"), DeleteOpts::new()).await.unwrap();
    eventually("the deletion is forgotten", SOON, async || {
        let info = ask(&peer, "$JS.API.STREAM.INFO.KV_b", Value::Null).await;
        (info["state"]["messages"] == 0).then_some(())
    })
    .await;
    proxy.accept();
    assert!(peer.close(GRACE).await.is_clean());
}

/// As the user `name` with the password `secret`, with an inbox of its own.
pub(crate) fn options_as(url: &str, name: &str) -> ConnectOptions {
    let mut options = options(url);
    let password = Secret::new("secret".to_owned());
    options.auth = Auth::UserPassword { user: name.to_owned(), password };
    options.inbox_prefix = Some(format!("_INBOX_{name}"));
    options
}

pub(crate) fn bucket() -> BucketName {
    BucketName::parse("b").unwrap()
}

pub(crate) fn key(text: impl AsRef<str>) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) async fn put(kv: &dyn Kv, name: &str, value: &str) -> Revision {
    let value = Bytes::copy_from_slice(value.as_bytes());
    kv.put(&key(name), value, PutOpts::new()).await.unwrap().revision
}

pub(crate) async fn read(kv: &dyn Kv, name: &str) -> Option<String> {
    let entry = kv.get(&key(name), Read::Fresh).await.unwrap()?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

pub(crate) fn keeping(history: u8) -> BucketSpec {
    let mut spec = BucketSpec::default();
    spec.history = history;
    spec
}

/// True if no request waits for an answer.
pub(crate) fn nothing_waits(backend: &NatsBackend) -> bool {
    format!("{backend:?}").contains("waiting: 0")
}
