//! Buckets are made, opened, changed, described, listed and deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_core::{
    BucketInfo, BucketKind, BucketName, BucketSpec, ErrorKind, HISTORY_MAX, Open, Storage,
};

use crate::Fixture;
use crate::contract::fixture::fresh_bucket;
use crate::contract::object::steps::{pattern, same, store};
use crate::contract::steps::{kind, put, read};

const KINDS: [BucketKind; 2] = [BucketKind::Kv, BucketKind::Object];

cases! { $ __backend_bucket = backend::bucket;
    /// To open what is not there is an error, and makes nothing.
    async fn opening_what_is_missing_is_not_found(f) {
        let bucket = fresh_bucket();
        let kv = f.backend.kv(&bucket, Open::existing()).await;
        assert_eq!(kind(kv), ErrorKind::NotFound);
        let objects = f.backend.objects(&bucket, Open::existing()).await;
        assert_eq!(kind(objects), ErrorKind::NotFound);
        for of in KINDS {
            assert_eq!(kind(f.backend.bucket(of, &bucket).await), ErrorKind::NotFound);
            assert!(!names(f, of).await.contains(bucket.as_str()));
        }
    }

    /// Opening makes a bucket where it is told to, and never alters one that is there.
    async fn opening_never_alters(f) {
        let bucket = fresh_bucket();
        let first = f.backend.kv(&bucket, Open::ensure(keeping(f, 5))).await.unwrap();
        put(&first, "a", "1").await;
        let again = f.peer.kv(&bucket, Open::ensure(keeping(f, 1))).await.unwrap();
        assert_eq!(read(&again, "a").await.as_deref(), Some("1"));
        assert_eq!(again.bucket(), &bucket);
        let info = f.peer.bucket(BucketKind::Kv, &bucket).await.unwrap();
        assert_eq!(info.spec.history, 5);
    }

    /// Any number may open the same missing bucket at once.
    async fn one_of_many_openers_makes_the_bucket(f) {
        let bucket = fresh_bucket();
        let opened = join_all((0..8).map(|at| {
            let backend = if at % 2 == 0 { &f.backend } else { &f.peer };
            backend.kv(&bucket, Open::ensure(keeping(f, 2)))
        }));
        for (at, kv) in opened.await.into_iter().enumerate() {
            put(&kv.unwrap(), &format!("k{at}"), "1").await;
        }
        let info = f.backend.bucket(BucketKind::Kv, &bucket).await.unwrap();
        assert_eq!(info.messages, 8);
    }

    /// Making a bucket again is fine if nothing differs, and refused, naming the differences, if
    /// something does.
    async fn a_bucket_is_made_once(f) {
        for of in KINDS {
            let bucket = fresh_bucket();
            let mut spec = f.spec();
            spec.max_bytes = Some(10 << 20);
            spec.description = Some("for people: ü".to_owned());
            let made = f.backend.create_bucket(of, &bucket, &spec).await.unwrap();
            assert_eq!((&made.name, made.kind), (&bucket, of));
            f.peer.create_bucket(of, &bucket, &spec).await.unwrap();
            let mut other = spec.clone();
            other.max_bytes = Some(20 << 20);
            let refused = f.peer.create_bucket(of, &bucket, &other).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused:?}");
            assert!(refused.to_string().contains("max_bytes"), "names no difference: {refused}");
            assert!(!refused.to_string().contains("description"), "names too much: {refused}");
            let info = f.backend.bucket(of, &bucket).await.unwrap();
            assert_eq!(info.spec.max_bytes, Some(10 << 20));
        }
    }

    /// A bucket is described as it was made, with what it holds.
    async fn a_bucket_is_described(f) {
        let bucket = fresh_bucket();
        let mut spec = keeping(f, 3);
        spec.max_age = Some(Duration::from_secs(3600));
        spec.max_bytes = Some(10 << 20);
        spec.max_value_bytes = Some(5000);
        spec.description = Some("text".to_owned());
        let now = f.backend.now().await.unwrap();
        let made = f.backend.create_bucket(BucketKind::Kv, &bucket, &spec).await.unwrap();
        assert_eq!((made.messages, made.bytes, made.sealed), (0, 0, false));
        let age = made.created.duration_since(now.now).unwrap_or_default();
        assert!(age < Duration::from_secs(60) + now.error, "{made:?} made at {now:?}");
        let told = f.peer.bucket(BucketKind::Kv, &bucket).await.unwrap();
        for info in [&made, &told] {
            assert_eq!((info.spec.history, info.spec.max_age), (3, spec.max_age));
            assert_eq!(info.spec.max_bytes, spec.max_bytes);
            assert_eq!(info.spec.max_value_bytes, spec.max_value_bytes);
            assert_eq!(info.spec.description, spec.description);
            assert_eq!(info.key_ttl, f.key_ttl());
        }
        let kv = f.backend.kv(&bucket, Open::existing()).await.unwrap();
        put(&kv, "a", "1").await;
        put(&kv, "a", "2").await;
        let last = put(&kv, "b", &"x".repeat(1000)).await;
        let info = f.peer.bucket(BucketKind::Kv, &bucket).await.unwrap();
        assert_eq!((info.messages, info.last_revision), (3, last.0));
        assert!(info.bytes >= 1000, "{info:?}");
    }

    /// What may be changed of a bucket is changed; what is refused changes nothing.
    async fn a_bucket_is_changed(f) {
        let bucket = fresh_bucket();
        f.backend.create_bucket(BucketKind::Kv, &bucket, &keeping(f, 1)).await.unwrap();
        let kv = f.backend.kv(&bucket, Open::existing()).await.unwrap();
        put(&kv, "a", "1").await;
        let mut spec = keeping(f, 4);
        spec.max_bytes = Some(5 << 20);
        spec.description = Some("changed".to_owned());
        let changed = f.peer.update_bucket(BucketKind::Kv, &bucket, &spec).await.unwrap();
        assert_eq!((changed.spec.history, changed.spec.max_bytes), (4, Some(5 << 20)));
        put(&kv, "a", "2").await;
        let history = kv.history(&crate::contract::steps::key("a")).await.unwrap();
        assert_eq!(history.len(), 2);
        let mut elsewhere = spec.clone();
        elsewhere.storage = Storage::Memory;
        if let Err(refused) = f.backend.update_bucket(BucketKind::Kv, &bucket, &elsewhere).await {
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused:?}");
            let info = f.backend.bucket(BucketKind::Kv, &bucket).await.unwrap();
            assert_eq!(info.spec.storage, spec.storage);
        }
        let info = f.backend.bucket(BucketKind::Kv, &bucket).await.unwrap();
        assert_eq!(info.spec.description.as_deref(), Some("changed"));
        let absent = f.backend.update_bucket(BucketKind::Kv, &fresh_bucket(), &spec).await;
        assert_eq!(kind(absent), ErrorKind::NotFound);
    }

    /// Settings that no bucket can have are refused, and make nothing.
    async fn impossible_settings_are_refused(f) {
        for history in [0, HISTORY_MAX + 1] {
            let bucket = fresh_bucket();
            let made = f.backend.create_bucket(BucketKind::Kv, &bucket, &keeping(f, history)).await;
            assert_eq!(kind(made), ErrorKind::InvalidInput, "history {history}");
            let opened = f.backend.kv(&bucket, Open::ensure(keeping(f, history))).await;
            assert_eq!(kind(opened), ErrorKind::InvalidInput, "history {history}");
            assert_eq!(
                kind(f.backend.bucket(BucketKind::Kv, &bucket).await),
                ErrorKind::NotFound
            );
        }
        f.backend
            .create_bucket(BucketKind::Kv, &fresh_bucket(), &keeping(f, HISTORY_MAX))
            .await
            .unwrap();
    }

    /// More copies than the store can keep are refused aloud, or the bucket works with fewer.
    async fn copies_are_a_wish(f) {
        let bucket = fresh_bucket();
        let mut spec = f.spec();
        spec.replicas = f.backend.capabilities().replicas_max.saturating_add(2);
        match f.backend.create_bucket(BucketKind::Kv, &bucket, &spec).await {
            Ok(info) => {
                assert!(info.spec.replicas <= spec.replicas);
                let kv = f.backend.kv(&bucket, Open::existing()).await.unwrap();
                put(&kv, "a", "1").await;
            }
            Err(refused) => {
                let expected = [
                    ErrorKind::InvalidInput,
                    ErrorKind::LimitExceeded,
                    ErrorKind::Unsupported,
                ];
                assert!(expected.contains(&refused.kind()), "{refused:?}");
                assert!(!names(f, BucketKind::Kv).await.contains(bucket.as_str()));
            }
        }
    }

    /// Buckets are listed by kind, in the order of their names, on every connection.
    async fn buckets_are_listed_by_name(f) {
        let (kv, objects) = (f.kv().await, f.objects().await);
        let other = f.kv().await;
        for backend in [&f.backend, &f.peer] {
            let listed: Vec<BucketInfo> = backend.buckets(BucketKind::Kv).await.unwrap();
            assert!(listed.iter().all(|info| info.kind == BucketKind::Kv));
            assert!(listed.is_sorted_by(|one, two| one.name < two.name), "{listed:?}");
            let of: BTreeSet<&str> = listed.iter().map(|info| info.name.as_str()).collect();
            assert!(of.contains(kv.bucket().as_str()) && of.contains(other.bucket().as_str()));
            assert!(!of.contains(objects.bucket().as_str()));
        }
        let of = names(f, BucketKind::Object).await;
        assert!(of.contains(objects.bucket().as_str()) && !of.contains(kv.bucket().as_str()));
    }

    /// Keys and objects of the same bucket name are apart.
    async fn kinds_are_apart(f) {
        let bucket = fresh_bucket();
        let spec = || Open::ensure(f.spec());
        let kv = f.backend.kv(&bucket, spec()).await.unwrap();
        let objects = f.backend.objects(&bucket, spec()).await.unwrap();
        put(&kv, "a", "1").await;
        let data = pattern(1000, 1);
        store(&objects, "a", &data).await;
        assert!(f.backend.delete_bucket(BucketKind::Kv, &bucket).await.unwrap());
        let found = crate::contract::object::steps::fetch(&objects, "a").await.unwrap();
        same(&found, &data);
    }

    /// Names of buckets may be long, and differ by case.
    async fn names_of_buckets_are_exact(f) {
        let stem = fresh_bucket();
        let long = format!("{stem}{}", "x".repeat(128 - stem.as_str().len()));
        for (one, other) in [
            (long.clone(), format!("{}y", &long[..127])),
            (format!("{stem}-CASE"), format!("{stem}-case")),
            (format!("{stem}_"), format!("{stem}-")),
        ] {
            let open = async |name: &str| {
                let name = BucketName::parse(name).unwrap();
                f.backend.kv(&name, Open::ensure(f.spec())).await.unwrap()
            };
            let (one, other) = (open(&one).await, open(&other).await);
            put(&one, "a", "one").await;
            assert_eq!(read(&other, "a").await, None, "{} {}", one.bucket(), other.bucket());
        }
    }

    /// A deleted bucket is gone with what it held; one made anew is empty.
    async fn a_deleted_bucket_is_gone(f) {
        let kv = f.kv_keeping(3).await;
        put(&kv, "a", "1").await;
        let bucket = kv.bucket();
        let delete = async || f.peer.delete_bucket(BucketKind::Kv, bucket).await.unwrap();
        assert!(delete().await);
        assert!(!delete().await);
        assert!(!names(f, BucketKind::Kv).await.contains(bucket.as_str()));
        let again = f.peer.kv(bucket, Open::ensure(f.spec())).await.unwrap();
        assert_eq!(read(&again, "a").await, None);
    }
}

fn keeping(f: &Fixture, history: u8) -> BucketSpec {
    let mut spec = f.spec();
    spec.history = history;
    spec
}

async fn names(f: &Fixture, of: BucketKind) -> BTreeSet<String> {
    let listed = f.peer.buckets(of).await.unwrap();
    listed.into_iter().map(|info| info.name.as_str().to_owned()).collect()
}
