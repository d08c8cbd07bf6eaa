//! `object` over several processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::binary::Store;

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

async fn files_go_in_and_come_out(store: Store) {
    let bytes = sample(1_500_000);
    std::fs::write(store.path("in"), &bytes).unwrap();
    store.does("object add b").await;
    assert!(store.does("object put b in").await.starts_with("in, 1500000 bytes, revision "));
    assert!(store.does("object put b other --file in").await.starts_with("other, 1500000 bytes"));
    store.does("object get b other -o out").await;
    assert!(std::fs::read(store.path("out")).unwrap() == bytes);
    let said = store.run(&["object", "get", "b", "in"]).await;
    assert_eq!((said.code, said.out == bytes), (0, true));
    let part = ["object", "get", "b", "in", "--offset", "700000", "--length", "9"];
    assert_eq!(store.run(&part).await.out, bytes[700_000..700_009]);
    assert_eq!(store.does("object ls b -n").await.lines().count(), 2);
    store.does("object del b in").await;
    assert_eq!(store.fails(1, "object stat b in").await, "no object `in` in `b`\n");
    store.does("object seal b").await;
    store.fails(2, "object del b other").await;
    store.does("object rm b").await;
}

async fn stdin_is_stored_under_a_name(store: Store) {
    let bytes = sample(300_000);
    store.does("object add b").await;
    for words in [
        &["object", "put", "b", "-", "--name", "n"][..],
        &["object", "put", "b", "n", "--file", "-"],
        &["object", "put", "b", "--name", "n"],
    ] {
        let said = store.feed(words, &bytes).await;
        assert_eq!(said.code, 0, "{said:?}");
        let said = store.run(&["object", "get", "b", "n"]).await;
        assert!(said.out == bytes, "{words:?}");
    }
    let said = store.feed(&["object", "put", "b", "-"], &bytes).await;
    assert_eq!((said.code, said.out.len()), (2, 0));
}

async fn a_put_that_is_cut_short_leaves_nothing(store: Store) {
    store.does("object add b").await;
    let mut put = store.start(&["object", "put", "b", "n", "--file", "-"]);
    put.write(&sample(3_000_000)).await;
    put.signal(Signal::INT);
    assert_eq!(put.end().await, (vec![], 130));
    assert_eq!(store.does("object ls b").await, "");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !store.does("object info b").await.contains("size            0 B") {
        assert!(tokio::time::Instant::now() < deadline, "chunks are left behind");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn hostile_names_are_kept_apart(store: Store) {
    store.does("object add b").await;
    let names = ["a b", ".", "*", ">", "é/ü", "line\nbreak", "-rf", "a=b"];
    for name in names {
        let words = ["object", "put", "b", "--file", "-", "--", name];
        let said = store.feed(&words, name.as_bytes()).await;
        assert_eq!(said.code, 0, "{name:?}: {said:?}");
    }
    let listed = store.does("object ls b --json").await;
    let listed = listed.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object["name"].as_str().unwrap().to_owned()
    });
    let mut listed: Vec<String> = listed.collect();
    let mut sorted = names.to_vec();
    listed.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
    for name in names {
        let said = store.run(&["object", "get", "b", "--", name]).await;
        assert_eq!((said.code, said.text().as_str()), (0, name));
        let said = store.run(&["object", "del", "b", "--", name]).await;
        assert_eq!(said.code, 0, "{name:?}: {said:?}");
    }
}

async fn what_was_there_stays_if_nothing_comes(store: Store) {
    store.does("object add b").await;
    std::fs::write(store.path("out"), "old").unwrap();
    std::fs::write(store.path("in"), "new").unwrap();
    store.does("object put b in").await;
    let names = || std::fs::read_dir(store.path(".")).unwrap().count();
    let before = names();
    store.fails(1, "object get b none -o out").await;
    assert_eq!(std::fs::read(store.path("out")).unwrap(), b"old");
    store.does("object get b in -o out").await;
    assert_eq!(std::fs::read(store.path("out")).unwrap(), b"new");
    assert_eq!(names(), before);
}

on_every_store! {
    a_put_that_is_cut_short_leaves_nothing,
    files_go_in_and_come_out,
    hostile_names_are_kept_apart,
    stdin_is_stored_under_a_name,
    what_was_there_stays_if_nothing_comes,
}

/// The largest file below `directory`.
fn largest(directory: &Path) -> (u64, PathBuf) {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let sizes = entries.map(|path| {
        if path.is_dir() { largest(&path) } else { (path.metadata().unwrap().len(), path) }
    });
    sizes.max().unwrap_or_default()
}

#[tokio::test]
async fn a_damaged_object_is_corrupt_and_leaves_no_file() {
    let store = Store::local();
    std::fs::write(store.path("in"), sample(1_000_000)).unwrap();
    store.does("object add b").await;
    store.does("object put b in").await;
    let (size, body) = largest(Path::new(&store.path("store")));
    assert_eq!(size, 1_000_000);
    let mut bytes = std::fs::read(&body).unwrap();
    bytes[999_999] ^= 1;
    std::fs::write(&body, bytes).unwrap();
    let err = store.fails(4, "object get b in -o out").await;
    assert!(err.contains("corrupt"), "{err}");
    let names = std::fs::read_dir(store.path(".")).unwrap();
    let parts =
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().contains("out"));
    assert_eq!(parts.count(), 0);
    let said = store.run(&["object", "get", "b", "in"]).await;
    assert_eq!(said.code, 4, "{}", said.err);
}
