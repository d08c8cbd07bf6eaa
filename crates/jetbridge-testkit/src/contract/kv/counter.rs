//! Numbers: exact, whoever counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use jetbridge_core::{
    CounterEncoding, DeleteOpts, ErrorKind, Headers, IncrementOpts, Kv, PutOpts, Read, Support,
};

use crate::contract::fixture::fresh_bucket;
use crate::contract::steps::{bytes, delete, key, kind, put, read};

const TASKS: u8 = 8;
const ROUNDS: u8 = 60;

cases! { $ __kv_counter = kv::counter;
    /// Increments by several tasks on two connections add up exactly, and no two get the same sum.
    async fn increments_are_exact(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let tasks = (0..TASKS).map(|task| {
            let kv = Arc::clone(if task % 2 == 0 { &ours } else { &theirs });
            let count = async move {
                let mut sums = Vec::new();
                for _ in 0..ROUNDS {
                    let opts = IncrementOpts::new().deadline(Duration::from_secs(60));
                    sums.push(kv.increment(&key("n"), 1, opts).await.unwrap());
                }
                sums
            };
            tokio_task(count)
        });
        let sums: Vec<i64> = try_join_all(tasks).await.unwrap().into_iter().flatten().collect();
        let total = i64::from(TASKS) * i64::from(ROUNDS);
        let different: BTreeSet<i64> = sums.iter().copied().collect();
        assert_eq!(different, (1..=total).collect::<BTreeSet<i64>>());
        assert_eq!(read(&ours, "n").await, Some(total.to_string()));
    }

    /// An absent or deleted number counts as zero; steps go up, down, and nowhere.
    async fn increments_begin_at_zero(f) {
        let kv = f.kv().await;
        let add = async |n| kv.increment(&key("n"), n, IncrementOpts::new()).await.unwrap();
        assert_eq!(add(5).await, 5);
        assert_eq!(add(-7).await, -2);
        assert_eq!(add(0).await, -2);
        assert_eq!(read(&kv, "n").await.as_deref(), Some("-2"));
        delete(&kv, "n").await;
        assert_eq!(add(3).await, 3);
    }

    /// A number is written as asked, and one that somebody else wrote goes on.
    async fn encodings_are_as_others_write_them(f) {
        let kv = f.kv().await;
        let cases: [(CounterEncoding, &[u8], &[u8]); 3] = [
            (CounterEncoding::Decimal, b"41", b"42"),
            (CounterEncoding::Be64, &41_u64.to_be_bytes(), &42_u64.to_be_bytes()),
            (CounterEncoding::Le64, &41_u64.to_le_bytes(), &42_u64.to_le_bytes()),
        ];
        for (encoding, foreign, expected) in cases {
            let opts = IncrementOpts::new().encoding(encoding);
            kv.put(&key("n"), Bytes::copy_from_slice(foreign), PutOpts::new()).await.unwrap();
            assert_eq!(kv.increment(&key("n"), 1, opts).await.unwrap(), 42, "{encoding:?}");
            let entry = kv.get(&key("n"), Read::Fresh).await.unwrap().unwrap();
            assert_eq!(&*entry.value, expected, "{encoding:?}");
        }
    }

    /// A number that somebody else writes in between is seen: no remembered state is trusted.
    async fn foreign_writes_in_between_count(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let add = async |kv: &Arc<dyn Kv>| {
            kv.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap()
        };
        assert_eq!((add(&ours).await, add(&theirs).await, add(&ours).await), (1, 2, 3));
        put(&theirs, "n", "100").await;
        assert_eq!(add(&ours).await, 101);
        theirs.delete(&key("n"), DeleteOpts::new().with_history()).await.unwrap();
        assert_eq!(add(&ours).await, 1);
    }

    /// A value that is no number is corrupt, and stays as it is.
    async fn a_value_that_is_no_number_is_corrupt(f) {
        let kv = f.kv().await;
        for value in ["", " 1", "1 ", "+1", "1.5", "0x10", "one", "9223372036854775808"] {
            put(&kv, "n", value).await;
            let add = kv.increment(&key("n"), 1, IncrementOpts::new()).await;
            assert_eq!(kind(add), ErrorKind::Corrupt, "{value:?}");
            assert_eq!(read(&kv, "n").await.as_deref(), Some(value));
        }
        put(&kv, "n", "1234567").await;
        let opts = IncrementOpts::new().encoding(CounterEncoding::Be64);
        assert_eq!(kind(kv.increment(&key("n"), 1, opts).await), ErrorKind::Corrupt);
    }

    /// A number counted in one encoding is none in another, also for whoever counted it.
    async fn encodings_are_not_mixed(f) {
        let kv = f.kv().await;
        let decimal = IncrementOpts::new();
        let binary = decimal.encoding(CounterEncoding::Be64);
        assert_eq!(kv.increment(&key("n"), 7, decimal).await.unwrap(), 7);
        assert_eq!(kind(kv.increment(&key("n"), 1, binary).await), ErrorKind::Corrupt);
        assert_eq!(read(&kv, "n").await.as_deref(), Some("7"));
        assert_eq!(kv.increment(&key("n"), 1, decimal).await.unwrap(), 8);
    }

    /// What others wrote since decides whether a sum is in range, not what is remembered.
    async fn refusals_look_at_what_is_there(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let add = async |delta, opts| ours.increment(&key("n"), delta, opts).await;
        let floor = IncrementOpts::new().min(0);
        assert_eq!(add(i64::MAX, floor).await.unwrap(), i64::MAX);
        put(&theirs, "n", "5").await;
        assert_eq!(add(1, floor).await.unwrap(), 6, "it was at its upper end");
        put(&theirs, "n", "100").await;
        assert_eq!(add(-50, floor).await.unwrap(), 50, "it was too small to take from");
        put(&theirs, "n", "text").await;
        assert_eq!(kind(add(-60, floor).await), ErrorKind::Corrupt);
    }

    /// A sum that does not fit, or is below the bound asked for, is refused and nothing written.
    async fn sums_out_of_range_are_refused(f) {
        let kv = f.kv().await;
        for (value, delta) in [(i64::MAX, 1), (i64::MIN, -1), (i64::MAX - 1, i64::MAX)] {
            put(&kv, "n", &value.to_string()).await;
            let add = kv.increment(&key("n"), delta, IncrementOpts::new()).await;
            assert_eq!(kind(add), ErrorKind::LimitExceeded, "{value} + {delta}");
            assert_eq!(read(&kv, "n").await, Some(value.to_string()));
        }
        put(&kv, "n", "2").await;
        let floor = IncrementOpts::new().min(0);
        assert_eq!(kind(kv.increment(&key("n"), -3, floor).await), ErrorKind::LimitExceeded);
        assert_eq!(kv.increment(&key("n"), -2, floor).await.unwrap(), 0);
        assert_eq!(kind(kv.increment(&key("new"), -1, floor).await), ErrorKind::LimitExceeded);
        assert_eq!(read(&kv, "new").await, None);
    }

    /// Counting keeps what belongs to the entry: its headers and when it expires.
    async fn increments_keep_headers_and_expiry(f) {
        let kv = f.kv().await;
        let headers = Headers::new().with("X-Unit", "apples").unwrap();
        let mut opts = PutOpts::new().headers(headers);
        if f.key_ttl() != Support::No {
            opts = opts.ttl(Duration::from_secs(3600));
        }
        kv.put(&key("n"), bytes("1"), opts).await.unwrap();
        let before = kv.get(&key("n"), Read::Fresh).await.unwrap().unwrap();
        kv.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap();
        let after = kv.get(&key("n"), Read::Fresh).await.unwrap().unwrap();
        assert_eq!(after.headers.get("X-Unit"), Some("apples"));
        let Some(expected) = before.expires else {
            assert_eq!(after.expires, None);
            return;
        };
        let expires = after.expires.expect("still expires");
        let off = expires.duration_since(expected).unwrap_or_else(|early| early.duration());
        assert!(off < Duration::from_secs(5), "{off:?} from when it would have expired");
    }

    /// A bucket of counters adds, tells and forgets; no two that add get the same answer.
    async fn counters_count(f) {
        let bucket = fresh_bucket();
        let counters = f.backend.counters(&bucket).await.unwrap();
        let theirs = f.peer.counters(&bucket).await.unwrap();
        assert_eq!(counters.bucket(), &bucket);
        assert_eq!(counters.value(&key("n")).await.unwrap(), None);
        assert!(!counters.remove(&key("n")).await.unwrap());
        let tasks = (0..TASKS).map(|task| {
            let counters = Arc::clone(if task % 2 == 0 { &counters } else { &theirs });
            tokio_task(async move {
                let mut sums = Vec::new();
                for _ in 0..20 {
                    sums.push(counters.fetch_add(&key("n"), 2).await.unwrap());
                }
                sums
            })
        });
        let sums: BTreeSet<i64> =
            try_join_all(tasks).await.unwrap().into_iter().flatten().collect();
        assert_eq!(sums.len(), usize::from(TASKS) * 20, "two got the same answer");
        let total = i64::from(TASKS) * 40;
        assert_eq!(theirs.value(&key("n")).await.unwrap(), Some(total));
        assert_eq!(counters.fetch_add(&key("user:1"), -5).await.unwrap(), -5);
        assert!(theirs.remove(&key("n")).await.unwrap());
        assert_eq!(counters.value(&key("n")).await.unwrap(), None);
        assert_eq!(counters.fetch_add(&key("n"), 1).await.unwrap(), 1);
    }

    /// A sum that does not fit is refused, and the counter stays as it was.
    async fn counters_refuse_sums_out_of_range(f) {
        let counters = f.backend.counters(&fresh_bucket()).await.unwrap();
        for (end, beyond) in [(i64::MAX, 1), (i64::MIN, -1), (-1, i64::MIN)] {
            let name = key(format!("n{beyond}"));
            assert_eq!(counters.fetch_add(&name, end).await.unwrap(), end);
            let refused = kind(counters.fetch_add(&name, beyond).await);
            assert_eq!(refused, ErrorKind::LimitExceeded);
            assert_eq!(counters.value(&name).await.unwrap(), Some(end));
            assert_eq!(counters.fetch_add(&name, 0).await.unwrap(), end);
        }
    }

    /// Any key can be counted under, in its own bucket only.
    async fn counters_have_any_name(f) {
        let counters = f.backend.counters(&fresh_bucket()).await.unwrap();
        let others = f.backend.counters(&fresh_bucket()).await.unwrap();
        let names = [".", "..", "a..b", "*", ">", " ", "\0", "=", "a=", "=C3", "ключ", "\n"];
        let long = ["ж".repeat(500)];
        for (name, n) in names.into_iter().chain(long.iter().map(String::as_str)).zip(1..) {
            assert_eq!(counters.fetch_add(&key(name), n).await.unwrap(), n, "{name:?}");
            assert_eq!(counters.value(&key(name)).await.unwrap(), Some(n), "{name:?}");
            assert_eq!(others.value(&key(name)).await.unwrap(), None, "{name:?}");
        }
    }
}

/// A task of its own, on whichever worker is free.
#[expect(clippy::disallowed_methods, reason = "the case waits for it")]
fn tokio_task<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
