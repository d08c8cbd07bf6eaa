//! `wasi`: components on a store.

use std::path::PathBuf;

use futures_util::future::join_all;
use jetbridge_testkit::guest;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::binary::{Running, Said, Store};
use crate::up::ask;

/// The component `name` as a file.
fn lay_out(store: &Store, name: &str, component: &[u8]) -> String {
    let path = store.path(name);
    // Others may be reading it.
    if std::fs::read(&path).ok().as_deref() != Some(component) {
        std::fs::write(&path, component).unwrap();
    }
    path
}

impl Store {
    /// Runs the command with `options`, telling it `arguments`.
    async fn guest(&self, options: &[&str], arguments: &[&str]) -> Said {
        let component = lay_out(self, "command.wasm", &guest::command());
        let mut words = vec!["wasi", "run", component.as_str()];
        words.extend(options);
        words.push("--");
        words.extend(arguments);
        self.run(&words).await
    }
}

/// The files of compiled components.
fn cached(store: &Store) -> Vec<PathBuf> {
    let directory = store.path(".cache/jetbridge/components");
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

async fn a_command_counts_and_stdout_is_its_own(store: Store) {
    for sum in 1..=3 {
        let said = store.guest(&[], &["count"]).await;
        assert_eq!((said.code, said.text(), said.err.as_str()), (0, format!("{sum}\n"), ""));
    }
    assert_eq!(store.does("kv get default n").await, "3");
    let same = store.guest(&[], &["count", "default"]).await;
    assert_eq!(same.text(), "4\n", "`default` and the empty identifier are one store");
    store.does("kv put default n 41").await;
    assert_eq!(store.guest(&[], &["count"]).await.text(), "42\n");
    store.does("kv put default n words").await;
    let said = store.guest(&[], &["count"]).await;
    assert_eq!((said.code, said.text()), (1, String::new()), "{said:?}");
    assert!(said.err.contains("not a number"), "the guest can read why: {said:?}");
}

async fn links_are_what_a_command_opens(store: Store) {
    let links = ["--link", "a:bucket=one", "--link", "a:Enable_Bucket_Auto_Create=true"];
    assert_eq!(store.guest(&links, &["count", "a", "k"]).await.text(), "1\n");
    assert_eq!(store.does("kv get one k").await, "1");
    for unknown in ["default", "b"] {
        let said = store.guest(&links, &["count", unknown]).await;
        assert_eq!((said.code, said.err.as_str()), (1, "no-such-store\n"), "{unknown}");
    }
    // A name alone is the bucket of that name, which must be there.
    let said = store.guest(&["--link", "one"], &["count", "one", "k"]).await;
    assert_eq!(said.text(), "2\n");
    let said = store.guest(&["--link", "two"], &["count", "two", "k"]).await;
    assert_eq!((said.code, said.err.as_str()), (1, "no-such-store\n"));
    let provider = ["--provider", "bucket=one", "--link", "b", "--link", "c:bucket=two"];
    assert_eq!(store.guest(&provider, &["count", "b", "k"]).await.text(), "3\n");
    assert_eq!(store.guest(&provider, &["count", "c", "k"]).await.err, "no-such-store\n");
    let said =
        store.guest(&["--link", "b:bucket=${NOBODY_SET_THIS:-one}"], &["count", "b", "k"]).await;
    assert_eq!(said.text(), "4\n");
    let said = store.guest(&["--link", "b:bucket=${NOBODY_SET_THIS}"], &["count", "b", "k"]).await;
    assert_eq!(said.code, 2);
    assert!(said.err.contains("NOBODY_SET_THIS") && said.err.contains("--link"), "{said:?}");
    let said = store.guest(&["--link", "a:buckt=one"], &["count"]).await;
    assert_eq!((said.code, said.text()), (2, String::new()));
    assert!(said.err.contains("unknown key `buckt`") && said.err.contains("`bucket`"), "{said:?}");
}

async fn a_component_answers_http_and_remembers(store: Store) {
    let component = lay_out(&store, "http.wasm", &guest::http());
    let words = ["wasi", "serve", component.as_str(), "--listen", "127.0.0.1:0"];
    let (mut serving, address) = serve(&store, &words).await;
    assert_eq!(body(&ask(&address, "GET", "/a").await), "1\n");
    let answers = join_all((0..64).map(|_| ask(&address, "GET", "/many"))).await;
    let sum = |answer: &String| body(answer).trim().parse::<u32>();
    let mut sums: Vec<u32> =
        answers.iter().map(|it| sum(it).unwrap_or_else(|_| panic!("{it}"))).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=64).collect::<Vec<_>>(), "many at once, each counted once");
    assert_eq!(body(&ask(&address, "GET", "/a").await), "2\n");
    serving.signal(Signal::TERM);
    while !serving.note().await.contains("draining") {}
    assert_eq!(serving.end().await, (Vec::new(), 0));
    let (serving, address) = serve(&store, &words).await;
    assert_eq!(body(&ask(&address, "GET", "/a").await), "3\n", "the state is the store's");
    serving.signal(Signal::INT);
    assert_eq!(serving.end().await.1, 0);
}

on_every_store! {
    a_command_counts_and_stdout_is_its_own,
    links_are_what_a_command_opens,
    a_component_answers_http_and_remembers,
    the_example_runs,
    hosts_that_are_killed_count_nothing_twice,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_ends_badly_is_its_own_alone() {
    let store = Store::local();
    let component = lay_out(&store, "http.wasm", &guest::http());
    let mut words = vec!["wasi", "serve", component.as_str(), "--listen", "127.0.0.1:0"];
    words.extend(["--max-time", "1s", "--max-memory", "64MiB"]);
    let (serving, address) = serve(&store, &words).await;
    for (path, status, words) in [
        ("/trap", 500, "the guest trapped"),
        ("/loop", 504, "longer than its time limit of 1s"),
        ("/grow", 503, "over its limit of 67108864 bytes"),
    ] {
        let answer = ask(&address, "GET", path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(body(&answer).contains(words), "{path}: {answer}");
    }
    assert_eq!(body(&ask(&address, "GET", "/a").await), "1\n", "others are not touched");
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().await.1, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_answered_before_the_end() {
    let store = Store::local();
    let component = lay_out(&store, "http.wasm", &guest::http());
    let mut words = vec!["wasi", "serve", component.as_str(), "--listen", "127.0.0.1:0"];
    words.extend(["--max-time", "2s"]);
    let (mut serving, address) = serve(&store, &words).await;
    let stopping = async {
        // Connections are taken in their order: the loop has begun when these are answered.
        assert_eq!(body(&ask(&address, "GET", "/a").await), "1\n");
        assert_eq!(body(&ask(&address, "GET", "/a").await), "2\n");
        serving.signal(Signal::TERM);
        while !serving.note().await.contains("draining") {}
    };
    let (answer, ()) = tokio::join!(ask(&address, "GET", "/loop"), stopping);
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert_eq!(serving.end().await.1, 0);
}

/// A server of a component, and where it listens.
async fn serve(store: &Store, words: &[&str]) -> (Running, String) {
    let mut serving = store.start(words);
    loop {
        if let Some((_, address)) = serving.note().await.split_once("http: http://") {
            return (serving, address.to_owned());
        }
    }
}

fn body(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_ends_badly_is_a_non_zero_exit() {
    let store = Store::local();
    for (verb, code, words) in [("fail", 1, ""), ("exit", 1, ""), ("trap", 134, "trapped")] {
        let said = store.guest(&[], &[verb]).await;
        assert_eq!((said.code, said.text()), (code, String::new()), "{verb}: {said:?}");
        assert!(said.err.contains(words), "{verb}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_is_named_in_its_error() {
    let store = Store::local();
    let said = store.guest(&["--max-time", "300ms"], &["loop"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("ran for longer than its time limit of 300ms"), "{said:?}");
    assert!(said.err.contains("--max-time"), "{said:?}");
    let said = store.guest(&["--max-memory", "32MiB"], &["grow"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("over its limit of 33554432 bytes"), "{said:?}");
    assert!(said.err.contains("--max-memory"), "{said:?}");
    store.does("kv add default").await;
    store.feed(&["kv", "put", "default", "large"], &[b'v'; 2000]).await;
    let read = ["read", "default", "large"];
    let said = store.guest(&["--max-result", "1KiB"], &read).await;
    assert_eq!(said.code, 1, "the guest is told: {said:?}");
    assert!(said.err.contains("2000 bytes, over the limit of 1024 bytes"), "{said:?}");
    assert_eq!(store.guest(&[], &read).await.text(), "2000\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiled_components_are_kept_and_damaged_ones_made_anew() {
    let store = Store::local();
    store.guest(&[], &["count"]).await;
    let files = cached(&store);
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let made = std::fs::metadata(file).unwrap().modified().unwrap();
    assert_eq!(store.guest(&[], &["count"]).await.text(), "2\n");
    assert_eq!(std::fs::metadata(file).unwrap().modified().unwrap(), made, "it was used");
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(file, &bytes).unwrap();
    let said = store.guest(&[], &["count"]).await;
    assert_eq!((said.text().as_str(), said.err.as_str()), ("3\n", ""));
    assert_ne!(std::fs::read(file).unwrap(), bytes, "it was made anew");
    assert_eq!(cached(&store).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inspect_says_what_a_component_is_and_needs() {
    let store = Store::at("nats://127.0.0.1:9");
    lay_out(&store, "c.wasm", &guest::command());
    let said = store.does("wasi inspect c.wasm --link a:bucket=one").await;
    for words in [
        "dialect         wasi:keyvalue@0.2.0-draft\n",
        "for             command: `jetbridge wasi run`\n",
        "import          wasi:keyvalue/atomics@0.2.0-draft\n",
        "store           \"a\": bucket one of nats://127.0.0.1:9, which must be there\n",
        "$KV.one.>",
        "$JS.API.STREAM.INFO.KV_one",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    let said = store.does("wasi inspect c.wasm --link n:counter_bucket=true").await;
    for words in ["made if it is missing", "$CTR.n.>", "STREAM.CREATE.CTR_n", "$KV.n.>"] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    for (file, component, purpose) in [
        ("h.wasm", guest::http(), "http"),
        ("w.wasm", guest::watcher(), "watcher of wasi:keyvalue@0.2.0-draft"),
    ] {
        lay_out(&store, file, &component);
        let said = store.does(&format!("--json wasi inspect {file}")).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["dialects"][0], "wasi:keyvalue@0.2.0-draft");
        assert!(said["purposes"][0].as_str().unwrap().starts_with(purpose), "{said}");
        assert_eq!(said["stores"][0]["bucket"], "default");
        assert_eq!(said["stores"][0]["created"], true);
        assert!(said["permissions"][0]["permissions"].as_str().unwrap().contains("KV_default"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_loaded_says_why() {
    let store = Store::local();
    let unknown = guest::component(
        "package wasi:keyvalue@0.2.0-draft3; interface store { open: func(); }
         world w { import store; }",
        "w",
        &format!(
            r#"(module (import "wasi:keyvalue/store@0.2.0-draft3" "open" (func)) {})"#,
            guest::RUNTIME
        ),
    );
    let http = guest::http();
    for (name, bytes, words) in [
        (
            "unknown",
            unknown.as_slice(),
            &["wasi:keyvalue/store@0.2.0-draft3", "0.2.0-draft2 (Spin)"] as &[_],
        ),
        ("module", b"\0asm\x01\0\0\0", &["core module", "wasm-tools component new"]),
        ("text", b"hello", &["invalid input"]),
        ("http", &http, &["does not export wasi:cli/run", "jetbridge wasi serve"]),
    ] {
        lay_out(&store, name, bytes);
        let said = store.fails(2, &format!("wasi run {name}")).await;
        words.iter().for_each(|word| assert!(said.contains(word), "{name}: {word}: {said}"));
    }
    let said = store.fails(2, "wasi run absent.wasm").await;
    assert!(said.contains("absent.wasm") && said.contains("check the path"), "{said}");
    lay_out(&store, "command", &guest::command());
    let said = store.fails(2, "wasi serve command --listen 127.0.0.1:0").await;
    assert!(said.contains("jetbridge wasi run"), "{said}");
}

/// Four hosts, of which two are killed in the midst of their counting: the others go on, and what
/// is counted more than was told is at most what those two had under way.
async fn hosts_that_are_killed_count_nothing_twice(store: Store) {
    const STEPS: usize = 200;
    assert_eq!(store.guest(&[], &["count"]).await.text(), "1\n");
    let component = store.path("command.wasm");
    let steps = STEPS.to_string();
    let words = ["wasi", "run", component.as_str(), "--", "add", "default", "k", &steps];
    let hosts = join_all((0..4).map(|host| {
        let mut process = store.command(&words).spawn().unwrap();
        async move {
            let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let mut sums = Vec::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                sums.push(line.parse::<usize>().unwrap());
                if host < 2 && sums.len() == STEPS / 4 {
                    process.start_kill().unwrap();
                }
            }
            assert_eq!(process.wait().await.unwrap().success(), host >= 2);
            sums
        }
    }));
    let mut told: Vec<usize> = hosts.await.concat();
    let before = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), before, "a sum was told twice");
    assert!((STEPS * 5 / 2..STEPS * 4).contains(&before), "{before}");
    let last = store.does("kv get default k").await.parse::<usize>().unwrap();
    assert!((before..=before + 2).contains(&last), "{before} were told, and it is {last}");
}

/// The file of `examples/components`, with guests of the tests.
async fn the_example_runs(store: Store) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/components/jetbridge.yml");
    let text = std::fs::read_to_string(file).unwrap().replace("127.0.0.1:4280", "127.0.0.1:0");
    std::fs::write(store.path("jetbridge.yml"), text).unwrap();
    lay_out(&store, "counter.wasm", &guest::http());
    lay_out(&store, "mirror.wasm", &guest::watcher());
    let plan = store.does("check jetbridge.yml").await;
    for words in ["answers /count, \"default\" is bucket counters", "watches \"orders\""] {
        assert!(plan.contains(words), "{plan}");
    }
    let (up, address) = serve(&store, &["up", "jetbridge.yml"]).await;
    let within = std::time::Duration::from_secs(60);
    jetbridge_testkit::eventually("all runs", within, async || {
        ask(&address, "GET", "/readyz").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    assert_eq!(body(&ask(&address, "GET", "/count/a").await), "1\n");
    assert_eq!(body(&ask(&address, "GET", "/count/a").await), "2\n");
    assert_eq!(store.does("kv get counters count/a").await, "2");
    store.does("kv put orders 17 chair").await;
    jetbridge_testkit::eventually("the watcher is told", within, async || {
        (store.run(&["kv", "get", "orders", "seen/17"]).await.text() == "chair").then_some(())
    })
    .await;
    up.signal(Signal::TERM);
    assert_eq!(up.end().await.1, 0);
}

/// What takes real processes by the dozen.
mod slow {
    use std::time::Duration;

    use jetbridge_testkit::{
        AckLoss, NatsCluster, NatsServer, Proxy, Release, ServerOptions, eventually,
    };

    use super::*;

    /// One acknowledgement of ten.
    const ACKS_LOST: AckLoss = AckLoss::Seeded { seed: 7, per_mille: 100 };

    /// Processes of the binary, each of which adds 1 so many times; what they were told.
    async fn count(store: &Store, hosts_and_steps: (usize, usize), key: &str) -> Vec<u64> {
        patient_count(store, hosts_and_steps, (key, "1s")).await
    }

    /// As [`count`]; each request waits for its answer so long.
    async fn patient_count(
        store: &Store,
        (hosts, steps): (usize, usize),
        (key, patience): (&str, &str),
    ) -> Vec<u64> {
        let steps = steps.to_string();
        let arguments = ["add", "default", key, &steps];
        let options = ["--timeout", patience];
        let said = join_all((0..hosts).map(|_| store.guest(&options, &arguments))).await;
        let mut sums = Vec::new();
        for said in said {
            assert_eq!(said.code, 0, "{said:?}");
            sums.extend(said.text().lines().map(|line| line.parse::<u64>().unwrap()));
        }
        sums.sort_unstable();
        sums
    }

    async fn processes_count_exactly_whatever_is_lost(release: Release) {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let proxy = Proxy::start(server.address()).await;
        let store = Store::at(&proxy.url());
        assert_eq!(store.guest(&[], &["count"]).await.text(), "1\n");
        for (key, first) in [("n", 2), ("fresh", 1)] {
            let sums = count(&store, (8, 50), key).await;
            assert_eq!(sums, (first..first + 400).collect::<Vec<_>>(), "{key}");
        }
        let sums = count(&store, (32, 25), "wide").await;
        assert_eq!(sums, (1..=800).collect::<Vec<_>>());

        proxy.lose_acks(ACKS_LOST);
        let counting = count(&store, (8, 50), "lossy");
        let restarts = async {
            for _ in 0..3 {
                let lost = proxy.acks_lost();
                eventually("more is lost", Duration::from_secs(60), async || {
                    (proxy.acks_lost() > lost + 3).then_some(())
                })
                .await;
                server.kill();
                server.restart().await;
            }
        };
        let (sums, ()) = tokio::join!(counting, restarts);
        assert!(proxy.acks_lost() > 0);
        assert_eq!(sums, (1..=400).collect::<Vec<_>>(), "over lost acknowledgements and restarts");
        assert_eq!(Store::at(&server.url()).does("kv get default lossy").await, "400");
    }

    /// While leaders step down and die, and acknowledgements are lost.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn processes_count_exactly_over_changes_of_leaders() {
        const STREAM: &str = "KV_default";
        let cluster = NatsCluster::start(Release::Newest, 3).await;
        let proxies =
            join_all(cluster.nodes().iter().map(|node| Proxy::start(node.address()))).await;
        let url = proxies.iter().map(Proxy::url).collect::<Vec<_>>().join(",");
        let store = Store::at(&url);
        let link =
            ["--link", "default:enable_bucket_auto_create=true", "--link", "default:replicas=3"];
        assert_eq!(store.guest(&link, &["count"]).await.text(), "1\n");
        proxies.iter().for_each(|proxy| proxy.lose_acks(ACKS_LOST));
        // Longer than a cluster takes to elect a leader.
        let counting = patient_count(&store, (8, 50), ("lossy", "5s"));
        let lost = || proxies.iter().map(Proxy::acks_lost).sum::<u64>();
        let changes = async {
            for change in 0..4 {
                let before = lost();
                eventually("more is lost", Duration::from_secs(60), async || {
                    (lost() > before + 2).then_some(())
                })
                .await;
                let leader = eventually("it has a leader", Duration::from_secs(60), async || {
                    cluster.leader(STREAM).await
                })
                .await;
                match change % 2 {
                    0 => cluster.step_down(STREAM).await,
                    _ => {
                        cluster.nodes()[leader].kill();
                        cluster.nodes()[leader].restart().await;
                    }
                }
            }
        };
        let (sums, ()) = tokio::join!(counting, changes);
        assert_eq!(sums, (1..=400).collect::<Vec<_>>());
        assert_eq!(Store::at(&cluster.url()).does("kv get default lossy").await, "400");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn processes_count_exactly_whatever_is_lost_2_9_25() {
        processes_count_exactly_whatever_is_lost(Release::Oldest).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn processes_count_exactly_whatever_is_lost_2_15_2() {
        processes_count_exactly_whatever_is_lost(Release::Newest).await;
    }
}
