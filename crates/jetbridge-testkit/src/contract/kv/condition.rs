//! The conditions of a write, and the reads that lead up to one.

use futures_util::future::join_all;
use jetbridge_core::{DeleteOpts, ErrorKind, Expect, PutOpts, Read, Revision};

use crate::contract::steps::{bytes, delete, key, kind, put, read};

cases! { $ __kv_condition = kv::condition;
    /// Creating over a live value is a conflict that carries its revision and changes nothing.
    async fn create_is_refused_over_a_value(f) {
        let kv = f.kv().await;
        let first = kv.put(&key("a"), bytes("1"), PutOpts::create()).await.unwrap().revision;
        let refused = kv.put(&key("a"), bytes("2"), PutOpts::create()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
        assert_eq!(refused.present_revision(), Some(first), "{refused:?}");
        assert_eq!(read(&kv, "a").await.as_deref(), Some("1"));
    }

    /// A deleted key is absent to a creation, with and without history left behind.
    async fn create_succeeds_over_a_deletion(f) {
        for history in [1, 5] {
            let kv = f.kv_keeping(history).await;
            for opts in [DeleteOpts::new(), DeleteOpts::new().with_history()] {
                let first = kv.put(&key("a"), bytes("1"), PutOpts::create()).await.unwrap();
                kv.delete(&key("a"), opts).await.unwrap();
                let second = kv.put(&key("a"), bytes("2"), PutOpts::create()).await.unwrap();
                assert!(second.revision > first.revision);
                assert_eq!(read(&kv, "a").await.as_deref(), Some("2"));
                assert_eq!(
                    kind(kv.put(&key("a"), bytes("3"), PutOpts::create()).await),
                    ErrorKind::Conflict
                );
                kv.delete(&key("a"), DeleteOpts::new()).await.unwrap();
            }
        }
    }

    /// Two writers who saw the same revision: one wins, the other is told what is there now.
    async fn stale_revision_conflicts(f) {
        let kv = f.kv().await;
        let seen = put(&kv, "a", "1").await;
        let won = kv.put(&key("a"), bytes("2"), PutOpts::over(seen)).await.unwrap().revision;
        let lost = kv.put(&key("a"), bytes("3"), PutOpts::over(seen)).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Conflict, "{lost:?}");
        assert_eq!(lost.present_revision(), Some(won), "{lost:?}");
        assert_eq!(read(&kv, "a").await.as_deref(), Some("2"));
    }

    /// A revision of another key, of the future, or none at all is not the expected one.
    async fn foreign_revision_conflicts(f) {
        let kv = f.kv().await;
        let present = put(&kv, "a", "1").await;
        let other = put(&kv, "b", "1").await;
        for wrong in [other, Revision(other.0 + 1000), Revision(0), Revision(u64::MAX)] {
            let lost = kv.put(&key("a"), bytes("2"), PutOpts::over(wrong)).await.unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::Conflict, "{wrong}: {lost:?}");
            assert_eq!(lost.present_revision(), Some(present), "{wrong}: {lost:?}");
        }
        assert_eq!(read(&kv, "a").await.as_deref(), Some("1"));
    }

    /// A revision is never the expected one of a key that is not there.
    async fn revision_conflicts_over_nothing(f) {
        let kv = f.kv().await;
        let never = kv.put(&key("never"), bytes("1"), PutOpts::over(Revision(7))).await;
        assert_eq!(kind(never), ErrorKind::Conflict);
        let zero = kv.put(&key("never"), bytes("1"), PutOpts::over(Revision(0))).await;
        assert_eq!(kind(zero), ErrorKind::Conflict, "zero is no revision of anything");
        let seen = put(&kv, "gone", "1").await;
        delete(&kv, "gone").await;
        let gone = kv.put(&key("gone"), bytes("2"), PutOpts::over(seen)).await;
        assert_eq!(kind(gone), ErrorKind::Conflict);
        assert_eq!((read(&kv, "never").await, read(&kv, "gone").await), (None, None));
    }

    /// Of several who create at once, on two connections, exactly one succeeds.
    async fn one_creation_wins(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        for round in 0..10 {
            let name = key(format!("k{round}"));
            let creations = (0..8).map(|n| {
                let kv = if n % 2 == 0 { &ours } else { &theirs };
                kv.put(&name, bytes(n.to_string()), PutOpts::create())
            });
            let outcomes = join_all(creations).await;
            let won: Vec<usize> = (0..8).filter(|n| outcomes[*n].is_ok()).collect();
            assert_eq!(won.len(), 1, "{outcomes:?}");
            for lost in outcomes.into_iter().filter_map(Result::err) {
                assert_eq!(lost.kind(), ErrorKind::Conflict, "{lost:?}");
            }
            assert_eq!(read(&ours, name.as_str()).await, Some(won[0].to_string()));
        }
    }

    /// Of several who write over the same revision at once, exactly one succeeds.
    async fn one_update_wins(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let name = key("a");
        let mut present = put(&ours, "a", "start").await;
        for _ in 0..10 {
            let updates = (0..8).map(|n| {
                let kv = if n % 2 == 0 { &ours } else { &theirs };
                kv.put(&name, bytes(n.to_string()), PutOpts::over(present))
            });
            let outcomes = join_all(updates).await;
            let won: Vec<Revision> =
                outcomes.iter().flatten().map(|written| written.revision).collect();
            assert_eq!(won.len(), 1, "{outcomes:?}");
            present = won[0];
            let entry = theirs.get(&key("a"), Read::Fresh).await.unwrap().unwrap();
            assert_eq!(entry.revision, present);
        }
    }

    /// A deletion obeys its condition.
    async fn delete_of_a_stale_revision_conflicts(f) {
        let kv = f.kv().await;
        let stale = put(&kv, "a", "1").await;
        let present = put(&kv, "a", "2").await;
        for opts in [DeleteOpts::exactly(stale), DeleteOpts::exactly(stale).with_history()] {
            let refused = kv.delete(&key("a"), opts).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
            assert_eq!(refused.present_revision(), Some(present), "{refused:?}");
        }
        assert_eq!(read(&kv, "a").await.as_deref(), Some("2"));
        assert!(kv.delete(&key("a"), DeleteOpts::exactly(present)).await.unwrap().is_some());
        assert_eq!(read(&kv, "a").await, None);
    }

    /// To delete what is absent makes no sense, and is refused whatever is there.
    async fn delete_if_absent_is_invalid(f) {
        let kv = f.kv().await;
        let mut opts = DeleteOpts::new();
        opts.expect = Expect::Absent;
        assert_eq!(kind(kv.delete(&key("a"), opts).await), ErrorKind::InvalidInput);
        put(&kv, "a", "1").await;
        assert_eq!(kind(kv.delete(&key("a"), opts).await), ErrorKind::InvalidInput);
        assert_eq!(read(&kv, "a").await.as_deref(), Some("1"));
    }

    /// A revision that is still stored can be read; one that is not, is of another key, or is a
    /// deletion, is `None`.
    async fn old_revisions_are_read_while_stored(f) {
        let kv = f.kv_keeping(2).await;
        let at = async |name: &str, revision| {
            let entry = kv.get(&key(name), Read::At(revision)).await.unwrap();
            entry.map(|entry| {
                assert_eq!(entry.revision, revision);
                String::from_utf8_lossy(&entry.value).into_owned()
            })
        };
        let first = put(&kv, "a", "1").await;
        let other = put(&kv, "b", "other").await;
        let second = put(&kv, "a", "2").await;
        assert_eq!(at("a", first).await.as_deref(), Some("1"));
        assert_eq!(at("a", second).await.as_deref(), Some("2"));
        assert_eq!(at("a", other).await, None, "a revision of another key");
        assert_eq!(at("a", Revision(0)).await, None);
        assert_eq!(at("a", Revision(second.0 + 1000)).await, None);
        put(&kv, "a", "3").await;
        assert_eq!(at("a", first).await, None, "beyond the history");
        let deletion = delete(&kv, "a").await;
        assert_eq!(at("a", deletion).await, None, "a deletion has no value");
    }
}
