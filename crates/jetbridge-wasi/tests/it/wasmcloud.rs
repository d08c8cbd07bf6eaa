//! `wasmcloud:keyvalue@0.2.0`, whose functions are asynchronous.

use std::time::Duration;

use jetbridge_core::Support;
use jetbridge_testkit::eventually;
use wasmtime::component::Val;

use crate::guest::*;
use crate::rig::Rig;

fn conditions(version: Val, value: Val) -> Val {
    let field = |name: &str, value| (name.to_owned(), value);
    Val::Record(vec![field("require-version", version), field("require-value", value)])
}

fn options(ttl_ms: Val, only_new: bool) -> Val {
    let field = |name: &str, value| (name.to_owned(), value);
    let only_new = field("if-not-exists", Val::Bool(only_new));
    some(Val::Record(vec![field("ttl-ms", ttl_ms), only_new]))
}

/// What wash's asynchronous fixture asserts: ABA, the swap on the current version, empty
/// conditions, counters, positional batches.
pub(crate) async fn the_fixture_of_wash(rig: &Rig) {
    let mut guest = Guest::new(WASMCLOUD, &rig.stores).await;
    let b = guest.open("").await;
    let k = [b.clone(), string("k")];
    let set = |value| [b.clone(), string("k"), bytes(value), NONE];
    let swap = |value, conditions| [b.clone(), string("k"), bytes(value), conditions];
    let version = |entry: &Val| match entry {
        Val::Option(Some(entry)) => field(entry, "version").clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(guest.call("current", &k).await, Ok(NONE));
    guest.call("set", &set("a")).await.unwrap();
    let first = version(&guest.call("current", &k).await.unwrap());
    guest.call("set", &set("b")).await.unwrap();
    guest.call("set", &set("a")).await.unwrap();

    // A came back, but it is not the same A: the version tells, the value alone does not.
    let stale = guest.call("swap", &swap("c", conditions(some(first.clone()), NONE))).await;
    let stale = stale.unwrap();
    assert_eq!(case(&stale), "stale");
    let Val::Option(Some(present)) = payload(&stale) else { panic!("{stale:?}") };
    assert_eq!(field(present, "value"), &bytes("a"));
    let now = field(present, "version").clone();
    assert_ne!(now, first);
    let won = guest.call("swap", &swap("c", conditions(some(now), some(bytes("a"))))).await;
    assert_eq!(case(&won.unwrap()), "swapped");
    let won = guest.call("swap", &swap("d", conditions(NONE, some(bytes("c"))))).await;
    assert_eq!(case(&won.unwrap()), "swapped");
    let lost = guest.call("swap", &swap("e", conditions(NONE, some(bytes("c"))))).await;
    assert_eq!(case(&lost.unwrap()), "stale");
    let error = guest.call("swap", &swap("e", conditions(NONE, NONE))).await.unwrap_err();
    assert_eq!(case(&error), "invalid-argument");
    guest.call("delete", &k).await.unwrap();
    let gone = guest.call("swap", &swap("e", conditions(NONE, some(bytes("d"))))).await.unwrap();
    assert_eq!((case(&gone), payload(&gone)), ("stale", &NONE));

    for (delta, sum) in [(5, 5), (3, 8), (-10, -2)] {
        let step = [b.clone(), string("n"), Val::S64(delta)];
        assert_eq!(guest.call("increment", &step).await, Ok(Val::S64(sum)));
    }
    let pairs = list([pair(string("x"), bytes("1")), pair(string("y"), bytes("2"))]);
    guest.call("set-many", &[b.clone(), pairs]).await.unwrap();
    let values = guest.call("get-many", &[b.clone(), strings(&["y", "z", "x"])]).await;
    let found = |key, value| some(pair(string(key), bytes(value)));
    assert_eq!(values, Ok(list([found("y", "2"), NONE, found("x", "1")])));
    guest.call("delete-many", &[b.clone(), strings(&["x", "z"])]).await.unwrap();
    assert_eq!(guest.call("exists", &[b.clone(), string("x")]).await, Ok(Val::Bool(false)));
    assert_eq!(guest.call("exists", &[b, string("y")]).await, Ok(Val::Bool(true)));
}

pub(crate) async fn writes_under_conditions(rig: &Rig) {
    let mut guest = Guest::new(WASMCLOUD, &rig.stores).await;
    let b = guest.open("").await;
    let set = |value, options| [b.clone(), string("lock"), bytes(value), options];
    assert_eq!(guest.call("set", &set("me", options(NONE, true))).await, Ok(unit()));
    let error = guest.call("set", &set("you", options(NONE, true))).await.unwrap_err();
    assert_eq!(case(&error), "precondition-failed");
    let error = guest.call("set", &set("x", options(some(Val::U64(0)), false))).await.unwrap_err();
    assert_eq!(case(&error), "invalid-argument");
    let error = guest.call("get", &[b.clone(), string("")]).await.unwrap_err();
    assert_eq!(case(&error), "invalid-argument");
    let error = guest.call("open", &[string("nowhere")]).await.unwrap_err();
    assert_eq!(case(&error), "no-such-store");

    assert_ne!(rig.backend.capabilities().key_ttl, Support::No);
    guest.call("set", &set("brief", options(some(Val::U64(300)), false))).await.unwrap();
    let lock = [b, string("lock")];
    let guest = tokio::sync::Mutex::new(guest);
    eventually("the key expires", Duration::from_secs(20), async || {
        let exists = guest.lock().await.call("exists", &lock).await.unwrap();
        (exists == Val::Bool(false)).then_some(())
    })
    .await;
}

pub(crate) async fn listings_by_prefix(rig: &Rig) {
    let mut guest = Guest::new(WASMCLOUD, &rig.stores).await;
    let b = guest.open("").await;
    let names = ["a/1", "a/2", "b/1", "ab"];
    let pairs = list(names.iter().map(|key| pair(string(key), bytes(key))));
    guest.call("set-many", &[b.clone(), pairs]).await.unwrap();
    for (prefix, wanted) in [(some(string("a/")), 2), (some(string("")), 4), (NONE, 4)] {
        let page = guest.call("list-keys", &[b.clone(), prefix, NONE]).await.unwrap();
        let Val::List(keys) = field(&page, "keys") else { panic!("{page:?}") };
        assert_eq!(keys.len(), wanted);
    }
    let forged = [b, NONE, some(string("forged"))];
    let error = guest.call("list-keys", &forged).await.unwrap_err();
    assert_eq!(case(&error), "invalid-argument");
}
