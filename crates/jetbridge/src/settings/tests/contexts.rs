//! Contexts of the `nats` CLI.

use jetbridge_core::Secret;
use jetbridge_nats::{Auth, ConnectOptions};

use super::*;

/// A context as that CLI writes it, all fields there and most empty.
const FULL: &str = r#"{
  "description": "staging",
  "url": "nats://n1:4222,nats://n2:4222",
  "socks_proxy": "",
  "token": "",
  "user": "",
  "password": "",
  "creds": "",
  "nkey": "",
  "cert": "DIR/client.pem",
  "key": "DIR/client.key",
  "ca": "~/ca.pem",
  "nsc": "",
  "jetstream_domain": "hub",
  "jetstream_api_prefix": "",
  "jetstream_event_prefix": "",
  "inbox_prefix": "_I.me",
  "user_jwt": "",
  "user_seed": "",
  "color_scheme": "blue",
  "tls_first": true,
  "windows_cert_store": "",
  "windows_cert_match_by": "",
  "windows_cert_match": "",
  "windows_ca_certs_match": null
}"#;

fn connect(
    files: &Files,
    store: &str,
    variables: &[(&str, &str)],
) -> Result<(ConnectOptions, Vec<String>)> {
    let request = StoreRequest::new().store(Some(store.to_owned()));
    let resolved = resolve(&request, &files.environment(variables))?;
    let Location::Nats(options) = resolved.location else { panic!("{store} is no server") };
    Ok((*options, resolved.warnings))
}

#[test]
fn a_context_is_read_from_where_the_cli_keeps_it() {
    let files = Files::new();
    files.write(".config/nats/context/staging.json", FULL);
    files.write("xdg/nats/context/other.json", r#"{"url": "nats://other"}"#);
    let (options, warnings) = connect(&files, "context:staging", &[]).unwrap();
    assert_eq!(options.servers, ["nats://n1:4222", "nats://n2:4222"]);
    assert_eq!(options.auth, Auth::None);
    assert_eq!(options.domain.as_deref(), Some("hub"));
    assert_eq!(options.inbox_prefix.as_deref(), Some("_I.me"));
    assert!(options.tls.handshake_first && options.tls.required);
    assert_eq!(options.tls.ca_files, [files.path("ca.pem")]);
    assert!(options.tls.client.is_some());
    assert_eq!(warnings, [""; 0]);
    let (options, _) = connect(&files, "context:other", &[("XDG_CONFIG_HOME", "DIR/xdg")]).unwrap();
    assert_eq!(options.servers, ["nats://other:4222"]);
}

#[test]
fn without_a_name_it_is_the_selected_one() {
    let files = Files::new();
    let nothing = connect(&files, "context:", &[]);
    let (message, hint) = files.error_of(nothing);
    assert_eq!(message, "--store: no context of the nats CLI is selected");
    assert_eq!(hint, "name one, `context:NAME`, or select one with `nats context select`");
    files.write(".config/nats/context.txt", "dev\n");
    files.write(".config/nats/context/dev.json", "{}");
    let (options, _) = connect(&files, "context:", &[]).unwrap();
    assert_eq!(options.servers, ["nats://127.0.0.1:4222"], "the CLI's default");
}

#[test]
fn no_variable_changes_a_context() {
    let files = Files::new();
    files.write(".config/nats/context/a.json", r#"{"url": "nats://a"}"#);
    let variables = [("NATS_URL", "nats://b"), ("NATS_TOKEN", "t"), ("NATS_TIMEOUT", "1s")];
    let (options, warnings) = connect(&files, "context:a", &variables).unwrap();
    let mut expected = ConnectOptions::default();
    expected.servers = vec!["nats://a:4222".to_owned()];
    assert_eq!((options, warnings), (expected, Vec::new()));
}

#[test]
fn logins_are_files_texts_and_references() {
    use base64::Engine as _;
    let files = Files::new();
    let packed = base64::engine::general_purpose::STANDARD.encode(CREDS);
    let secret = |text: &str| Secret::new(text.to_owned());
    let variables = [("TOKEN", "t0k"), ("SEED", SEED), ("SUB", "app.creds")];
    for (json, auth) in [
        (r#"{"token": "t"}"#.to_owned(), Auth::Token(secret("t"))),
        (r#"{"token": "env://TOKEN"}"#.to_owned(), Auth::Token(secret("t0k"))),
        (
            r#"{"user": "u", "password": "p"}"#.to_owned(),
            Auth::UserPassword { user: "u".into(), password: secret("p") },
        ),
        (
            r#"{"user": "u"}"#.to_owned(),
            Auth::UserPassword { user: "u".into(), password: secret("") },
        ),
        (r#"{"creds": "DIR/app.creds"}"#.to_owned(), Auth::CredsFile(files.path("app.creds"))),
        (
            r#"{"creds": "file://DIR/app.creds"}"#.to_owned(),
            Auth::CredsFile(files.path("app.creds")),
        ),
        (r#"{"creds": "$HOME/${SUB}"}"#.to_owned(), Auth::CredsFile(files.path("app.creds"))),
        (format!(r#"{{"creds": "data:;base64,{packed}"}}"#), Auth::Creds(secret(CREDS.trim()))),
        (r#"{"nkey": "~/user.nk"}"#.to_owned(), Auth::NkeyFile(files.path("user.nk"))),
        (r#"{"nkey": "env://SEED"}"#.to_owned(), Auth::NkeySeed(secret(SEED))),
        (
            r#"{"user_jwt": "eyJ", "user_seed": "env://SEED"}"#.to_owned(),
            Auth::Jwt { jwt: secret("eyJ"), seed: secret(SEED) },
        ),
    ] {
        files.write(".config/nats/context/a.json", &json);
        let (options, _) = connect(&files, "context:a", &variables).unwrap();
        assert_eq!(options.auth, auth, "{json}");
    }
    // The CLI's order: user, creds, nkey, JWT, token.
    files.write(
        ".config/nats/context/a.json",
        r#"{"creds": "DIR/app.creds", "user": "u", "password": "p"}"#,
    );
    let (options, warnings) = connect(&files, "context:a", &[]).unwrap();
    assert!(matches!(options.auth, Auth::UserPassword { .. }));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn what_cannot_be_had_says_so() {
    let files = Files::new();
    files.write(".config/nats/context/prod.json", "{}");
    let context = "DIR/.config/nats/context/a.json";
    for (json, message, hint) in [
        (
            r#"{"socks_proxy": "x"}"#,
            "`socks_proxy`: is not supported",
            "Jetbridge does not connect through SOCKS proxies",
        ),
        (
            r#"{"nsc": "nsc://x"}"#,
            "`nsc`: is not supported",
            "name files instead: `creds`, `cert`, `key`, `ca`",
        ),
        (
            r#"{"creds": "op://x"}"#,
            "`creds`: `op://` references are not supported",
            "name a file, or write `env://NAME` and set the variable",
        ),
        (r#"{"token": "env://NO"}"#, "`token`: the variable `NO` is not set", ""),
        (
            r#"{"creds": "data:;base64,?"}"#,
            "`creds`: what follows `;base64,` is not a text in base64",
            "",
        ),
        (
            r#"{"user_jwt": "eyJ"}"#,
            "`user_jwt` without `user_seed`",
            "a JWT logs in together with the seed of its key",
        ),
        (
            r#"{"cert": "DIR/client.pem"}"#,
            "`cert` without `key`",
            "a client certificate needs its key, and a key its certificate",
        ),
    ] {
        files.write(".config/nats/context/a.json", json);
        let expected = (format!("{context}:1:2: {message}"), hint.to_owned());
        assert_eq!(files.error_of(connect(&files, "context:a", &[])), expected);
    }
    for (name, message, hint) in [
        ("prd", "--store: there is no context `prd` in DIR/.config/nats", "did you mean `prod`?"),
        ("zzz", "--store: there is no context `zzz` in DIR/.config/nats", "there are a, prod"),
        ("../a", "--store: `../a` is not the name of a context", ""),
    ] {
        let expected = (message.to_owned(), hint.to_owned());
        assert_eq!(files.error_of(connect(&files, &format!("context:{name}"), &[])), expected);
    }
    let resolved = resolve(&StoreRequest::new().context(Some("a".into())), &Environment::default());
    let (message, hint) = files.error_of(resolved);
    assert_eq!(message, "--context: there is no directory with contexts of the nats CLI");
    assert_eq!(hint, "set HOME or XDG_CONFIG_HOME");
}

#[test]
fn a_field_of_a_newer_cli_is_passed_over_with_a_warning() {
    let files = Files::new();
    files.write(
        ".config/nats/context/a.json",
        "{\n\t\"url\": \"nats://a\",\n\t\"hologram\": true\n}",
    );
    let (_, warnings) = connect(&files, "context:a", &[]).unwrap();
    let place = files.fill("DIR/.config/nats/context/a.json:3:2");
    assert_eq!(warnings, [format!("{place}: unknown key `hologram` is passed over")]);
}
