//! Watches on objects, with the promises of those on keys.

use std::time::Duration;

use jetbridge_core::{BucketKind, DeleteOpts, ErrorKind, ObjectChange, Revision, Scope, Start};

use super::steps::{Watching, name, pattern, store};
use crate::contract::steps::key;

cases! { $ __object_watch = object::watch;
    /// An empty bucket is caught up with at once and exactly once, whatever the start.
    async fn an_empty_bucket_is_caught_up_with(f) {
        for start in [Start::Current, Start::History, Start::Now, Start::After(Revision(0))] {
            let objects = f.objects().await;
            let mut watching = Watching::new(&objects, Scope::All, start);
            assert_eq!(watching.take(1).await, ["caught up"], "{start:?}");
            store(&objects, "a", &pattern(1, 1)).await;
            assert_eq!(watching.take(1).await, ["a:1"], "{start:?}");
            store(&objects, "a", &pattern(2, 1)).await;
            assert_eq!(watching.take(1).await, ["a:2"], "{start:?}");
        }
    }

    /// What is there comes first, then every object that appears, changes or goes.
    async fn current_is_each_object_then_changes(f) {
        let objects = f.objects().await;
        for (raw, size) in [("a", 9), ("b", 2), ("gone", 3), ("a", 1)] {
            store(&objects, raw, &pattern(size, 1)).await;
        }
        objects.delete(&name("gone"), DeleteOpts::new()).await.unwrap().unwrap();
        for start in [Start::Current, Start::History] {
            let mut watching = Watching::new(&objects, Scope::All, start);
            let mut initial = watching.initial().await;
            initial.retain(|change| change != "-gone");
            assert_eq!(initial, ["a:1", "b:2"], "{start:?}");
        }
        let mut watching = Watching::new(&objects, Scope::All, Start::Current);
        watching.initial().await;
        let theirs = f.peer_objects(&objects).await;
        let info = store(&theirs, "c", &pattern(4, 1)).await;
        let ObjectChange::Put(told) = watching.next().await else { panic!("no object") };
        assert_eq!((told.name, told.revision), (info.name, info.revision));
        assert_eq!((told.size, told.digest), (info.size, info.digest));
        theirs.delete(&name("a"), DeleteOpts::new()).await.unwrap().unwrap();
        assert_eq!(watching.take(1).await, ["-a"]);
    }

    /// From now on: nothing of what is there. Behind a revision: what came after.
    async fn later_starts_leave_out_what_was_before(f) {
        let objects = f.objects().await;
        store(&objects, "a", &pattern(1, 1)).await;
        let seen = store(&objects, "b", &pattern(2, 1)).await.revision;
        store(&objects, "c", &pattern(3, 1)).await;
        let mut now = Watching::new(&objects, Scope::All, Start::Now);
        assert_eq!(now.initial().await, Vec::<String>::new());
        let mut after = Watching::new(&objects, Scope::All, Start::After(seen));
        assert_eq!(after.initial().await, ["c:3"]);
        store(&objects, "d", &pattern(4, 1)).await;
        assert_eq!(now.take(1).await, ["d:4"]);
        assert_eq!(after.take(1).await, ["d:4"]);
    }

    /// A watch is told of the objects of its scope and of no others.
    async fn scopes_hold(f) {
        let objects = f.objects().await;
        let scopes: [(Scope, &[&str]); 3] = [
            (Scope::prefix("logs/"), &["logs/1", "logs/2"]),
            (Scope::One(key("data 1")), &["data 1"]),
            (Scope::Many(vec![key("data 1"), key("logs/2")]), &["data 1", "logs/2"]),
        ];
        let raw = ["data 1", "logs/1", "logs/2", "log"];
        for raw in raw {
            store(&objects, raw, &pattern(1, 1)).await;
        }
        for (size, (scope, expected)) in (2..).zip(scopes) {
            let mut watching = Watching::new(&objects, scope.clone(), Start::Now);
            assert_eq!(watching.initial().await, Vec::<String>::new());
            for raw in raw {
                store(&objects, raw, &pattern(size, 1)).await;
            }
            let changes: Vec<String> = expected.iter().map(|raw| format!("{raw}:{size}")).collect();
            assert_eq!(watching.take(changes.len()).await, changes, "{scope:?}");
            let found = Watching::new(&objects, scope, Start::Current).initial().await;
            assert_eq!(found, changes);
        }
    }

    /// A watch on a bucket that is deleted ends with the news.
    async fn the_watch_of_a_deleted_bucket_ends(f) {
        let objects = f.objects().await;
        let mut watching = Watching::new(&objects, Scope::All, Start::Current);
        assert_eq!(watching.initial().await, Vec::<String>::new());
        assert!(f.peer.delete_bucket(BucketKind::Object, objects.bucket()).await.unwrap());
        let end = tokio::time::timeout(Duration::from_secs(60), watching.end()).await;
        assert_eq!(end.expect("the watch ends"), Some(ErrorKind::NotFound));
    }
}
