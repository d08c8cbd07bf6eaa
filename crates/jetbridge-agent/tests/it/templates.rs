//! `templates:` — files that follow the store, their status, figures, reloads and permissions.

use std::sync::Arc;

use jetbridge::nats::{Auth, ConnectOptions};
use jetbridge::settings::{Environment, Location};
use jetbridge_agent::{Agent, UpFile};
use jetbridge_core::{
    Backend, BucketName, BucketSpec, ErrorKind, Key, ObjectName, ObjectPut, Open, PutOpts, Secret,
    body_of,
};
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};

use crate::rig::{Rig, WITHIN};

async fn put(store: &Arc<dyn Backend>, bucket: &str, key: &str, value: &str) {
    let bucket = BucketName::parse(bucket).unwrap();
    let kv = store.kv(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
    kv.put(&Key::parse(key).unwrap(), value.to_owned().into(), PutOpts::new()).await.unwrap();
}

fn section(name: &str, more: &str) -> String {
    format!(
        "  - {{from: {name}.t, to: {name}.yml, wait: '0s..0s', \
         reload: [sh, -c, 'cat {name}.yml >> {name}.reloads']{more}}}\n"
    )
}

impl Rig {
    async fn wait_text(&self, name: &str, text: &str) {
        eventually(name, WITHIN, async || {
            (std::fs::read_to_string(self.path(name)).unwrap_or_default() == text).then_some(())
        })
        .await;
    }

    async fn status(&self, path: &str) -> String {
        let address = self.agent.http_address().unwrap();
        let answer = crate::http::get(address, path, "").await;
        answer.1
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_follow_the_store_and_say_how_they_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.t"), "v: (( nats \"kv:config/v\" ))\n").unwrap();
    std::fs::write(folder.path().join("b.t"), "w: (( nats \"kv:secrets/w\" ))\n").unwrap();
    let head = "http: {listen: '127.0.0.1:0'}\ntemplates:\n";
    let a = section("a", "");
    let b = section("b", ", secret: [secrets], check: [sh, -c, 'cat {} >&2; ! grep -q bad {}']");
    let mut rig = Rig::start_in(folder, &format!("{head}{a}{b}")).await;
    put(&rig.backend, "config", "v", "one").await;
    put(&rig.backend, "secrets", "w", "good1").await;
    rig.wait_text("a.yml", "v: one\n").await;
    rig.wait_text("b.yml", "w: good1\n").await;

    put(&rig.backend, "secrets", "w", "bad1").await;
    let status = eventually("the check fails", WITHIN, async || {
        let status = rig.status("/v1/status").await;
        status.contains("check: sh ended with").then_some(status)
    })
    .await;
    assert!(status.contains("the file stays as it was") && !status.contains("bad1"), "{status}");
    rig.wait_text("b.yml", "w: good1\n").await;
    let metrics = rig.status("/metrics").await;
    for line in [
        "jetbridge_template_renderings_total{template=\"a.yml\",outcome=\"written\"} 1",
        "jetbridge_template_reloads_total{template=\"b.yml\"} 1",
        "jetbridge_template_renderings_total{template=\"b.yml\",outcome=\"failed\"} ",
        "jetbridge_section_state{kind=\"template\",name=\"b.yml\",state=\"degraded\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    put(&rig.backend, "secrets", "w", "good2").await;
    rig.wait_text("b.yml", "w: good2\n").await;
    rig.wait_text("b.reloads", "w: good1\nw: good2\n").await;

    // A reload of the file leaves what has not changed alone.
    std::fs::write(rig.path("c.t"), "x: 1\n").unwrap();
    rig.rewrite(&format!("{head}{a}{}{}", section("b", ", mode: '0640'"), section("c", "")));
    let reloaded = rig.agent.reload().await.unwrap();
    let names = |ids: &[jetbridge_agent::SectionId]| -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(&reloaded.started), ["template c.yml"]);
    assert_eq!(names(&reloaded.changed), ["template b.yml"]);
    rig.wait_text("c.yml", "x: 1\n").await;
    put(&rig.backend, "config", "v", "two").await;
    rig.wait_text("a.reloads", "v: one\nv: two\n").await;
    let (report, _folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
}

const FILE: &str = "
templates:
  - {from: t.yml, to: app.yml, wait: 0s..0s}
";
const TEMPLATE: &str = "a: (( nats \"kv:config/a\" ))\nb: (( nats \"kv:config/b\" ))\n\
                        doc: (( nats \"obj:assets/doc.txt\" ))\n";

async fn connect(server: &NatsServer, user: &str) -> Arc<dyn Backend> {
    let mut options = ConnectOptions::default();
    options.servers = vec![server.url()];
    options.auth =
        Auth::UserPassword { user: user.to_owned(), password: Secret::new("pw".to_owned()) };
    jetbridge::connect(Location::Nats(Box::new(options))).await.unwrap()
}

async fn the_least_is_enough(release: Release) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.yml");
    std::fs::write(&path, FILE).unwrap();
    std::fs::write(folder.path().join("t.yml"), TEMPLATE).unwrap();
    let environment = Environment::default();
    let file = UpFile::read(std::slice::from_ref(&path), &environment).unwrap();
    let block = file.permissions(&ConnectOptions::default()).unwrap();
    assert!(file.not_covered(&ConnectOptions::default()).unwrap().is_empty());
    let users = format!(
        "authorization {{ users: [ {{user: admin, password: pw}}, {{user: up, password: pw, {block}}} ] }}"
    );
    let server = NatsServer::start(release, ServerOptions::new().config(&users)).await;
    let (admin, up) = (connect(&server, "admin").await, connect(&server, "up").await);
    for key in ["a", "b"] {
        put(&admin, "config", key, "1").await;
    }
    let bucket = BucketName::parse("assets").unwrap();
    let objects = admin.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
    let name = ObjectName::parse("doc.txt").unwrap();
    objects.put(&name, body_of("one"), ObjectPut::default()).await.unwrap();
    let agent = Agent::start(file, vec![path], environment, Arc::clone(&up)).await.unwrap();
    let is = async |text: &str| {
        eventually(text, WITHIN, async || {
            let found = std::fs::read_to_string(folder.path().join("app.yml"));
            (found.unwrap_or_default() == text).then_some(())
        })
        .await;
    };
    is("a: \"1\"\nb: \"1\"\ndoc: one\n").await;
    put(&admin, "config", "b", "2").await;
    is("a: \"1\"\nb: \"2\"\ndoc: one\n").await;
    objects.put(&name, body_of("two"), ObjectPut::default()).await.unwrap();
    is("a: \"1\"\nb: \"2\"\ndoc: two\n").await;
    let bucket = BucketName::parse("config").unwrap();
    let kv = up.kv(&bucket, Open::existing()).await.unwrap();
    let denied = kv.put(&Key::parse("a").unwrap(), "x".into(), PutOpts::new()).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    assert!(agent.stop().await.is_clean());
    admin.close(WITHIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_is_enough_on_nats_2_9_25() {
    the_least_is_enough(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_is_enough_on_nats_2_15_2() {
    the_least_is_enough(Release::Newest).await;
}

#[test]
fn the_example_is_right_and_reads_what_it_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/templates/up/jetbridge.yml");
    let file = UpFile::read(&[path], &Environment::default()).unwrap();
    let [template] = &file.templates[..] else { panic!("one template: {:?}", file.templates) };
    let mut names: Vec<String> =
        template.reads().unwrap().into_iter().map(|read| read.value.unwrap().name).collect();
    names.sort();
    assert_eq!(names, ["host", "port"]);
}
