//! A component that is told of changes by the host, for as long as there is something to tell.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{BucketKind, BucketSpec, DeleteOpts, ErrorKind, Key, PutOpts, Read};
use jetbridge_testkit::{Fault, Faults, guest};
use jetbridge_wasi::host::{Follower, Host, HostOpts, Told};
use jetbridge_wasi::{KeyvalueCtx, Link, Stores};

use crate::rig::Rig;

/// Long enough for a slow machine; nothing waits for it to pass.
const WITHIN: Duration = Duration::from_secs(30);

/// Tells of changes until the guest has kept `seen/KEY`.
async fn tell(follower: &mut Follower, rig: &Rig, key: &str) {
    let (kv, seen) = (rig.kv().await, Key::parse(format!("seen/{key}")).unwrap());
    let telling = async {
        while kv.get(&seen, Read::Fresh).await.unwrap().is_none() {
            let told = follower.next().await.unwrap();
            assert!(!matches!(told, Told::PassedOver(_)), "{told:?}");
        }
    };
    tokio::time::timeout(WITHIN, telling).await.unwrap_or_else(|_| panic!("{key} is not told"));
}

async fn put(rig: &Rig, key: &str) {
    let key = Key::parse(key).unwrap();
    rig.kv().await.put(&key, "v".into(), PutOpts::new()).await.unwrap();
}

/// The store breaks the watch off behind its first change.
pub(crate) async fn a_watch_that_broke_off_is_taken_up_where_it_was(rig: &Rig) {
    for key in ["a", "b"] {
        put(rig, key).await;
    }
    let faults = Faults::script([(0, Fault::AckLost)]).only(&["kv.watch"]);
    let backend = faults.around(Arc::clone(&rig.backend));
    let stores = Stores::new();
    stores.add("", Link::new(backend, rig.bucket.clone()));
    let host = Host::new(HostOpts::default()).unwrap();
    let program = host.load("watcher", &guest::watcher()).unwrap();
    let mut follower = Follower::open(program, KeyvalueCtx::new(stores), "").await.unwrap();
    let (kv, seen) = (rig.kv().await, Key::parse("seen/a").unwrap());
    assert!(matches!(follower.next().await, Ok(Told::Done)));
    assert!(kv.get(&seen, Read::Fresh).await.unwrap().is_some(), "`a` was the first");
    kv.delete(&seen, DeleteOpts::new()).await.unwrap();
    let broken = tokio::time::timeout(WITHIN, follower.next()).await.unwrap().unwrap_err();
    assert_eq!((broken.kind(), follower.has_ended()), (ErrorKind::Unavailable, true), "{broken:?}");
    follower.reopen().await.unwrap();
    tell(&mut follower, rig, "b").await;
    assert!(kv.get(&seen, Read::Fresh).await.unwrap().is_none(), "`a` is not told again");
    drop(follower);
    assert_eq!(host.close(WITHIN).await, 0);
}

/// A guest that fails has its change told to the one that takes its place, as if for the first
/// time, and nothing else again.
pub(crate) async fn another_version_goes_on_where_the_one_before_stood(rig: &Rig) {
    put(rig, "trap").await;
    let host = Host::new(HostOpts::default()).unwrap();
    let program = host.load("watcher", &guest::watcher()).unwrap();
    let ctx = KeyvalueCtx::new(rig.stores.clone());
    let mut follower = Follower::open(program.clone(), ctx, "").await.unwrap();
    for _version in 0..3 {
        for _attempt in 0..2 {
            assert_eq!(follower.next().await.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        follower.hand_over(program.clone());
    }
    for _attempt in 0..2 {
        follower.next().await.unwrap_err();
    }
    assert!(matches!(follower.next().await, Ok(Told::PassedOver(_))));
    put(rig, "a").await;
    tell(&mut follower, rig, "a").await;
    drop(follower);
    assert_eq!(host.close(WITHIN).await, 0);
}

/// Its revisions begin anew: the place where the earlier one's watch stood says nothing here.
pub(crate) async fn a_bucket_that_was_made_again_is_told_whole(rig: &Rig) {
    for key in ["a", "b", "c", "d"] {
        put(rig, key).await;
    }
    let host = Host::new(HostOpts::default()).unwrap();
    let program = host.load("watcher", &guest::watcher()).unwrap();
    let ctx = KeyvalueCtx::new(rig.stores.clone());
    let mut follower = Follower::open(program, ctx, "").await.unwrap();
    tell(&mut follower, rig, "d").await;

    rig.backend.delete_bucket(BucketKind::Kv, &rig.bucket).await.unwrap();
    let ended = async {
        loop {
            match follower.next().await {
                Ok(_before) => {}
                Err(error) if follower.has_ended() => return error,
                Err(_told_too_late) => {}
            }
        }
    };
    let ended = tokio::time::timeout(WITHIN, ended).await.unwrap();
    assert_eq!(ended.kind(), ErrorKind::NotFound, "{ended:?}");
    rig.backend.create_bucket(BucketKind::Kv, &rig.bucket, &BucketSpec::default()).await.unwrap();
    put(rig, "e").await;
    follower.reopen().await.unwrap();
    tell(&mut follower, rig, "e").await;
    drop(follower);
    assert_eq!(host.close(WITHIN).await, 0);
}
