//! `(( nats … ))` on stores in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jetbridge_core::{
    Backend, BucketName, BucketSpec, DeleteOpts, Error, ErrorKind, Headers, Key, Link,
    MemoryBackend, ObjectName, ObjectPut, Open, PutOpts, Result, body_of,
};
use jetbridge_template::{
    Input, OBJECT_BYTES_MAX, Options, Rendered, Server, Sources, explain, refs, render,
};

/// Stores by what names them.
#[derive(Default)]
struct Stores {
    by_name: BTreeMap<String, Arc<MemoryBackend>>,
    opened: AtomicUsize,
}

#[async_trait]
impl Sources for Stores {
    async fn open(&self, server: &Server) -> Result<Arc<dyn Backend>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        match self.by_name.get(&server.to_string()) {
            Some(store) => Ok(Arc::<MemoryBackend>::clone(store)),
            None => Err(Error::new(ErrorKind::Unavailable, "test.open").because("nobody answers")),
        }
    }

    fn is_secret(&self, bucket: &str) -> bool {
        bucket == "secrets"
    }
}

const DEFAULT: &str = "the default store";

impl Stores {
    fn store(&mut self, name: &str) -> Arc<MemoryBackend> {
        let store = self.by_name.entry(name.to_owned());
        Arc::clone(store.or_insert_with(|| Arc::new(MemoryBackend::new())))
    }

    async fn key(&mut self, store: &str, bucket: &str, key: &str, value: &str) {
        let open = Open::ensure(BucketSpec::default());
        let bucket = BucketName::parse(bucket).unwrap();
        let kv = self.store(store).kv(&bucket, open).await.unwrap();
        let value = value.to_owned().into();
        kv.put(&Key::parse(key).unwrap(), value, PutOpts::new()).await.unwrap();
    }

    async fn object(
        &mut self,
        bucket: &str,
        name: &str,
        content: Option<&str>,
        body: &'static [u8],
    ) {
        let open = Open::ensure(BucketSpec::default());
        let bucket = BucketName::parse(bucket).unwrap();
        let objects = self.store(DEFAULT).objects(&bucket, open).await.unwrap();
        let mut headers = Headers::new();
        if let Some(content) = content {
            headers.set("content-type", content).unwrap();
        }
        let put = ObjectPut::new().headers(headers);
        objects.put(&ObjectName::parse(name).unwrap(), body_of(body), put).await.unwrap();
    }

    async fn render(&self, text: &str) -> std::result::Result<Rendered, String> {
        let inputs = vec![Input::new("t.yml", text)];
        render(inputs, &Options::default(), self).await.map_err(|failure| failure.to_string())
    }

    async fn gives(&self, text: &str, expected: &str) {
        match self.render(text).await {
            Ok(rendered) => assert_eq!(rendered.text, expected, "{text}"),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    async fn fails(&self, text: &str, expected: &str) {
        let error = self.render(text).await.unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

async fn seeded() -> Stores {
    let mut stores = Stores::default();
    stores.key(DEFAULT, "config", "port", "5432").await;
    stores.key(DEFAULT, "config", "one-line", "{\"a\": 1}").await;
    stores.key(DEFAULT, "config", "tree", "debug: yes\nlimits:\n  max: 10\n").await;
    stores.key(DEFAULT, "config", "evil", "(( grab $HOME ))").await;
    stores.key(DEFAULT, "config", "a/b/c", "deep").await;
    stores.key(DEFAULT, "secrets", "api", "hunter2").await;
    stores
}

#[tokio::test]
async fn values_of_keys_are_typed_as_documented() {
    let stores = seeded().await;
    stores.gives("p: (( nats \"kv:config/port\" ))\n", "p: \"5432\"\n").await;
    stores.gives("p: (( nats \"KV:config/a/b/c\" ))\n", "p: deep\n").await;
    stores
        .gives(
            "p: (( nats \"kv:config/one-line\" ))\n",
            "p: '{\"a\": 1}'\n".replace('\'', "\"").replace("{\"a\"", "{\\\"a\\\"").as_str(),
        )
        .await;
    stores
        .gives("p: (( nats \"kv:config/tree\" ))\n", "p:\n  debug: yes\n  limits:\n    max: 10\n")
        .await;
    stores.gives("p: (( nats \"kv:config/port\" as int ))\n", "p: 5432\n").await;
    stores.gives("p: (( nats \"kv:config/one-line\" as json ))\n", "p: {\"a\": 1}\n").await;
    stores.gives("p: (( nats \"kv:config/port\" as base64 ))\n", "p: NTQzMg==\n").await;
    stores.fails("p: (( nats \"kv:config/tree\" as int ))\n", "the value is not an integer").await;
    stores.fails("p: (( nats \"kv:config/tree\" as cow ))\n", "`as cow` is not known").await;
}

#[tokio::test]
async fn operators_in_fetched_text_are_inert() {
    let stores = seeded().await;
    let text = "p: (( nats \"kv:config/evil\" ))\nq: (( concat \"x \" p ))\n";
    stores.gives(text, "p: (( grab $HOME ))\nq: x (( grab $HOME ))\n").await;
}

#[tokio::test]
async fn a_default_stands_in_for_what_is_absent_and_for_nothing_else() {
    let stores = seeded().await;
    stores.gives("p: (( nats \"kv:config/none\" || \"d\" ))\n", "p: d\n").await;
    stores.gives("p: (( nats \"kv:config/none\" as int || 5 ))\n", "p: 5\n").await;
    stores.gives("p: (( grab (nats \"kv:config/none\") || \"d\" ))\n", "p: d\n").await;
    stores.fails("p: (( nats \"kv:nowhere/k\" || \"d\" ))\n", "failed to access KV store").await;
    let outage = "p: (( nats \"kv:config/port\" \"nats://u:secret@gone:4222\" || \"d\" ))\n";
    stores.fails(outage, "failed to connect to NATS: nats://gone:4222").await;
    stores
        .fails(
            "p: (( nats \"kv:config/none\" ))\n",
            "failed to get key 'none' from store 'config': key not found",
        )
        .await;
    stores.fails("p: (( nats \"obj:none/x\" ))\n", "failed to access Object store").await;
}

#[tokio::test]
async fn a_deleted_key_says_so() {
    let mut stores = seeded().await;
    let bucket = BucketName::parse("config").unwrap();
    let kv = stores.store(DEFAULT).kv(&bucket, Open::existing()).await.unwrap();
    kv.delete(&Key::parse("port").unwrap(), DeleteOpts::new().with_history()).await.unwrap();
    stores.fails("p: (( nats \"kv:config/port\" ))\n", "key was deleted at revision").await;
}

#[tokio::test]
async fn servers_are_told_apart() {
    let mut stores = seeded().await;
    stores.key("nats://a:4222", "config", "port", "1").await;
    stores.key("nats://b:4222", "config", "port", "2").await;
    stores.key("@prod", "config", "port", "3").await;
    let text = "\
a: (( nats \"kv:config/port\" \"nats://me:pw@a:4222\" ))
b: (( nats \"kv:config/port\" { url: \"nats://b:4222\", timeout: \"10s\", tls: true } ))
c: (( nats@prod \"kv:config/port\" ))
d: (( nats \"kv:config/port\" ))
e: (( nats \"kv:config/port\" { url: \"nats://me:pw@a:4222\" } ))
";
    let expected = "a: \"1\"\nb: \"2\"\nc: \"3\"\nd: \"5432\"\ne: \"1\"\n";
    stores.gives(text, expected).await;
    assert_eq!(stores.opened.load(Ordering::Relaxed), 4);
    stores.fails("p: (( nats@none \"kv:config/port\" ))\n", "@none").await;
}

#[tokio::test]
async fn objects_are_typed_by_content_type_then_name_then_bytes() {
    let mut stores = seeded().await;
    stores.object("assets", "x.yaml", None, b"a: 1\n").await;
    stores.object("assets", "x.json", None, b"{\"a\": 1}").await;
    stores.object("assets", "typed", Some("application/yaml; charset=utf-8"), b"a: 1\n").await;
    stores.object("assets", "style.css", Some("text/css"), b"b {}").await;
    stores.object("assets", "logo.png", None, b"\x89PNG\xff\xc3").await;
    stores.object("assets", "typed.png", Some("image/png"), b"abc").await;
    stores.gives("x: (( nats \"obj:assets/x.yaml\" ))\n", "x:\n  a: 1\n").await;
    stores.gives("x: (( nats \"obj:assets/x.json\" ))\n", "x: {\"a\": 1}\n").await;
    stores.gives("x: (( nats \"obj:assets/typed\" ))\n", "x:\n  a: 1\n").await;
    stores.gives("x: (( nats \"obj:assets/style.css\" ))\n", "x: b {}\n").await;
    stores.gives("x: (( nats \"obj:assets/logo.png\" ))\n", "x: iVBOR//D\n").await;
    stores.gives("x: (( nats \"obj:assets/typed.png\" ))\n", "x: YWJj\n").await;
}

#[tokio::test]
async fn paths_may_be_computed_from_what_was_read() {
    let mut stores = seeded().await;
    stores.key(DEFAULT, "config", "which", "port").await;
    let text = "\
services:
  - name: a/b
    value: (( nats (concat \"kv:config/\" name \"/c\") ))
which: (( nats \"kv:config/which\" ))
it: (( nats (concat \"kv:config/\" which) ))
";
    let expected = "services:\n  - name: a/b\n    value: deep\nwhich: port\nit: \"5432\"\n";
    stores.gives(text, expected).await;
}

#[tokio::test]
async fn the_server_may_depend_on_the_environment() {
    let mut stores = seeded().await;
    stores.object("configs", "development/database.yaml", None, b"host: db\n").await;
    let store = stores.store(DEFAULT);
    stores.by_name.insert("nats://localhost:4222".to_owned(), store);
    let text = "\
meta:
  environment: (( grab $ENVIRONMENT || \"development\" ))
nats_config:
  development: \"nats://localhost:4222\"
  production:
    url: \"nats://prod-nats:4222\"
    tls: true
config:
  database: (( nats 
    (concat \"obj:configs/\" meta.environment \"/database.yaml\")
    (grab (concat \"nats_config.\" meta.environment)) ))
";
    let rendered = stores.render(text).await.unwrap();
    assert!(rendered.text.ends_with("config:\n  database:\n    host: db\n"), "{}", rendered.text);
    assert_eq!(rendered.reads.len(), 1);
}

#[tokio::test]
async fn redaction_opens_nothing() {
    let stores = seeded().await;
    let mut options = Options::default();
    options.redact = true;
    let inputs = vec![Input::new("t.yml", "p: (( nats \"kv:config/port\" ))\n")];
    let rendered = render(inputs, &options, &stores).await.unwrap();
    assert_eq!(rendered.text, "p: REDACTED\n");
    assert_eq!(stores.opened.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn secrets_are_masked_through_operators() {
    let stores = seeded().await;
    let text =
        "a: (( nats \"kv:secrets/api\" ))\nb: (( concat \"x-\" a ))\nc: (( base64 b ))\nd: 1\n";
    let rendered = stores.render(text).await.unwrap();
    assert!(rendered.text.contains("x-hunter2"));
    assert_eq!(rendered.masked, "a: \"***\"\nb: \"***\"\nc: \"***\"\nd: 1\n");
}

#[tokio::test]
async fn secrets_are_masked_in_errors_through_operators() {
    let stores = seeded().await;
    for text in [
        "a: (( nats \"kv:secrets/api\" as int ))\n",
        "a: (( split (concat \"/[\" (nats \"kv:secrets/api\")) \"x\" ))\n",
        "s: (( nats \"kv:secrets/api\" ))\na: (( file s ))\n",
        "s: (( nats \"kv:secrets/api\" ))\nb: (( concat s \"/x\" ))\na: (( ips b 1 ))\n",
        "s: (( nats \"kv:secrets/api\" ))\na: (( grab (concat \"m.\" s) ))\nm: {}\n",
        "s: (( nats \"kv:secrets/api\" ))\na: (( param s ))\n",
    ] {
        let error = stores.render(text).await.unwrap_err();
        assert!(error.contains("$.a: ") && !error.contains("hunter2"), "{text}: {error}");
    }
    let text = "a: (( nats \"kv:secrets/api\" ))\nb: (( load (concat a \".yml\") ))\n";
    let error = stores.render(text).await.unwrap_err();
    assert!(error.contains("***"), "{error}");
}

/// `text` below a map and a list that come from a secret bucket.
async fn below_secret_trees(text: &str) -> (Stores, String) {
    let mut stores = seeded().await;
    stores.key(DEFAULT, "secrets", "db", "user: app\npassword: s3cret\n").await;
    stores.key(DEFAULT, "secrets", "list", "one,tw0").await;
    let trees = "\
db: (( nats \"kv:secrets/db\" ))
parts: (( split \",\" (nats \"kv:secrets/list\") ))
";
    (stores, format!("{trees}{text}"))
}

#[tokio::test]
async fn fields_and_keys_of_secret_trees_are_secret() {
    let (stores, text) = below_secret_trees(
        "\
url: (( concat \"pg://app:\" db.password \"@h\" ))
part: (( grab parts.1 ))
names: (( keys db ))
own: (( keys written ))
written:
  pw: (( grab db.password ))
",
    )
    .await;
    let rendered = stores.render(&text).await.unwrap();
    assert!(rendered.text.contains("url: pg://app:s3cret@h\npart: tw0\n"), "{}", rendered.text);
    let masked = "\
db: \"***\"
parts: \"***\"
url: \"***\"
part: \"***\"
names: \"***\"
own:
  - pw
written:
  pw: \"***\"
";
    assert_eq!(rendered.masked, masked);
}

#[tokio::test]
async fn errors_and_explanations_do_not_show_fields_of_secret_trees() {
    let (stores, text) = below_secret_trees("").await;
    for (operator, shown) in [
        ("(( ips db.password 1 ))", "s3cret"),
        ("(( ips parts.1 1 ))", "tw0"),
        ("(( file db.password ))", "s3cret"),
    ] {
        let error = stores.render(&format!("{text}a: {operator}\n")).await.unwrap_err();
        assert!(error.contains("$.a: ") && !error.contains(shown), "{operator}: {error}");
    }
    for path in ["db.password", "parts.1", "db"] {
        let inputs = vec![Input::new("t.yml", text.clone())];
        let explained = explain(inputs, path, &Options::default(), &stores).await.unwrap();
        assert!(explained.value.contains("***"), "{path}: {}", explained.value);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_secret_tree_does_not_quote_it() {
    let mut stores = seeded().await;
    stores.key(DEFAULT, "secrets", "twice", "hunter2: 1\nhunter2: 2\n").await;
    stores.key(DEFAULT, "config", "twice", "open: 1\nopen: 2\n").await;
    stores
        .object("secrets", "twice.json", Some("application/json"), b"{hunter2: 1, hunter2: 2}")
        .await;
    for path in ["kv:secrets/twice", "obj:secrets/twice.json"] {
        let text = format!("a: (( nats \"{path}\" as yaml ))\nb: (( nats \"{path}\" as json ))\n");
        let error = stores.render(&text).await.unwrap_err();
        assert!(error.contains("is not valid YAML") && !error.contains("hunter2"), "{error}");
    }
    let error = stores.render("a: (( nats \"obj:secrets/twice.json\" ))\n").await.unwrap_err();
    assert!(error.contains("failed to parse JSON: ") && !error.contains("hunter2"), "{error}");
    let error = stores.render("a: (( nats \"kv:config/twice\" as yaml ))\n").await.unwrap_err();
    assert!(error.contains("key \"open\" already set"), "{error}");
}

#[tokio::test]
async fn a_name_that_is_a_secret_is_not_shown() {
    let mut stores = seeded().await;
    stores.key(DEFAULT, "secrets", "dotted", "hunt.er2").await;
    let text = "\
token: (( nats \"kv:secrets/api\" ))
dotted: (( nats \"kv:secrets/dotted\" ))
table: {none: 1}
";
    for operator in ["(( grab table.[token] ))", "(( grab (concat \"table.\" dotted) ))"] {
        let error = stores.render(&format!("{text}a: {operator}\n")).await.unwrap_err();
        let hides = !error.contains("hunt") && !error.contains("er2");
        assert!(error.contains("$.a: unable to resolve `") && hides, "{operator}: {error}");
    }
    let chosen = "token: (( nats \"kv:secrets/api\" ))\ntable:\n  hunter2: 1\n";
    let rendered = stores.render(&format!("{chosen}a: (( grab table.[token] ))\n")).await.unwrap();
    assert!(rendered.masked.ends_with("a: \"***\"\n"), "{}", rendered.masked);
}

#[tokio::test]
async fn logins_of_operators_are_in_no_error_and_no_warning() {
    let stores = seeded().await;
    for operator in [
        "(( nats \"kv:b/k\" \"nats://u:s3cret@h ))",
        "(( nats \"kv:b/k\" \"nats://u:s3cret@h\" nats ))",
        "(( nats \"kv:b/k\" { url: \"nats://h\", password: \"s3cret\" ))",
        "(( ips \"nats://u:s3cret@h\" 1 ))",
    ] {
        let error = stores.render(&format!("a: {operator}\n")).await.unwrap_err();
        assert!(error.contains("$.a: ") && !error.contains("s3cret"), "{operator}: {error}");
    }
    let text = "a: (( \"x\" || (nats \"kv:b/k\" \"nats://u:s3cret@h\") ))\n";
    let warnings = stores.render(text).await.unwrap().warnings;
    let shown: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert!(shown.len() == 1 && !shown[0].contains("s3cret"), "{shown:?}");
}

#[tokio::test]
async fn an_object_that_is_a_link_is_refused() {
    let mut stores = seeded().await;
    stores.object("secrets", "app", None, b"hunter2").await;
    stores.object("public", "other", None, b"x").await;
    let bucket = BucketName::parse("public").unwrap();
    let objects = stores.store(DEFAULT).objects(&bucket, Open::existing()).await.unwrap();
    let name = ObjectName::parse("app").unwrap();
    let target = Link::object(BucketName::parse("secrets").unwrap(), name.clone());
    objects.link(&name, target).await.unwrap();
    let expected = "failed to get object 'app' from bucket 'public': it is a link: name what it \
                    leads to, obj:secrets/app";
    stores.fails("x: (( nats \"obj:public/app\" || 1 ))\n", expected).await;
    stores.gives("x: (( nats \"obj:public/other\" ))\n", "x: x\n").await;
}

#[tokio::test]
async fn an_object_over_the_limit_says_how_large_it_is() {
    let mut stores = seeded().await;
    let body: &'static [u8] = vec![b'x'; usize::try_from(OBJECT_BYTES_MAX).unwrap() + 1].leak();
    stores.object("assets", "large", None, body).await;
    let expected = "failed to get object 'large' from bucket 'assets': it has 67108865 bytes, more \
                    than the 67108864 that one value may have";
    stores.fails("x: (( nats \"obj:assets/large\" || 1 ))\n", expected).await;
}

#[test]
fn what_can_be_read_is_listed_without_reading() {
    let text = "\
e: prod
a: (( nats \"kv:config/port\" \"nats://me:pw@a:4222\" || \"d\" ))
b: (( nats (concat \"obj:configs/\" e \".yml\") ))
c: (( e == \"x\" ? (nats \"kv:other/k\") : 1 ))
d: (( nats (concat \"kv:x/\" a) ))
p: (( param \"left\" ))
";
    let inputs = vec![Input::new("t.yml", text)];
    let found = refs(inputs, &Options::default()).unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|found| match &found.value {
            Some(value) => {
                let computed = if found.computed { " (computed)" } else { "" };
                format!(
                    "{} {} {} {}/{}{computed}",
                    found.path, value.server, value.kind, value.bucket, value.name
                )
            }
            None => format!("{} unknown", found.path),
        })
        .collect();
    let without_param = refs(
        vec![Input::new("t.yml", text.replace("(( param \"left\" ))", "1"))],
        &Options::default(),
    );
    assert_eq!(shown[0], "$.a nats://a:4222 kv config/port");
    assert!(shown.contains(&"$.c the default store kv other/k".to_owned()), "{shown:?}");
    let computed = without_param.unwrap().into_iter().find(|found| found.path == "$.b").unwrap();
    assert_eq!(computed.value.unwrap().name, "prod.yml");
    assert!(shown.contains(&"$.d unknown".to_owned()), "{shown:?}");
}

#[tokio::test]
async fn the_examples_render() {
    let mut stores = Stores::default();
    stores.key(DEFAULT, "config", "database_host", "db.example.com").await;
    stores.key(DEFAULT, "config", "database_port", "5432").await;
    stores.key(DEFAULT, "config", "app_settings", "debug: false\nlimits:\n  max: 10\n").await;
    for service in ["api-gateway", "auth-service", "billing"] {
        let config = format!("owner: {service}\nport: 8080\n");
        stores.key(DEFAULT, "services", &format!("{service}/config"), &config).await;
    }
    stores.object("assets", "features.yaml", None, b"- auth\n- api\n").await;
    stores.object("assets", "logo.png", None, b"\x89PNG").await;
    stores.object("configs", "development/database.yaml", None, b"host: db\n").await;
    for url in ["nats://127.0.0.1:4222", "tls://nats.internal:4222"] {
        let store = stores.store(DEFAULT);
        stores.by_name.insert(url.to_owned(), store);
    }
    let examples =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/templates");
    let read = |name: &str| Input::new(name, std::fs::read(examples.join(name)).unwrap());
    let inputs = vec![read("base.yml"), read("production.yml")];
    let rendered = render(inputs, &Options::default(), &stores).await;
    let text = rendered.unwrap_or_else(|failure| panic!("{failure}")).text;
    for line in [
        "# Settings of one service, from a bucket of keys and a bucket of objects.\n",
        "  port: 5432\n",
        "  pool: 10\n",
        "    limits:\n      max: 10\n",
        "  features:\n    - auth\n    - api\n",
        "  database:\n    host: db\n",
        "  - name: billing\n    config:\n      owner: billing\n      port: 8080\n",
        "    logo.png: iVBORw==\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}
