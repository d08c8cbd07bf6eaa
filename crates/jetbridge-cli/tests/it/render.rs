//! `template render`: a file that is kept true, by a process that may die at any moment.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jetbridge_testkit::{Release, eventually};
use rustix::process::Signal;

use crate::binary::Store;

const WITHIN: Duration = Duration::from_secs(60);

on_every_store!(a_file_is_compared_checked_written_and_told_of,);

async fn a_file_is_compared_checked_written_and_told_of(store: Store) {
    store.does("kv add config").await;
    store.does("kv put config port 80").await;
    store.does("kv add secrets").await;
    store.does("kv put secrets key hunter2").await;
    let text = "port: (( nats \"kv:config/port\" as int ))\nkey: (( nats \"kv:secrets/key\" ))\n";
    std::fs::write(store.path("t.yml"), text).unwrap();
    let base = ["template", "render", "t.yml", "-o", "app.yml", "--secret", "secrets"];
    let render = async |more: &[&str]| store.run(&[&base[..], more].concat()).await;
    let file = |name: &str| std::fs::read_to_string(store.path(name)).unwrap_or_default();

    let said = render(&["--diff"]).await;
    assert_eq!((said.code, file("app.yml").as_str()), (1, ""), "{said:?}");
    assert!(said.text().contains("+port: 80\n+key: \"***\"\n"), "{said:?}");
    let reload = ["--reload", "cat {} >> reloads", "--check", "grep -q 'port: [0-9]' {}"];
    assert_eq!(render(&reload).await.code, 0);
    assert_eq!(file("app.yml"), "port: 80\nkey: hunter2\n");
    assert_eq!(render(&reload).await.code, 0);
    assert_eq!(file("reloads"), "port: 80\nkey: hunter2\n", "nothing differed the second time");
    assert_eq!(render(&["--diff"]).await.code, 0);

    store.does("kv put secrets key hunter3").await;
    let said = render(&["--check", "cat {}; exit 1"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("key: ***") && !said.err.contains("hunter"), "{said:?}");
    assert!(said.err.contains("app.yml is left as it is"), "{said:?}");
    assert_eq!(file("app.yml"), "port: 80\nkey: hunter2\n");

    store.does("kv del config port").await;
    assert_eq!(render(&[]).await.code, 2);
    assert_eq!(file("app.yml"), "port: 80\nkey: hunter2\n");
    assert_eq!(render(&["--missing", "null", "--backup", "1"]).await.code, 0);
    assert_eq!(file("app.yml"), "port: ~\nkey: hunter3\n");
    assert_eq!(file("app.yml.1"), "port: 80\nkey: hunter2\n");
}

#[tokio::test]
async fn an_outage_fails_unless_the_last_good_file_will_do() {
    let store = Store::at("nats://127.0.0.1:1");
    std::fs::write(store.path("t.yml"), "a: (( nats \"kv:config/a\" ))\n").unwrap();
    std::fs::write(store.path("app.yml"), "a: 1\n").unwrap();
    let words = ["template", "render", "t.yml", "-o", "app.yml"];
    let said = store.run(&words).await;
    assert_eq!(said.code, 3, "{said:?}");
    let said = store.run(&[&words[..], &["--last-known-good"]].concat()).await;
    assert!(said.code == 0 && said.err.contains("app.yml is left as it is: "), "{said:?}");
    let said = store.run(&[&words[..4], &["none.yml", "--last-known-good"]].concat()).await;
    assert_eq!(said.code, 3, "there is no last good file: {said:?}");
    assert_eq!(std::fs::read_to_string(store.path("app.yml")).unwrap(), "a: 1\n");
}

/// Bytes between the two ends of the file: many pages, so that a partial write would show.
const PADDING: usize = 400_000;
/// Processes that are killed.
const KILLS: usize = 8;

/// Reads the file until told to end; panics if it is not whole.
fn reader(path: PathBuf, ends: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let lines: Vec<&str> = text.lines().collect();
            let [begin, pad, end] = lines[..] else { panic!("{} bytes of a file", text.len()) };
            assert_eq!(pad.len(), "pad: ".len() + PADDING);
            assert_eq!(begin.strip_prefix("begin: "), end.strip_prefix("end: "), "a mixed file");
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_never_leaves_a_partial_file() {
    let store = Store::nats(Release::Newest).await;
    store.does("kv add config").await;
    store.does("kv put config v 0").await;
    let pad = "x".repeat(PADDING);
    let text = format!("begin: (( nats \"kv:config/v\" ))\npad: {pad}\nend: (( grab begin ))\n");
    std::fs::write(store.path("t.yml"), text).unwrap();
    let ends = Arc::new(AtomicBool::new(false));
    let reading = reader(store.path("app.yml").into(), Arc::clone(&ends));
    let words = ["template", "render", "t.yml", "-o", "app.yml", "--watch"];
    for number in 1..=KILLS {
        let mut watching = store.start(&words);
        while !watching.note().await.ends_with("app.yml: written") {}
        // It is writing this, or is about to, when it dies.
        store.does(&format!("kv put config v {number}a")).await;
        watching.signal(Signal::KILL);
        drop(watching);
        store.does(&format!("kv put config v {number}b")).await;
    }
    let mut watching = store.start(&words);
    while !watching.note().await.ends_with("app.yml: written") {}
    store.does("kv put config v last").await;
    eventually("the last value is written", WITHIN, async || {
        let text = std::fs::read_to_string(store.path("app.yml")).unwrap();
        text.starts_with("begin: last\n").then_some(())
    })
    .await;
    watching.signal(Signal::TERM);
    assert_eq!(watching.end().await.1, 0);
    ends.store(true, Ordering::Relaxed);
    reading.join().expect("no partial file was ever seen");
    let beside = std::fs::read_dir(store.path(".")).unwrap();
    let names: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains(".jetbridge")), "{names:?}");
}
