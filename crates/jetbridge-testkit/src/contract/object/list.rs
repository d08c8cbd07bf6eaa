//! What is listed, and what deletions leave of it.

use std::time::Duration;

use jetbridge_core::{BucketKind, DeleteOpts, ErrorKind, Expect, Scope};

use super::steps::{fetch, held, listed, name, pattern, same, store, whole};
use crate::contract::steps::{all, key, kind, patience, set};
use crate::eventually;

cases! { $ __object_list = object::list;
    /// A listing has the live objects of its scope, with what is known of each.
    async fn listings_have_the_live_objects(f) {
        let objects = f.objects().await;
        assert_eq!(listed(&objects, Scope::All).await, set(&[]));
        let raw = ["logs/1", "logs/2", "log", "data: 1"];
        for (seed, raw) in raw.into_iter().enumerate() {
            store(&objects, raw, &pattern(seed * 10, seed as u64)).await;
        }
        store(&objects, "log", &pattern(99, 9)).await;
        store(&objects, "gone", &pattern(5, 5)).await;
        objects.delete(&name("gone"), DeleteOpts::new()).await.unwrap().unwrap();
        assert_eq!(listed(&objects, Scope::All).await, set(&raw));
        assert_eq!(listed(&objects, Scope::prefix("logs/")).await, set(&["logs/1", "logs/2"]));
        assert_eq!(listed(&objects, Scope::prefix("log")).await, set(&raw[..3]));
        assert_eq!(listed(&objects, Scope::One(key("log"))).await, set(&["log"]));
        let many = Scope::Many(vec![key("log"), key("gone"), key("data: 1")]);
        assert_eq!(listed(&objects, many).await, set(&["log", "data: 1"]));
        for info in all(objects.list(Scope::All)).await {
            assert_eq!(objects.info(&info.name).await.unwrap(), Some(info));
        }
    }

    /// Hundreds of objects are listed.
    async fn hundreds_of_objects_are_listed(f) {
        let objects = f.objects().await;
        let puts = (0..300_u64).map(|at| {
            let objects = &objects;
            async move { store(objects, &format!("o{at:03}"), &pattern(20, at)).await }
        });
        let stored: Vec<_> = futures_util::StreamExt::collect::<Vec<_>>(
            futures_util::StreamExt::buffer_unordered(futures_util::stream::iter(puts), 32),
        )
        .await;
        assert_eq!(stored.len(), 300);
        assert_eq!(listed(&objects, Scope::All).await.len(), 300);
        assert_eq!(listed(&objects, Scope::prefix("o12")).await.len(), 10);
    }

    /// A deletion leaves nothing: no bytes, and nothing that a listing would have to skip.
    async fn deletions_leave_nothing(f) {
        let objects = f.objects().await;
        for at in 0..5 {
            store(&objects, &format!("o{at}"), &pattern(100_000, at)).await;
        }
        for at in 0..5 {
            let deleted = objects.delete(&name(format!("o{at}")), DeleteOpts::new()).await.unwrap();
            assert!(deleted.is_some());
        }
        assert_eq!(listed(&objects, Scope::All).await, set(&[]));
        eventually("the bytes go", patience(), async || {
            (held(f, &objects).await == 0).then_some(())
        })
        .await;
        let info = f.backend.bucket(BucketKind::Object, objects.bucket()).await.unwrap();
        assert_eq!(info.messages, 0, "a tombstone is left");
    }

    /// A deletion obeys its condition.
    async fn delete_of_a_stale_revision_conflicts(f) {
        let objects = f.objects().await;
        let stale = store(&objects, "a", &pattern(10, 1)).await.revision;
        let present = store(&objects, "a", &pattern(20, 2)).await.revision;
        let refused = objects.delete(&name("a"), DeleteOpts::exactly(stale)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
        assert_eq!(refused.present_revision(), Some(present), "{refused:?}");
        let mut absent = DeleteOpts::new();
        absent.expect = Expect::Absent;
        assert_eq!(kind(objects.delete(&name("a"), absent).await), ErrorKind::InvalidInput);
        same(&fetch(&objects, "a").await.unwrap(), &pattern(20, 2));
        let gone = objects.delete(&name("a"), DeleteOpts::exactly(present)).await.unwrap();
        assert!(gone.is_some());
        assert!(objects.info(&name("a")).await.unwrap().is_none());
        assert_eq!(objects.delete(&name("a"), DeleteOpts::new()).await.unwrap(), None);
    }

    /// A sealed bucket is read as before and takes nothing any more, from anybody.
    async fn a_sealed_bucket_takes_no_writes(f) {
        let objects = f.objects().await;
        let theirs = f.peer_objects(&objects).await;
        let data = pattern(100_000, 1);
        store(&objects, "a", &data).await;
        let before = f.backend.bucket(BucketKind::Object, objects.bucket()).await.unwrap();
        assert!(!before.sealed);
        objects.seal().await.unwrap();
        for objects in [&objects, &theirs] {
            let put = objects.put(&name("b"), whole(&data), super::steps::chunked()).await;
            assert_eq!(kind(put), ErrorKind::InvalidInput);
            let delete = objects.delete(&name("a"), DeleteOpts::new()).await;
            assert_eq!(kind(delete), ErrorKind::InvalidInput);
            same(&fetch(objects, "a").await.unwrap(), &data);
            assert_eq!(listed(objects, Scope::All).await, set(&["a"]));
        }
        let after = f.peer.bucket(BucketKind::Object, objects.bucket()).await.unwrap();
        assert!(after.sealed);
        assert!(f.backend.delete_bucket(BucketKind::Object, objects.bucket()).await.unwrap());
    }

    /// A sweep takes nothing that an object needs.
    async fn a_sweep_harms_no_object(f) {
        let objects = f.objects().await;
        let data = pattern(300_000, 1);
        store(&objects, "a", &data).await;
        store(&objects, "b", &pattern(0, 1)).await;
        assert_eq!(objects.sweep(Duration::ZERO).await.unwrap(), 0);
        assert_eq!(objects.sweep(Duration::from_secs(3600)).await.unwrap(), 0);
        same(&fetch(&objects, "a").await.unwrap(), &data);
        assert_eq!(listed(&objects, Scope::All).await, set(&["a", "b"]));
    }
}
