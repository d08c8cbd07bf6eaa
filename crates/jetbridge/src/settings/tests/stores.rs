//! Which of the places that can name a store does.

use jetbridge_core::Secret;
use jetbridge_nats::Auth;

use super::*;

fn request(store: Option<&str>, file: Option<&str>) -> StoreRequest {
    let request = StoreRequest::new().store(store.map(str::to_owned));
    match file {
        Some(yaml) => request.file(&parse_yaml("jetbridge.yml", yaml).unwrap()),
        None => request,
    }
}

#[test]
fn the_order_of_those_that_can_name_a_store() {
    let files = Files::new();
    files.write(".config/nats/context/ctx.json", r#"{"url": "nats://context"}"#);
    // From the strongest to the weakest; each is taken away in turn.
    let variables = [
        ("JETBRIDGE_STORE", "nats://variable"),
        ("NATS_CONTEXT", "ctx"),
        ("NATS_URL", "nats://url"),
        ("NATS_SERVER", "nats://server"),
    ];
    let check = |store, file, from: usize, location: &str, origin: &str| {
        let environment = files.environment(&variables[from..]);
        let resolved = resolve(&request(store, file), &environment).unwrap();
        assert_eq!(resolved.location.to_string(), location);
        assert_eq!(resolved.origin.to_string(), origin);
        resolved
    };
    let file = Some("store: nats://file\n");
    check(Some("nats://flag"), file, 0, "nats://flag:4222", "--store");
    check(None, file, 0, "nats://variable:4222", "JETBRIDGE_STORE");
    check(None, file, 1, "nats://file:4222", "jetbridge.yml:1:8");
    check(None, Some("nats: {server: a}"), 1, "nats://a:4222", "jetbridge.yml:1:8");
    check(None, None, 1, "nats://context:4222", "NATS_CONTEXT");
    check(None, None, 2, "nats://url:4222", "NATS_URL");
    check(None, None, 3, "nats://server:4222", "NATS_SERVER");
    let resolved = check(None, None, 4, "local:./jetbridge-data", "the default");
    let notice = "no store given: using the embedded store in ./jetbridge-data \
                  (choose with --store, --context or JETBRIDGE_STORE)";
    assert_eq!(resolved.notices, [notice]);
    let with_context = StoreRequest::new().context(Some("ctx".to_owned()));
    let resolved = resolve(&with_context, &files.environment(&variables)).unwrap();
    assert_eq!(resolved.origin.to_string(), "--context");
}

#[test]
fn a_flag_and_a_context_exclude_each_other() {
    let both = StoreRequest::new().store(Some("memory:".into())).context(Some("a".into()));
    let error = resolve(&both, &Environment::default()).unwrap_err();
    assert_eq!(error.message(), Some("`--store` and `--context` exclude each other"));
    assert_eq!(error.hint_text(), Some("give one of them"));
}

#[test]
fn a_server_takes_what_it_lacks_from_the_variables() {
    let files = Files::new();
    let variables = [("NATS_CREDS", "DIR/app.creds"), ("NATS_CA", "DIR/ca.pem"), ("NATS_URL", "x")];
    let resolved = resolve(&request(Some("nats://a"), None), &files.environment(&variables));
    let Location::Nats(options) = resolved.unwrap().location else { panic!("no server") };
    assert_eq!(options.servers, ["nats://a:4222"]);
    assert_eq!(options.auth, Auth::CredsFile(files.path("app.creds")));
    assert_eq!(options.tls.ca_files, [files.path("ca.pem")]);
    assert_eq!(options.reconnects_max, None, "for ever unless a number is written");
}

#[test]
fn a_url_has_options_in_our_names() {
    let files = Files::new();
    let url =
        files.fill("tls://a,b?token=t%26t&tls_ca=DIR/ca.pem&tls_first&domain=hub&max_reconnect=3");
    let environment = files.environment(&[("NATS_TOKEN", "weaker")]);
    let resolved = resolve(&request(Some(&url), None), &environment).unwrap();
    assert_eq!(resolved.location.to_string(), "tls://a:4222,tls://b:4222");
    let Location::Nats(options) = resolved.location else { panic!("no server") };
    assert_eq!(options.auth, Auth::Token(Secret::new("t&t".to_owned())));
    assert!(options.tls.handshake_first);
    assert_eq!(options.domain.as_deref(), Some("hub"));
    assert_eq!(options.reconnects_max, Some(3));
    let wrong = resolve(&request(Some("nats://a?tokn=s3cr3t"), None), &environment);
    let (message, hint) = files.error_of(wrong);
    assert_eq!((&*message, &*hint), ("--store: unknown key `tokn`", "did you mean `token`?"));
}

#[test]
fn the_store_of_a_file_may_be_a_map() {
    let files = Files::new();
    let yaml = files.fill("store:\n  url: nats://a:4222\n  creds: DIR/app.creds\n  domain: hub\n");
    let resolved = resolve(&request(None, Some(&yaml)), &files.environment(&[])).unwrap();
    let Location::Nats(options) = resolved.location else { panic!("no server") };
    assert_eq!(options.auth, Auth::CredsFile(files.path("app.creds")));
    assert_eq!(options.domain.as_deref(), Some("hub"));
    let local =
        resolve(&request(None, Some("store: {url: 'local:data'}")), &Environment::default());
    assert_eq!(local.unwrap().location, Location::local("data"));
    for (yaml, message, hint) in [
        (
            "store: {url: 'local:data', creds: x}",
            "jetbridge.yml:1:28: `creds` is for servers of NATS only",
            "",
        ),
        ("store: {creds: x}", "jetbridge.yml:1:8: a `store` that is a map has one `url`", ""),
        (
            "store: [a]",
            "jetbridge.yml:1:8: `store` is a list",
            "write a URL, such as `store: nats://host:4222`",
        ),
        (
            "store: {url: nats://a, crds: x}",
            "jetbridge.yml:1:24: unknown key `crds`",
            "did you mean `creds`?",
        ),
        (
            "store: nats://a/b",
            "jetbridge.yml:1:8: `nats://a/b`: a store of NATS has no path",
            "leave out what follows the server; buckets are named where they are used",
        ),
    ] {
        let result = resolve(&request(None, Some(yaml)), &files.environment(&[]));
        assert_eq!(files.error_of(result), (message.to_owned(), hint.to_owned()), "{yaml}");
    }
}

#[test]
fn files_that_name_different_stores_contradict_each_other() {
    let files = Files::new();
    let root = |file, yaml| parse_yaml(file, yaml).unwrap();
    let one = StoreRequest::new().file(&root("a.yml", "store: memory"));
    let one = one.file(&root("b.yml", "{}"));
    let same = one.clone().file(&root("c.yml", "store: memory"));
    assert_eq!(resolve(&same, &Environment::default()).unwrap().location, Location::Memory);
    let other = one.file(&root("c.yml", "x: 1\nstore: local:d"));
    let (message, hint) = files.error_of(resolve(&other, &Environment::default()));
    assert_eq!(message, "c.yml:2:1: another `store` is at a.yml:1:1");
    assert_eq!(hint, "keep one of them");
}

#[test]
fn evo_settings_of_files_and_arguments_name_a_store() {
    let files = Files::new();
    let environment = files.environment(&[("NATS_URL", "nats://env"), ("NATS_TOKEN", "t")]);
    let yaml = parse_yaml("config.yml", "nats: {default_bucket: b}").unwrap();
    let request = StoreRequest::new().file(&yaml);
    let resolved = resolve(&request, &environment).unwrap();
    assert_eq!(resolved.location.to_string(), "nats://env:4222");
    let resolved = resolve(&request, &Environment::default()).unwrap();
    assert_eq!(resolved.location.to_string(), "nats://127.0.0.1:4222", "the page's default");
    let arguments = parse_pairs("arguments", "NATS.SERVER=nats://argument").unwrap();
    let resolved = resolve(&request.arguments(&arguments), &environment).unwrap();
    assert_eq!(resolved.location.to_string(), "nats://argument:4222");
    let scalar = parse_yaml("config.yml", "nats: nats://a").unwrap();
    let resolved = resolve(&StoreRequest::new().file(&scalar), &environment).unwrap();
    assert_eq!(resolved.location.to_string(), "nats://a:4222");
}

#[test]
fn variables_that_name_a_store_are_checked_like_flags() {
    let files = Files::new();
    for (name, value, message) in [
        (
            "JETBRIDGE_STORE",
            "data",
            "JETBRIDGE_STORE: `data` does not say what kind of store it is",
        ),
        ("NATS_URL", "nats://a/b", "NATS_URL: a store of NATS has no path"),
        ("NATS_CONTEXT", "no", "NATS_CONTEXT: there is no context `no` in DIR/.config/nats"),
    ] {
        let result = resolve(&StoreRequest::new(), &files.environment(&[(name, value)]));
        assert_eq!(files.error_of(result).0, message);
    }
}
