//! `wasi:keyvalue@0.2.0-draft2`, as upstream has it.

use jetbridge_core::{DeleteOpts, Key, PutOpts, Read};
use wasmtime::component::Val;

use crate::guest::*;
use crate::rig::Rig;

/// The handle in a lost swap.
fn lost(error: &Val) -> Val {
    assert_eq!(case(error), "cas-failed", "{error:?}");
    payload(error).clone()
}

pub(crate) async fn a_swap_wins_only_over_what_it_saw(rig: &Rig) {
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    let k = string("k");
    let set = |value| [b.clone(), string("k"), bytes(value)];
    guest.call("set", &set("a")).await.unwrap();

    // The snapshot is that of `new`: a write between it and the swap makes the swap fail.
    let cas = guest.call("cas-new", &[b.clone(), k.clone()]).await.unwrap();
    guest.call("set", &set("b")).await.unwrap();
    guest.call("set", &set("a")).await.unwrap();
    assert_eq!(guest.call("cas-current", std::slice::from_ref(&cas)).await, Ok(some(bytes("a"))));
    let error = guest.call("swap", &[cas, bytes("c")]).await.unwrap_err();
    // The handle that comes back has seen the latest, and wins with it.
    let cas = lost(&error);
    assert_eq!(guest.call("cas-current", std::slice::from_ref(&cas)).await, Ok(some(bytes("a"))));
    assert_eq!(guest.call("swap", &[cas.clone(), bytes("c")]).await, Ok(unit()));
    assert_eq!(guest.call("get", &[b.clone(), k.clone()]).await, Ok(some(bytes("c"))));

    // A key deleted meanwhile is a loss too, and the handle then stands for its absence.
    let cas = guest.call("cas-new", &[b.clone(), k.clone()]).await.unwrap();
    let key = Key::parse("k").unwrap();
    rig.kv().await.delete(&key, DeleteOpts::new()).await.unwrap();
    let error = guest.call("swap", &[cas, bytes("d")]).await.unwrap_err();
    let cas = lost(&error);
    assert_eq!(guest.call("cas-current", std::slice::from_ref(&cas)).await, Ok(NONE));
    assert_eq!(guest.call("swap", &[cas.clone(), bytes("d")]).await, Ok(unit()));
    assert_eq!(guest.call("get", &[b, k]).await, Ok(some(bytes("d"))));
    // A swap consumes its handle: using it again ends the guest, and not the host.
    assert!(guest.try_call("cas-current", &[cas]).await.is_err());
}

pub(crate) async fn a_swap_of_an_absent_key_creates_it(rig: &Rig) {
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    let new = [b.clone(), string("fresh")];
    let first = guest.call("cas-new", &new).await.unwrap();
    let second = guest.call("cas-new", &new).await.unwrap();
    assert_eq!(guest.call("cas-current", std::slice::from_ref(&first)).await, Ok(NONE));
    assert_eq!(guest.call("swap", &[first, bytes("1")]).await, Ok(unit()));
    let error = guest.call("swap", &[second, bytes("2")]).await.unwrap_err();
    let again = lost(&error);
    assert_eq!(guest.call("cas-current", &[again]).await, Ok(some(bytes("1"))));
    assert_eq!(guest.call("get", &new).await, Ok(some(bytes("1"))));
    let error = guest.call("cas-new", &[b, string("")]).await.unwrap_err();
    assert!(words(&error).contains("empty"), "{error:?}");
}

pub(crate) async fn counters_go_both_ways(rig: &Rig) {
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    for (delta, sum) in [(5, 5), (-8, -3), (0, -3), (i64::MAX, i64::MAX - 3)] {
        let got = guest.call("increment", &[b.clone(), string("n"), Val::S64(delta)]).await;
        assert_eq!(got, Ok(Val::S64(sum)));
    }
    let over = [b.clone(), string("n"), Val::S64(4)];
    let error = guest.call("increment", &over).await.unwrap_err();
    assert!(words(&error).contains("out of range"), "{error:?}");
    let kv = rig.kv().await;
    let entry = kv.get(&Key::parse("n").unwrap(), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(entry.value, (i64::MAX - 3).to_string());
    // A counter is a value like any other.
    guest.call("set", &[b.clone(), string("n"), bytes("40")]).await.unwrap();
    let got = guest.call("increment", &[b, string("n"), Val::S64(2)]).await;
    assert_eq!(got, Ok(Val::S64(42)));
}

pub(crate) async fn batches_are_positional(rig: &Rig) {
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    let names: Vec<String> = (0..600).map(|i| format!("k{i}")).collect();
    let pairs = names.iter().map(|key| pair(string(key), bytes(key)));
    // Of two values for one key the last one counts.
    let pairs = [pair(string("k7"), bytes("early"))].into_iter().chain(pairs);
    assert_eq!(guest.call("set-many", &[b.clone(), list(pairs)]).await, Ok(unit()));
    let odd = list((0..600).filter(|i| i % 2 == 1).map(|i| string(&format!("k{i}"))));
    assert_eq!(guest.call("delete-many", &[b.clone(), odd]).await, Ok(unit()));

    let reversed: Vec<usize> = (0..600).rev().collect();
    let asked = list(reversed.iter().map(|i| string(&names[*i])));
    let wanted = list(reversed.iter().map(|i| match i % 2 {
        0 => some(pair(string(&names[*i]), bytes(&names[*i]))),
        _ => NONE,
    }));
    assert_eq!(guest.call("get-many", &[b.clone(), asked]).await, Ok(wanted));
    assert_eq!(guest.call("get-many", &[b.clone(), list([])]).await, Ok(list([])));

    let error = guest.call("get-many", &[b.clone(), strings(&["k0", ""])]).await.unwrap_err();
    assert!(words(&error).contains("empty"), "{error:?}");
    // One bad key fails the whole before anything is written.
    let bad = list([pair(string("new"), bytes("v")), pair(string(""), bytes("v"))]);
    guest.call("set-many", &[b.clone(), bad]).await.unwrap_err();
    assert_eq!(guest.call("exists", &[b, string("new")]).await, Ok(Val::Bool(false)));
}

pub(crate) async fn cursors_are_opaque_and_checked(rig: &Rig) {
    let kv = rig.kv().await;
    for i in 0..1005 {
        let key = Key::parse(format!("k{i:05}")).unwrap();
        kv.put(&key, "v".into(), PutOpts::new()).await.unwrap();
    }
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    let page = guest.call("list-keys", &[b.clone(), NONE]).await.unwrap();
    let cursor = field(&page, "cursor").clone();
    assert_ne!(cursor, NONE, "there is more than a page");
    // A key that is there throughout is not missed, whatever is written meanwhile.
    let rewritten = Key::parse("k00003").unwrap();
    kv.put(&rewritten, "w".into(), PutOpts::new()).await.unwrap();
    let rest = guest.call("list-keys", &[b.clone(), cursor]).await.unwrap();
    let mut found = Vec::new();
    for page in [&page, &rest] {
        let Val::List(keys) = field(page, "keys") else { panic!("{page:?}") };
        found.extend(keys.iter().map(|key| format!("{key:?}")));
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 1005);
    for forged in ["", "0", "12345", "k00003", "1.0000000000000000", "\u{0}", "🦀"] {
        let cursor = some(string(forged));
        let error = guest.call("list-keys", &[b.clone(), cursor]).await.unwrap_err();
        assert!(!words(&error).is_empty(), "{forged:?}");
    }
}
