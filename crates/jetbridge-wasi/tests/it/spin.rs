//! Spin's `wasi:keyvalue@0.2.0-draft2`: what its own test component asserts.

use jetbridge_wasi::Dialect;
use wasmtime::component::Val;

use crate::guest::*;
use crate::rig::Rig;

pub(crate) async fn the_component_of_spin(rig: &Rig) {
    rig.stores.add("forbidden", rig.link("forbidden"));
    let mut guest = Guest::granted(SPIN, &rig.stores, &["default"]).await;
    for forbidden in ["forbidden", "nobody has made this one"] {
        let error = guest.call("open", &[string(forbidden)]).await.unwrap_err();
        assert_eq!(case(&error), "access-denied", "{forbidden}");
    }
    let b = guest.open("default").await;
    let bar = [b.clone(), string("bar")];
    guest.call("delete", &bar).await.unwrap();
    assert_eq!(guest.call("exists", &bar).await, Ok(Val::Bool(false)));
    assert_eq!(guest.call("get", &bar).await, Ok(NONE));
    guest.call("set", &[b.clone(), string("bar"), bytes("baz")]).await.unwrap();
    assert_eq!(guest.call("exists", &bar).await, Ok(Val::Bool(true)));
    assert_eq!(guest.call("get", &bar).await, Ok(some(bytes("baz"))));
    guest.call("set", &[b.clone(), string("bar"), bytes("wow")]).await.unwrap();
    assert_eq!(guest.call("get", &bar).await, Ok(some(bytes("wow"))));
    assert_eq!(keys(&mut guest, &b).await, ["bar"]);
    let error = guest.call("list-keys", &[b.clone(), some(string("0"))]).await.unwrap_err();
    assert!(!words(&error).is_empty());
    guest.call("delete", &bar).await.unwrap();
    assert_eq!(keys(&mut guest, &b).await, [""; 0]);

    let pairs = list([pair(string("bar"), bytes("bin")), pair(string("alice"), bytes("bob"))]);
    guest.call("set-many", &[b.clone(), pairs]).await.unwrap();
    let asked = strings(&["alice", "nobody", "bar"]);
    let values = guest.call("get-many", &[b.clone(), asked.clone()]).await;
    let found = |key, value| pair(string(key), some(bytes(value)));
    let nobody = pair(string("nobody"), NONE);
    let wanted = [found("alice", "bob"), nobody.clone(), found("bar", "bin")];
    assert_eq!(values, Ok(list(wanted)));
    guest.call("delete-many", &[b.clone(), asked.clone()]).await.unwrap();
    let values = guest.call("get-many", &[b.clone(), asked]).await;
    let none = |key| pair(string(key), NONE);
    assert_eq!(values, Ok(list([none("alice"), nobody, none("bar")])));

    let new = [b.clone(), string("counter")];
    for sum in [10, 20] {
        let step = [b.clone(), string("counter"), Val::S64(10)];
        assert_eq!(guest.call("increment", &step).await, Ok(Val::S64(sum)));
    }
    guest.call("delete", &new).await.unwrap();
    let cas = guest.call("cas-new", &bar).await.unwrap();
    guest.call("set", &[b.clone(), string("bar"), bytes("a")]).await.unwrap();
    let error = guest.call("swap", &[cas, bytes("b")]).await.unwrap_err();
    let cas = payload(&error).clone();
    assert_eq!(guest.call("cas-current", std::slice::from_ref(&cas)).await, Ok(some(bytes("a"))));
    guest.call("swap", &[cas, bytes("b")]).await.unwrap();
    assert_eq!(guest.call("get", &bar).await, Ok(some(bytes("b"))));
    assert_eq!(Dialect::SpinDraft2.to_string(), "wasi:keyvalue@0.2.0-draft2 (Spin)");
}

/// 256 values of 1 MiB, or of as much as the store takes, in one answer.
pub(crate) async fn an_answer_of_256_mib_is_refused(rig: &Rig) {
    let most = usize::try_from(rig.backend.capabilities().value_bytes_max).unwrap();
    let mut guest = Guest::new(SPIN, &rig.stores).await;
    let b = guest.open("").await;
    let large = bytes(vec![7; most.min(1 << 20)]);
    guest.call("set", &[b.clone(), string("large"), large]).await.unwrap();
    let asked = list(vec![string("large"); 256]);
    let error = guest.call("get-many", &[b.clone(), asked]).await.unwrap_err();
    assert!(words(&error).contains("over the limit of 67108864 bytes"), "{error:?}");
    assert_eq!(guest.call("exists", &[b, string("large")]).await, Ok(Val::Bool(true)));
}
