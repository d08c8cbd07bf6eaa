//! Buckets that are deleted and made anew while others have them open.

use std::sync::Arc;

use jetbridge_core::{
    Backend as _, BucketKind, BucketSpec, Change, ErrorKind, ObjectPut, Open, PutOpts, Read, Scope,
    Watch,
};

use crate::support::{
    body, bucket, close, fetch, files, key, kv, next, object, objects, open, store_object,
};

#[tokio::test]
async fn an_old_handle_never_writes_into_what_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (a, b) = (open(&path).await, open(&path).await);
    let (ours, theirs) = (kv(&a, "k").await, kv(&b, "k").await);
    ours.put(&key("old"), "1".into(), PutOpts::new()).await.unwrap();
    assert!(theirs.get(&key("old"), Read::Fresh).await.unwrap().is_some());
    let mut watch = theirs.watch(Watch::current(Scope::All));
    while next(&mut watch).await.unwrap() != Change::CaughtUp {}

    assert!(a.delete_bucket(BucketKind::Kv, &bucket("k")).await.unwrap());
    let ended = next(&mut watch).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::NotFound, "{ended:?}");
    let write = theirs.put(&key("new"), "2".into(), PutOpts::new()).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::NotFound);
    let read = theirs.get(&key("old"), Read::Fresh).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!b.delete_bucket(BucketKind::Kv, &bucket("k")).await.unwrap());
    let left = files(&path.join("kv"));
    assert_eq!(left, ["catalog.lock", "catalog.turn"], "nothing is left");

    let anew = kv(&a, "k").await;
    assert!(anew.get(&key("old"), Read::Fresh).await.unwrap().is_none());
    let written = theirs.put(&key("new"), "2".into(), PutOpts::new()).await.unwrap();
    assert_eq!(written.revision.0, 1, "the bucket is a new one");
    let seen = anew.get(&key("new"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(seen.revision, written.revision);
    close(a).await;
    close(b).await;
}

#[tokio::test]
async fn bodies_go_with_their_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (a, b) = (open(&path).await, open(&path).await);
    let theirs = objects(&b, "o").await;
    store_object(&objects(&a, "o").await, "x", vec![1; 100_000]).await;
    assert_eq!(fetch(&theirs, "x").await.unwrap().len(), 100_000);
    assert!(a.delete_bucket(BucketKind::Object, &bucket("o")).await.unwrap());
    assert_eq!(files(&path.join("objects")), ["catalog.lock", "catalog.turn"]);
    let put = theirs.put(&object("y"), body(vec![2; 10]), ObjectPut::new()).await;
    assert_eq!(put.unwrap_err().kind(), ErrorKind::NotFound);
    close(a).await;
    close(b).await;
}

#[tokio::test]
async fn a_bucket_is_made_once_however_many_want_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let stores = [open(&path).await, open(&path).await, open(&path).await];
    let opened = stores.iter().flat_map(|store| (0..4).map(move |_| store)).map(async |store| {
        let kv = store.kv(&bucket("k"), Open::ensure(BucketSpec::default())).await.unwrap();
        kv.put(&key("a"), "1".into(), PutOpts::new()).await.unwrap().revision.0
    });
    let mut revisions = futures_util::future::join_all(opened).await;
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=12).collect::<Vec<u64>>(), "all wrote into the same bucket");
    for store in stores {
        close(store).await;
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_bucket_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).await;
    let leftovers = ["half.AAAAAAAAAAAAAAAAAAAAAA.new", "dead.AAAAAAAAAAAAAAAAAAAAAA.gone"];
    for name in leftovers {
        std::fs::create_dir_all(path.join("kv").join(name)).unwrap();
        std::fs::write(path.join("kv").join(name).join("data.db"), "half a database").unwrap();
    }
    assert!(store.buckets(BucketKind::Kv).await.unwrap().is_empty());
    let kv = kv(&store, "k").await;
    kv.put(&key("a"), "1".into(), PutOpts::new()).await.unwrap();
    for name in leftovers {
        assert!(!path.join("kv").join(name).exists(), "{name} is gone");
    }
    drop(kv);
    close(store).await;
}

#[tokio::test]
async fn settings_changed_by_one_process_hold_for_the_others_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (a, b) = (open(&path).await, open(&path).await);
    let (ours, theirs) = (kv(&a, "k").await, kv(&b, "k").await);
    theirs.put(&key("a"), vec![0; 1000].into(), PutOpts::new()).await.unwrap();
    let mut spec = BucketSpec::default();
    spec.max_value_bytes = Some(100);
    spec.history = 3;
    a.update_bucket(BucketKind::Kv, &bucket("k"), &spec).await.unwrap();
    let refused = theirs.put(&key("a"), vec![0; 101].into(), PutOpts::new()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
    for value in ["1", "2", "3", "4"] {
        theirs.put(&key("a"), value.into(), PutOpts::new()).await.unwrap();
    }
    let values = async || -> Vec<String> {
        let history = ours.history(&key("a")).await.unwrap();
        let value = |change: Change| match change {
            Change::Put(entry) => String::from_utf8(entry.value.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        history.into_iter().map(value).collect()
    };
    assert_eq!(values().await, ["2", "3", "4"]);
    spec.history = 2;
    a.update_bucket(BucketKind::Kv, &bucket("k"), &spec).await.unwrap();
    assert_eq!(values().await, ["3", "4"]);
    let info = b.bucket(BucketKind::Kv, &bucket("k")).await.unwrap();
    assert_eq!((info.messages, info.spec.history), (2, 2));
    drop(Arc::clone(&ours));
    close(a).await;
    close(b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_come_and_go_under_those_who_look() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (a, b) = (open(&path).await, open(&path).await);
    let look = async {
        for _ in 0..60 {
            b.buckets(BucketKind::Kv).await.unwrap();
            let written = match b.kv(&bucket("k"), Open::existing()).await {
                Ok(kv) => kv.put(&key("a"), "1".into(), PutOpts::new()).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            }
        }
    };
    let churn = async {
        for _ in 0..60 {
            kv(&a, "k").await.put(&key("b"), "2".into(), PutOpts::new()).await.unwrap();
            a.delete_bucket(BucketKind::Kv, &bucket("k")).await.unwrap();
        }
    };
    futures_util::future::join(look, churn).await;
    assert!(b.buckets(BucketKind::Kv).await.unwrap().is_empty());
    close(a).await;
    close(b).await;
}
