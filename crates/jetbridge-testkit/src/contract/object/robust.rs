//! What goes wrong around a bucket of objects.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use jetbridge_core::{BucketKind, DeleteOpts, ErrorKind, Scope, Start};

use super::steps::{Watching, chunked, collect, fetch, listed, name, pattern, same, store, whole};
use crate::contract::steps::{kind, patience, set, within};
use crate::eventually;

cases! { $ __object_robust = object::robust;
    /// Puts that are given up at any moment leave the object as it was, or whole.
    async fn abandoned_puts_are_whole_or_nothing(f) {
        let objects = f.objects().await;
        let mut possible = vec![pattern(150_000, 0)];
        store(&objects, "a", &possible[0]).await;
        for round in 1..40_u64 {
            let data = pattern(150_000, round);
            let target = name("a");
            let put = objects.put(&target, whole(&data), chunked());
            let patience = Duration::from_micros(round * round * 20);
            if let Ok(done) = tokio::time::timeout(patience, put).await {
                done.unwrap();
                possible.clear();
            }
            possible.push(data);
        }
        // The last of them may still land while the object is read, and the read says so.
        let found = eventually("the object is read", patience(), async || {
            let object = objects.get(&name("a"), None).await.unwrap().unwrap();
            match collect(object.body).await {
                Err(error) if error.kind() == ErrorKind::Conflict => None,
                read => Some(read.unwrap()),
            }
        })
        .await;
        assert!(possible.iter().any(|data| *data == found), "none of those that were put");
        let last = pattern(10, 99);
        store(&objects, "a", &last).await;
        same(&fetch(&objects, "a").await.unwrap(), &last);
    }

    /// Calls that are dropped after one poll leave everything usable.
    async fn abandoned_calls_block_nobody(f) {
        let objects = f.objects().await;
        let data = pattern(100_000, 1);
        store(&objects, "a", &data).await;
        for _ in 0..20 {
            drop(objects.get(&name("a"), None).now_or_never());
            drop(objects.info(&name("a")).now_or_never());
            drop(objects.list(Scope::All));
            drop(objects.delete(&name("other"), DeleteOpts::new()).now_or_never());
        }
        same(&fetch(&objects, "a").await.unwrap(), &data);
        assert_eq!(listed(&objects, Scope::All).await, set(&["a"]));
    }

    /// What is asked of a bucket that was deleted says that it is not there.
    async fn a_deleted_bucket_is_not_found(f) {
        let objects = f.objects().await;
        let data = pattern(100, 1);
        store(&objects, "a", &data).await;
        assert!(f.peer.delete_bucket(BucketKind::Object, objects.bucket()).await.unwrap());
        assert_eq!(kind(objects.get(&name("a"), None).await), ErrorKind::NotFound);
        assert_eq!(kind(objects.info(&name("a")).await), ErrorKind::NotFound);
        let put = objects.put(&name("a"), whole(&data), chunked()).await;
        assert_eq!(kind(put), ErrorKind::NotFound);
        let delete = objects.delete(&name("a"), DeleteOpts::new()).await;
        assert_eq!(kind(delete), ErrorKind::NotFound);
        let first = within("the listing", objects.list(Scope::All).next()).await;
        assert_eq!(kind(first.expect("an error, not an end")), ErrorKind::NotFound);
        let watching = Watching::new(&objects, Scope::All, Start::Current);
        assert_eq!(watching.end().await, Some(ErrorKind::NotFound));
    }
}
