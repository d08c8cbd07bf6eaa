//! What goes wrong around a bucket: callers that give up, buckets that are not there.

use std::time::Duration;

use futures_util::FutureExt as _;
use jetbridge_core::{BucketKind, ErrorKind, IncrementOpts, PutOpts, Read, Scope, Start};

use crate::contract::steps::{Watching, all, bytes, delete, key, kind, put, read};

cases! { $ __kv_robust = kv::robust;
    /// Writes whose callers give up are applied whole or not at all, and block nobody.
    async fn abandoned_writes_are_whole_or_nothing(f) {
        let kv = f.kv().await;
        put(&kv, "present", "1").await;
        for round in 0..200_u64 {
            let name = key(format!("k{round}"));
            let write = kv.put(&name, bytes("whole"), PutOpts::new());
            // From "polled once" to "most likely done".
            let patience = Duration::from_micros(round * 5);
            drop(tokio::time::timeout(patience, write).await);
        }
        for round in 0..200 {
            let value = read(&kv, &format!("k{round}")).await;
            assert!(value.is_none() || value.as_deref() == Some("whole"), "{value:?}");
        }
        let revision = put(&kv, "present", "2").await;
        kv.put(&key("present"), bytes("3"), PutOpts::over(revision)).await.unwrap();
    }

    /// A future that is dropped after one poll leaves everything usable: reads, deletions, lists.
    async fn abandoned_calls_block_nobody(f) {
        let kv = f.kv().await;
        put(&kv, "a", "1").await;
        for _ in 0..20 {
            drop(kv.get(&key("a"), Read::Fresh).now_or_never());
            drop(kv.get_many(&[key("a"), key("b")], Read::Fresh).now_or_never());
            drop(kv.history(&key("a")).now_or_never());
            drop(kv.page(Scope::All, None, 10).now_or_never());
            drop(kv.keys(Scope::All));
            drop(kv.increment(&key("n"), 1, IncrementOpts::new()).now_or_never());
        }
        assert_eq!(read(&kv, "a").await.as_deref(), Some("1"));
        delete(&kv, "a").await;
        assert_eq!(all(kv.keys(Scope::prefix("a"))).await, []);
    }

    /// Increments whose callers give up count once or not at all.
    async fn abandoned_increments_count_once_at_most(f) {
        let kv = f.kv().await;
        let name = key("n");
        let mut told = 0;
        for round in 0..100_u64 {
            let add = kv.increment(&name, 1, IncrementOpts::new());
            let patience = Duration::from_micros(round * 20);
            if let Ok(sum) = tokio::time::timeout(patience, add).await {
                sum.unwrap();
                told += 1;
            }
        }
        let sum = kv.increment(&key("n"), 0, IncrementOpts::new()).await.unwrap();
        assert!((told..=100).contains(&sum), "{told} were told, 100 tried, {sum} counted");
    }

    /// What is asked of a bucket that was deleted says that it is not there.
    async fn a_deleted_bucket_is_not_found(f) {
        let kv = f.kv().await;
        put(&kv, "a", "1").await;
        assert!(f.peer.delete_bucket(BucketKind::Kv, kv.bucket()).await.unwrap());
        let get = kv.get(&key("a"), Read::Fresh).await;
        assert_eq!(kind(get), ErrorKind::NotFound);
        assert_eq!(kind(kv.put(&key("a"), bytes("2"), PutOpts::new()).await), ErrorKind::NotFound);
        let create = kv.put(&key("a"), bytes("2"), PutOpts::create()).await;
        assert_eq!(kind(create), ErrorKind::NotFound);
        let get_many = kv.get_many(&[key("a"), key("b")], Read::Fresh).await;
        assert_eq!(kind(get_many), ErrorKind::NotFound);
        let add = kv.increment(&key("n"), 1, IncrementOpts::new()).await;
        assert_eq!(kind(add), ErrorKind::NotFound);
        assert_eq!(kind(kv.history(&key("a")).await), ErrorKind::NotFound);
        assert_eq!(kind(kv.page(Scope::All, None, 10).await), ErrorKind::NotFound);
        assert_eq!(kind(kv.purge(Scope::All).await), ErrorKind::NotFound);
        let watching = Watching::from(&kv, Start::Current);
        assert_eq!(watching.end().await, Some(ErrorKind::NotFound));
    }
}
