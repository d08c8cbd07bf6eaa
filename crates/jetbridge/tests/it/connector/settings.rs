//! evo's settings, from the files they are written in to a connector at work.

use std::time::Duration;

use jetbridge::ErrorKind;
use jetbridge::connector::Connector;
use jetbridge::core::{BucketKind, BucketName};
use jetbridge::settings::{Environment, Source};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

use super::place::evo_settings;

/// Set for the child.
const CHILD: &str = "JETBRIDGE_IT_CHILD";

async fn server_with_token() -> NatsServer {
    let options = ServerOptions::new().config(r#"authorization { token: "s3cr3t" }"#);
    NatsServer::start(Release::Newest, options).await
}

#[tokio::test]
async fn a_file_says_how_to_connect() {
    let server = server_with_token().await;
    let directory = tempfile::tempdir().unwrap();
    let (url, files) = (server.url(), ["app.env", "config.yml", "settings.toml"]);
    let texts = [
        format!("NATS.SERVER={url}\nNATS.TOKEN=s3cr3t\nNATS.DEFAULT_BUCKET=pairs\n"),
        format!("nats:\n  server: {url}\n  token: s3cr3t\n  default_bucket: yaml\n"),
        format!("[nats]\nserver = \"{url}\"\ntoken = \"s3cr3t\"\ndefault_bucket = \"toml\"\n"),
    ];
    for (file, (text, bucket)) in files.iter().zip(texts.iter().zip(["pairs", "yaml", "toml"])) {
        let path = directory.path().join(file);
        std::fs::write(&path, text).unwrap();
        let connector = Connector::from_file(&path).await.unwrap();
        connector.kv().set("user:1", &bucket).await.unwrap();
        let name = BucketName::parse(bucket).unwrap();
        assert!(connector.backend().bucket(BucketKind::Kv, &name).await.is_ok(), "{file}");
        let report = connector.shutdown(Duration::from_secs(10)).await;
        assert!(report.is_clean(), "{report}");
    }
}

/// Variables are of a process, so a process of its own connects: this test binary again.
#[tokio::test]
async fn variables_say_how_to_connect() {
    let server = server_with_token().await;
    for (token, reaches) in [("s3cr3t", true), ("wrong", false)] {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "connector::settings::a_child_connects_by_its_variables"])
            .envs([("NATS_SERVER", &*server.url()), ("NATS_TOKEN", token)])
            .envs([("NATS_DEFAULT_BUCKET", "variables"), (CHILD, "1")])
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert_eq!(child.status.success(), reaches, "{said}");
        assert!(!said.contains("s3cr3t"), "{said}");
    }
    let settings = evo_settings(&format!("NATS.SERVER={}\nNATS.TOKEN=s3cr3t", server.url()));
    let connector = Connector::from_settings(&settings).await.unwrap();
    let kv = connector.kv();
    assert_eq!(kv.get("child").bucket("variables").await.unwrap(), Some("was here".to_owned()));
}

/// The child; without its variable it finds nothing set.
#[tokio::test]
async fn a_child_connects_by_its_variables() {
    let environment = Environment::of_process();
    if environment.get(CHILD).is_none() {
        assert!(Source::variables(&environment).is_empty(), "tests run without NATS_*");
        return;
    }
    let connector = Connector::from_env().await.unwrap();
    connector.kv().set("child", &"was here").await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_in_a_file_is_named_with_its_place() {
    let server = server_with_token().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.env");
    let url = server.url();
    for (line, kind, words) in [
        ("NATS.TOKEN=wrong", ErrorKind::PermissionDenied, ""),
        ("NATS.TOKNE=s3cr3t", ErrorKind::InvalidInput, "app.env:2"),
        ("NATS.DRAIN_TIMEOUT=soon", ErrorKind::InvalidInput, "app.env:2"),
        ("NATS.DEFAULT_BUCKET=a.b\nNATS.TOKEN=s3cr3t", ErrorKind::InvalidInput, "a.b"),
    ] {
        std::fs::write(&path, format!("NATS.SERVER={url}\n{line}\n")).unwrap();
        let error = Connector::from_file(&path).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{line}: {error:?}");
        let text = format!("{error:?}");
        assert!(text.contains(words) && !text.contains("s3cr3t"), "{line}: {text}");
    }
}
