//! Every way a setting can be wrong, with what the user is told.

use super::*;
use crate::settings::Dialect::{Evo, Graft, Link, Litestream, RateSync, Store};

#[test]
fn an_unknown_name_has_its_place_and_the_nearest_known_one() {
    let files = Files::new();
    for (dialect, yaml, message, hint) in [
        (Store, "tokn: x", "app.yml:1:1: unknown key `tokn`", "did you mean `token`?"),
        (
            Litestream,
            "url: a\nrecconect-wait: 2s",
            "app.yml:2:1: unknown key `recconect-wait`",
            "did you mean `reconnect-wait`?",
        ),
        (
            Link,
            "CLUSTER_URL: a",
            "app.yml:1:1: unknown key `CLUSTER_URL`",
            "did you mean `cluster_uri`?",
        ),
        (
            RateSync,
            "bucket_nam: a",
            "app.yml:1:1: unknown key `bucket_nam`",
            "did you mean `bucket_name`?",
        ),
        (Graft, "xyzzy: a", "app.yml:1:1: unknown key `xyzzy`", ""),
        (
            Store,
            "domain: hub\napi_prefix: JS.x",
            "app.yml:2:1: `domain` (app.yml:1:1) is set too: a domain is an API prefix",
            "keep one of them",
        ),
        (
            Store,
            "server: a\nurl: b",
            "app.yml:2:1: `url`: `server` (app.yml:1:1) says something else",
            "both mean the same setting: keep one",
        ),
    ] {
        assert_eq!(files.error(dialect, yaml), (message.to_owned(), hint.to_owned()), "{yaml}");
    }
}

#[test]
fn a_value_of_another_kind_says_what_to_write() {
    let files = Files::new();
    for (dialect, yaml, message, hint) in [
        (
            Evo,
            "reconnect_wait: 5",
            "app.yml:1:1: `reconnect_wait`: `5` has no unit",
            "write it as `5s`, `250ms` or `1h30m`",
        ),
        (
            Graft,
            "url: a\ntimeout: ten",
            "app.yml:2:1: `timeout`: `ten` is not a duration",
            "write it as `5s`, `250ms` or `1h30m`",
        ),
        (
            Evo,
            "max_reconnect: many",
            "app.yml:1:1: `max_reconnect`: `many` is not a number of attempts",
            "write a whole number, or `-1` to reconnect for ever",
        ),
        (
            Litestream,
            "max-reconnects: -2",
            "app.yml:1:1: `max-reconnects`: `-2` is not a number of attempts",
            "write a whole number, or `-1` to reconnect for ever",
        ),
        (
            Evo,
            "randomize: maybe",
            "app.yml:1:1: `randomize`: `maybe` is neither true nor false",
            "write `true` or `false`",
        ),
        (
            Graft,
            "streaming_threshold: big",
            "app.yml:1:1: `streaming_threshold`: `big` is not a size",
            "write bytes, or `64KiB`, `1GiB`",
        ),
        (
            Graft,
            "retry_backoff: 0",
            "app.yml:1:1: `retry_backoff`: `0` is not a number above zero",
            "",
        ),
        (RateSync, "max_retries: x", "app.yml:1:1: `max_retries`: `x` is not a whole number", ""),
        (
            Store,
            "server: nast://a",
            "app.yml:1:1: `server`: `nast://a`: `nast` is not a scheme of NATS servers",
            "did you mean `nats://`?",
        ),
        (Store, "token: [a]", "app.yml:1:1: `token`: is a list where one value is wanted", ""),
        (Store, "token: {a: b}", "app.yml:1:1: `token`: is a map where one value is wanted", ""),
        (Store, "servers: [a, [b]]", "app.yml:1:1: `servers`: has a list in its list", ""),
        (
            Store,
            "domain: a b",
            "app.yml:1:1: `domain`: `a b` cannot stand in a subject",
            "write tokens joined by `.`, without spaces, `*` and `>`",
        ),
    ] {
        assert_eq!(files.error(dialect, yaml), (message.to_owned(), hint.to_owned()), "{yaml}");
    }
}

#[test]
fn files_are_looked_at_before_anything_connects() {
    let files = Files::new();
    files.write("dir/x", "");
    files.write("empty.pem", "nothing");
    let missing = "cannot be read: No such file or directory (os error 2)";
    let check = "check the path and its permissions";
    let text = "is the text of a file where its path is wanted";
    let seed = "a seed is 58 characters and begins with `SU`";
    for (dialect, yaml, message, hint) in [
        (
            Evo,
            "credentials: DIR/no.creds",
            format!("`credentials`: `DIR/no.creds` {missing}"),
            check,
        ),
        (Evo, "nkey_file: DIR/no.nk", format!("`nkey_file`: `DIR/no.nk` {missing}"), check),
        (Evo, "tls_ca: DIR/no.pem", format!("`tls_ca`: `DIR/no.pem` {missing}"), check),
        (
            Litestream,
            "root-cas: [DIR/ca.pem, DIR/no.pem]",
            format!("`root-cas`: `DIR/no.pem` {missing}"),
            check,
        ),
        (Graft, "cert_file: DIR/no.pem", format!("`cert_file`: `DIR/no.pem` {missing}"), check),
        (Evo, "tls_key: DIR/dir", "`tls_key`: `DIR/dir` is a directory".to_owned(), ""),
        (
            Link,
            "tls_ca_file: DIR/empty.pem",
            "`tls_ca_file`: `DIR/empty.pem` has no certificate".to_owned(),
            "an authority is a PEM file with `BEGIN CERTIFICATE`",
        ),
        (
            Link,
            "tls_ca: hello",
            "`tls_ca`: is not the text of a certificate".to_owned(),
            "write PEM text with `BEGIN CERTIFICATE`, or name a file",
        ),
        (
            Evo,
            "tls_key: '-----BEGIN PRIVATE KEY-----'",
            format!("`tls_key`: {text}"),
            "put the text into a file and write its path",
        ),
        (
            Litestream,
            "nkey: SUACS34K",
            "`nkey`: is neither the seed of a user's nkey nor a file".to_owned(),
            "a seed is 58 characters and begins with `SU`; write a file of this directory as \
             `./NAME`",
        ),
        (
            Link,
            "client_seed: SUACS34K",
            "`client_seed`: is not the seed of a user's nkey".to_owned(),
            seed,
        ),
        (
            Evo,
            "credentials: eyJhbGciOiJlZDI1NTE5.x.y",
            "`credentials`: is neither a creds file nor its text".to_owned(),
            "write the path of a creds file; one of this directory as `./NAME`",
        ),
    ] {
        let expected = (format!("app.yml:1:1: {message}"), hint.to_owned());
        assert_eq!(files.error(dialect, yaml), expected, "{yaml}");
    }
}

#[test]
fn half_a_pair_is_an_error_that_names_the_other_half() {
    let files = Files::new();
    let certificate = "a client certificate needs its key, and a key its certificate";
    let jwt = "a JWT logs in together with the seed of its key";
    let seed = "a seed without a JWT is written as an nkey";
    let user = "a user without a password is written as a token";
    let password = "a password without a user is written as a token";
    for (dialect, yaml, message, hint) in [
        (Evo, "tls_cert: DIR/client.pem".to_owned(), "`tls_cert` without `tls_key`", certificate),
        (Evo, "tls_key: DIR/client.key".to_owned(), "`tls_key` without `tls_cert`", certificate),
        (
            Litestream,
            "client-cert: DIR/client.pem".to_owned(),
            "`client-cert` without `client-key`",
            certificate,
        ),
        (
            Graft,
            "key_file: DIR/client.key".to_owned(),
            "`key_file` without `cert_file`",
            certificate,
        ),
        (Link, "CLIENT_JWT: eyJ".to_owned(), "`CLIENT_JWT` without `client_seed`", jwt),
        (Link, one("CLIENT_SEED", SEED), "`CLIENT_SEED` without `client_jwt`", seed),
        (Litestream, "jwt: eyJ".to_owned(), "`jwt` without `seed`", jwt),
        (Litestream, one("seed", SEED), "`seed` without `jwt`", seed),
        (Evo, "username: u".to_owned(), "`username` without `password`", user),
        (Evo, "password: p".to_owned(), "`password` without `username`", password),
    ] {
        let expected = (format!("app.yml:1:1: {message}"), hint.to_owned());
        assert_eq!(files.error(dialect, &yaml), expected, "{yaml}");
    }
    for (name, value, message) in [
        ("NATS_TLS_CERT", "DIR/client.pem", "NATS_TLS_CERT: is set without `NATS_TLS_KEY`"),
        ("NATS_JWT", "eyJ", "NATS_JWT: is set without `NATS_SEED`"),
        ("NATS_USER", "u", "NATS_USER: is set without `NATS_PASSWORD`"),
    ] {
        let environment = files.environment(&[(name, value)]);
        let result = read(Evo, &[Source::variables(&environment)], &environment);
        assert_eq!(files.error_of(result).0, message);
    }
    let environment = files.environment(&[("NATS_EU_CERT", "DIR/client.pem")]);
    let result = read(Graft, &[Source::target("eu", &environment)], &environment);
    assert_eq!(files.error_of(result).0, "NATS_EU_CERT: is set without `NATS_EU_TLS_KEY`");
}

#[test]
fn errors_of_variables_name_the_variable() {
    let files = Files::new();
    for (name, value, message) in [
        ("NATS_TIMEOUT", "5", "NATS_TIMEOUT: `5` has no unit"),
        ("NATS_SOCKS_PROXY", "socks5://x", "NATS_SOCKS_PROXY: is not supported"),
        (
            "NATS_URL",
            "nats://u:s3cr3t@a:x",
            "NATS_URL: `nats://***@a:x`: a port is not a number from 1 to 65535",
        ),
        (
            "NATS_CREDS",
            "DIR/no",
            "NATS_CREDS: `DIR/no` cannot be read: No such file or directory (os error 2)",
        ),
    ] {
        let environment = files.environment(&[(name, value)]);
        let result = read(Evo, &[Source::variables(&environment)], &environment);
        assert_eq!(files.error_of(result).0, message);
    }
}

#[test]
fn tls_that_is_off_is_off() {
    let files = Files::new();
    let settings = files.yaml(Graft, "tls: false\nca_file: DIR/ca.pem").unwrap();
    assert_eq!(settings.connect.tls, jetbridge_nats::Tls::default());
    let warning = "`tls` (app.yml:1:1) is false, so `ca_file` (app.yml:2:1) is not used";
    assert_eq!(settings.warnings, [warning]);
    let error = files.error(Graft, "url: tls://a\ntls: false");
    let message = "app.yml:2:1: `tls` is false, but a server is `tls://`".to_owned();
    assert_eq!(error, (message, "leave one of them out".to_owned()));
}

#[test]
fn names_that_others_read_are_passed_over_and_offered() {
    let files = Files::new();
    let root = parse_yaml("app.yml", "url: a\nsync-interval: 1s\nname: x\n").unwrap();
    let source = Source::new(Litestream, root.entries()).also_known(&["sync-interval", "name"]);
    let settings = read(Litestream, &[source], &files.environment(&[])).unwrap();
    assert_eq!(settings.connect.name, None, "a replica's name is not the connection's");
    let root = parse_yaml("app.yml", "sync-intervall: 1s\n").unwrap();
    let source = Source::new(Litestream, root.entries()).also_known(&["sync-interval"]);
    let (message, hint) = files.error_of(read(Litestream, &[source], &files.environment(&[])));
    assert_eq!(message, "app.yml:1:1: unknown key `sync-intervall`");
    assert_eq!(hint, "did you mean `sync-interval`?");
}
