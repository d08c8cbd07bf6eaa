//! `components:` — guests that watch and answer, their status, figures, reloads and permissions.

use std::path::Path;
use std::sync::Arc;

use jetbridge::nats::ConnectOptions;
use jetbridge::settings::Environment;
use jetbridge::settings::Location;
use jetbridge_agent::UpFile;
use jetbridge_core::{
    Backend, BucketName, BucketSpec, DeleteOpts, Key, Kv, MemoryBackend, Open, PutOpts, Read,
};
use jetbridge_testkit::{eventually, guest};

use crate::rig::{Rig, WITHIN};

const HTTP: &str = "http: {listen: '127.0.0.1:0'}\nbuckets: {orders: {}, counters: {}}\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, wasm: Vec<u8>| std::fs::write(folder.path().join(name), wasm);
    write("w.wasm", guest::watcher()).unwrap();
    write("h.wasm", guest::http()).unwrap();
    folder
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

impl Rig {
    async fn kv(&self, bucket: &str) -> Arc<dyn Kv> {
        let bucket = BucketName::parse(bucket).unwrap();
        self.backend.kv(&bucket, Open::ensure(BucketSpec::default())).await.unwrap()
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        crate::http::get(self.agent.http_address().unwrap(), path, "").await
    }

    async fn says(&self, path: &str, words: &str) -> String {
        eventually(words, WITHIN, async || {
            let said = self.ask(path).await.1;
            said.contains(words).then_some(said)
        })
        .await
    }
}

async fn value(kv: &Arc<dyn Kv>, name: &str, wanted: Option<&str>) {
    eventually(name, WITHIN, async || {
        let entry = kv.get(&key(name), Read::Fresh).await.unwrap();
        let value = entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap());
        (value.as_deref() == wanted).then_some(())
    })
    .await;
}

async fn put(kv: &Arc<dyn Kv>, name: &str, text: &'static str) {
    kv.put(&key(name), text.into(), PutOpts::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_of_what_changes() {
    let text = format!("{HTTP}components:\n  - {{wasm: w.wasm, watch: [orders]}}\n");
    let rig = Rig::start_in(folder(), &text).await;
    let orders = rig.kv("orders").await;
    put(&orders, "a", "1").await;
    value(&orders, "seen/a", Some("1")).await;
    put(&orders, "a", "2").await;
    value(&orders, "seen/a", Some("2")).await;
    orders.delete(&key("a"), DeleteOpts::new()).await.unwrap();
    value(&orders, "seen/a", None).await;
    rig.says("/readyz", "ready").await;
    let figures = rig.says("/metrics", "component_changes_total").await;
    assert!(figures.contains("{component=\"w.wasm\",outcome=\"done\"}"), "{figures}");
    let (report, _folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_was_not_there_is_told_of_the_present_values() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let name = BucketName::parse("orders").unwrap();
    let orders = backend.kv(&name, Open::ensure(BucketSpec::default())).await.unwrap();
    put(&orders, "a", "1").await;
    put(&orders, "a", "2").await;
    put(&orders, "b", "3").await;
    let text = "components:\n  - {wasm: w.wasm, watch: [orders]}\n";
    let rig = Rig::start_on(backend, folder(), text).await;
    value(&orders, "seen/a", Some("2")).await;
    value(&orders, "seen/b", Some("3")).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_traps_is_told_again_and_then_passed_over() {
    let text = format!("{HTTP}components:\n  - {{name: w, wasm: w.wasm, watch: [orders]}}\n");
    let rig = Rig::start_in(folder(), &text).await;
    let orders = rig.kv("orders").await;
    put(&orders, "a", "1").await;
    value(&orders, "seen/a", Some("1")).await;
    put(&orders, "trap", "x").await;
    put(&orders, "b", "2").await;
    value(&orders, "seen/b", Some("2")).await;
    let status = rig.says("/v1/status", "\"changes_passed_over\":1").await;
    assert!(status.contains("\"changes_failed\":2"), "{status}");
    rig.says("/readyz", "ready").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_answers_below_its_route() {
    let text = format!(
        "{HTTP}components:\n  - {{name: h, wasm: h.wasm, route: /count, \
         links: {{default: {{BUCKET: counters}}}}, limits: {{time: 300ms, memory: 16MiB}}}}\n"
    );
    let mut rig = Rig::start_in(folder(), &text).await;
    rig.says("/readyz", "ready").await;
    assert!(rig.ask("/count/a").await.1.contains("1\n"));
    assert!(rig.ask("/count").await.1.contains("1\n"));
    assert!(rig.ask("/count/a").await.1.contains("2\n"));
    assert_eq!(rig.ask("/counted").await.0, 404);
    let counters = rig.kv("counters").await;
    value(&counters, "count/a", Some("2")).await;
    let status = rig.says("/v1/status", "\"requests_done\":3").await;
    assert!(status.contains("\"requests_failed\":0"), "{status}");

    // A removed section is gone.
    rig.rewrite(HTTP);
    let reloaded = rig.agent.reload().await.unwrap();
    assert_eq!(reloaded.stopped.len(), 1, "{reloaded:?}");
    assert_eq!(rig.ask("/count/a").await.0, 404);
    rig.stop().await;
}

/// Requests at any time of a change are answered by one version or the other, and a version that
/// cannot be had changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_takes_over_when_it_is_ready() {
    let text = format!(
        "{HTTP}components:\n  - {{name: h, wasm: h.wasm, route: /count, \
         links: {{default: {{bucket: counters}}}}}}\n"
    );
    let rig = Rig::start_in(folder(), &text).await;
    rig.says("/readyz", "ready").await;
    let changing = async {
        std::fs::write(rig.path("h.wasm"), guest::watcher()).unwrap();
        let status =
            rig.says("/v1/status", "`route` needs a component that exports wasi:http").await;
        assert!(status.contains("the component before it goes on"), "{status}");
        std::fs::remove_file(rig.path("h.wasm")).unwrap();
        rig.says("/v1/status", "h.wasm cannot be read").await;
        std::fs::write(rig.path("h.wasm"), guest::http()).unwrap();
        rig.says("/readyz", "ready").await;
    };
    let mut changing = Box::pin(changing);
    let mut asked = 0;
    while futures_util::poll!(changing.as_mut()).is_pending() {
        asked += 1;
        let (status, body) = rig.ask("/count/a").await;
        assert_eq!((status, body.contains(&format!("{asked}\n"))), (200, true), "{body}");
    }
    assert!(asked > 1, "nobody asked meanwhile");
    drop(changing);
    let (report, _folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
}

/// The watch is not begun anew: nothing that changes meanwhile is missed or told twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_over_a_changed_file() {
    let text = format!("{HTTP}components:\n  - {{name: w, wasm: w.wasm, watch: [orders]}}\n");
    let rig = Rig::start_in(folder(), &text).await;
    let orders = rig.kv("orders").await;
    for name in ["a", "b", "c"] {
        put(&orders, name, "1").await;
        value(&orders, &format!("seen/{name}"), Some("1")).await;
    }
    rig.says("/v1/status", "\"changes_done\":6").await;
    std::fs::write(rig.path("w.wasm"), b"half a component").unwrap();
    rig.says("/v1/status", "the component before it goes on").await;
    orders.delete(&key("a"), DeleteOpts::new()).await.unwrap();
    value(&orders, "seen/a", None).await;
    // Of `a` and of `seen/a`.
    rig.says("/v1/status", "\"changes_done\":8").await;
    std::fs::write(rig.path("w.wasm"), guest::watcher()).unwrap();
    rig.says("/readyz", "ready").await;
    put(&orders, "d", "1").await;
    value(&orders, "seen/d", Some("1")).await;
    rig.says("/v1/status", "\"changes_done\":10").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_does_not_run_yet_says_when_to_ask_again() {
    let text = format!("{HTTP}components:\n  - {{name: later, wasm: later.wasm, route: /count}}\n");
    let rig = Rig::start_in(folder(), &text).await;
    let (status, body) = rig.ask("/count/a").await;
    assert!(status == 503 && body.contains("component later does not run now"), "{status} {body}");
    let answer = crate::http::answer(rig.agent.http_address().unwrap(), "/count/a", "").await;
    assert!(answer.to_ascii_lowercase().contains("retry-after: 1\r\n"), "{answer}");
    rig.says("/v1/status", "later.wasm cannot be read").await;
    std::fs::write(rig.path("later.wasm"), guest::http()).unwrap();
    rig.says("/count/a", "1\n").await;
    rig.says("/readyz", "ready").await;
    rig.stop().await;
}

/// Its file is one that is never written to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_never_starts_does_not_hold_up_the_end() {
    let folder = folder();
    let pipe = folder.path().join("pipe.wasm");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    );
    made.unwrap();
    let text = format!("{HTTP}components:\n  - {{name: p, wasm: pipe.wasm, route: /p}}\n");
    let rig = Rig::start_in(folder, &text).await;
    // The reader has the pipe open: what is opened here does not wait.
    let writer =
        tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(pipe));
    let writer = tokio::time::timeout(WITHIN, writer).await.unwrap().unwrap().unwrap();
    let (report, _folder) = tokio::time::timeout(WITHIN, rig.stop()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    drop(writer);
}

/// One for each thread: without an end of theirs nothing else would be served any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_compute_end_when_their_component_changes() {
    let text = format!(
        "{HTTP}components:\n  - {{name: h, wasm: h.wasm, route: /loop, limits: {{time: 10m}}}}\n"
    );
    let rig = Rig::start_in(folder(), &text).await;
    rig.says("/readyz", "ready").await;
    let rewrite = async { std::fs::write(rig.path("h.wasm"), guest::http()).unwrap() };
    let asked = async { tokio::join!(rig.ask("/loop"), rig.ask("/loop"), rewrite) };
    let (first, second, ()) = tokio::time::timeout(WITHIN, asked).await.unwrap();
    assert_eq!((first.0, second.0), (503, 503), "{first:?} {second:?}");
    assert!(first.1.contains("its host closes"), "{first:?}");
    assert_eq!(rig.ask("/healthz").await.0, 200);
    rig.says("/loop/a", "1\n").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_there_is_said_and_waited_for() {
    let text = "http: {listen: '127.0.0.1:0'}\n\
                components:\n  - {name: w, wasm: w.wasm, watch: [later]}\n";
    let rig = Rig::start_in(folder(), text).await;
    rig.says("/v1/status", "no-such-store").await;
    let later = rig.kv("later").await;
    put(&later, "a", "1").await;
    value(&later, "seen/a", Some("1")).await;
    rig.says("/readyz", "ready").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_guards_components_too() {
    let text = "http: {listen: '127.0.0.1:0', token: s3cr3t}\n\
                components:\n  - {name: h, wasm: h.wasm, route: /}\n";
    let rig = Rig::start_in(folder(), text).await;
    rig.says("/readyz", "ready").await;
    assert_eq!(rig.ask("/a").await.0, 401);
    let address = rig.agent.http_address().unwrap();
    let (status, body) = crate::http::get(address, "/a", "s3cr3t").await;
    assert!(status == 200 && body.contains("1\n"), "{status} {body}");
    // The token is for `up` alone: with it a component could ask for everything else.
    let (status, body) = crate::http::get(address, "/auth", "s3cr3t").await;
    assert!(status == 200 && body.contains("1\n"), "{status} {body}");
    rig.stop().await;
}

fn read(text: &str) -> Result<UpFile, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.yml");
    std::fs::write(&path, text).unwrap();
    UpFile::read(&[path], &Environment::default())
        .map_err(|problems| problems.iter().map(|it| format!("{it}\n")).collect::<String>())
}

#[test]
fn a_login_of_a_link_is_not_shown() {
    let file = read(&format!(
        "{HTTP}components:\n  - {{wasm: a.wasm, route: /a, provider: {{TOKEN: s3cr3t}}, \
         links: {{x: {{USER: ann, PASSWORD: s3cr3t}}}}}}\n"
    ));
    let shown = format!("{:?}", file.unwrap());
    assert!(shown.contains("a.wasm") && !shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn what_is_wrong_is_found_when_the_file_is_read() {
    for (section, words) in [
        ("{wasm: a}", "needs `watch` or `route`"),
        ("{wasm: a, route: x}", "begins with `/`"),
        ("{wasm: a, route: /v1/x}", "`up` itself answers `/v1`"),
        ("{wasm: a, route: /a}", "nothing listens for the route `/a/`"),
        ("{wasm: a, watch: [b], limit: 1}", "limit"),
        ("{wasm: a, watch: [b]}\n  - {wasm: a, watch: [c]}", "two components are called `a`"),
    ] {
        let problems = read(&format!("components:\n  - {section}\n")).unwrap_err();
        assert!(problems.contains(words), "{section}: {problems}");
    }
    let file = read(&format!(
        "{HTTP}components:\n  - {{wasm: a.wasm, route: /a, watch: [b], provider: {{bucket: c}}, \
         links: {{x: {{enable_bucket_auto_create: true}}, y: {{bucket: 42}}, z: }}}}\n"
    ))
    .unwrap();
    let component = &file.components[0];
    assert!(component.wasm.is_absolute() && component.wasm.ends_with(Path::new("a.wasm")));
    let plans = component.plan(&Location::Memory).unwrap();
    let buckets: Vec<_> =
        plans.iter().map(|it| (it.name.as_str(), it.bucket.as_str(), it.creates)).collect();
    assert_eq!(
        buckets,
        [("b", "c", false), ("x", "c", true), ("y", "42", false), ("z", "c", false)]
    );
    let permissions = file.permissions(&ConnectOptions::default()).unwrap().to_string();
    assert!(permissions.contains("$KV.c.>") && permissions.contains("$KV.42.>"), "{permissions}");
    assert!(!permissions.contains("$CTR."), "{permissions}");
    // A link with a place in the account of its own is on the file's servers.
    let file = read(&format!(
        "{HTTP}components:\n  - {{wasm: a.wasm, route: /a, links: {{x: {{JS_DOMAIN: hub}}, y: }}}}\n"
    ));
    let mut options = ConnectOptions::default();
    options.servers = vec!["nats://n1:4222".to_owned()];
    let not_covered = file.unwrap().not_covered(&options).unwrap();
    assert_eq!(not_covered.len(), 1, "{not_covered:?}");
    assert!(not_covered[0].contains("bucket x of nats://n1:4222"), "{not_covered:?}");
    let file = read(&format!(
        "{HTTP}components:\n  - {{wasm: a.wasm, route: /a, links: {{n: {{counter_bucket: true}}}}}}\n"
    ));
    let permissions = file.unwrap().permissions(&ConnectOptions::default()).unwrap().to_string();
    for words in ["$CTR.n.>", "$JS.API.STREAM.CREATE.CTR_n", "$JS.API.DIRECT.GET.CTR_n.>"] {
        assert!(permissions.contains(words), "{words} is not in\n{permissions}");
    }
}
