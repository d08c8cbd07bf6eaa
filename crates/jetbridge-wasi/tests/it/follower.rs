//! A component that is told of changes by the host, for as long as there is something to tell.

use std::time::Duration;

use jetbridge_core::{BucketKind, BucketSpec, ErrorKind, Key, PutOpts, Read};
use jetbridge_testkit::guest;
use jetbridge_wasi::KeyvalueCtx;
use jetbridge_wasi::host::{Follower, Host, HostOpts, Told};

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
