//! Listings: all at once, and page by page.

use std::collections::BTreeSet;

use futures_util::future::join;
use jetbridge_core::{Cursor, DeleteOpts, ErrorKind, Pattern, Scope};

use crate::contract::steps::{bytes, delete, fill, key, kind, names, put, set};

cases! { $ __kv_list = kv::list;
    /// A listing has the live keys, each one, and ends; also where there is nothing.
    async fn keys_are_the_live_ones(f) {
        let kv = f.kv_keeping(3).await;
        assert_eq!(names(&kv, Scope::All).await, set(&[]));
        for name in ["a", "b", "c", "d"] {
            put(&kv, name, "1").await;
        }
        put(&kv, "a", "2").await;
        delete(&kv, "b").await;
        kv.delete(&key("c"), DeleteOpts::new().with_history()).await.unwrap();
        assert_eq!(names(&kv, Scope::All).await, set(&["a", "d"]));
        put(&kv, "b", "again").await;
        assert_eq!(names(&kv, Scope::All).await, set(&["a", "b", "d"]));
    }

    /// Scopes select by the key as its user writes it; a pattern, by the text that is stored.
    async fn scopes_select(f) {
        let kv = f.kv().await;
        for name in ["app", "app.", "app.db.host", "app.db.port", "app.web", "apple", "user:1", "user"] {
            put(&kv, name, "1").await;
        }
        let of = async |scope| names(&kv, scope).await;
        let prefixes: [(&str, &[&str]); 8] = [
            ("app.", &["app.", "app.db.host", "app.db.port", "app.web"]),
            ("app", &["app", "app.", "app.db.host", "app.db.port", "app.web", "apple"]),
            ("app.db", &["app.db.host", "app.db.port"]),
            ("app.db.", &["app.db.host", "app.db.port"]),
            ("app.db.p", &["app.db.port"]),
            ("user:", &["user:1"]),
            ("user", &["user:1", "user"]),
            ("nothing", &[]),
        ];
        for (prefix, expected) in prefixes {
            assert_eq!(of(Scope::prefix(prefix)).await, set(expected), "{prefix:?}");
        }
        assert_eq!(of(Scope::prefix("")).await.len(), 8);
        assert_eq!(of(Scope::One(key("app"))).await, set(&["app"]));
        assert_eq!(of(Scope::One(key("absent"))).await, set(&[]));
        let many = Scope::Many(vec![key("app"), key("absent"), key("user:1"), key("app")]);
        assert_eq!(of(many).await, set(&["app", "user:1"]));
        assert_eq!(of(Scope::Many(vec![])).await, set(&[]));
        let matching = async |pattern| of(Scope::Matching(Pattern::parse(pattern).unwrap())).await;
        assert_eq!(matching("app.db.*").await, set(&["app.db.host", "app.db.port"]));
        assert_eq!(matching("app.>").await, set(&["app.db.host", "app.db.port", "app.web"]));
        assert_eq!(matching("user=3A1").await, set(&["user:1"]));
    }

    /// A listing may be long.
    async fn thousands_of_keys_are_listed(f) {
        let kv = f.kv().await;
        let keys = fill(&kv, "k", 3000).await;
        let expected: BTreeSet<String> = keys.iter().map(|key| key.as_str().to_owned()).collect();
        assert_eq!(names(&kv, Scope::All).await, expected);
        assert_eq!(names(&kv, Scope::prefix("k12")).await.len(), 100);
    }

    /// Pages are no larger than asked for, follow each other without a gap, and end. Their
    /// cursors go on on another connection, from their text.
    async fn pages_add_up(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        fill(&ours, "k", 50).await;
        fill(&ours, "other", 5).await;
        for limit in [1, 7, 50, 1000] {
            let mut listed = Vec::new();
            let mut cursor = None;
            for turn in 0.. {
                assert!(turn <= 60, "the pages do not end");
                let kv = if turn % 2 == 0 { &ours } else { &theirs };
                let page = kv.page(Scope::prefix("k"), cursor, limit).await.unwrap();
                assert!(page.keys.len() <= limit, "{} of {limit}", page.keys.len());
                listed.extend(page.keys);
                let Some(next) = page.next else { break };
                cursor = Some(Cursor::new(next.as_str()));
            }
            let different: BTreeSet<_> = listed.iter().collect();
            assert_eq!((listed.len(), different.len()), (50, 50), "limit {limit}");
        }
    }

    /// An empty bucket has one page, which is empty and the last.
    async fn the_page_of_nothing_is_the_last(f) {
        let kv = f.kv().await;
        let page = kv.page(Scope::All, None, 10).await.unwrap();
        assert_eq!((page.keys, page.next), (vec![], None));
    }

    /// A cursor that no page returned is refused.
    async fn invented_cursors_are_refused(f) {
        let kv = f.kv().await;
        fill(&kv, "k", 10).await;
        for invented in ["", "nonsense", "k0003", "-1", "99999999999999999999999", "\0", "{}", "🦀"] {
            let page = kv.page(Scope::All, Some(Cursor::new(invented)), 3).await;
            assert_eq!(kind(page), ErrorKind::InvalidInput, "{invented:?}");
        }
    }

    /// Keys that are there throughout are not missed, whatever is written between the pages.
    async fn pages_miss_nothing_under_writes(f) {
        let kv = f.kv().await;
        let keys = fill(&kv, "k", 60).await;
        let mut listed = BTreeSet::new();
        let mut cursor = None;
        for turn in 0_usize.. {
            assert!(turn < 1000, "the pages do not end");
            let page = kv.page(Scope::All, cursor, 5).await.unwrap();
            listed.extend(page.keys);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            // Few enough rewrites that a listing by age gets ahead of them.
            put(&kv, keys[(turn * 17) % keys.len()].as_str(), "rewritten").await;
            put(&kv, keys[(turn * 29 + 5) % keys.len()].as_str(), "rewritten").await;
            put(&kv, "a-newcomer", "1").await;
            put(&kv, "short-lived", "1").await;
            delete(&kv, "short-lived").await;
        }
        let missed: Vec<_> = keys.iter().filter(|key| !listed.contains(*key)).collect();
        assert!(missed.is_empty(), "{missed:?}");
    }

    /// A listing under writes has every key that was there all along.
    async fn keys_miss_nothing_under_writes(f) {
        let kv = f.kv().await;
        let keys = fill(&kv, "k", 300).await;
        let rewrite = async {
            for at in 0..200 {
                let key = &keys[(at * 31) % keys.len()];
                kv.put(key, bytes("rewritten"), jetbridge_core::PutOpts::new()).await.unwrap();
            }
        };
        let list = async {
            let mut lists = Vec::new();
            for _ in 0..3 {
                lists.push(names(&kv, Scope::All).await);
            }
            lists
        };
        let ((), lists) = join(rewrite, list).await;
        for listed in lists {
            assert_eq!(listed.len(), keys.len());
        }
    }
}
