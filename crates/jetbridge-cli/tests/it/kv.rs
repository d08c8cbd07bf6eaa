//! `kv` over several processes.

use std::time::Duration;

use rustix::process::Signal;

use crate::binary::Store;

/// Keys that other tools trip over.
const HOSTILE: [&str; 14] = [
    "user:1",
    "a b",
    ".",
    "..",
    "a..b",
    "*",
    ">",
    "a=b",
    "user=3A1",
    "é/ü",
    "line\nbreak",
    "\u{1b}[2J",
    "-rf",
    "{\"a\":1}",
];

async fn a_key_lives_through_every_word(store: Store) {
    store.does("kv add b --history 5").await;
    assert_eq!(store.does("kv put b k one").await, "revision 1\n");
    assert_eq!(store.does("kv get b k").await, "one");
    assert_eq!(store.does("kv put b k two --revision 1").await, "revision 2\n");
    assert_eq!(store.does("kv get b k --revision 1").await, "one");
    assert_eq!(store.does("kv ttl b k").await, "never\n");
    store.does("kv expire b k 1h").await;
    assert!(store.does("kv ttl b k").await.starts_with("59m"));
    store.does("kv expire b k never").await;
    assert_eq!(store.does("kv ttl b k").await, "never\n");
    assert_eq!(store.does("kv count b").await, "1\n");
    assert_eq!(store.does("kv keys b").await, "k\n");
    // A server that expires keys itself forgets what came before the one that does.
    assert!(store.does("kv history b k").await.lines().count() >= 2);
    store.does("kv del b k").await;
    assert_eq!(store.fails(1, "kv get b k").await, "no key `k` in `b`\n");
    assert_eq!(store.does("kv count b").await, "0\n");
    store.does("kv rm b").await;
    assert_eq!(store.does("kv ls").await, "");
}

async fn numbers_add_up_over_processes(store: Store) {
    store.does("kv add b").await;
    let adding = (0..8).map(|_| store.does("kv incr b n 5"));
    let sums = futures_util::future::join_all(adding).await;
    let mut sums: Vec<i64> = sums.iter().map(|sum| sum.trim_end().parse().unwrap()).collect();
    sums.sort_unstable();
    assert_eq!(sums, [5, 10, 15, 20, 25, 30, 35, 40]);
    assert_eq!(store.does("kv decr b n 2").await, "38\n");
    assert_eq!(store.does("kv get b n").await, "38");
}

async fn hostile_keys_are_kept_apart(store: Store) {
    store.does("kv add b").await;
    for key in HOSTILE {
        let said = store.run(&["kv", "put", "b", "--", key, key]).await;
        assert_eq!(said.code, 0, "{key:?}: {said:?}");
    }
    let text = store.does("kv keys b --null").await;
    let mut listed: Vec<&str> = text.split_terminator('\0').collect();
    listed.sort_unstable();
    let mut keys = HOSTILE.to_vec();
    keys.sort_unstable();
    assert_eq!(listed, keys);
    for key in HOSTILE {
        let said = store.run(&["kv", "get", "b", "--", key]).await;
        assert_eq!((said.code, said.text().as_str()), (0, key));
        let said = store.run(&["kv", "rm", "b", "--", key]).await;
        assert_eq!(said.code, 0, "{key:?}: {said:?}");
    }
    assert_eq!(store.does("kv count b").await, "0\n");
}

async fn raw_keys_are_what_other_clients_see(store: Store) {
    store.does("kv add b").await;
    store.does("kv put b user:1 v").await;
    assert_eq!(store.does("kv keys b --raw-keys").await, "user=3A1\n");
    assert_eq!(store.does("kv --raw-keys get b user=3A1").await, "v");
    assert_eq!(store.does("kv get b user:1 --stale").await, "v");
    store.fails(2, "kv get b user:1 --raw-keys").await;
}

async fn values_are_bytes(store: Store) {
    store.does("kv add b").await;
    let bytes: Vec<u8> = (0..=255).chain([b'\n', b'\n']).collect();
    for words in [&["kv", "put", "b", "k", "-"][..], &["kv", "put", "b", "k"]] {
        let said = store.feed(words, &bytes).await;
        assert_eq!(said.code, 0, "{said:?}");
        let said = store.run(&["kv", "get", "b", "k"]).await;
        assert_eq!((said.code, said.out), (0, bytes.clone()));
    }
    let empty = store.feed(&["kv", "put", "b", "empty", ""], b"not this").await;
    assert_eq!(empty.code, 0, "{empty:?}");
    assert_eq!(store.does("kv get b empty").await, "");
}

async fn a_watch_tells_what_another_process_writes(store: Store) {
    store.does("kv add b").await;
    store.does("kv put b before 1").await;
    let mut watch = store.start(&["kv", "watch", "b"]);
    let change = |line: String| line.split_once(' ').unwrap().1.to_owned();
    assert_eq!(change(watch.line().await), "put 1 before 1");
    store.does("kv put b after 2").await;
    assert_eq!(change(watch.line().await), "put 2 after 2");
    store.does("kv del b before").await;
    assert_eq!(change(watch.line().await), "del 3 before");
    watch.signal(Signal::INT);
    assert_eq!(watch.end().await, (vec![], 0));
}

async fn a_watch_that_wants_more_is_cut_short(store: Store) {
    store.does("kv add b").await;
    store.does("kv put b k 1").await;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut watch = store.start(&["kv", "watch", "b", "--count", "2", "--json"]);
        watch.line().await;
        assert_eq!(watch.line().await, r#"{"change":"caught_up"}"#);
        watch.signal(signal);
        assert_eq!(watch.end().await, (vec![], code));
    }
}

async fn a_reader_that_leaves_is_no_failure(store: Store) {
    store.does("kv add b").await;
    store.does("kv put b k 1").await;
    let mut watch = store.start(&["kv", "watch", "b"]);
    watch.line().await;
    let another = async { drop(store.does("kv put b k 2").await) };
    assert_eq!(watch.end_unread(another).await, 0);
}

/// The defect: a process that has just begun knows the time of an old server only roughly, and
/// takes what has expired for alive.
async fn what_has_expired_is_gone_for_a_new_process(store: Store) {
    store.does("kv add b").await;
    store.does("kv put b k v --ttl 1s").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    store.fails(1, "kv get b k").await;
    store.does("kv put b k2 v --ttl 1s").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    store.does("kv put b k2 new --if-absent").await;
}

on_every_store! {
    what_has_expired_is_gone_for_a_new_process,
    a_key_lives_through_every_word,
    a_reader_that_leaves_is_no_failure,
    a_watch_tells_what_another_process_writes,
    a_watch_that_wants_more_is_cut_short,
    hostile_keys_are_kept_apart,
    numbers_add_up_over_processes,
    raw_keys_are_what_other_clients_see,
    values_are_bytes,
}
