//! Values that go by themselves. A backend keeps a time to live or refuses it, never ignores it.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Change, DeleteOpts, ErrorKind, IncrementOpts, Kv, PutOpts, Read, Scope, Start, Support,
};
use tokio::time::Instant;

use crate::contract::steps::{Watching, bytes, delete, key, names, patience, put, read, set};
use crate::{Fixture, eventually};

/// Below a second, which servers do not count in.
const BRIEF: Duration = Duration::from_millis(400);
/// Above a second, and no whole number of them.
const SECONDS: Duration = Duration::from_millis(1300);
/// Between two looks whether a value is still there.
const LOOK_EVERY: Duration = Duration::from_millis(10);

cases! { $ __kv_expiry = kv::expiry;
    /// A brief value is there until its time has come and not for long after, or is refused.
    async fn a_brief_value_expires_or_is_refused(f) {
        let kv = f.kv().await;
        check_expiry(f, &kv, BRIEF).await;
    }

    /// So is one of more than a second.
    async fn a_value_of_seconds_expires_or_is_refused(f) {
        let kv = f.kv().await;
        check_expiry(f, &kv, SECONDS).await;
    }

    /// When an expired value goes, the ones before it do not come back.
    async fn an_expired_value_uncovers_no_older_one(f) {
        for ttl in [BRIEF, SECONDS] {
            let kv = f.kv_keeping(5).await;
            put(&kv, "a", "older").await;
            put(&kv, "a", "old").await;
            check_expiry(f, &kv, ttl).await;
            put(&kv, "marker", "1").await;
            assert_eq!(read(&kv, "a").await, None, "an older value is back");
            assert!(!names(&kv, Scope::All).await.contains("a"));
        }
    }

    /// An entry says when it expires, by the store's clock.
    async fn entries_know_when_they_expire(f) {
        let kv = f.kv().await;
        let ttl = Duration::from_secs(3600);
        if !put_for(f, &kv, "a", PutOpts::new().ttl(ttl)).await {
            return;
        }
        let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
        let expires = entry.expires.expect("an entry that expires says so");
        let error = Duration::from_secs(2) + f.backend.now().await.unwrap().error;
        let expected = entry.written + ttl;
        assert!(expires <= expected + error && expires + error >= expected, "{entry:?}");
    }

    /// Overwriting without a time to live makes the value stay.
    async fn overwriting_clears_the_time_to_live(f) {
        let kv = f.kv().await;
        if !put_for(f, &kv, "a", PutOpts::new().ttl(BRIEF)).await {
            return;
        }
        put(&kv, "a", "stays").await;
        let brief = kv.put(&key("b"), bytes("brief"), PutOpts::new().ttl(BRIEF)).await.unwrap();
        let over = kv.put(&key("b"), bytes("stays"), PutOpts::over(brief.revision)).await;
        // The condition may have come too late for so brief a value.
        let kept = over.is_ok();
        outlive(&kv, BRIEF).await;
        let entry = kv.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
        assert_eq!((entry.value, entry.expires), (bytes("stays"), None));
        assert_eq!(read(&kv, "b").await.is_some(), kept);
    }

    /// A conditional write keeps the time to live it asks for.
    async fn conditional_writes_expire_too(f) {
        let kv = f.kv().await;
        let revision = put(&kv, "a", "1").await;
        if !put_for(f, &kv, "a", PutOpts::over(revision).ttl(BRIEF)).await {
            return;
        }
        put_for(f, &kv, "new", PutOpts::create().ttl(BRIEF)).await;
        gone(&kv, "a").await;
        gone(&kv, "new").await;
    }

    /// A creation over a deleted key keeps its time to live: locks depend on it.
    async fn a_creation_over_a_deletion_expires(f) {
        for ttl in [BRIEF, SECONDS] {
            let kv = f.kv().await;
            put(&kv, "a", "1").await;
            delete(&kv, "a").await;
            if !put_for(f, &kv, "a", PutOpts::create().ttl(ttl)).await {
                return;
            }
            gone(&kv, "a").await;
        }
    }

    /// An expired key is absent to every operation.
    async fn an_expired_key_is_absent(f) {
        let kv = f.kv().await;
        for name in ["created", "deleted", "counted", "read"] {
            if !put_for(f, &kv, name, PutOpts::new().ttl(BRIEF)).await {
                return;
            }
        }
        put(&kv, "stays", "1").await;
        outlive(&kv, BRIEF).await;
        assert_eq!(names(&kv, Scope::All).await, set(&["stays"]));
        let page = kv.page(Scope::All, None, 10).await.unwrap();
        assert_eq!(page.keys, [key("stays")]);
        let found = kv.get_many(&[key("read"), key("stays")], Read::Fresh).await.unwrap().entries;
        assert_eq!((found[0].is_none(), found[1].is_some()), (true, true));
        assert_eq!(kv.get(&key("read"), Read::Fresh).await.unwrap(), None);
        assert_eq!(kv.delete(&key("deleted"), DeleteOpts::new()).await.unwrap(), None);
        assert_eq!(kv.increment(&key("counted"), 5, IncrementOpts::new()).await.unwrap(), 5);
        kv.put(&key("created"), bytes("2"), PutOpts::create()).await.unwrap();
        assert_eq!(read(&kv, "created").await.as_deref(), Some("2"));
    }

    /// A watch is told when a key expires, live as well as when it catches up.
    async fn watches_see_expiry(f) {
        for ttl in [BRIEF, SECONDS] {
            let kv = f.kv().await;
            let mut watching = Watching::from(&kv, Start::Current);
            assert_eq!(watching.initial().await, Vec::<String>::new());
            if !put_for(f, &kv, "a", PutOpts::new().ttl(ttl)).await {
                return;
            }
            watching.until("-a").await;
            put(&kv, "b", "1").await;
            assert_eq!(watching.take(1).await, ["b=1"], "the expiry is told once");
            let mut late = Watching::from(&kv, Start::Current);
            let initial = late.initial().await;
            assert!(!initial.iter().any(|change| change.starts_with("a=")), "{initial:?}");
        }
    }

    /// A watch that began while a value was there is told that it expires.
    async fn watches_see_the_expiry_of_what_they_found(f) {
        let kv = f.kv().await;
        if !put_for(f, &kv, "a", PutOpts::new().ttl(SECONDS)).await {
            return;
        }
        let mut watching = Watching::from(&kv, Start::Current);
        let mut last = None;
        while !matches!(last, Some(Change::Delete { .. })) {
            let change = watching.next().await;
            if change.key().is_some() {
                last = Some(change);
            }
            if last.is_none() && read(&kv, "a").await.is_none() {
                return; // It expired before the watch began.
            }
        }
    }

    /// A time to live that no clock can hold is refused or as good as for ever; nothing breaks.
    async fn absurd_times_to_live_do_no_harm(f) {
        let kv = f.kv().await;
        for ttl in [Duration::MAX, Duration::from_secs(u64::MAX / 1000), Duration::from_secs(1 << 40)] {
            match kv.put(&key("a"), bytes("1"), PutOpts::new().ttl(ttl)).await {
                Ok(_) => assert_eq!(read(&kv, "a").await.as_deref(), Some("1"), "{ttl:?}"),
                Err(refused) => {
                    let expected = [ErrorKind::InvalidInput, ErrorKind::Unsupported];
                    assert!(expected.contains(&refused.kind()), "{ttl:?}: {refused:?}");
                }
            }
        }
        put(&kv, "a", "still usable").await;
    }

    /// A bucket's own age limit takes values, and tells no difference between keys.
    async fn buckets_expire_their_values(f) {
        let mut spec = f.spec();
        spec.max_age = Some(SECONDS);
        let kv = f.kv_with(spec).await;
        let start = Instant::now();
        put(&kv, "a", "1").await;
        let seen = read(&kv, "a").await;
        assert!(seen.is_some() || start.elapsed() >= SECONDS, "gone before its time");
        gone(&kv, "a").await;
        assert!(start.elapsed() >= SECONDS);
        assert!(names(&kv, Scope::All).await.is_empty());
        kv.put(&key("a"), bytes("2"), PutOpts::create()).await.unwrap();
    }
}

/// Puts a value `brief` with a time to live. Where none can be had, asserts the refusal and
/// answers `false`.
async fn put_for(f: &Fixture, kv: &Arc<dyn Kv>, name: &str, opts: PutOpts) -> bool {
    let before = kv.get(&key(name), Read::Fresh).await.unwrap();
    let put = kv.put(&key(name), bytes("brief"), opts).await;
    if f.key_ttl() != Support::No {
        put.unwrap();
        return true;
    }
    assert_eq!(put.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(kv.get(&key(name), Read::Fresh).await.unwrap(), before, "refused and stored");
    false
}

async fn check_expiry(f: &Fixture, kv: &Arc<dyn Kv>, ttl: Duration) {
    let start = Instant::now();
    if !put_for(f, kv, "a", PutOpts::new().ttl(ttl)).await {
        return;
    }
    loop {
        let value = read(kv, "a").await;
        let early = start.elapsed() < ttl;
        match value.as_deref() {
            None => {
                assert!(!early, "gone before its time");
                return;
            }
            Some(value) => assert_eq!(value, "brief"),
        }
        assert!(start.elapsed() < ttl + patience(), "still there long after its time");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until a key is gone.
async fn gone(kv: &Arc<dyn Kv>, name: &str) {
    eventually("the value expires", patience(), async || {
        read(kv, name).await.is_none().then_some(())
    })
    .await;
}

/// Waits until a value written now with a time to live has expired: those before it have too.
async fn outlive(kv: &Arc<dyn Kv>, ttl: Duration) {
    kv.put(&key("outlived"), bytes("brief"), PutOpts::new().ttl(ttl)).await.unwrap();
    gone(kv, "outlived").await;
}
