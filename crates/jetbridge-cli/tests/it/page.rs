//! The patterns of `examples/templates/guide` as printed, on real servers: one without a login,
//! one for users, one for a token, one with TLS and one that asks for a client certificate. Only
//! the addresses and the paths of certificates are those of the test.

use std::path::Path;

use jetbridge_testkit::{Certificates, NatsServer, Release, ServerOptions};
use serde_json::Value;

use crate::binary::{Said, Store, finish};

const EXPECTED: &str = include_str!("../../../jetbridge-template/tests/guide.json");

/// What stands in the patterns, and what the test has there.
type Places = Vec<(&'static str, String)>;

struct Realm {
    certificates: Certificates,
    plain: NatsServer,
    users: NatsServer,
    token: NatsServer,
    tls: NatsServer,
    mutual: NatsServer,
    directory: Store,
}

impl Realm {
    async fn start(release: Release) -> Self {
        let certificates = Certificates::new();
        let start = async |config: &str| {
            NatsServer::start(release, ServerOptions::new().config(config)).await
        };
        let realm = Self {
            plain: start("").await,
            users: start("authorization { users: [{ user: user, password: password }] }").await,
            token: start("authorization { token: mytoken }").await,
            tls: start(&certificates.server_config("")).await,
            mutual: start(&certificates.server_config("verify: true\n")).await,
            directory: Store::at("memory:"),
            certificates,
        };
        realm.fill().await;
        realm
    }

    fn host(server: &NatsServer) -> String {
        server.url().trim_start_matches("nats://").replace("127.0.0.1", "localhost")
    }

    async fn fill(&self) {
        let plain = Self::host(&self.plain);
        for (bucket, key, value) in [
            ("config", "database_host", "db.example.com"),
            ("config", "database_port", "5432"),
            ("config", "db_host", "kept.example.com"),
            ("config", "db_port", "6432"),
            ("config", "test", "ok"),
            ("secrets", "api_key", "abc123"),
            ("services", "api-gateway/config", "timeout: 30s\nretries: 3\n"),
            ("services", "auth-service/config", "one line: stays text"),
        ] {
            self.key(&plain, bucket, key, value).await;
        }
        let features = "debug: false\nfeatures: [auth, api]\nlimits:\n  max_connections: 1000\n";
        for (bucket, name, body) in [
            ("assets", "config.yaml", features.as_bytes()),
            ("assets", "images/logo.png", b"\x89PNG\r\n\x1a\n\xff".as_slice()),
            ("assets", "images/favicon.ico", b"\0\0\x01\0\xff"),
            ("configs", "development/database.yaml", b"host: development.db\npool: 5\n"),
            ("configs", "production.yml", b"debug: false\nworkers: 8\n"),
            ("tenants", "acme-corp/config.yaml", b"plan: gold\n"),
            ("tenants", "globex/config.yaml", b"plan: free\nseats: [1, 2]\n"),
        ] {
            self.object(&plain, bucket, name, body).await;
        }
        let users = format!("user:password@{}", Self::host(&self.users));
        self.key(&users, "protected", "value", "for user").await;
        let token = format!("mytoken@{}", Self::host(&self.token));
        self.object(&token, "protected", "config.yaml", b"for: mytoken\n").await;
        let tls = Self::host(&self.tls);
        self.key(&tls, "secure", "data", "sealed").await;
        let database = b"host: production.db\n";
        self.object(&tls, "configs", "production/database.yaml", database).await;
        let (cert, key) = self.client_files();
        let mutual = format!("{}?tls_cert={cert}&tls_key={key}", Self::host(&self.mutual));
        self.key(&mutual, "encrypted", "secrets", "sealed twice").await;
    }

    fn client_files(&self) -> (String, String) {
        let text = |path: std::path::PathBuf| path.display().to_string();
        let certificates = &self.certificates;
        (text(certificates.client_certificate_file()), text(certificates.client_key_file()))
    }

    async fn key(&self, host: &str, bucket: &str, key: &str, value: &str) {
        self.does(host, &["kv", "add", bucket]).await;
        self.does(host, &["kv", "put", bucket, key, value]).await;
    }

    async fn object(&self, host: &str, bucket: &str, name: &str, body: &[u8]) {
        std::fs::write(self.directory.path("body"), body).unwrap();
        self.does(host, &["object", "add", bucket]).await;
        self.does(host, &["object", "put", bucket, "body", "--name", name]).await;
    }

    async fn does(&self, host: &str, words: &[&str]) {
        let url = format!("nats://{host}");
        let said = self.run(&[&["--store", &url], words].concat(), &[]).await;
        let there = said.err.contains("already exists");
        assert!(said.code == 0 || there, "{words:?}: {said:?}");
    }

    async fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Said {
        let mut command = self.directory.bare(words);
        command.env("SSL_CERT_FILE", self.certificates.ca_file());
        command.envs(variables.iter().copied());
        finish(command, b"").await
    }

    /// The pattern with the addresses of this test.
    fn pattern(&self, name: &str, places: &Places) -> String {
        let mut text = read(name);
        for (there, here) in places {
            text = text.replace(there, here);
        }
        let path = self.directory.path(&format!("{name}.yml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The pattern, rendered and read again.
    async fn renders(&self, name: &str, places: &Places, variables: &[(&str, &str)]) -> Value {
        let path = self.pattern(name, places);
        let url = self.plain.url();
        let variables = [variables, &[("NATS_URL", url.as_str())]].concat();
        let said = self.run(&["template", "merge", &path], &variables).await;
        assert_eq!(said.code, 0, "{name}: {said:?}");
        let out = self.directory.path("out.yml");
        std::fs::write(&out, said.out).unwrap();
        let json = self.run(&["template", "json", &out], &[]).await;
        serde_json::from_slice(&json.out).unwrap()
    }
}

fn read(name: &str) -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/templates/guide");
    std::fs::read_to_string(guide.join(format!("{name}.yml"))).unwrap()
}

async fn every_pattern_renders_as_printed(release: Release) {
    let realm = Realm::start(release).await;
    std::fs::create_dir(realm.directory.path("config")).unwrap();
    let local = realm.directory.path("config/production.yml");
    std::fs::write(local, "debug: false\nworkers: 4\n").unwrap();
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    let (cert, key) = realm.client_files();
    let at = |there: &'static str, server: &NatsServer| (there, Realm::host(server));
    let places = |name: &str| -> Places {
        match name {
            "servers" => {
                vec![at("prod-nats:4222", &realm.plain), at("secure-nats:4222", &realm.tls)]
            }
            "user" => vec![at("localhost:4222", &realm.users)],
            "token" => vec![at("localhost:4222", &realm.token)],
            "tls" => vec![
                at("secure-nats:4222", &realm.mutual),
                ("/etc/nats/client.crt", cert.clone()),
                ("/etc/nats/client.key", key.clone()),
            ],
            "connectivity" => vec![at("localhost:4222", &realm.plain)],
            "environments" => {
                vec![at("localhost:4222", &realm.plain), at("prod-nats:4222", &realm.tls)]
            }
            _ => Vec::new(),
        }
    };
    let patterns = expected.as_object().unwrap();
    assert_eq!(patterns.len(), 15);
    for (name, expected) in patterns {
        let variables = [("DB_HOST", "env.example.com"), ("DB_PORT", "7432")];
        let found = realm.renders(name, &places(name), &variables).await;
        let shown = places(name)
            .iter()
            .fold(found.to_string(), |text, (there, here)| text.replace(here, there));
        assert_eq!(&serde_json::from_str::<Value>(&shown).unwrap(), expected, "{name}");
    }
    let places = places("environments");
    let found = realm.renders("environments", &places, &[("ENVIRONMENT", "production")]).await;
    assert_eq!(found["config"]["database"]["host"], "production.db");
    refuses_vault(&realm).await;
    says_what_failed(&realm).await;
}

async fn refuses_vault(realm: &Realm) {
    let path = realm.pattern("vault_before", &Vec::new());
    let said = realm.run(&["template", "merge", &path], &[]).await;
    assert_eq!(said.code, 2);
    let expected = "$.secrets.api_key: (( vault )) is not supported here; keep the value in a \
                    bucket and write (( nats \"kv:secrets/key\" ))";
    assert!(said.err.contains(expected), "{said:?}");
}

/// The page's table: each begins as promised, then has its cause, its place and its line.
async fn says_what_failed(realm: &Realm) {
    let url = realm.plain.url();
    let file = realm.directory.path("broken.yml");
    let tls = Realm::host(&realm.tls);
    let untrusted = format!("{{ url: \"nats://{}\", tls: true }}", Realm::host(&realm.plain));
    let refused = format!("\"nats://user:wr0ng@{}\"", Realm::host(&realm.users));
    for (call, begin, cause) in [
        (
            "nats \"kv:config/test\" \"nats://127.0.0.1:1\"",
            "failed to connect to NATS: nats://127.0.0.1:1: no server could be reached",
            "Connection refused",
        ),
        (
            "nats \"kv:none/k\"",
            "failed to access KV store 'none': there is no such bucket",
            "create it with `jetbridge kv add none`",
        ),
        ("nats \"kv:config/none\"", "failed to get key 'none' from store 'config'", "not found"),
        (
            "nats \"obj:none/o\"",
            "failed to access Object store 'none': there is no such bucket",
            "create it with `jetbridge object add none`",
        ),
        (
            "nats \"obj:assets/none\"",
            "failed to get object 'none' from bucket 'assets'",
            "object not found",
        ),
        (
            &format!("nats \"kv:a/b\" {untrusted}"),
            "failed to connect to NATS: ",
            "the server does not speak TLS at this address",
        ),
        (
            &format!("nats \"kv:a/b\" {refused}"),
            "failed to connect to NATS: ",
            "permission denied: the server refuses the login (login the user user)",
        ),
        (
            &format!(
                "nats \"kv:a/b\" {{ url: \"nats://{tls}\", tls: true, ca_file: \"{}\" }}",
                realm.certificates.client_certificate_file().display()
            ),
            "failed to connect to NATS: ",
            "the server's certificate is not trusted",
        ),
        (
            "nats \"kv:a/b\" { url: \"nats://h\", cert_file: \"/none\", key_file: \"/none\" }",
            "failed to connect to NATS: ",
            "`/none` cannot be read",
        ),
    ] {
        std::fs::write(&file, format!("x: 1\na:\n  b: (( {call} ))\n")).unwrap();
        let said = realm.run(&["template", "merge", &file], &[("NATS_URL", &url)]).await;
        assert_eq!(said.code, 2, "{call}: {said:?}");
        let first = format!("1 error(s) detected:\n - $.a.b: {begin}");
        assert!(said.err.starts_with(&first) && said.err.contains(cause), "{call}: {said:?}");
        assert!(said.err.contains("broken.yml:3:6\n  |\n3 |   b: (( nats "), "{call}: {said:?}");
        assert!(!said.err.contains("wr0ng"), "{call}: {said:?}");
        assert!(!said.err.contains(": unavailable"), "{call}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pattern_renders_as_printed_on_the_oldest_server() {
    every_pattern_renders_as_printed(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pattern_renders_as_printed_on_the_newest_server() {
    every_pattern_renders_as_printed(Release::Newest).await;
}

on_every_store!(a_value_that_has_expired_is_not_there);

async fn a_value_that_has_expired_is_not_there(store: Store) {
    store.does("kv add cache --ttl 1s").await;
    std::fs::write(store.path("t.yml"), "t: (( nats \"kv:cache/token\" || \"gone\" ))\n").unwrap();
    store.does("kv put cache token abc123").await;
    let started = std::time::Instant::now();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "t: gone\n") {
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{seen:?}");
        seen.push(store.does("template merge t.yml").await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(seen.first().map(String::as_str), Some("t: abc123\n"));
}
