//! Links of wasi:keyvalue guests: where their properties lead, how they log in, whose connection
//! they share, and how they come and go.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use jetbridge::Links;
use jetbridge::nats::{Auth, ConnectOptions};
use jetbridge::settings::{Environment, Location};
use jetbridge::wasi::{KeyvalueCtx, Watched};
use jetbridge_core::{Backend, BucketKind, BucketName, ErrorKind, MemoryBackend};
use jetbridge_testkit::jwt::{Grant, Operator, UserLogin};
use jetbridge_testkit::{Certificates, NatsServer, Release, ServerOptions};

const GRACE: Duration = Duration::from_secs(5);

type Properties = Vec<(String, String)>;

fn properties<const N: usize>(pairs: [(&str, &str); N]) -> Properties {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn links() -> Links {
    Links::new(Environment::default())
}

/// Where a link is.
fn place<const N: usize>(links: &Links, pairs: [(&str, &str); N]) -> ConnectOptions {
    match links.plan("l", &properties(pairs)).unwrap().location {
        Location::Nats(options) => *options,
        other => panic!("{other}"),
    }
}

/// True if a guest can open the store.
async fn opens(links: &Links, identifier: &str) -> bool {
    Watched::open(&KeyvalueCtx::new(links.stores().clone()), identifier).await.is_ok()
}

#[test]
fn names_are_taken_in_any_case_and_misspelt_ones_refused() {
    for name in ["CLUSTER_URI", "cluster_uri", "Cluster_Uri"] {
        assert_eq!(place(&links(), [(name, "nats://h:4222")]).servers, ["nats://h:4222"]);
    }
    let plan =
        links().plan("", &properties([("BUCKET", "b"), ("Enable_Bucket_Auto_Create", "true")]));
    let plan = plan.unwrap();
    assert_eq!((plan.name.as_str(), plan.bucket.as_str(), plan.creates), ("default", "b", true));
    let error = links().plan("l", &properties([("CLUSTER_URL", "nats://h")])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(format!("{error:?}").to_lowercase().contains("cluster_uri"), "{error:?}");
    for (name, value) in
        [("counter_encoding", "roman"), ("replicas", "0"), ("max_age", "soon"), ("storage", "tape")]
    {
        let error = links().plan("l", &properties([(name, value)])).unwrap_err();
        assert_eq!(error.fact("property"), Some(name));
    }
}

#[test]
fn a_link_goes_before_the_provider_and_that_before_the_default() {
    let printed = place(&links(), []);
    assert_eq!(printed.servers, ["nats://127.0.0.1:4222"], "0.0.0.0:4222, dialled as loopback");
    assert_eq!(printed.domain, None, "JS_DOMAIN unset means none");
    assert_eq!(place(&links(), [("JS_DOMAIN", "hub")]).domain.as_deref(), Some("hub"));

    let provider = properties([("cluster_uri", "nats://p:1"), ("js_domain", "p"), ("bucket", "b")]);
    let links = links().provider(&provider);
    let link = place(&links, [("JS_DOMAIN", "own")]);
    assert_eq!(link.servers, ["nats://p:1"], "a link without a server does not reset it");
    assert_eq!(link.domain.as_deref(), Some("own"));
    assert_eq!(place(&links, [("CLUSTER_URI", "nats://l:2")]).servers, ["nats://l:2"]);
    assert_eq!(links.plan("l", &[]).unwrap().bucket.as_str(), "b");
}

/// What a link says of its connection is laid over the whole of the file's.
#[test]
fn a_link_keeps_what_it_does_not_say_of_the_files_connection() {
    let mut file = ConnectOptions::default();
    file.servers = vec!["tls://file:4222".to_owned()];
    file.auth = Auth::CredsFile("file.creds".into());
    file.tls.ca_files = vec!["private-ca.pem".into()];
    file.request_timeout = Duration::from_secs(9);
    (file.api_prefix, file.inbox_prefix) =
        (Some("up.API".to_owned()), Some("_INBOX_up".to_owned()));
    let links = Links::new(Environment::default()).at(Location::Nats(Box::new(file.clone())));
    assert!(links.plan("l", &[]).unwrap().is_default());
    assert!(links.plan("l", &properties([("request_timeout", "9s")])).unwrap().is_default());

    let own = place(&links, [("JS_DOMAIN", "hub")]);
    assert_eq!((&own.servers, &own.auth, &own.tls), (&file.servers, &file.auth, &file.tls));
    assert_eq!(
        (own.request_timeout, &own.inbox_prefix),
        (file.request_timeout, &file.inbox_prefix)
    );
    assert_eq!((own.domain.as_deref(), own.api_prefix), (Some("hub"), None), "one place, whole");
    let own = place(&links, [("request_timeout", "3s")]);
    assert_eq!((&own.auth, &own.tls, &own.api_prefix), (&file.auth, &file.tls, &file.api_prefix));
    assert_eq!(own.request_timeout, Duration::from_secs(3));

    let own = place(&links, [("USER", "ann"), ("PASSWORD", "pass")]);
    assert!(matches!(&own.auth, Auth::UserPassword { user, .. } if user == "ann"), "{own:?}");
    assert_eq!((&own.servers, &own.tls), (&file.servers, &file.tls));
    let own = place(&links, [("TLS_CA", Certificates::new().ca_pem())]);
    assert_eq!((own.tls.ca_files.len(), own.tls.ca_pem.len()), (0, 1), "encryption is one thing");
    assert_eq!(own.auth, file.auth);

    // Servers of its own have nothing to do with the file's.
    let own = place(&links, [("CLUSTER_URI", "nats://l:2")]);
    assert_eq!((own.auth, own.tls), (Auth::None, ConnectOptions::default().tls));
}

#[test]
fn how_to_connect_is_refused_where_there_is_no_server() {
    let links = Links::new(Environment::default()).at(Location::Memory);
    for own in [("JS_DOMAIN", "hub"), ("USER", "ann"), ("request_timeout", "3s")] {
        let mut own = properties([own]);
        if own[0].0 == "USER" {
            own.extend(properties([("PASSWORD", "s3cr3t")]));
        }
        let error = links.plan("l", &own).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let shown = format!("{error:?}");
        assert!(shown.contains("CLUSTER_URI") && !shown.contains("s3cr3t"), "{shown}");
    }
    assert!(links.plan("l", &properties([("history", "3")])).unwrap().is_default());
    assert_eq!(place(&links, [("JS_DOMAIN", "h"), ("CLUSTER_URI", "n:1")]).servers, ["nats://n:1"]);
}

#[tokio::test]
async fn a_bucket_is_made_as_its_link_says() {
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let links = links().over(Arc::clone(&store), Location::Memory);
    let own = [
        ("bucket", "made"),
        ("enable_bucket_auto_create", "true"),
        ("history", "7"),
        ("max_age", "90m"),
        ("replicas", "3"),
        ("storage", "memory"),
    ];
    links.add("l", &properties(own)).await.unwrap();
    assert!(opens(&links, "l").await);
    let name = BucketName::parse("made").unwrap();
    let spec = store.bucket(BucketKind::Kv, &name).await.unwrap().spec;
    assert_eq!((spec.history, spec.max_age), (7, Some(Duration::from_secs(90 * 60))));
    let links =
        links.provider(&properties([("history", "3"), ("enable_bucket_auto_create", "true")]));
    links.add("p", &properties([("history", "4")])).await.unwrap();
    assert!(opens(&links, "p").await);
    let name = BucketName::parse("p").unwrap();
    assert_eq!(store.bucket(BucketKind::Kv, &name).await.unwrap().spec.history, 4);
}

#[test]
fn half_a_login_names_both_halves() {
    let (user, links) = (Operator::new().account("APP").user("ann", &Grant::all()), links());
    for half in [("CLIENT_JWT", user.jwt.as_str()), ("client_seed", user.seed.as_str())] {
        let error = links.plan("l", &properties([half])).unwrap_err();
        let shown = format!("{error:?}").to_uppercase();
        assert!(shown.contains("CLIENT_JWT") && shown.contains("CLIENT_SEED"), "{error:?}");
        assert!(!shown.contains(&half.1.to_uppercase()), "no secret is shown");
    }
    let both = [("CLIENT_JWT", user.jwt.as_str()), ("CLIENT_SEED", user.seed.as_str())];
    let plan = links.plan("l", &properties(both)).unwrap();
    assert!(!format!("{plan:?}").contains(&user.seed), "no secret is shown");
}

/// A server that wants a JWT and encrypts.
struct Guarded {
    server: NatsServer,
    certificates: Certificates,
    user: UserLogin,
}

impl Guarded {
    async fn start(release: Release) -> Self {
        let operator = Operator::new();
        let account = operator.account("APP");
        let user = account.user("ann", &Grant::all());
        let certificates = Certificates::new();
        let (login, tls) = (operator.server_config(&[&account]), certificates.server_config(""));
        let options = ServerOptions::new().config(&format!("{login}\n{tls}"));
        let server = NatsServer::start(release, options).await;
        Self { server, certificates, user }
    }

    fn provider(&self) -> Properties {
        let address = format!("localhost:{}", self.server.address().port());
        properties([
            ("CLUSTER_URI", &address),
            ("CLIENT_JWT", &self.user.jwt),
            ("CLIENT_SEED", &self.user.seed),
            ("enable_bucket_auto_create", "true"),
        ])
    }
}

async fn every_way_to_trust_logs_in(release: Release) {
    let guarded = Guarded::start(release).await;
    let (pem, stranger) = (guarded.certificates.ca_pem(), Certificates::new());
    let packed = base64::engine::general_purpose::STANDARD.encode(pem);
    let bundle = stranger.dir().join("bundle.pem");
    std::fs::write(&bundle, format!("{}\n{pem}", stranger.ca_pem())).unwrap();
    let (bundle, wrong) = (bundle.display().to_string(), stranger.ca_file().display().to_string());
    let both = format!("{}\n{pem}", stranger.ca_pem());
    for (name, trust) in [
        ("pem", properties([("TLS_CA", pem)])),
        ("base64", properties([("tls_ca", &packed)])),
        ("wins-over-the-file", properties([("TLS_CA", pem), ("TLS_CA_FILE", &wrong)])),
        ("all-of-a-file", properties([("TLS_CA_FILE", &bundle)])),
        ("all-of-a-text", properties([("TLS_CA", &both)])),
    ] {
        let links = links().provider(&guarded.provider());
        links.add(name, &trust).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(opens(&links, name).await, "{name}");
        assert!(links.close(GRACE).await.iter().all(|report| report.is_clean()), "{name}");
    }
    let links = links().provider(&guarded.provider());
    let error = links.add("l", &properties([("TLS_CA_FILE", &wrong)])).await.unwrap_err();
    assert!(!format!("{error:?}").contains(&guarded.user.seed), "no secret is shown");
    assert!(!opens(&links, "l").await, "what failed is not linked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_trust_logs_in_2_9_25() {
    every_way_to_trust_logs_in(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_trust_logs_in_2_15_2() {
    every_way_to_trust_logs_in(Release::Newest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_shared_and_closed_with_its_last_link() {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let (url, make) = (server.url(), ("enable_bucket_auto_create", "true"));
    let links = links();
    for name in ["a", "b"] {
        links.add(name, &properties([("CLUSTER_URI", &url), make])).await.unwrap();
    }
    assert_eq!(links.connections().await, 1, "two links in one way");
    let other = [("CLUSTER_URI", url.as_str()), make, ("request_timeout", "3s")];
    links.add("c", &properties(other)).await.unwrap();
    assert_eq!(links.connections().await, 2, "another way is another connection");
    for name in ["a", "b", "c"] {
        assert!(opens(&links, name).await, "{name}");
    }
    assert!(links.remove("a").await.unwrap());
    assert!(!links.remove("a").await.unwrap());
    assert_eq!(links.connections().await, 2, "the other link still has it");
    assert!(!opens(&links, "a").await && opens(&links, "b").await && opens(&links, "c").await);
    assert!(links.remove("b").await.unwrap());
    assert_eq!(links.connections().await, 1, "closed with its last link");
    assert!(opens(&links, "c").await);

    // Added anew, in another way, while others run: the earlier connection goes with it.
    links.add("c", &properties([("CLUSTER_URI", &url), make])).await.unwrap();
    assert_eq!(links.connections().await, 1);
    assert!(opens(&links, "c").await);
    assert!(links.close(GRACE).await.iter().all(|report| report.is_clean()));
    assert_eq!(links.connections().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_lent_stays_open() {
    let store = Arc::new(MemoryBackend::new());
    let links = links().over(store, Location::Memory);
    let (name, properties) = Links::default_link();
    links.add(name, &properties).await.unwrap();
    assert_eq!(links.connections().await, 0);
    assert!(opens(&links, "").await && opens(&links, "default").await);
    links.remove("").await.unwrap();
    assert!(!opens(&links, "default").await);
    links.add(name, &properties).await.unwrap();
    assert!(opens(&links, "").await);
}
