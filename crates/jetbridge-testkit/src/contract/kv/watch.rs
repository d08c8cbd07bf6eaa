//! Watches: the last change of every key at least once, and word of having caught up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jetbridge_core::{
    BucketKind, Change, ErrorKind, Pattern, PutOpts, Revision, Scope, Start, Watch,
};

use crate::contract::steps::{Watching, bytes, delete, fill, key, put, read, within};

/// Every way to begin.
const STARTS: [Start; 4] = [Start::Current, Start::History, Start::Now, Start::After(Revision(0))];

cases! { $ __kv_watch = kv::watch;
    /// An empty bucket is caught up with at once and exactly once, whatever the start.
    async fn an_empty_bucket_is_caught_up_with(f) {
        for start in STARTS {
            let kv = f.kv().await;
            let mut watching = Watching::from(&kv, start);
            assert_eq!(watching.take(1).await, ["caught up"], "{start:?}");
            put(&kv, "a", "1").await;
            assert_eq!(watching.take(1).await, ["a=1"], "{start:?}");
            put(&kv, "a", "2").await;
            assert_eq!(watching.take(1).await, ["a=2"], "{start:?}");
        }
    }

    /// From the present on: each live key once with its value, then changes as they come.
    async fn current_is_each_key_then_changes(f) {
        let kv = f.kv_keeping(3).await;
        for (name, value) in [("a", "old"), ("b", "2"), ("gone", "3"), ("a", "1")] {
            put(&kv, name, value).await;
        }
        delete(&kv, "gone").await;
        let mut watching = Watching::from(&kv, Start::Current);
        // A copy that lags may bring what was there before, but the last change comes behind it.
        let mut initial = BTreeMap::new();
        for change in watching.initial().await {
            match change.split_once('=') {
                Some((name, value)) => initial.insert(name.to_owned(), value.to_owned()),
                None => initial.remove(change.trim_start_matches('-')),
            };
        }
        let expected = [("a", "1"), ("b", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(initial, BTreeMap::from(expected));
        put(&kv, "c", "4").await;
        delete(&kv, "a").await;
        put(&kv, "gone", "back").await;
        assert_eq!(watching.take(3).await, ["-a", "c=4", "gone=back"]);
    }

    /// From the history on: every stored revision of every key, in order.
    async fn history_is_every_stored_revision(f) {
        let kv = f.kv_keeping(3).await;
        for (name, value) in [("a", "1"), ("a", "2"), ("b", "1"), ("a", "3"), ("a", "4")] {
            put(&kv, name, value).await;
        }
        delete(&kv, "b").await;
        let mut watching = Watching::from(&kv, Start::History);
        let initial = watching.initial().await;
        let of = |name: &str| -> Vec<&str> {
            initial.iter().filter(|change| change.contains(name)).map(|text| &**text).collect()
        };
        assert_eq!(of("a"), ["a=2", "a=3", "a=4"]);
        assert_eq!(of("b"), ["b=1", "-b"]);
        put(&kv, "a", "5").await;
        assert_eq!(watching.take(1).await, ["a=5"]);
    }

    /// From now on: nothing of what is there, everything that comes.
    async fn now_is_only_what_comes(f) {
        let kv = f.kv().await;
        put(&kv, "a", "1").await;
        put(&kv, "b", "1").await;
        let mut watching = Watching::from(&kv, Start::Now);
        assert_eq!(watching.initial().await, Vec::<String>::new());
        put(&kv, "b", "2").await;
        delete(&kv, "a").await;
        assert_eq!(watching.take(2).await, ["-a", "b=2"]);
    }

    /// Taken up again behind a revision: what changed since, deletions too, and nothing else.
    async fn after_a_revision_is_what_changed_since(f) {
        let kv = f.kv().await;
        for name in ["a", "b", "c", "d"] {
            put(&kv, name, "1").await;
        }
        let mut first = Watching::from(&kv, Start::Current);
        assert_eq!(first.initial().await.len(), 4);
        let seen = put(&kv, "e", "1").await;
        assert_eq!(first.take(1).await, ["e=1"]);
        drop(first);
        put(&kv, "a", "2").await;
        delete(&kv, "b").await;
        put(&kv, "c", "2").await;
        put(&kv, "c", "3").await;
        let mut again = Watching::from(&kv, Start::After(seen));
        let mut changed = again.initial().await;
        changed.sort();
        assert_eq!(changed, ["-b", "a=2", "c=3"]);
        let last = put(&kv, "f", "1").await;
        assert_eq!(again.take(1).await, ["f=1"]);
        let mut idle = Watching::from(&kv, Start::After(last));
        assert_eq!(idle.initial().await, Vec::<String>::new());
        put(&kv, "g", "1").await;
        assert_eq!(idle.take(1).await, ["g=1"]);
    }

    /// A watch is told of the keys of its scope and of no others.
    async fn scopes_hold(f) {
        let kv = f.kv().await;
        let matching = Scope::Matching(Pattern::parse("app.*").unwrap());
        let scopes: [(Scope, &[&str]); 5] = [
            (Scope::All, &["app.x", "app.x.y", "apple", "user:1"]),
            (Scope::prefix("app."), &["app.x", "app.x.y"]),
            (Scope::One(key("user:1")), &["user:1"]),
            (Scope::Many(vec![key("apple"), key("user:1"), key("absent")]), &["apple", "user:1"]),
            (matching, &["app.x"]),
        ];
        for start in [Start::Current, Start::History, Start::Now] {
            for (scope, expected) in &scopes {
                kv.purge(Scope::All).await.unwrap();
                for name in ["app.x", "app.x.y", "apple", "user:1"] {
                    put(&kv, name, "1").await;
                }
                let watch = Watch::current(scope.clone()).start(start);
                let mut watching = Watching::new(&kv, watch);
                let initial: BTreeSet<String> = watching.initial().await.into_iter().collect();
                let found: &[&str] = if start == Start::Now { &[] } else { expected };
                let found: BTreeSet<String> = found.iter().map(|name| format!("{name}=1")).collect();
                assert_eq!(initial, found, "{start:?} {scope:?}");
                for name in ["app.x", "app.x.y", "apple", "user:1"] {
                    put(&kv, name, "2").await;
                }
                let mut changes: Vec<String> =
                    expected.iter().map(|name| format!("{name}=2")).collect();
                changes.sort();
                assert_eq!(watching.take(changes.len()).await, changes, "{start:?} {scope:?}");
            }
        }
    }

    /// Without values a watch tells the same changes, with empty ones.
    async fn keys_only_leaves_values_out(f) {
        let kv = f.kv().await;
        let first = put(&kv, "a", "1").await;
        let mut watching = Watching::new(&kv, Watch::current(Scope::All).keys_only());
        let Change::Put(entry) = watching.next().await else { panic!("no entry") };
        assert_eq!((entry.key, entry.revision, entry.value), (key("a"), first, bytes("")));
        assert_eq!(watching.take(1).await, ["caught up"]);
        let second = put(&kv, "b", "2").await;
        let Change::Put(entry) = watching.next().await else { panic!("no entry") };
        assert_eq!((entry.key, entry.revision, entry.value), (key("b"), second, bytes("")));
        delete(&kv, "a").await;
        assert_eq!(watching.take(1).await, ["-a"]);
    }

    /// Changes carry what the writes returned.
    async fn changes_carry_their_revisions(f) {
        let kv = f.kv().await;
        let mut watching = Watching::from(&kv, Start::Now);
        assert_eq!(watching.initial().await, Vec::<String>::new());
        let headers = jetbridge_core::Headers::new().with("X-Who", "me").unwrap();
        let opts = PutOpts::new().headers(headers.clone());
        let written = kv.put(&key("a"), bytes("1"), opts).await.unwrap();
        let Change::Put(entry) = watching.next().await else { panic!("no entry") };
        assert_eq!((entry.revision, entry.headers), (written.revision, headers));
        let deletion = delete(&kv, "a").await;
        let change = watching.next().await;
        assert_eq!((change.key(), change.revision()), (Some(&key("a")), Some(deletion)));
    }

    /// Any number of watchers, on any connection, see the same.
    async fn every_watcher_sees_every_change(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        put(&ours, "c", "0").await;
        let mut watchers: Vec<Watching> = (0..6)
            .map(|n| Watching::from(if n % 2 == 0 { &ours } else { &theirs }, Start::Current))
            .collect();
        for watching in &mut watchers {
            assert_eq!(watching.initial().await, ["c=0"]);
        }
        put(&theirs, "a", "1").await;
        put(&ours, "b", "2").await;
        delete(&theirs, "c").await;
        for watching in &mut watchers {
            assert_eq!(watching.take(3).await, ["-c", "a=1", "b=2"]);
        }
    }

    /// Thousands of keys are caught up with, each delivered, the word given once.
    async fn thousands_of_keys_are_caught_up_with(f) {
        let kv = f.kv().await;
        fill(&kv, "k", 3000).await;
        let mut watching = Watching::from(&kv, Start::Current);
        let initial: BTreeSet<String> = watching.initial().await.into_iter().collect();
        assert_eq!(initial.len(), 3000);
        assert!(initial.contains("k2999=k2999"));
        put(&kv, "marker", "1").await;
        assert_eq!(watching.take(1).await, ["marker=1"]);
    }

    /// The changes of a key come in the order of their revisions, and the last one comes.
    async fn changes_of_a_key_are_in_order(f) {
        let kv = f.kv_keeping(5).await;
        let mut watching = Watching::from(&kv, Start::Current);
        let write = async {
            for round in 0..200 {
                put(&kv, &format!("k{}", round % 4), &round.to_string()).await;
            }
            put(&kv, "marker", "1").await;
        };
        let look = async {
            let mut last: BTreeMap<String, (Revision, String)> = BTreeMap::new();
            loop {
                let Change::Put(entry) = watching.next().await else { continue };
                if entry.key == key("marker") {
                    return last;
                }
                let value = String::from_utf8_lossy(&entry.value).into_owned();
                let known = last.insert(entry.key.as_str().to_owned(), (entry.revision, value));
                assert!(known.is_none_or(|(revision, _)| revision < entry.revision));
            }
        };
        let ((), last) = futures_util::future::join(write, look).await;
        let values: Vec<&str> = last.values().map(|(_, value)| &**value).collect();
        assert_eq!(values, ["196", "197", "198", "199"]);
    }

    /// A watch that is not looked at for a while still tells the last change of every key.
    async fn a_slow_watcher_gets_the_last_change(f) {
        let kv = f.kv().await;
        let mut watching = Watching::from(&kv, Start::Current);
        assert_eq!(watching.initial().await, Vec::<String>::new());
        for round in 0..20 {
            for key in fill(&kv, "k", 100).await {
                if round == 19 {
                    put(&kv, key.as_str(), "last").await;
                }
            }
        }
        let mut waiting: BTreeSet<String> = (0..100).map(|n| format!("k{n:04}=last")).collect();
        within("the last changes", async {
            while !waiting.is_empty() {
                for change in watching.take(1).await {
                    waiting.remove(&change);
                }
            }
        })
        .await;
    }

    /// A watch that is dropped, at its beginning or in the middle, disturbs nobody.
    async fn dropped_watches_disturb_nobody(f) {
        let kv = f.kv().await;
        fill(&kv, "k", 200).await;
        let mut other = Watching::from(&kv, Start::Now);
        assert_eq!(other.initial().await, Vec::<String>::new());
        for count in 0..20 {
            let mut watching = Watching::from(&kv, Start::Current);
            watching.take(count).await;
        }
        put(&kv, "marker", "1").await;
        assert_eq!(other.take(1).await, ["marker=1"]);
        assert_eq!(read(&kv, "k0199").await.as_deref(), Some("k0199"));
    }

    /// A watch on a bucket that is deleted ends with the news.
    async fn the_watch_of_a_deleted_bucket_ends(f) {
        let kv = f.kv().await;
        put(&kv, "a", "1").await;
        let mut watching = Watching::from(&kv, Start::Current);
        assert_eq!(watching.initial().await, ["a=1"]);
        assert!(f.peer.delete_bucket(BucketKind::Kv, kv.bucket()).await.unwrap());
        let end = tokio::time::timeout(Duration::from_secs(60), watching.end()).await;
        assert_eq!(end.expect("the watch ends"), Some(ErrorKind::NotFound));
    }
}
