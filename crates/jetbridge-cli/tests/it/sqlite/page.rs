//! Litestream's page about NATS: every block as printed there. Only the server's address, the
//! database's path and what stands for a secret are the test's.

use std::time::Duration;

use jetbridge::core::{BucketName, BucketSpec, Open, Secret};
use jetbridge::nats::{Auth, ConnectOptions};
use jetbridge::settings::Location;
use jetbridge_testkit::jwt::{Grant, Operator, UserKey};
use jetbridge_testkit::{Certificates, NatsServer, Release, ServerOptions};
use rustix::process::Signal;
use tokio::process::Command;

use super::{COUNT, CREATE, INSERT, application};
use crate::binary::{Said, Store, finish};

const BUCKET: &str = "backups";

/// A server that lets somebody in, and how.
struct Place {
    server: NatsServer,
    /// As the test itself logs in.
    login: ConnectOptions,
    store: Store,
    env: Vec<(&'static str, String)>,
}

impl Place {
    /// A server with this configuration, with the bucket that the page has made.
    async fn new(config: &str, login: impl FnOnce(&mut ConnectOptions)) -> Self {
        let server = NatsServer::start(Release::Newest, ServerOptions::new().config(config)).await;
        let mut options = ConnectOptions::default();
        options.servers = vec![address(&server)];
        login(&mut options);
        let store = Store::at("nats://127.0.0.1:9");
        let place = Self { server, login: options, store, env: Vec::new() };
        let backend =
            jetbridge::connect(Location::Nats(Box::new(place.login.clone()))).await.unwrap();
        let bucket = BucketName::parse(BUCKET).unwrap();
        backend.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
        backend.close(Duration::from_secs(5)).await;
        application(&place.store.path("app.db"), CREATE);
        place
    }

    /// The file with these lines of a replica.
    fn write(&self, lines: &[&str]) {
        let mut text = "dbs:\n  - path: /data/app.db\n    replica:\n      type: nats\n".to_owned();
        for line in lines {
            text += &format!("      {line}\n");
        }
        let text = text.replace("/data/app.db", &self.store.path("app.db"));
        std::fs::write(self.store.path("litestream.yml"), text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.store.linked("litestream", words);
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }

    async fn litestream(&self, words: &[&str]) -> Said {
        finish(self.command(words), b"").await
    }

    /// Replicates and restores by the file.
    async fn works(&self, lines: &[&str]) {
        self.write(lines);
        application(&self.store.path("app.db"), INSERT);
        let said = self.litestream(&["replicate", "-once", "-config", "litestream.yml"]).await;
        assert_eq!(said.code, 0, "{lines:?}: {said:?}");
        assert!(!said.err.contains("warning"), "{lines:?}: {said:?}");
        let database = self.store.path("app.db");
        let words = ["restore", "-force", "-o", "out.db", "-config", "litestream.yml", &database];
        let said = self.litestream(&words).await;
        assert_eq!(said.code, 0, "{lines:?}: {said:?}");
        let rows = application(&self.store.path("out.db"), COUNT);
        assert_eq!(rows, application(&database, COUNT), "{lines:?}");
    }

    fn url(&self) -> String {
        format!("url: {}", address(&self.server))
    }
}

/// By the name that its certificate has.
fn address(server: &NatsServer) -> String {
    format!("nats://localhost:{}", server.address().port())
}

const BUCKET_LINE: &str = "bucket: backups";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocks_without_a_login_work() {
    let place = Place::new("", |_nobody| ()).await;
    place.works(&[&place.url(), BUCKET_LINE]).await;
    // Whatever the page calls its server, and however it is written.
    let host = address(&place.server);
    place.works(&[&format!("url: {host}/backups")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocks_with_a_password_or_a_token_work() {
    let config = "authorization { users: [ {user: litestream, password: s3cret} ] }";
    let mut place = Place::new(config, |options| {
        let password = Secret::new("s3cret".to_owned());
        options.auth = Auth::UserPassword { user: "litestream".to_owned(), password };
    })
    .await;
    place.env.push(("NATS_PASSWORD", "s3cret".to_owned()));
    let login = ["username: litestream", "password: ${NATS_PASSWORD}"];
    place.works(&[&place.url(), BUCKET_LINE, login[0], login[1]]).await;
    // The page's list of servers, each with its scheme.
    let host = address(&place.server);
    let cluster = format!("url: {host},{host},{host}");
    place.works(&[&cluster, BUCKET_LINE, login[0], login[1]]).await;

    let mut place = Place::new("authorization { token: t0ken }", |options| {
        options.auth = Auth::Token(Secret::new("t0ken".to_owned()));
    })
    .await;
    place.env.push(("NATS_TOKEN", "t0ken".to_owned()));
    place.works(&[&place.url(), BUCKET_LINE, "token: ${NATS_TOKEN}"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_block_with_an_nkey_works() {
    let key = UserKey::new();
    let config = format!("authorization {{ users: [{{nkey: {}}}] }}", key.public);
    let place = Place::new(&config, |options| {
        options.auth = Auth::NkeySeed(Secret::new(key.seed.clone()));
    })
    .await;
    place.works(&[&place.url(), BUCKET_LINE, &format!("nkey: {}", key.seed)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocks_with_a_jwt_or_a_creds_file_work() {
    let operator = Operator::new();
    let account = operator.account("APP");
    let user = account.user("litestream", &Grant::all());
    let place = Place::new(&operator.server_config(&[&account]), |options| {
        options.auth = Auth::Creds(Secret::new(user.creds()));
    })
    .await;
    let (jwt, seed) = (format!("jwt: {}", user.jwt), format!("seed: {}", user.seed));
    place.works(&[&place.url(), BUCKET_LINE, &jwt, &seed]).await;
    let file = place.store.path("nats.creds");
    std::fs::write(&file, user.creds()).unwrap();
    place.works(&[&place.url(), BUCKET_LINE, &format!("creds: {file}")]).await;
}

/// Synadia's block: a creds file, and an encrypted server that the system trusts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_block_for_synadia_works() {
    let (operator, certificates) = (Operator::new(), Certificates::new());
    let account = operator.account("APP");
    let user = account.user("litestream", &Grant::all());
    let config =
        format!("{}\n{}", operator.server_config(&[&account]), certificates.server_config(""));
    let mut place = Place::new(&config, |options| {
        options.auth = Auth::Creds(Secret::new(user.creds()));
        options.tls.required = true;
        options.tls.ca_files = vec![certificates.ca_file()];
    })
    .await;
    let trusted = certificates.ca_file().display().to_string();
    place.env.push(("SSL_CERT_FILE", trusted));
    let file = place.store.path("ngs.creds");
    std::fs::write(&file, user.creds()).unwrap();
    place.works(&[&place.url(), BUCKET_LINE, &format!("creds: {file}"), "tls: true"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocks_with_encryption_work() {
    let certificates = Certificates::new();
    let ca = format!("  - {}", certificates.ca_file().display());
    let login = |options: &mut ConnectOptions| {
        options.tls.required = true;
        options.tls.ca_files = vec![certificates.ca_file()];
    };
    let mut place = Place::new(&certificates.server_config(""), login).await;
    place.works(&[&place.url(), BUCKET_LINE, "tls: true", "root-cas:", &ca]).await;
    // Nothing but `tls: true`: the system's authorities.
    let said = {
        place.write(&[&place.url(), BUCKET_LINE, "tls: true"]);
        place.litestream(&["replicate", "-once", "-config", "litestream.yml"]).await
    };
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("TLS handshake failed"), "{said:?}");
    assert!(said.err.contains("check the CA certificate"), "{said:?}");
    place.env.push(("SSL_CERT_FILE", certificates.ca_file().display().to_string()));
    place.works(&[&place.url(), BUCKET_LINE, "tls: true"]).await;

    let place = Place::new(&certificates.server_config("verify: true"), |options| {
        login(options);
        options.tls.client = Some(jetbridge::nats::ClientCertificate {
            certificate_file: certificates.client_certificate_file(),
            key_file: certificates.client_key_file(),
        });
    })
    .await;
    let certificate = format!("client-cert: {}", certificates.client_certificate_file().display());
    let key = format!("client-key: {}", certificates.client_key_file().display());
    let lines = [&place.url(), BUCKET_LINE, "tls: true", "root-cas:", &ca, &certificate, &key];
    place.works(&lines).await;
}

/// What the page's troubleshooting calls it, and its checks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_explains_begins_with_its_words() {
    let config = "authorization { users: [ {user: litestream, password: s3cret} ] }";
    let place = Place::new(config, |options| {
        let password = Secret::new("s3cret".to_owned());
        options.auth = Auth::UserPassword { user: "litestream".to_owned(), password };
    })
    .await;
    let (user, right) = ("username: litestream", "password: s3cret");
    let once = async |lines: &[&str]| {
        place.write(lines);
        let said = place.litestream(&["replicate", "-once", "-config", "litestream.yml"]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(!said.err.contains("s3cret") && !said.err.contains("wr0ng"), "{said:?}");
        said.err
    };
    let said = once(&[&place.url(), BUCKET_LINE, user, "password: wr0ng"]).await;
    assert!(said.contains("error: Authorization violation"), "{said}");
    assert!(said.contains("jetbridge doctor"), "{said}");
    let said = once(&[&place.url(), "bucket: other", user, right]).await;
    assert!(said.contains("error: Bucket not found"), "{said}");
    assert!(said.contains("jetbridge object add"), "{said}");
    place.server.kill();
    let said = once(&[&place.url(), BUCKET_LINE, user, right]).await;
    assert!(said.contains("error: Connection refused"), "{said}");
    assert!(said.contains("check that the server runs"), "{said}");
}

/// What was never begun with is not in the replica, and no clean end says that it were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replicator_that_never_began_does_not_end_well() {
    let place = Place::new("", |_nobody| ()).await;
    place.write(&[&place.url(), "bucket: other"]);
    let mut running = place.store.start(&["sqlite", "replicate", "-config", "litestream.yml"]);
    let mut note = running.note().await;
    while !note.contains("Bucket not found") {
        note = running.note().await;
    }
    assert!(note.contains("jetbridge object add"), "{note}");
    running.signal(Signal::TERM);
    assert_eq!(running.end().await.1, 1);
}

/// The same words in the log of one that goes on, and waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replicator_that_waits_says_why_in_the_words_of_the_page() {
    let place = Place::new("", |_nobody| ()).await;
    place.write(&[&place.url(), BUCKET_LINE]);
    place.server.kill();
    let words = ["sqlite", "replicate", "-config", "litestream.yml"];
    let mut running = place.store.start(&words);
    while !running.note().await.contains("Connection refused") {}
    place.server.restart().await;
    let restored = async || {
        let words = ["restore", "-force", "-o", "out.db", "-config", "litestream.yml"];
        let path = place.store.path("app.db");
        let said = place.litestream(&[&words[..], &[path.as_str()]].concat()).await;
        (said.code == 0).then_some(())
    };
    jetbridge_testkit::eventually("it is shipped", Duration::from_secs(40), restored).await;
    running.signal(Signal::TERM);
    assert_eq!(running.end().await.1, 0);
}

/// The permissions that the page prints are enough for no client; it is said what is missing, and
/// what is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_of_the_page_are_refused_by_name_and_the_right_ones_printed() {
    let printed = "permissions: {publish: [\"$JS.API.OBJECT.>\"], \
                   subscribe: [\"$JS.API.OBJECT.>\", \"_INBOX.>\"]}";
    let users = |permissions: &str| {
        format!(
            "authorization {{ users: [ {{user: admin, password: pw}}, \
             {{user: litestream, password: s3cret, {permissions}}} ] }}"
        )
    };
    let place = Place::new(&users(printed), |options| {
        let password = Secret::new("pw".to_owned());
        options.auth = Auth::UserPassword { user: "admin".to_owned(), password };
    })
    .await;
    let lines = [&place.url(), BUCKET_LINE, "username: litestream", "password: s3cret"];
    place.write(&lines);
    let said = place.litestream(&["replicate", "-once", "-config", "litestream.yml"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("$JS.API.STREAM.INFO.OBJ_backups"), "{said:?}");
    assert!(said.err.contains("check --permissions"), "{said:?}");

    let enough = place.store.does("check --permissions litestream.yml").await;
    assert!(!enough.contains("not covered"), "{enough}");
    let path = place.server.dir().join("server.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(printed, &enough)).unwrap();
    place.server.restart().await;
    place.works(&lines).await;
    let denied: Vec<String> = place
        .server
        .log()
        .lines()
        .filter(|it| it.contains(" Violation"))
        .map(str::to_owned)
        .collect();
    let denied: Vec<_> = denied.iter().filter(|it| !it.contains("$JS.API.INFO\"")).collect();
    assert!(denied.iter().all(|it| it.contains("STREAM.INFO.OBJ_backups")), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_ships_every_page_anew_and_deletes_what_is_old() {
    let place = Place::new("", |_nobody| ()).await;
    place.write(&[&place.url(), BUCKET_LINE]);
    let config = ["-config", "litestream.yml"];
    let bases = async || {
        let path = place.store.path("app.db");
        let words = [&["ltx", "-level", "3", "-json"], &config[..], &[path.as_str()]].concat();
        place.litestream(&words).await.text().matches("\"level\":3").count()
    };
    let once = async |flags: &[&str]| {
        let words = [&["replicate", "-once"], flags, &config[..]].concat();
        let said = place.litestream(&words).await;
        assert_eq!(said.code, 0, "{said:?}");
    };
    once(&[]).await;
    let first = bases().await;
    application(&place.store.path("app.db"), INSERT);
    once(&[]).await;
    assert_eq!(bases().await, first, "what differs is shipped");
    once(&["-force-snapshot", "-enforce-retention"]).await;
    assert!(bases().await > first);
    let said =
        place.litestream(&["replicate", "-force-snapshot", "-config", "litestream.yml"]).await;
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.err.contains("--once"), "{said:?}");
}
