//! What holds in every dialect: several of them in one component, errors that are never traps,
//! failures that are told, and races.

use std::sync::Arc;

use jetbridge_core::{BucketSpec, Key, PutOpts, Read, Tasks};
use jetbridge_testkit::{Fault, Faults, Odds};
use jetbridge_wasi::{Link, Stores};
use wasmtime::component::Val;

use crate::guest::*;
use crate::rig::Rig;

/// The default store of `rig`, behind `faults`.
fn broken(rig: &Rig, faults: &Faults) -> Stores {
    let stores = Stores::new();
    let backend = faults.around(Arc::clone(&rig.backend));
    stores.add("", Link::new(backend, rig.bucket.clone()).create(BucketSpec::default()));
    stores
}

/// Handles of three dialects at once, on one store.
pub(crate) async fn a_component_speaks_several_dialects(rig: &Rig) {
    let mut guest = Guest::new(SEVERAL, &rig.stores).await;
    let open = |dialect: &str| (format!("{dialect}-open"), [string("")]);
    let mut handles = Vec::new();
    for dialect in ["draft", "draft2", "wasmcloud"] {
        let (open, identifier) = open(dialect);
        handles.push((dialect, guest.call(&open, &identifier).await.unwrap()));
    }
    let key = string("k");
    let set = [handles[0].1.clone(), key.clone(), bytes("a")];
    assert_eq!(guest.call("draft-set", &set).await, Ok(unit()));
    for (dialect, handle) in &handles {
        let got = guest.call(&format!("{dialect}-get"), &[handle.clone(), key.clone()]).await;
        assert_eq!(got, Ok(some(bytes("a"))), "{dialect}");
    }
    // A handle of the one dialect sees what another wrote in between.
    let cas = guest.call("draft2-cas-new", &[handles[1].1.clone(), key.clone()]).await.unwrap();
    assert_eq!(guest.call("draft-set", &set).await, Ok(unit()));
    let lost = guest.call("draft2-swap", &[cas, bytes("b")]).await.unwrap_err();
    let cas = payload(&lost).clone();
    assert_eq!(guest.call("draft2-swap", &[cas, bytes("b")]).await, Ok(unit()));
    let got = guest.call("draft-get", &[handles[0].1.clone(), key]).await;
    assert_eq!(got, Ok(some(bytes("b"))));
    let steps = [Val::U64(1), Val::S64(2), Val::S64(3)];
    for (((dialect, handle), step), sum) in handles.iter().zip(steps).zip([1_u64, 3, 6]) {
        let step = [handle.clone(), string("n"), step];
        let got = guest.call(&format!("{dialect}-increment"), &step).await.unwrap();
        match got {
            Val::U64(got) => assert_eq!(got, sum),
            Val::S64(got) => assert_eq!(got, i64::try_from(sum).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

/// No call reaches the store.
pub(crate) async fn a_store_that_fails_is_an_error_and_never_a_trap(rig: &Rig) {
    let faults = Faults::seeded(1, Odds::default());
    let stores = broken(rig, &faults);
    let mut guests = Vec::new();
    for wit in [DRAFT, DRAFT2, SPIN, WASMCLOUD] {
        let mut guest = Guest::new(wit, &stores).await;
        let b = guest.open("").await;
        // A handle of compare-and-set that was had while the store answered.
        let cas = match wit {
            DRAFT2 | SPIN => guest.call("cas-new", &[b.clone(), string("k")]).await.ok(),
            _ => None,
        };
        guests.push((wit, guest, b, cas));
    }
    faults.change(Odds { before_apply: 1000, ..Odds::default() });
    for (wit, mut guest, b, cas) in guests {
        let is_async = wit == WASMCLOUD;
        let k = [b.clone(), string("k")];
        let keys = [b.clone(), strings(&["k", "l"])];
        let pairs = list([pair(string("k"), bytes("v")), pair(string("l"), bytes("v"))]);
        let mut set = vec![b.clone(), string("k"), bytes("v")];
        let mut listed = vec![b.clone(), NONE];
        if is_async {
            set.push(NONE);
            listed.push(NONE);
        }
        let delta = if wit == DRAFT { Val::U64(1) } else { Val::S64(1) };
        let mut calls = vec![
            ("get", k.to_vec()),
            ("set", set),
            ("delete", k.to_vec()),
            ("exists", k.to_vec()),
            ("list-keys", listed),
            ("increment", vec![b.clone(), string("k"), delta]),
            ("get-many", keys.to_vec()),
            ("set-many", vec![b.clone(), pairs]),
            ("delete-many", keys.to_vec()),
        ];
        match wit {
            DRAFT2 | SPIN => calls.push(("cas-new", k.to_vec())),
            WASMCLOUD => calls.push(("current", k.to_vec())),
            _ => {}
        }
        calls.extend(cas.map(|cas| ("swap", vec![cas, bytes("v")])));
        for (name, params) in calls {
            let error = guest.call(name, &params).await.expect_err(name);
            let error = match case(&error) {
                "store-error" => payload(&error).clone(),
                _ => error,
            };
            let known = if is_async { ["store-unavailable", "timeout"] } else { ["other"; 2] };
            assert!(known.contains(&case(&error)), "{name}: {error:?}");
            assert!(is_async || !words(&error).is_empty(), "{name}: {error:?}");
        }
    }
}

/// Of a batch every key is attempted, and what failed is told.
pub(crate) async fn a_batch_that_failed_in_part_says_so(rig: &Rig) {
    let kv = rig.kv().await;
    for key in ["a", "b", "c"] {
        kv.put(&Key::parse(key).unwrap(), "v".into(), PutOpts::new()).await.unwrap();
    }
    let faults = Faults::script([(1, Fault::BeforeApply)]).only(&["kv.delete"]);
    let mut guest = Guest::new(DRAFT2, &broken(rig, &faults)).await;
    let b = guest.open("").await;
    let three = strings(&["a", "b", "c"]);
    let error = guest.call("delete-many", &[b.clone(), three]).await.unwrap_err();
    assert!(words(&error).starts_with("2 of 3 keys were deleted: "), "{error:?}");
    assert_eq!(keys(&mut guest, &b).await.len(), 1, "the others are");
}

/// A hundred keys that nobody has counted on yet, and eight that begin at once on each.
pub(crate) async fn a_race_for_a_first_increment_loses_none(rig: &Rig) {
    const HOSTS: usize = 8;
    const KEYS: usize = 100;
    let tasks = Tasks::new();
    let (sums, mut received) = tokio::sync::mpsc::unbounded_channel();
    let start = Arc::new(tokio::sync::Barrier::new(HOSTS));
    for _ in 0..HOSTS {
        let (stores, sums, start) = (rig.stores.clone(), sums.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            let mut guest = Guest::new(DRAFT2, &stores).await;
            let b = guest.open("").await;
            for key in 0..KEYS {
                start.wait().await;
                let step = [b.clone(), string(&format!("n{key}")), Val::S64(1)];
                sums.send((key, guest.call("increment", &step).await)).unwrap();
            }
        });
    }
    drop(sums);
    let mut found = vec![Vec::new(); KEYS];
    while let Some((key, sum)) = received.recv().await {
        let Ok(Val::S64(sum)) = sum else { panic!("{key}: {sum:?}") };
        found[key].push(sum);
    }
    for (key, mut sums) in found.into_iter().enumerate() {
        sums.sort_unstable();
        assert_eq!(sums, (1..=8).collect::<Vec<_>>(), "{key}");
    }
    let first = rig.kv().await.get(&Key::parse("n0").unwrap(), Read::Fresh).await.unwrap();
    assert_eq!(first.unwrap().value, "8");
}

/// Paging while every key is rewritten: none that is there throughout is missed.
pub(crate) async fn a_listing_under_rewrites_misses_none(rig: &Rig) {
    const KEYS: usize = 2500;
    let kv = rig.kv().await;
    let name = |at: usize| format!("k{at:05}");
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    let pairs = list((0..KEYS).map(|at| pair(string(&name(at)), bytes("v"))));
    assert_eq!(guest.call("set-many", &[b.clone(), pairs]).await, Ok(unit()));
    let tasks = Tasks::new();
    tasks.spawn_until_stop(async move {
        for at in (0..KEYS).cycle() {
            let key = Key::parse(name(at * 7 % KEYS)).unwrap();
            kv.put(&key, "w".into(), PutOpts::new()).await.unwrap();
            // A store that never waits would keep the thread for ever.
            tokio::task::yield_now().await;
        }
    });
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = NONE;
    loop {
        let page = guest.call("list-keys", &[b.clone(), cursor]).await.unwrap();
        let Val::List(keys) = field(&page, "keys") else { panic!("{page:?}") };
        found.extend(keys.iter().map(|key| format!("{key:?}")));
        cursor = field(&page, "cursor").clone();
        // Rewritten keys come again behind the cursor: what is asked for is that none is missed.
        if cursor == NONE || found.len() == KEYS {
            break;
        }
    }
    assert_eq!(found.len(), KEYS);
    tasks.stop(std::time::Duration::from_secs(30)).await;
}

/// More than any server takes in one message; who shares the connection hears nothing of it.
pub(crate) async fn a_value_over_what_a_message_may_have(rig: &Rig) {
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    guest.call("set", &[b.clone(), string("k"), bytes("v")]).await.unwrap();
    // As much as nats-server has it; the others may take more, and then do.
    let limit = usize::try_from(rig.backend.capabilities().value_bytes_max).unwrap();
    for over in [limit + 1, limit + 4096].into_iter().filter(|over| *over < 4 << 20) {
        let set = [b.clone(), string("k"), bytes(vec![7; over])];
        let error = guest.call("set", &set).await.unwrap_err();
        assert!(words(&error).contains("limit exceeded"), "{over}: {error:?}");
    }
    assert_eq!(guest.call("get", &[b, string("k")]).await, Ok(some(bytes("v"))));
}
