//! Every name of every dialect, and where its value goes.

use std::time::Duration;

use jetbridge_core::Secret;
use jetbridge_nats::{Auth, ClientCertificate};

use super::*;
use crate::settings::Dialect::{Evo, Graft, Link, Litestream, RateSync, Store};

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn servers(settings: &NatsSettings) -> Vec<&str> {
    settings.connect.servers.iter().map(String::as_str).collect()
}

#[test]
fn every_key_of_the_evo_page() {
    let files = Files::new();
    let text = "NATS.SERVER=nats://nats1:4222,nats://nats2:4222\nNATS.MAX_RECONNECT=-1\n\
                NATS.RECONNECT_WAIT=5s\nNATS.CONNECT_TIMEOUT=7s\nNATS.DRAIN_TIMEOUT=1m\n\
                NATS.RANDOMIZE=false\nNATS.DEFAULT_BUCKET=myapp\nNATS.CREDENTIALS=DIR/app.creds\n\
                NATS.TLS_CERT=DIR/client.pem\nNATS.TLS_KEY=DIR/client.key\nNATS.TLS_CA=DIR/ca.pem\n";
    let root = parse_pairs("app.env", &files.fill(text)).unwrap();
    let settings = read(Evo, &[Source::evo(&root)], &files.environment(&[])).unwrap();
    assert_eq!(servers(&settings), ["nats://nats1:4222", "nats://nats2:4222"]);
    let connect = &settings.connect;
    assert_eq!(connect.reconnects_max, None, "-1 is for ever");
    assert_eq!(connect.reconnect_wait, Duration::from_secs(5));
    assert_eq!(connect.connect_timeout, Duration::from_secs(7));
    assert!(!connect.randomize);
    assert_eq!(connect.auth, Auth::CredsFile(files.path("app.creds")));
    assert!(connect.tls.required);
    assert_eq!(connect.tls.ca_files, [files.path("ca.pem")]);
    let client = ClientCertificate {
        certificate_file: files.path("client.pem"),
        key_file: files.path("client.key"),
    };
    assert_eq!(connect.tls.client, Some(client));
    assert_eq!(settings.drain_timeout, Some(Duration::from_secs(60)));
    assert_eq!(settings.bucket.as_deref(), Some("myapp"));
    assert_eq!(settings.warnings, [""; 0]);
}

#[test]
fn evo_has_the_defaults_that_its_page_prints() {
    let settings = Files::new().yaml(Evo, "{}").unwrap();
    assert_eq!(servers(&settings), ["nats://127.0.0.1:4222"]);
    assert_eq!(settings.server_place, None);
    assert_eq!(settings.connect.reconnects_max, Some(5));
    assert_eq!(settings.connect.reconnect_wait, Duration::from_secs(2));
    assert_eq!(settings.connect.connect_timeout, Duration::from_secs(5));
    assert!(settings.connect.randomize);
    assert_eq!(settings.drain_timeout, Some(Duration::from_secs(30)));
    assert_eq!(settings.bucket.as_deref(), Some("default"));
    assert_eq!(settings.patient().connect.reconnects_max, None);
    let written = Files::new().yaml(Evo, "max_reconnect: 5").unwrap().patient();
    assert_eq!(written.connect.reconnects_max, Some(5), "what the user wrote stays");
}

#[test]
fn environment_then_yaml_then_arguments() {
    let files = Files::new();
    let environment = files.environment(&[
        ("NATS_SERVER", "nats://env"),
        ("NATS_RECONNECT_WAIT", "1s"),
        ("NATS_MAX_RECONNECT", "1"),
        ("NATS_TOKEN", "t"),
    ]);
    let yaml = parse_yaml("app.yml", "nats: {server: 'nats://yaml', max_reconnect: 2}").unwrap();
    let arguments = parse_pairs("arguments", "NATS.SERVER=nats://argument").unwrap();
    let sources = [Source::variables(&environment), Source::evo(&yaml), Source::evo(&arguments)];
    let settings = read(Evo, &sources, &environment).unwrap();
    assert_eq!(servers(&settings), ["nats://argument:4222"]);
    assert_eq!(settings.connect.reconnects_max, Some(2));
    assert_eq!(settings.connect.reconnect_wait, Duration::from_secs(1));
    assert_eq!(settings.connect.auth, Auth::Token(secret("t")));
}

#[test]
fn every_key_of_the_litestream_page() {
    let files = Files::new();
    let yaml = "url: nats://n1.example.com:4222,nats://n2.example.com:4222,nats://n3.example.com\n\
                bucket: backups\nusername: litestream\npassword: \"007\"\ntls: true\n\
                root-cas:\n  - DIR/ca.pem\n  - DIR/ca2.pem\nclient-cert: DIR/client.pem\n\
                client-key: DIR/client.key\nmax-reconnects: 7\nreconnect-wait: 3s\ntimeout: 11s\n";
    let settings = files.yaml(Litestream, yaml).unwrap();
    let expected =
        ["nats://n1.example.com:4222", "nats://n2.example.com:4222", "nats://n3.example.com:4222"];
    assert_eq!(servers(&settings), expected);
    let connect = &settings.connect;
    let user = "litestream".to_owned();
    assert_eq!(connect.auth, Auth::UserPassword { user, password: secret("007") });
    assert!(connect.tls.required);
    assert_eq!(connect.tls.ca_files, [files.path("ca.pem"), files.path("ca2.pem")]);
    assert!(connect.tls.client.is_some());
    assert_eq!(connect.reconnects_max, Some(7));
    assert_eq!(connect.reconnect_wait, Duration::from_secs(3));
    assert_eq!(connect.connect_timeout, Duration::from_secs(11));
    assert_eq!(settings.bucket.as_deref(), Some("backups"));
    assert_eq!(settings.warnings, [""; 0]);

    let defaults = files.yaml(Litestream, "url: nats://a/backups").unwrap();
    assert_eq!(defaults.path.as_deref(), Some("backups"), "the bucket may be in the URL");
    assert_eq!(defaults.connect.reconnects_max, Some(60));
    assert_eq!(defaults.connect.reconnect_wait, Duration::from_secs(2));
    assert_eq!(defaults.connect.connect_timeout, Duration::from_secs(10));
    assert!(!defaults.connect.tls.required);
}

#[test]
fn every_login_of_the_litestream_page() {
    let files = Files::new();
    for (yaml, auth) in [
        ("token: 1e5".to_owned(), Auth::Token(secret("1e5"))),
        (one("nkey", SEED), Auth::NkeySeed(secret(SEED))),
        (
            format!("jwt: eyJ0eXAiOiJKV1QiLC\nseed: {SEED}"),
            Auth::Jwt { jwt: secret("eyJ0eXAiOiJKV1QiLC"), seed: secret(SEED) },
        ),
        ("creds: DIR/app.creds".to_owned(), Auth::CredsFile(files.path("app.creds"))),
        ("creds: ~/app.creds".to_owned(), Auth::CredsFile(files.path("app.creds"))),
    ] {
        assert_eq!(files.yaml(Litestream, &yaml).unwrap().connect.auth, auth, "{yaml}");
    }
}

#[test]
fn every_key_of_a_rate_sync_store() {
    let files = Files::new();
    let toml = "engine = \"nats\"\nurl = \"nats://localhost:4222\"\ntoken = \"${NATS_TOKEN:-}\"\n\
                bucket_name = \"limits\"\nauto_create = true\nretry_interval = 0.1\n\
                max_retries = 7\ntiming_margin_ms = 20.0\n";
    let environment = files.environment(&[]);
    let read_store = |toml: &str| {
        let mut root = parse_toml("rate-sync.toml", toml).unwrap();
        root.expand(&environment, Expansion::Braces).unwrap();
        let source = Source::new(RateSync, root.entries()).also_known(&["engine"]);
        read(RateSync, &[source], &environment).unwrap()
    };
    let settings = read_store(toml);
    assert_eq!(settings.connect.auth, Auth::None, "an empty token is none");
    assert_eq!(settings.bucket.as_deref(), Some("limits"));
    assert_eq!(settings.auto_create, Some(true));
    assert_eq!(settings.conflict_wait, Some(Duration::from_millis(100)));
    assert_eq!(settings.conflicts_max, Some(7));
    assert_eq!(settings.timing_margin, Some(Duration::from_millis(20)));
    let defaults = read_store("engine = \"nats\"\nurl = \"localhost\"\n");
    assert_eq!(defaults.bucket.as_deref(), Some("rate_limits"));
    assert_eq!(defaults.auto_create, Some(false));
    assert_eq!(defaults.conflict_wait, Some(Duration::from_millis(50)));
    assert_eq!(defaults.conflicts_max, Some(100));
    assert_eq!(defaults.timing_margin, Some(Duration::from_millis(10)));
    assert_eq!(defaults.connect.reconnects_max, None);
}

#[test]
fn every_key_of_a_link_in_any_case() {
    let files = Files::new();
    let upper = format!(
        "CLUSTER_URI: 0.0.0.0:4222\nJS_DOMAIN: hub\nCLIENT_JWT: eyJ\nCLIENT_SEED: {SEED}\n\
         TLS_CA_FILE: DIR/ca.pem\nBUCKET: counters\nENABLE_BUCKET_AUTO_CREATE: \"true\"\n"
    );
    let lower: String = upper
        .lines()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| format!("{}:{value}\n", name.to_ascii_lowercase()))
        .collect();
    for yaml in [upper, lower] {
        let settings = files.yaml(Link, &yaml).unwrap();
        assert_eq!(servers(&settings), ["nats://127.0.0.1:4222"]);
        assert_eq!(settings.connect.domain.as_deref(), Some("hub"));
        assert_eq!(settings.connect.auth, Auth::Jwt { jwt: secret("eyJ"), seed: secret(SEED) });
        assert_eq!(settings.connect.tls.ca_files, [files.path("ca.pem")]);
        assert!(settings.connect.tls.required);
        assert_eq!(settings.bucket.as_deref(), Some("counters"));
        assert_eq!(settings.auto_create, Some(true));
    }
    let defaults = files.yaml(Link, "{}").unwrap();
    assert_eq!(servers(&defaults), ["nats://127.0.0.1:4222"]);
    assert_eq!(defaults.connect.domain, None);
}

#[test]
fn the_authority_of_a_link_is_text_in_several_wrappings() {
    use base64::Engine as _;
    let files = Files::new();
    let packed = base64::engine::general_purpose::STANDARD.encode(PEM);
    let escaped = PEM.replace('\n', "\\n");
    for value in [format!("{PEM:?}"), format!("'{escaped}'"), packed] {
        let settings = files.yaml(Link, &one("tls_ca", &value)).unwrap();
        assert_eq!(settings.connect.tls.ca_pem, [PEM], "{value}");
        assert!(settings.connect.tls.required);
    }
    let der = base64::engine::general_purpose::STANDARD.encode([0x30, 0x82, 1, 0, 5]);
    let settings = files.yaml(Link, &one("TLS_CA", &der)).unwrap();
    let armoured = format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    assert_eq!(settings.connect.tls.ca_pem, [armoured]);

    let both = format!("TLS_CA: {PEM:?}\nTLS_CA_FILE: DIR/ca.pem\n");
    let settings = files.yaml(Link, &both).unwrap();
    assert!(settings.connect.tls.ca_files.is_empty());
    let warning = "`TLS_CA` (app.yml:1:1) and `TLS_CA_FILE` (app.yml:2:1) both name authorities; \
                   `TLS_CA` (app.yml:1:1) is used";
    assert_eq!(settings.warnings, [warning]);
}

#[test]
fn every_key_of_a_graft_map() {
    let files = Files::new();
    let yaml = "url: nats://secure-nats:4222\ntimeout: 10s\nretries: 5\nretry_interval: 2s\n\
                retry_backoff: 1.5\nmax_retry_interval: 20s\ntls: true\ncert_file: DIR/client.pem\n\
                key_file: DIR/client.key\nca_file: DIR/ca.pem\ninsecure_skip_verify: true\n\
                cache_ttl: 1m\nstreaming_threshold: 1048576\naudit_logging: true\n";
    let settings = files.yaml(Graft, yaml).unwrap();
    let connect = &settings.connect;
    assert_eq!(connect.connect_timeout, Duration::from_secs(10));
    assert_eq!(connect.reconnects_max, Some(5));
    assert_eq!(connect.reconnect_wait, Duration::from_secs(2));
    assert!(connect.tls.required && connect.tls.insecure && connect.tls.client.is_some());
    assert_eq!(connect.tls.ca_files, [files.path("ca.pem")]);
    assert_eq!(settings.retry_backoff, Some(1.5));
    assert_eq!(settings.retry_wait_max, Some(Duration::from_secs(20)));
    assert_eq!(settings.cache_ttl, Some(Duration::from_secs(60)));
    assert_eq!(settings.streaming_threshold, Some(1 << 20));
    assert_eq!(settings.audit_logging, Some(true));
    let warning = "`insecure_skip_verify` (app.yml:11:1) trusts any certificate: for tests only";
    assert_eq!(settings.warnings, [warning]);

    let defaults = files.yaml(Graft, "{}").unwrap();
    assert_eq!(defaults.connect.reconnects_max, Some(3));
    assert_eq!(defaults.connect.reconnect_wait, Duration::from_secs(1));
    assert_eq!(defaults.connect.connect_timeout, Duration::from_secs(5));
    assert_eq!(defaults.retry_backoff, Some(2.0));
    assert_eq!(defaults.retry_wait_max, Some(Duration::from_secs(30)));
    assert_eq!(defaults.cache_ttl, Some(Duration::from_secs(300)));
    assert_eq!(defaults.streaming_threshold, Some(10 << 20));
    assert_eq!(defaults.audit_logging, Some(false));
}

#[test]
fn a_target_of_graft_has_variables_of_its_own() {
    let files = Files::new();
    let environment = files.environment(&[
        ("NATS_URL", "nats://default"),
        ("NATS_TOKEN", "default"),
        ("NATS_PROD_EU_URL", "nats://prod"),
        ("NATS_PROD_EU_TIMEOUT", "9s"),
        ("NATS_PROD_EU_CERT_FILE", "DIR/client.pem"),
        ("NATS_PROD_EU_KEY_FILE", "DIR/client.key"),
    ]);
    let target = Source::target("prod-eu", &environment);
    let settings = read(Graft, &[target], &environment).unwrap();
    assert_eq!(servers(&settings), ["nats://prod:4222"]);
    assert_eq!(settings.connect.auth, Auth::None);
    assert_eq!(settings.connect.connect_timeout, Duration::from_secs(9));
    assert!(settings.connect.tls.client.is_some());
    assert_eq!(settings.server_place, Some(Place::variable("NATS_PROD_EU_URL")));
    assert!(Source::target("staging", &environment).is_empty());
    assert_eq!(target_variable("staging"), "NATS_STAGING_URL");
}

#[test]
fn every_variable() {
    let files = Files::new();
    let check = |name: &str, value: &str, test: fn(&NatsSettings) -> bool| {
        let environment = files.environment(&[(name, value)]);
        let settings = read(Evo, &[Source::variables(&environment)], &environment).unwrap();
        assert!(test(&settings), "{name}={value}: {settings:?}");
    };
    check("NATS_URL", "nats://a", |it| it.connect.servers == ["nats://a:4222"]);
    check("NATS_SERVER", "a:1,b:2", |it| it.connect.servers == ["nats://a:1", "nats://b:2"]);
    for name in ["NATS_CREDENTIALS", "NATS_CREDS"] {
        check(name, "DIR/app.creds", |it| matches!(it.connect.auth, Auth::CredsFile(_)));
        check(name, CREDS, |it| matches!(it.connect.auth, Auth::Creds(_)));
    }
    for name in ["NATS_NKEY_FILE", "NATS_NKEY"] {
        check(name, "DIR/user.nk", |it| matches!(it.connect.auth, Auth::NkeyFile(_)));
        check(name, SEED, |it| matches!(it.connect.auth, Auth::NkeySeed(_)));
    }
    check("NATS_TOKEN", "t", |it| matches!(it.connect.auth, Auth::Token(_)));
    check("NATS_TLS", "true", |it| it.connect.tls.required);
    check("NATS_TLS", "false", |it| !it.connect.tls.required);
    check("NATS_TLS_FIRST", "1", |it| it.connect.tls.handshake_first && it.connect.tls.required);
    for name in ["NATS_TLS_CA", "NATS_CA_FILE", "NATS_CA"] {
        check(name, "DIR/ca.pem", |it| it.connect.tls.ca_files.len() == 1);
        check(name, PEM, |it| it.connect.tls.ca_pem == [PEM.trim_end()]);
    }
    check("NATS_INSECURE_SKIP_VERIFY", "true", |it| it.connect.tls.insecure);
    check("NATS_MAX_RECONNECT", "9", |it| it.connect.reconnects_max == Some(9));
    check("NATS_RETRIES", "9", |it| it.connect.reconnects_max == Some(9));
    check("NATS_RECONNECT_WAIT", "9s", |it| it.connect.reconnect_wait.as_secs() == 9);
    check("NATS_RETRY_INTERVAL", "9s", |it| it.connect.reconnect_wait.as_secs() == 9);
    check("NATS_CONNECT_TIMEOUT", "9s", |it| it.connect.connect_timeout.as_secs() == 9);
    check("NATS_TIMEOUT", "9s", |it| it.connect.connect_timeout.as_secs() == 9);
    check("NATS_REQUEST_TIMEOUT", "9s", |it| it.connect.request_timeout.as_secs() == 9);
    check("NATS_PING_INTERVAL", "9s", |it| it.connect.ping_interval.as_secs() == 9);
    check("NATS_RANDOMIZE", "no", |it| !it.connect.randomize);
    check("NATS_CONNECTION_NAME", "n", |it| it.connect.name.as_deref() == Some("n"));
    for name in ["NATS_JS_DOMAIN", "NATS_JETSTREAM_DOMAIN"] {
        check(name, "hub", |it| it.connect.domain.as_deref() == Some("hub"));
    }
    for name in ["NATS_JS_API_PREFIX", "NATS_JETSTREAM_API_PREFIX"] {
        check(name, "JS.acc.", |it| it.connect.api_prefix.as_deref() == Some("JS.acc"));
    }
    check("NATS_INBOX_PREFIX", "_I.me", |it| it.connect.inbox_prefix.as_deref() == Some("_I.me"));
    check("NATS_DRAIN_TIMEOUT", "9s", |it| it.drain_timeout == Some(Duration::from_secs(9)));
    check("NATS_DEFAULT_BUCKET", "b", |it| it.bucket.as_deref() == Some("b"));
    check("NATS_RETRY_BACKOFF", "3", |it| it.retry_backoff == Some(3.0));
    check("NATS_MAX_RETRY_INTERVAL", "9s", |it| it.retry_wait_max.is_some());
    check("NATS_CACHE_TTL", "9s", |it| it.cache_ttl == Some(Duration::from_secs(9)));
    check("NATS_STREAMING_THRESHOLD", "1MiB", |it| it.streaming_threshold == Some(1 << 20));
    check("NATS_AUDIT_LOGGING", "yes", |it| it.audit_logging == Some(true));
    check("NATS_SERVICE_HOST", "10.0.0.1", |it| it.server_place.is_none());
    check("NATS_PORT", "tcp://10.0.0.1:4222", |it| it.server_place.is_none());
}

#[test]
fn variables_that_come_in_pairs() {
    let files = Files::new();
    for (user, password) in [("NATS_USERNAME", "NATS_PASSWORD"), ("NATS_USER", "NATS_PASSWORD")] {
        let environment = files.environment(&[(user, "u"), (password, "p")]);
        let settings = read(Evo, &[Source::variables(&environment)], &environment).unwrap();
        let auth = Auth::UserPassword { user: "u".into(), password: secret("p") };
        assert_eq!(settings.connect.auth, auth);
    }
    let environment = files.environment(&[("NATS_JWT", "eyJ"), ("NATS_SEED", SEED)]);
    let settings = read(Evo, &[Source::variables(&environment)], &environment).unwrap();
    assert!(matches!(settings.connect.auth, Auth::Jwt { .. }));
    for (certificate, key) in [
        ("NATS_TLS_CERT", "NATS_TLS_KEY"),
        ("NATS_CERT_FILE", "NATS_KEY_FILE"),
        ("NATS_CERT", "NATS_KEY"),
    ] {
        let environment =
            files.environment(&[(certificate, "DIR/client.pem"), (key, "DIR/client.key")]);
        let settings = read(Evo, &[Source::variables(&environment)], &environment).unwrap();
        assert!(settings.connect.tls.client.is_some(), "{certificate}");
    }
    let environment = files.environment(&[("NATS_URL", "a"), ("NATS_SERVER", "b")]);
    let settings = read(Evo, &[Source::variables(&environment)], &environment).unwrap();
    assert_eq!(servers(&settings), ["nats://a:4222"]);
    let warning = "`NATS_URL` and `NATS_SERVER` say different things; `NATS_URL` is used";
    assert_eq!(settings.warnings, [warning]);
}

#[test]
fn what_a_page_does_not_print_is_written_in_our_names_everywhere() {
    let files = Files::new();
    for dialect in [Evo, Graft, Link, Litestream, RateSync, Store] {
        for (yaml, test) in [
            ("domain: hub", (|it| it.connect.domain.is_some()) as fn(&NatsSettings) -> bool),
            ("js-domain: hub", |it| it.connect.domain.is_some()),
            ("api_prefix: JS.x", |it| it.connect.api_prefix.is_some()),
            ("inbox_prefix: _I", |it| it.connect.inbox_prefix.is_some()),
            ("tls_first: true", |it| it.connect.tls.handshake_first),
            ("creds: DIR/app.creds", |it| it.connect.auth != Auth::None),
            ("nkey_file: DIR/user.nk", |it| it.connect.auth != Auth::None),
            ("token: t", |it| it.connect.auth != Auth::None),
            ("{user: u, password: p}", |it| it.connect.auth != Auth::None),
            ("request_timeout: 9s", |it| it.connect.request_timeout.as_secs() == 9),
            ("ping_interval: 9s", |it| it.connect.ping_interval.as_secs() == 9),
            ("servers: [a, 'nats://b']", |it| it.connect.servers.len() == 2),
            ("server: a", |it| it.server_place.is_some()),
        ] {
            let settings = files.yaml(dialect, yaml).unwrap();
            assert!(test(&settings), "{dialect:?}: {yaml}: {settings:?}");
        }
    }
}

#[test]
fn a_url_is_a_source_of_its_own() {
    let environment = Environment::from_iter([("NATS_TOKEN", "t")]);
    let place = Place::argument("replica");
    let url = "nats://a,b/backups?domain=hub";
    let sources = [Source::variables(&environment), Source::url(Litestream, url, &place)];
    let settings = read(Litestream, &sources, &environment).unwrap();
    assert_eq!(servers(&settings), ["nats://a:4222", "nats://b:4222"]);
    assert_eq!(settings.path.as_deref(), Some("backups"));
    assert_eq!(settings.connect.domain.as_deref(), Some("hub"));
    assert_eq!(settings.server_place, Some(place.clone()));
    let bad = read(Graft, &[Source::url(Graft, "nats://a?x=%zz", &place)], &environment);
    let message = "replica: `url`: `nats://a?***`: a `%` is not followed by two hexadecimal digits";
    assert_eq!(bad.unwrap_err().message(), Some(message));
}
