//! evo's settings, from the files they are written in to a connector at work.

use std::time::Duration;

use jetbridge::ErrorKind;
use jetbridge::connector::Connector;
use jetbridge::core::{BucketKind, BucketName};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

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
