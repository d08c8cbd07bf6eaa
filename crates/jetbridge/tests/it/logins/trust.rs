//! Who is trusted when nobody is named: the system's authorities, or those of `SSL_CERT_FILE`.
//! That variable is of a process, so a process of its own connects: this test binary again.

use jetbridge::settings::{Environment, StoreRequest, resolve};
use jetbridge_testkit::{Certificates, NatsServer, Release, ServerOptions};

use super::round_trip;

/// Where the child connects to.
const STORE: &str = "JETBRIDGE_IT_STORE";

#[tokio::test]
async fn ssl_cert_file_names_the_authorities() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let options = ServerOptions::new().config(&certificates.server_config(""));
    let server = NatsServer::start(Release::Newest, options).await;
    for (ca, reaches) in [(&certificates, true), (&stranger, false)] {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logins::trust::a_child_connects_where_it_is_told", "--nocapture"])
            .env("SSL_CERT_FILE", ca.ca_file())
            .env(STORE, server.tls_url())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.success(), reaches, "{said}");
        assert!(reaches || said.contains("certificate is not trusted"), "{said}");
    }
}

/// The child; without its variable it has the store in memory.
#[tokio::test]
async fn a_child_connects_where_it_is_told() {
    let environment = Environment::of_process();
    let Some(url) = environment.get(STORE) else {
        let store = jetbridge::connect("memory:").await.unwrap();
        assert_eq!(store.to_string(), "memory:");
        return;
    };
    let request = StoreRequest::new().store(Some(url.to_owned()));
    round_trip(&resolve(&request, &environment).unwrap().location).await.unwrap();
}
