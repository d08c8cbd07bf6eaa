//! Keys: any text, and the same text everywhere.

use std::collections::BTreeSet;

use jetbridge_core::{
    Change, DeleteOpts, ErrorKind, Key, Kv, Open, PutOpts, Read, Scope, Start, Watch,
};

use crate::contract::steps::{Watching, bytes, key, kind, names, patience, put, read, set};
use crate::eventually;

/// Keys that break whoever builds subjects, paths or patterns from them.
pub(crate) const HOSTILE: [&str; 30] = [
    ".",
    "..",
    "a..b",
    ".a",
    "a.",
    "*",
    ">",
    "a.*",
    "a.>",
    " ",
    "a b",
    "\0",
    "a\r\nPUB x 0\r\n",
    "\t",
    "user:1",
    "=",
    "a=",
    "==",
    "=3A",
    "=ZZ",
    "user=3A1",
    "a/b/../c",
    "/",
    "\\",
    "https://user@host:80/p?q=1#f",
    "grün",
    "🦀",
    "\u{202e}abc",
    "$KV.x.y",
    "%2e",
];

/// Pairs that an encoding must not mix up.
const PAIRS: [(&str, &str); 8] = [
    ("a b", "a=20b"),
    ("user:1", "user=3A1"),
    (".", "=2E"),
    ("=", "=3D"),
    ("a", "A"),
    ("é", "e\u{301}"),
    ("a.b", "a/b"),
    ("a=3a", "a:"),
];

cases! { $ __kv_name = kv::name;
    /// Whatever a key is, it is put, read, listed, found, watched and deleted by the same name.
    async fn hostile_keys_are_keys(f) {
        let kv = f.kv().await;
        let mut watching = Watching::from(&kv, Start::Now);
        assert_eq!(watching.initial().await, Vec::<String>::new());
        for name in hostile(f.name_bytes_max()) {
            let revision = put(&kv, &name, &name).await;
            assert_eq!(read(&kv, &name).await.as_deref(), Some(&*name));
            let Change::Put(entry) = watching.next().await else { panic!("no value: {name:?}") };
            assert_eq!((entry.key.as_str(), entry.revision), (&*name, revision));
        }
        assert_eq!(names(&kv, Scope::All).await, hostile(f.name_bytes_max()));
        for name in hostile(f.name_bytes_max()) {
            check_scopes(&kv, &name).await;
            assert!(kv.delete(&key(&name), DeleteOpts::new()).await.unwrap().is_some(), "{name:?}");
            assert_eq!(read(&kv, &name).await, None, "{name:?}");
            assert_eq!(watching.take(1).await, [format!("-{name}")]);
        }
        assert_eq!(names(&kv, Scope::All).await, BTreeSet::new());
    }

    /// What was listed can be read and deleted under the name it was listed by, page by page too.
    async fn listed_names_are_usable(f) {
        let kv = f.kv().await;
        for name in hostile(f.name_bytes_max()) {
            put(&kv, &name, &name).await;
        }
        let mut listed: Vec<Key> = Vec::new();
        let mut cursor = None;
        loop {
            let page = kv.page(Scope::All, cursor, 7).await.unwrap();
            listed.extend(page.keys);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let found = kv.get_many(&listed, Read::Fresh).await.unwrap().entries;
        for (key, entry) in listed.iter().zip(&found) {
            assert_eq!(entry.as_ref().map(|entry| &entry.key), Some(key));
            assert!(kv.delete(key, DeleteOpts::new()).await.unwrap().is_some(), "{key:?}");
        }
        assert_eq!(listed.len(), hostile(f.name_bytes_max()).len());
        // A listing may come from a copy that does not know of the last deletions yet.
        eventually("none is listed", patience(), async || {
            names(&kv, Scope::All).await.is_empty().then_some(())
        })
        .await;
    }

    /// Keys that look alike, or like each other's encoding, are different keys.
    async fn similar_keys_are_different(f) {
        let kv = f.kv().await;
        for (one, other) in PAIRS {
            put(&kv, one, "one").await;
            assert_eq!(read(&kv, other).await, None, "{one:?} {other:?}");
            put(&kv, other, "other").await;
            assert_eq!(read(&kv, one).await.as_deref(), Some("one"), "{one:?} {other:?}");
            assert_eq!(names(&kv, Scope::All).await, set(&[one, other]));
            kv.purge(Scope::All).await.unwrap();
        }
    }

    /// No key is empty, and none is longer than a kibibyte.
    async fn illegal_keys_are_refused(f) {
        let kv = f.kv().await;
        assert_eq!(kind(Key::parse("")), ErrorKind::InvalidInput);
        assert_eq!(kind(Key::parse("é".repeat(513))), ErrorKind::InvalidInput);
        let longest = "é".repeat(f.name_bytes_max() / 2);
        put(&kv, &longest, "1").await;
        assert_eq!(read(&kv, &longest).await.as_deref(), Some("1"));
    }

    /// Opened with raw keys, a bucket shows the text that others see, and refuses what is none.
    async fn raw_keys_are_the_stored_text(f) {
        let kv = f.kv().await;
        let raw = f.peer.kv(kv.bucket(), Open::existing().raw_keys()).await.unwrap();
        put(&kv, "user:1", "1").await;
        put(&kv, "plain.key", "2").await;
        assert_eq!(names(&raw, Scope::All).await, set(&["user=3A1", "plain.key"]));
        assert_eq!(read(&raw, "user=3A1").await.as_deref(), Some("1"));
        put(&raw, "=3A", "3").await;
        assert_eq!(read(&kv, ":").await.as_deref(), Some("3"));
        for illegal in ["user:1", "a b", "a..b", ".a", "*", ">", "é"] {
            let put = raw.put(&key(illegal), bytes("x"), PutOpts::new()).await;
            assert_eq!(kind(put), ErrorKind::InvalidInput, "{illegal:?}");
            let get = raw.get(&key(illegal), Read::Fresh).await;
            assert_eq!(kind(get), ErrorKind::InvalidInput, "{illegal:?}");
        }
    }

    /// A key that others wrote and that is no encoded text stands for itself.
    async fn foreign_keys_stand_for_themselves(f) {
        let kv = f.kv().await;
        let raw = f.peer.kv(kv.bucket(), Open::existing().raw_keys()).await.unwrap();
        for foreign in ["=ZZ", "=C3", "a=", "==", "x=3a"] {
            put(&raw, foreign, foreign).await;
            assert_eq!(read(&kv, foreign).await.as_deref(), Some(foreign));
            assert_eq!(names(&kv, Scope::All).await, set(&[foreign]));
            assert!(kv.delete(&key(foreign), DeleteOpts::new()).await.unwrap().is_some());
            assert_eq!(read(&raw, foreign).await, None);
        }
    }
}

/// The hostile keys, and the longest of several alphabets.
fn hostile(bytes_max: usize) -> BTreeSet<String> {
    let longest = ["x", "é", "🦀", "."].map(|it| it.repeat(bytes_max / it.len()));
    HOSTILE.iter().map(ToString::to_string).chain(longest).collect()
}

/// The key alone is found by its exact name, among several names, and by itself as a prefix.
async fn check_scopes(kv: &std::sync::Arc<dyn Kv>, name: &str) {
    let one = names(kv, Scope::One(key(name))).await;
    assert_eq!(one, set(&[name]));
    let many = names(kv, Scope::Many(vec![key("not there"), key(name)])).await;
    assert_eq!(many, set(&[name]));
    assert!(names(kv, Scope::prefix(name)).await.contains(name), "{name:?} as its own prefix");
    let mut watching = Watching::new(kv, Watch::current(Scope::One(key(name))));
    assert_eq!(watching.initial().await, [format!("{name}={name}")]);
}
