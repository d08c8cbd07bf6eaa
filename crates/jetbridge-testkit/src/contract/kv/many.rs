//! Many keys at once.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join;
use jetbridge_core::{Key, PutOpts, Read, Snapshot, Support};

use crate::contract::steps::{bytes, delete, fill, key, put};

/// More keys than a server answers for at once.
const MANY: usize = 1500;

cases! { $ __kv_many = kv::many;
    /// The answers stand in the order of the questions: values, empty ones, and gaps for what is
    /// missing or deleted, also twice.
    async fn get_many_answers_in_order(f) {
        let kv = f.kv_keeping(3).await;
        put(&kv, "a", "old").await;
        let a = put(&kv, "a", "1").await;
        put(&kv, "deleted", "1").await;
        delete(&kv, "deleted").await;
        put(&kv, "empty", "").await;
        put(&kv, "user:1", "u").await;
        let asked = ["missing", "user:1", "a", "deleted", "empty", "a", "missing"].map(key);
        let entries = kv.get_many(&asked, Read::Fresh).await.unwrap().entries;
        let values: Vec<Option<&[u8]>> =
            entries.iter().map(|entry| entry.as_ref().map(|entry| &*entry.value)).collect();
        let (one, none): (Option<&[u8]>, Option<&[u8]>) = (Some(b"1"), None);
        assert_eq!(values, [none, Some(b"u"), one, none, Some(b""), one, none]);
        let entry = entries[2].as_ref().unwrap();
        assert_eq!((&entry.key, entry.revision), (&asked[2], a));
        let alone = kv.get(&asked[2], Read::Fresh).await.unwrap();
        assert_eq!(entries[2], alone, "as `get` returns it");
    }

    /// No question, no answer.
    async fn get_many_of_none_is_empty(f) {
        let kv = f.kv().await;
        put(&kv, "a", "1").await;
        assert_eq!(kv.get_many(&[], Read::Fresh).await.unwrap().entries, []);
        let missing = kv.get_many(&[key("x"), key("y")], Read::Fresh).await.unwrap().entries;
        assert_eq!(missing, [None, None]);
    }

    /// There may be more questions than a server answers at once.
    async fn get_many_takes_thousands(f) {
        let kv = f.kv().await;
        let mut asked = fill(&kv, "k", MANY).await;
        asked.insert(700, key("missing"));
        asked.push(key("k0003"));
        let entries = kv.get_many(&asked, Read::Fresh).await.unwrap().entries;
        assert_eq!(entries.len(), asked.len());
        for (key, entry) in asked.iter().zip(entries) {
            let expected = (key.as_str() != "missing").then(|| bytes(key));
            assert_eq!(entry.map(|entry| entry.value), expected, "{key}");
        }
    }

    /// What the peer was told is written, many reads at once see too.
    async fn get_many_is_fresh(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let asked: Vec<Key> = (0..5).map(|n| key(format!("k{n}"))).collect();
        for round in 0..20 {
            let revision = put(&theirs, asked[round % 5].as_str(), &round.to_string()).await;
            let entries = ours.get_many(&asked, Read::Fresh).await.unwrap().entries;
            let entry = entries[round % 5].as_ref().unwrap();
            assert_eq!((entry.revision, &entry.value), (revision, &bytes(round.to_string())));
        }
    }

    /// Where snapshots are promised the answers are of one state, and say of which; elsewhere
    /// they do not say so. What is to be the newest may have to be asked for one by one.
    async fn snapshots_are_of_one_state(f) {
        let kv = f.kv().await;
        let promised = f.backend.capabilities().snapshot_reads != Support::No;
        let pair = [key("first"), key("second")];
        let done = AtomicBool::new(false);
        let write = async {
            for round in 0..300 {
                for key in &pair {
                    kv.put(key, bytes(round.to_string()), PutOpts::new()).await.unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        };
        let look = async {
            while !done.load(Ordering::Relaxed) {
                let fresh = kv.get_many(&pair, Read::Fresh).await.unwrap();
                assert!(promised || fresh.revision.is_none());
                let cheap = kv.get_many(&pair, Read::MaybeStale).await.unwrap();
                assert_eq!(cheap.revision.is_some(), promised);
                for snapshot in [fresh, cheap] {
                    check_snapshot(&snapshot);
                }
            }
        };
        join(write, look).await;
    }
}

/// The second of the pair is written after the first, with the same number.
fn check_snapshot(snapshot: &Snapshot) {
    let Some(revision) = snapshot.revision else { return };
    let number = |at: usize| {
        let entry = snapshot.entries[at].as_ref();
        assert!(entry.is_none_or(|entry| entry.revision <= revision), "{snapshot:?}");
        entry.map_or(-1, |entry| String::from_utf8_lossy(&entry.value).parse::<i32>().unwrap())
    };
    let (first, second) = (number(0), number(1));
    assert!(first == second || first == second + 1, "torn: {first} {second}");
}
