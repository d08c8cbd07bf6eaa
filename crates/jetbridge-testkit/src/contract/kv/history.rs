//! What is kept of a key, and what forgets it.

use jetbridge_core::{Change, DeleteOpts, PutOpts, Read, Scope};

use crate::contract::steps::{Watching, bytes, delete, fill, key, names, put, read, set, show};

cases! { $ __kv_history = kv::history;
    /// The history of a key is its writes, oldest first, deletions included, and no other key's.
    async fn history_is_oldest_first(f) {
        let kv = f.kv_keeping(5).await;
        put(&kv, "b", "other").await;
        let mut expected = vec![put(&kv, "a", "1").await, put(&kv, "a", "2").await];
        expected.push(delete(&kv, "a").await);
        put(&kv, "b", "other").await;
        expected.push(put(&kv, "a", "3").await);
        let history = kv.history(&key("a")).await.unwrap();
        let shown: Vec<String> = history.iter().map(show).collect();
        assert_eq!(shown, ["a=1", "a=2", "-a", "a=3"]);
        let revisions: Vec<_> = history.iter().filter_map(Change::revision).collect();
        assert_eq!(revisions, expected);
    }

    /// A bucket keeps as many revisions of a key as it was made for.
    async fn history_is_bounded(f) {
        for (history, expected) in [(1, vec!["a=4"]), (3, vec!["a=2", "a=3", "a=4"])] {
            let kv = f.kv_keeping(history).await;
            for value in ["1", "2", "3", "4"] {
                put(&kv, "a", value).await;
            }
            let shown: Vec<String> =
                kv.history(&key("a")).await.unwrap().iter().map(show).collect();
            assert_eq!(shown, expected);
        }
    }

    /// A key that never was has no history.
    async fn history_of_nothing_is_empty(f) {
        let kv = f.kv_keeping(5).await;
        assert_eq!(kv.history(&key("a")).await.unwrap(), []);
        put(&kv, "b", "1").await;
        assert_eq!(kv.history(&key("a")).await.unwrap(), []);
    }

    /// A deletion keeps the history, or forgets it if it is told to.
    async fn a_deletion_forgets_if_told_to(f) {
        let kv = f.kv_keeping(5).await;
        put(&kv, "a", "1").await;
        let second = put(&kv, "a", "2").await;
        delete(&kv, "a").await;
        assert_eq!(kv.history(&key("a")).await.unwrap().len(), 3);
        assert!(kv.get(&key("a"), Read::At(second)).await.unwrap().is_some());
        put(&kv, "a", "3").await;
        kv.delete(&key("a"), DeleteOpts::new().with_history()).await.unwrap();
        let left = kv.history(&key("a")).await.unwrap();
        assert!(!left.iter().any(|change| matches!(change, Change::Put(_))), "{left:?}");
        assert_eq!(kv.get(&key("a"), Read::At(second)).await.unwrap(), None);
        assert_eq!(read(&kv, "a").await, None);
    }

    /// A purge removes what is in its scope with its history, and nothing else.
    async fn purge_removes_its_scope(f) {
        let kv = f.kv_keeping(3).await;
        for name in ["a", "a.b", "a.c", "ab", "b", "user:1", "user:2"] {
            put(&kv, name, "1").await;
            put(&kv, name, "2").await;
        }
        delete(&kv, "a.c").await;
        assert_eq!(kv.purge(Scope::One(key("b"))).await.unwrap(), 1);
        assert_eq!(kv.history(&key("b")).await.unwrap(), []);
        let removed = kv.purge(Scope::prefix("a.")).await.unwrap();
        assert!((1..=2).contains(&removed), "one live key of two: {removed}");
        assert_eq!(names(&kv, Scope::All).await, set(&["a", "ab", "user:1", "user:2"]));
        assert_eq!(kv.purge(Scope::prefix("user:")).await.unwrap(), 2);
        assert_eq!(kv.purge(Scope::Many(vec![key("a"), key("absent")])).await.unwrap(), 1);
        assert_eq!(names(&kv, Scope::All).await, set(&["ab"]));
        assert_eq!(kv.history(&key("ab")).await.unwrap().len(), 2);
        assert_eq!(kv.purge(Scope::All).await.unwrap(), 1);
        assert_eq!(kv.purge(Scope::All).await.unwrap(), 0);
        assert_eq!(names(&kv, Scope::All).await, set(&[]));
    }

    /// After a purge keys can be created, and revisions go on where they were.
    async fn revisions_go_on_after_a_purge(f) {
        let kv = f.kv().await;
        fill(&kv, "k", 20).await;
        let last = put(&kv, "k0007", "last").await;
        kv.purge(Scope::All).await.unwrap();
        let created = kv.put(&key("k0007"), bytes("new"), PutOpts::create()).await.unwrap();
        assert!(created.revision > last, "{:?} after {last}", created.revision);
        let mut watching = Watching::from(&kv, jetbridge_core::Start::Current);
        assert_eq!(watching.initial().await, ["k0007=new"]);
    }
}
