//! `wasi:keyvalue@0.2.0-draft`.

use jetbridge_core::{Key, PutOpts};
use wasmtime::component::Val;

use crate::guest::*;
use crate::rig::Rig;

/// What wasmtime's own test program asserts.
pub(crate) async fn the_conformance_program_of_wasmtime(rig: &Rig) {
    let preset = Key::parse("atomics_key").unwrap();
    rig.kv().await.put(&preset, "5".into(), PutOpts::new()).await.unwrap();
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let b = guest.open("").await;

    let sum = guest.call("increment", &[b.clone(), string("atomics_key"), Val::U64(1)]).await;
    assert_eq!(sum, Ok(Val::U64(6)));
    let listed = guest.call("list-keys", &[b.clone(), NONE]).await.unwrap();
    assert_eq!(field(&listed, "keys"), &strings(&["atomics_key"]));
    assert_eq!(field(&listed, "cursor"), &NONE);

    let hello = string("hello");
    let key = [b.clone(), hello.clone()];
    assert_eq!(guest.call("set", &[b.clone(), hello.clone(), bytes("world")]).await, Ok(unit()));
    assert_eq!(guest.call("get", &key).await, Ok(some(bytes("world"))));
    assert_eq!(guest.call("exists", &key).await, Ok(Val::Bool(true)));
    assert_eq!(guest.call("delete", &key).await, Ok(unit()));
    assert_eq!(guest.call("delete", &key).await, Ok(unit()));
    assert_eq!(guest.call("get", &key).await, Ok(NONE));
    assert_eq!(guest.call("exists", &key).await, Ok(Val::Bool(false)));

    let pairs = |texts: &[&str]| list(texts.iter().map(|k| pair(string(k), bytes(k))));
    assert_eq!(guest.call("set-many", &[b.clone(), pairs(&["a1", "b1", "c1"])]).await, Ok(unit()));
    let gone = strings(&["a1", "c1"]);
    assert_eq!(guest.call("delete-many", &[b.clone(), gone]).await, Ok(unit()));
    let values = guest.call("get-many", &[b, strings(&["a1", "b1", "c1"])]).await;
    assert_eq!(values, Ok(list([NONE, some(pair(string("b1"), bytes("b1"))), NONE])));
}

/// What the reactor of wasmCloud v1 asserts: a preset key, and the order of `get-many`.
pub(crate) async fn the_reactor_of_wasmcloud_v1(rig: &Rig) {
    rig.kv()
        .await
        .put(&Key::parse("greeting").unwrap(), "bar".into(), PutOpts::new())
        .await
        .unwrap();
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let b = guest.open("default").await;
    assert_eq!(guest.call("get", &[b.clone(), string("greeting")]).await, Ok(some(bytes("bar"))));
    for (key, sum) in [("counter", 1), ("counter", 2), ("other", 1)] {
        let got = guest.call("increment", &[b.clone(), string(key), Val::U64(1)]).await;
        assert_eq!(got, Ok(Val::U64(sum)), "{key}");
    }
    let asked = strings(&["other", "greeting", "absent", "counter", "greeting"]);
    let found = |key, value| some(pair(string(key), bytes(value)));
    let (greeting, other, counter) =
        (found("greeting", "bar"), found("other", "1"), found("counter", "2"));
    let answer = guest.call("get-many", &[b, asked]).await;
    assert_eq!(answer, Ok(list([other, greeting.clone(), NONE, counter, greeting])));
}

pub(crate) async fn pages_end_and_forged_cursors_are_refused(rig: &Rig) {
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let b = guest.open("").await;
    let wanted: Vec<String> = (0..1003).map(|i| format!("k/{i:04}")).collect();
    let pairs = list(wanted.iter().map(|key| pair(string(key), bytes("v"))));
    assert_eq!(guest.call("set-many", &[b.clone(), pairs]).await, Ok(unit()));
    let mut found = keys(&mut guest, &b).await;
    found.dedup();
    assert_eq!(found, wanted);
    for forged in [0, 1, 1000, u64::MAX] {
        let cursor = some(Val::U64(forged));
        let error = guest.call("list-keys", &[b.clone(), cursor]).await.unwrap_err();
        assert!(words(&error).contains("no cursor of this store"), "{error:?}");
    }
}

/// The dialect's numbers are unsigned: what cannot be told is not done either.
pub(crate) async fn counters_never_go_negative(rig: &Rig) {
    let kv = rig.kv().await;
    let key = Key::parse("n").unwrap();
    kv.put(&key, "-5".into(), PutOpts::new()).await.unwrap();
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let b = guest.open("").await;
    let increment = |delta| [b.clone(), string("n"), Val::U64(delta)];
    let error = guest.call("increment", &increment(3)).await.unwrap_err();
    assert!(words(&error).contains("out of range"), "{error:?}");
    let still = kv.get(&key, jetbridge_core::Read::Fresh).await.unwrap().unwrap();
    assert_eq!(still.value, "-5", "a failed call has no effect");
    assert_eq!(guest.call("increment", &increment(7)).await, Ok(Val::U64(2)));
    let error = guest.call("increment", &increment(u64::MAX)).await.unwrap_err();
    assert!(words(&error).contains("out of the range"), "{error:?}");
    let error = guest.call("increment", &increment(i64::MAX as u64)).await.unwrap_err();
    assert!(words(&error).contains("out of range"), "{error:?}");
}
