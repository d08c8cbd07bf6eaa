//! The patterns of `examples/templates/guide`, unchanged, on the embedded store: every server
//! that they name leads to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jetbridge::connect;
use jetbridge::template::{Input, Options, Server, Sources, json, render};
use jetbridge_core::{
    Backend, BucketName, BucketSpec, Key, ObjectName, ObjectPut, Open, PutOpts, Result, body_of,
};
use serde_json::Value;

const EXPECTED: &str = include_str!("../../../jetbridge-template/tests/guide.json");

/// One store, whatever is asked for.
struct One(Arc<dyn Backend>);

#[async_trait]
impl Sources for One {
    async fn open(&self, _server: &Server) -> Result<Arc<dyn Backend>> {
        Ok(Arc::clone(&self.0))
    }
}

async fn fill(store: &dyn Backend) {
    let ensure = || Open::ensure(BucketSpec::default());
    for (bucket, key, value) in [
        ("config", "database_host", "db.example.com"),
        ("config", "database_port", "5432"),
        ("config", "db_host", "kept.example.com"),
        ("config", "db_port", "6432"),
        ("config", "test", "ok"),
        ("encrypted", "secrets", "sealed twice"),
        ("protected", "value", "for user"),
        ("secrets", "api_key", "abc123"),
        ("secure", "data", "sealed"),
        ("services", "api-gateway/config", "timeout: 30s\nretries: 3\n"),
        ("services", "auth-service/config", "one line: stays text"),
    ] {
        let kv = store.kv(&BucketName::parse(bucket).unwrap(), ensure()).await.unwrap();
        kv.put(&Key::parse(key).unwrap(), value.into(), PutOpts::new()).await.unwrap();
    }
    let features = b"debug: false\nfeatures: [auth, api]\nlimits:\n  max_connections: 1000\n";
    for (bucket, name, body) in [
        ("assets", "config.yaml", features.as_slice()),
        ("assets", "images/logo.png", b"\x89PNG\r\n\x1a\n\xff"),
        ("assets", "images/favicon.ico", b"\0\0\x01\0\xff"),
        ("configs", "development/database.yaml", b"host: development.db\npool: 5\n"),
        ("configs", "production.yml", b"debug: false\nworkers: 8\n"),
        ("protected", "config.yaml", b"for: mytoken\n"),
        ("tenants", "acme-corp/config.yaml", b"plan: gold\n"),
        ("tenants", "globex/config.yaml", b"plan: free\nseats: [1, 2]\n"),
    ] {
        let objects = store.objects(&BucketName::parse(bucket).unwrap(), ensure()).await.unwrap();
        let name = ObjectName::parse(name).unwrap();
        objects.put(&name, body_of(body), ObjectPut::new()).await.unwrap();
    }
}

#[tokio::test]
async fn every_pattern_renders_on_the_embedded_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = connect(format!("local:{}", directory.path().join("store").display())).await;
    let one = One(store.unwrap());
    fill(&*one.0).await;
    std::fs::create_dir(directory.path().join("config")).unwrap();
    let file = directory.path().join("config/production.yml");
    std::fs::write(file, "debug: false\nworkers: 4\n").unwrap();
    let mut options = Options::default();
    options.file_base = Some(directory.path().to_owned());
    let variables = [("DB_HOST", "env.example.com"), ("DB_PORT", "7432")];
    options.env = variables.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/templates/guide");
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    for (name, expected) in expected.as_object().unwrap() {
        let text = std::fs::read(guide.join(format!("{name}.yml"))).unwrap();
        let rendered = render(vec![Input::new(name, text)], &options, &one).await;
        let rendered = rendered.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        let found = json(&Input::new(name, rendered.text)).unwrap();
        assert_eq!(&serde_json::from_str::<Value>(&found).unwrap(), expected, "{name}");
    }
    let vault = std::fs::read(guide.join("vault_before.yml")).unwrap();
    let failure = render(vec![Input::new("vault", vault)], &options, &one).await.unwrap_err();
    assert!(failure.to_string().contains("(( nats \"kv:secrets/key\" ))"), "{failure}");
    assert!(one.0.close(Duration::from_secs(5)).await.is_clean());
}
