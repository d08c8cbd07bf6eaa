//! Identifiers, links that come and go, encodings, and many hosts at once.

use std::sync::Arc;

use jetbridge_core::{BucketKind, BucketSpec, CounterEncoding, Key, PutOpts, Read};
use wasmtime::component::Val;

use crate::guest::*;
use crate::rig::Rig;

pub(crate) async fn unknown_and_ungranted_stores(rig: &Rig) {
    rig.stores.add("other", rig.link("other").create(BucketSpec::default()));
    rig.stores.add("absent", rig.link("absent"));
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    guest.open("other").await;
    for unknown in ["nowhere", "a.b", "Default", " ", "absent", &"x".repeat(4000)] {
        let error = guest.call("open", &[string(unknown)]).await.unwrap_err();
        assert_eq!(case(&error), "no-such-store", "{unknown}");
    }
    let mut guest = Guest::granted(DRAFT, &rig.stores, &["other"]).await;
    guest.open("other").await;
    for denied in ["", "default", "nowhere"] {
        let error = guest.call("open", &[string(denied)]).await.unwrap_err();
        assert_eq!(case(&error), "access-denied", "{denied}");
    }
    // The empty identifier and `default` are one store.
    let mut guest = Guest::granted(DRAFT, &rig.stores, &[""]).await;
    let (a, b) = (guest.open("").await, guest.open("default").await);
    guest.call("set", &[a, string("k"), bytes("v")]).await.unwrap();
    assert_eq!(guest.call("get", &[b, string("k")]).await, Ok(some(bytes("v"))));
}

pub(crate) async fn links_come_and_go_alone(rig: &Rig) {
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let first = guest.open("").await;
    rig.stores.add("second", rig.link("second").create(BucketSpec::default()));
    let second = guest.open("second").await;
    guest.call("set", &[second.clone(), string("k"), bytes("2")]).await.unwrap();
    assert_eq!(rig.stores.identifiers(), ["default", "second"]);

    assert!(rig.stores.remove("second"));
    assert!(!rig.stores.remove("second"));
    let error = guest.call("get", &[second, string("k")]).await.unwrap_err();
    assert_eq!(case(&error), "no-such-store");
    let error = guest.call("open", &[string("second")]).await.unwrap_err();
    assert_eq!(case(&error), "no-such-store");
    assert_eq!(guest.call("get", &[first, string("k")]).await, Ok(NONE));

    rig.stores.add("second", rig.link("second"));
    let again = guest.open("second").await;
    assert_eq!(guest.call("get", &[again, string("k")]).await, Ok(some(bytes("2"))));
}

pub(crate) async fn a_bucket_that_is_gone_is_no_such_store(rig: &Rig) {
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let b = guest.open("").await;
    guest.call("set", &[b.clone(), string("k"), bytes("v")]).await.unwrap();
    assert!(rig.backend.delete_bucket(BucketKind::Kv, &rig.bucket).await.unwrap());
    let error = guest.call("set", &[b.clone(), string("k"), bytes("v")]).await.unwrap_err();
    assert_eq!(case(&error), "no-such-store");
    // Opening it again makes it anew, as its link says.
    let b = guest.open("").await;
    assert_eq!(guest.call("get", &[b, string("k")]).await, Ok(NONE));
}

pub(crate) async fn encodings_of_other_hosts(rig: &Rig) {
    for (name, encoding, five, six) in [
        ("be", CounterEncoding::Be64, 5_i64.to_be_bytes(), 6_i64.to_be_bytes()),
        ("le", CounterEncoding::Le64, 5_i64.to_le_bytes(), 6_i64.to_le_bytes()),
    ] {
        let link = rig.link(name).create(BucketSpec::default()).counter_encoding(encoding);
        let bucket = link.bucket().clone();
        rig.stores.add(name, link);
        let mut guest = Guest::new(DRAFT2, &rig.stores).await;
        let b = guest.open(name).await;
        guest.call("set", &[b.clone(), string("n"), bytes(five)]).await.unwrap();
        let step = [b.clone(), string("n"), Val::S64(1)];
        assert_eq!(guest.call("increment", &step).await, Ok(Val::S64(6)));
        let kv = rig.backend.kv(&bucket, jetbridge_core::Open::existing()).await.unwrap();
        let entry = kv.get(&Key::parse("n").unwrap(), Read::Fresh).await.unwrap().unwrap();
        assert_eq!(entry.value, &six[..]);
        kv.put(&entry.key, "6".into(), PutOpts::new()).await.unwrap();
        let error = guest.call("increment", &step).await.unwrap_err();
        assert!(words(&error).contains("not a number"), "{error:?}");
    }
}

/// Hosts of one process, each with its own connection to the store where it has connections.
pub(crate) async fn eight_hosts_count_exactly(rig: &Rig) {
    const HOSTS: i64 = 8;
    const STEPS: i64 = 50;
    let stores = Arc::new(rig.stores.clone());
    for key in ["fresh", "existing"] {
        if key == "existing" {
            let key = Key::parse(key).unwrap();
            rig.kv().await.put(&key, "0".into(), PutOpts::new()).await.unwrap();
        }
        let tasks = jetbridge_core::Tasks::new();
        let (sums, mut received) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..HOSTS {
            let (stores, sums) = (Arc::clone(&stores), sums.clone());
            tasks.spawn(async move {
                let mut guest = Guest::new(DRAFT2, &stores).await;
                let b = guest.open("").await;
                for _ in 0..STEPS {
                    let step = [b.clone(), string(key), Val::S64(1)];
                    sums.send(guest.call("increment", &step).await).unwrap();
                }
            });
        }
        drop(sums);
        let mut all = Vec::new();
        while let Some(sum) = received.recv().await {
            let Ok(Val::S64(sum)) = sum else { panic!("{sum:?}") };
            all.push(sum);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=HOSTS * STEPS).collect::<Vec<_>>(), "{key}");
    }
}

/// Counters that the store adds up itself, where it can.
pub(crate) async fn a_bucket_of_counters_counts_and_does_nothing_else(rig: &Rig) {
    rig.stores.add("hot", rig.link("hot").counters());
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("hot").await;
    let key = [b.clone(), string("n")];
    assert_eq!(guest.call("get", &key).await, Ok(NONE));
    let step = |delta| [b.clone(), string("n"), Val::S64(delta)];
    assert_eq!(guest.call("increment", &step(5)).await, Ok(Val::S64(5)));
    assert_eq!(guest.call("increment", &step(-7)).await, Ok(Val::S64(-2)));
    assert_eq!(guest.call("get", &key).await, Ok(some(bytes("-2"))));
    assert_eq!(guest.call("exists", &key).await, Ok(Val::Bool(true)));
    let asked = strings(&["absent", "n"]);
    let found = list([NONE, some(pair(string("n"), bytes("-2")))]);
    assert_eq!(guest.call("get-many", &[b.clone(), asked]).await, Ok(found));
    let error = guest.call("set", &[b.clone(), string("n"), bytes("1")]).await.unwrap_err();
    assert!(words(&error).contains("holds counters"), "{error:?}");
    let error = guest.call("increment", &step(i64::MIN)).await.unwrap_err();
    assert!(!words(&error).is_empty());
    assert_eq!(guest.call("get", &key).await, Ok(some(bytes("-2"))), "overflow writes nothing");

    // The first draft's numbers are unsigned: a sum below 0 is refused and not kept.
    let mut unsigned = Guest::new(DRAFT, &rig.stores).await;
    let u = unsigned.open("hot").await;
    let error = unsigned.call("increment", &[u.clone(), string("n"), Val::U64(1)]).await;
    assert!(words(&error.unwrap_err()).contains("out of range"));
    assert_eq!(guest.call("get", &key).await, Ok(some(bytes("-2"))));
    let sum = unsigned.call("increment", &[u.clone(), string("n"), Val::U64(44)]).await;
    assert_eq!(sum, Ok(Val::U64(42)));
    assert_eq!(guest.call("delete", &key).await, Ok(unit()));
    assert_eq!(guest.call("exists", &key).await, Ok(Val::Bool(false)));
}
