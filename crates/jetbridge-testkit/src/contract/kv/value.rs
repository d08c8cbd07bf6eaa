//! Values, their headers, and their limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    BucketSpec, DeleteOpts, ErrorKind, Headers, Key, Kv, PutOpts, Read, Revision, Scope,
};

use crate::contract::steps::{bytes, delete, key, kind, names, put, read, set};
use crate::{Fixture, eventually};

/// A value of this size is worth testing a limit with; a larger limit is left alone.
const LIMIT_TESTED_MAX: u64 = 64 << 20;

/// Headers whose meaning is the store's own: as a writer's they are data, or refused.
const HEADERS_WITH_POWER: [(&str, &str); 9] = [
    ("KV-Operation", "DEL"),
    ("KV-Operation", "PURGE"),
    ("Nats-Rollup", "all"),
    ("Nats-TTL", "1"),
    ("Nats-Expected-Last-Subject-Sequence", "999999"),
    ("Nats-Expected-Stream", "ANOTHER"),
    ("Nats-Msg-Id", "the-same-for-every-key"),
    ("Nats-Marker-Reason", "MaxAge"),
    ("Jetbridge-Expires", "1"),
];

cases! { $ __kv_value = kv::value;
    /// A value comes back as written, with its key and the revision that the write returned.
    async fn get_returns_what_put_stored(f) {
        let kv = f.kv().await;
        let written = kv.put(&key("a"), bytes("1"), PutOpts::new()).await.unwrap();
        let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
        assert_eq!((entry.key, entry.value), (key("a"), bytes("1")));
        assert_eq!(entry.revision, written.revision);
        assert!(written.revision > Revision(0));
        assert_eq!((entry.expires, entry.headers), (None, Headers::new()));
    }

    /// A key that was never written is no error.
    async fn absent_key_is_none(f) {
        let kv = f.kv().await;
        for how in [Read::Fresh, Read::MaybeStale, Read::At(Revision(1))] {
            assert_eq!(kv.get(&key("a"), how).await.unwrap(), None, "{how:?}");
        }
    }

    /// An empty value is a value, not a deletion.
    async fn empty_value_is_a_value(f) {
        let kv = f.kv().await;
        put(&kv, "a", "").await;
        assert_eq!(read(&kv, "a").await.as_deref(), Some(""));
        assert_eq!(names(&kv, Scope::All).await, set(&["a"]));
        delete(&kv, "a").await;
        assert_eq!(read(&kv, "a").await, None);
    }

    /// Every byte comes back, zeros and line ends included.
    async fn values_are_bytes(f) {
        let kv = f.kv().await;
        let every: Bytes = (0..=255_u8).chain(*b"\r\n\0\0").collect();
        kv.put(&key("a"), every.clone(), PutOpts::new()).await.unwrap();
        assert_eq!(kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap().value, every);
    }

    /// The last write is what is read, and every write has a larger revision than the one before.
    async fn revisions_grow_over_the_bucket(f) {
        let kv = f.kv().await;
        let mut last = Revision(0);
        for (at, name) in ["a", "b", "a", "c", "b", "a"].iter().enumerate() {
            let value = at.to_string();
            let revision = put(&kv, name, &value).await;
            assert!(revision > last, "{revision} after {last}");
            assert_eq!(read(&kv, name).await, Some(value));
            last = revision;
        }
        let deletion = delete(&kv, "a").await;
        assert!(deletion > last, "{deletion} after {last}");
        assert!(put(&kv, "a", "again").await > deletion);
    }

    /// What one connection was told is written, the other reads at once.
    async fn the_peer_reads_what_was_acknowledged(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        for round in 0..50 {
            let (writer, reader) = if round % 2 == 0 { (&ours, &theirs) } else { (&theirs, &ours) };
            let name = format!("k{}", round % 5);
            put(writer, &name, &round.to_string()).await;
            assert_eq!(read(reader, &name).await, Some(round.to_string()));
            if round % 7 == 0 {
                delete(writer, &name).await;
                assert_eq!(read(reader, &name).await, None);
            }
        }
    }

    /// A read that may be stale is not wrong for ever.
    async fn stale_reads_catch_up(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let revision = put(&ours, "a", "1").await;
        let within = Duration::from_secs(10);
        eventually("a read that may be stale sees the value", within, async || {
            let entry = theirs.get(&key("a"), Read::MaybeStale).await.unwrap()?;
            assert_eq!((entry.value, entry.revision), (bytes("1"), revision));
            Some(())
        })
        .await;
    }

    /// Entries carry the time at which the store took them.
    async fn entries_know_when_they_were_written(f) {
        let kv = f.kv().await;
        let slack = Duration::from_millis(5);
        let before = f.backend.now().await.unwrap();
        let written = kv.put(&key("a"), bytes("1"), PutOpts::new()).await.unwrap();
        let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
        let after = f.backend.now().await.unwrap();
        assert!(entry.written + before.error + slack >= before.now, "{entry:?} {before:?}");
        assert!(entry.written <= after.now + after.error + slack, "{entry:?} {after:?}");
        if let Some(at) = written.at {
            assert_eq!(at, entry.written, "the acknowledgement and the read disagree");
        }
    }

    /// Deleting says which revision the deletion has, and `None` where nothing was.
    async fn delete_says_whether_there_was_anything(f) {
        let kv = f.kv().await;
        let erase = async |opts| kv.delete(&key("a"), opts).await.unwrap();
        assert_eq!(erase(DeleteOpts::new()).await, None, "never written");
        let revision = put(&kv, "a", "1").await;
        assert!(erase(DeleteOpts::new()).await.unwrap() > revision);
        assert_eq!(read(&kv, "a").await, None);
        assert_eq!(erase(DeleteOpts::new()).await, None, "deleted already");
        put(&kv, "a", "2").await;
        assert!(erase(DeleteOpts::new().with_history()).await.is_some());
        assert_eq!(erase(DeleteOpts::new().with_history()).await, None, "forgotten already");
    }

    /// Headers come back: several of a name, in their order, whatever text they hold.
    async fn headers_round_trip(f) {
        let kv = f.kv().await;
        let mut headers = Headers::new();
        for (name, value) in [
            ("Content-Type", "text/plain; charset=\"utf-8\""),
            ("X-Many", "1"),
            ("X-Many", "2"),
            ("X-Many", "1"),
            ("x-many", "another name"),
            ("X-Unicode", "grün 🦀"),
            ("X-Colon", "a: b: c"),
            ("X-Empty", ""),
        ] {
            headers.append(name, value).unwrap();
        }
        kv.put(&key("a"), bytes("1"), PutOpts::new().headers(headers.clone())).await.unwrap();
        let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
        assert_eq!(sorted(&entry.headers), sorted(&headers));
        put(&kv, "a", "2").await;
        let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
        assert!(entry.headers.is_empty(), "the headers belong to the write: {entry:?}");
    }

    /// A writer's header that means something to the store does nothing but come back, or is
    /// refused.
    async fn headers_have_no_power(f) {
        let kv = f.kv_keeping(5).await;
        put(&kv, "other", "untouched").await;
        for (at, (name, value)) in HEADERS_WITH_POWER.into_iter().enumerate() {
            let case = format!("{name}: {value}");
            let key = key(format!("k{at}"));
            let headers = Headers::new().with(name, value).unwrap();
            let put = kv.put(&key, bytes(&case), PutOpts::new().headers(headers)).await;
            let entry = kv.get(&key, Read::Fresh).await.unwrap();
            match put {
                Ok(written) => {
                    let entry = entry.unwrap_or_else(|| panic!("{case} took the value away"));
                    assert_eq!((entry.value, entry.revision), (bytes(&case), written.revision));
                    assert_eq!(entry.expires, None, "{case}");
                    assert_eq!(entry.headers.get(name), Some(value));
                }
                Err(refused) => {
                    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{case}: {refused:?}");
                    assert_eq!(entry, None, "{case} was refused and stored");
                }
            }
            assert_eq!(read(&kv, "other").await.as_deref(), Some("untouched"), "{case}");
        }
    }

    /// The largest value fits; one byte more is refused, leaves nothing, and breaks nothing.
    async fn values_have_a_limit(f) {
        let limit = f.backend.capabilities().value_bytes_max;
        if limit > LIMIT_TESTED_MAX {
            return check_limit(&f.kv_with(bounded_values(f, 1000)).await, 1000).await;
        }
        check_limit(&f.kv().await, usize::try_from(limit).unwrap()).await;
    }

    /// A bucket's own limit holds for its values.
    async fn buckets_limit_their_values(f) {
        check_limit(&f.kv_with(bounded_values(f, 1000)).await, 1000).await;
    }

    /// Headers are within a limit too.
    async fn headers_have_a_limit(f) {
        let limit = f.backend.capabilities().value_bytes_max.min(LIMIT_TESTED_MAX);
        let kv = f.kv().await;
        let mut headers = Headers::new();
        headers.set("X-Long", &"x".repeat(usize::try_from(limit).unwrap() + 1)).unwrap();
        let put = kv.put(&key("a"), bytes("1"), PutOpts::new().headers(headers)).await;
        assert_eq!(kind(put), ErrorKind::LimitExceeded);
        assert_eq!(read(&kv, "a").await, None);
    }

    /// A bucket that is full says so, can be read, and takes values again when there is room.
    async fn a_full_bucket_refuses(f) {
        let mut spec = f.spec();
        spec.max_bytes = Some(128 << 10);
        let kv = f.kv_with(spec).await;
        let value = Bytes::from(vec![b'x'; 8 << 10]);
        let mut stored = 0;
        let refused = loop {
            let put = kv.put(&key(format!("k{stored}")), value.clone(), PutOpts::new()).await;
            match put {
                Ok(_) => stored += 1,
                Err(refused) => break refused,
            }
            assert!(stored < 64, "128 KiB hold {stored} values of 8 KiB");
        };
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{refused:?}");
        assert!(stored >= 8, "only {stored} values of 8 KiB went into 128 KiB");
        assert_eq!(kv.get(&key("k0"), Read::Fresh).await.unwrap().unwrap().value, value);
        kv.purge(Scope::All).await.unwrap();
        kv.put(&key("again"), value, PutOpts::new()).await.unwrap();
    }

    /// What one bucket holds is not in another.
    async fn buckets_are_apart(f) {
        let (one, other) = (f.kv().await, f.kv().await);
        put(&one, "a", "1").await;
        assert_eq!(read(&other, "a").await, None);
        put(&other, "a", "2").await;
        delete(&other, "a").await;
        assert_eq!(read(&one, "a").await.as_deref(), Some("1"));
    }
}

fn bounded_values(f: &Fixture, limit: u32) -> BucketSpec {
    let mut spec = f.spec();
    spec.max_value_bytes = Some(limit);
    spec
}

async fn check_limit(kv: &Arc<dyn Kv>, limit: usize) {
    let store = async |name: &Key, size| {
        kv.put(name, Bytes::from(vec![7_u8; size]), PutOpts::new()).await.map(|_| size)
    };
    store(&key("fits"), limit).await.unwrap();
    let size = kv.get(&key("fits"), Read::Fresh).await.unwrap().unwrap().value.len();
    assert_eq!(size, limit);
    for size in [limit + 1, limit * 3] {
        let refused = store(&key("over"), size).await;
        assert_eq!(kind(refused), ErrorKind::LimitExceeded, "{size} bytes of {limit}");
    }
    assert_eq!(kv.get(&key("over"), Read::Fresh).await.unwrap(), None);
    put(kv, "over", "small").await;
}

/// Headers by name: stores keep the order of a name's values, not that of the names.
fn sorted(headers: &Headers) -> Vec<(&str, &str)> {
    let mut fields: Vec<_> = headers.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}
