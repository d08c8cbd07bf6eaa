//! Addresses: lists, wildcards, WebSocket, domains and prefixes.

use jetbridge::settings::{
    Dialect, Environment, Location, Source, StoreRequest, parse_yaml, read, resolve,
};
use jetbridge_core::ErrorKind;
use jetbridge_testkit::{Certificates, NatsServer, Release, ServerOptions};

use super::round_trip;

fn store(url: &str) -> Location {
    let request = StoreRequest::new().store(Some(url.to_owned()));
    resolve(&request, &Environment::default()).unwrap().location
}

/// A port that nobody listens on.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test]
async fn a_list_reaches_whoever_is_there() {
    for release in [Release::Oldest, Release::Newest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let port = server.address().port();
        for url in [
            format!("nats://{NOBODY},nats://127.0.0.1:{port}"),
            format!("nats://{NOBODY},127.0.0.1:{port}"),
            format!("{NOBODY},localhost:{port}"),
            format!("0.0.0.0:{port}"),
        ] {
            round_trip(&store(&url)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_link_without_a_scheme_dials_the_loopback_for_any_address() {
    let server = NatsServer::start(Release::Newest, ServerOptions::new().domain("hub")).await;
    let yaml = format!("CLUSTER_URI: 0.0.0.0:{}\nJS_DOMAIN: hub\n", server.address().port());
    let root = parse_yaml("link.yml", &yaml).unwrap();
    let source = Source::new(Dialect::Link, root.entries());
    let settings = read(Dialect::Link, &[source], &Environment::default()).unwrap();
    round_trip(&Location::Nats(Box::new(settings.connect))).await.unwrap();
}

#[tokio::test]
async fn a_domain_and_a_prefix_say_the_same() {
    for release in [Release::Oldest, Release::Newest] {
        let server = NatsServer::start(release, ServerOptions::new().domain("hub")).await;
        for option in ["domain=hub", "api_prefix=$JS.hub.API", "inbox_prefix=_I.me", "tls=false"] {
            round_trip(&store(&format!("{}?{option}", server.url()))).await.unwrap();
        }
        let nobody = round_trip(&store(&format!("{}?domain=core", server.url()))).await;
        assert_eq!(nobody.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn websocket_addresses() {
    let certificates = Certificates::new();
    for release in [Release::Oldest, Release::Newest] {
        let options = ServerOptions::new().websocket().config("authorization { token: t }");
        let server = NatsServer::start(release, options).await;
        let url = server.websocket_url().replace("ws://", "ws://t@");
        round_trip(&store(&url)).await.unwrap();

        let tls = format!("tls {{\n{}}}", certificates.server_files());
        let server = NatsServer::start(release, ServerOptions::new().websocket_with(&tls)).await;
        let url = server.websocket_url().replace("ws://127.0.0.1", "wss://localhost");
        let ca = certificates.ca_file();
        round_trip(&store(&format!("{url}?tls_ca={}", ca.display()))).await.unwrap();
    }
}

#[tokio::test]
async fn an_authority_that_did_not_sign_is_not_trusted() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let options = ServerOptions::new().config(&certificates.server_config(""));
    let server = NatsServer::start(Release::Newest, options).await;
    let with =
        |ca: &Certificates| format!("{}?tls_ca={}", server.tls_url(), ca.ca_file().display());
    round_trip(&store(&with(&certificates))).await.unwrap();
    let error = round_trip(&store(&with(&stranger))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("tls_ca")), "{error:?}");
    let insecure = format!("{}?insecure_skip_verify=true", server.tls_url());
    round_trip(&store(&insecure)).await.unwrap();
}

#[tokio::test]
async fn tls_is_not_traded_for_a_server_without_it() {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let error = round_trip(&store(&format!("{}?tls=true", server.url()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}
