//! The server that a template's call names.

use std::collections::BTreeMap;

use jetbridge_core::Secret;
use jetbridge_nats::Auth;

use super::*;
use crate::settings::{resolve_call, resolve_target};

fn call(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn options(location: Location) -> jetbridge_nats::ConnectOptions {
    match location {
        Location::Nats(options) => *options,
        other => panic!("{other} is no server"),
    }
}

#[test]
fn a_call_says_where_and_the_variables_say_the_rest() {
    let files = Files::new();
    let environment =
        files.environment(&[("NATS_URL", "nats://u:p@elsewhere"), ("NATS_CA_FILE", "DIR/ca.pem")]);
    let settings = call(&[("url", "secure:4222"), ("timeout", "10s"), ("retries", "5")]);
    let found = resolve_call(&settings, &StoreRequest::new(), &environment).unwrap();
    let connect = options(found.location);
    assert_eq!(connect.servers, ["nats://secure:4222"]);
    assert_eq!(connect.connect_timeout.as_secs(), 10);
    assert_eq!(connect.reconnects_max, Some(5));
    assert_eq!(connect.auth, Auth::None, "the login of another server's URL is not sent here");
    assert!(connect.tls.required, "the authority of the variables is kept");
    let token = call(&[("url", "nats://mytoken@h:4222"), ("tls", "true")]);
    let found = resolve_call(&token, &StoreRequest::new(), &Environment::default()).unwrap();
    let connect = options(found.location);
    assert_eq!(connect.auth, Auth::Token(Secret::new("mytoken".to_owned())));
    assert!(connect.tls.required);
}

#[test]
fn a_call_without_a_url_changes_the_store_there_is() {
    let files = Files::new();
    let timeout = call(&[("timeout", "7s")]);
    let request = StoreRequest::new().store(Some("nats://flag".to_owned()));
    let found = resolve_call(&timeout, &request, &files.environment(&[])).unwrap();
    let connect = options(found.location);
    assert_eq!(
        (connect.servers[0].as_str(), connect.connect_timeout.as_secs()),
        ("nats://flag:4222", 7)
    );
    let local = StoreRequest::new().store(Some("local:d".to_owned()));
    let error = resolve_call(&timeout, &local, &files.environment(&[])).unwrap_err();
    let message = error.message().unwrap();
    assert!(message.contains("`timeout` is for servers of NATS only"), "{message}");
}

#[test]
fn a_call_may_name_a_store_of_this_machine() {
    let environment = Environment::default();
    for (url, shown) in [("local:dev", "local:dev"), ("memory:", "memory:")] {
        let found = resolve_call(&call(&[("url", url)]), &StoreRequest::new(), &environment);
        assert_eq!(found.unwrap().location.to_string(), shown);
    }
    let tls = call(&[("url", "local:dev"), ("tls", "true")]);
    assert!(resolve_call(&tls, &StoreRequest::new(), &environment).is_err());
}

#[test]
fn wrong_settings_of_a_call_are_errors_without_secrets() {
    for (entries, expected) in [
        (call(&[("url", "h:1"), ("timeot", "5s")]), "unknown key `timeot`"),
        (call(&[("url", "h:1"), ("timeout", "5")]), "`5` has no unit"),
        (call(&[("url", "h:1"), ("tls", "maybe")]), "`maybe` is neither true nor false"),
        (call(&[("url", "nats://u:s3cr3t@h:x")]), "nats://***@h:x"),
        (call(&[("url", "h:1"), ("cert_file", "/no/such.crt"), ("key_file", "/no/k")]), "/no/such"),
    ] {
        let error = resolve_call(&entries, &StoreRequest::new(), &Environment::default());
        let shown = format!("{:?}", error.unwrap_err());
        assert!(shown.contains(expected) && !shown.contains("s3cr3t"), "{shown}");
    }
}

#[test]
fn a_target_has_its_own_variables_and_no_others() {
    let variables = [
        ("NATS_PROD_EU_URL", "nats://prod:4222"),
        ("NATS_PROD_EU_TIMEOUT", "9s"),
        ("NATS_DEV_URL", "local:dev"),
        ("NATS_TOKEN", "s3cr3t"),
    ];
    let environment = Environment::from_iter(variables);
    let connect = options(resolve_target("prod-eu", &environment).unwrap().location);
    assert_eq!(connect.servers, ["nats://prod:4222"]);
    assert_eq!((connect.auth, connect.connect_timeout.as_secs()), (Auth::None, 9));
    assert_eq!(resolve_target("dev", &environment).unwrap().location, Location::local("dev"));
    let error = resolve_target("stage", &environment).unwrap_err();
    let message = error.message().unwrap();
    assert!(message.contains("expected NATS_STAGE_URL environment variable"), "{message}");
}
