//! What guests and other programs do to a bucket: an error to read, never a trap.

use jetbridge_core::{BucketSpec, DeleteOpts, Key, PutOpts};
use jetbridge_wasi::KeyvalueCtx;
use wasmtime::component::Val;

use crate::guest::*;
use crate::rig::Rig;

pub(crate) async fn keys_of_every_kind(rig: &Rig) {
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let b = guest.open("").await;
    let long = "é".repeat(512);
    let legal = [
        ".",
        "..",
        "a..b",
        ".a",
        "a.",
        "*",
        ">",
        "a.*",
        "a.>",
        " ",
        "a b",
        "\t",
        "\n",
        "\0",
        "\r\n",
        "user:1",
        "user:1 é",
        "=",
        "=41",
        "=ZZ",
        "$KV.x",
        "_INBOX",
        "/",
        "//",
        "🦀",
        "\u{202e}",
        "%00",
        &long,
    ];
    for key in legal {
        let set = [b.clone(), string(key), bytes(key)];
        assert_eq!(guest.call("set", &set).await, Ok(unit()), "{key:?}");
        let got = guest.call("get", &[b.clone(), string(key)]).await;
        assert_eq!(got, Ok(some(bytes(key))), "{key:?}");
    }
    let mut wanted: Vec<_> = legal.iter().map(|key| (*key).to_owned()).collect();
    wanted.sort();
    assert_eq!(keys(&mut guest, &b).await, wanted);
    let many = list(legal.iter().map(|key| string(key)));
    let all = list(legal.iter().map(|key| some(pair(string(key), bytes(key)))));
    assert_eq!(guest.call("get-many", &[b.clone(), many.clone()]).await, Ok(all));
    assert_eq!(guest.call("delete-many", &[b.clone(), many]).await, Ok(unit()));
    assert_eq!(keys(&mut guest, &b).await, [""; 0]);

    let over = "x".repeat(1025);
    for key in ["", &*over] {
        for name in ["get", "delete", "exists"] {
            let error = guest.call(name, &[b.clone(), string(key)]).await.unwrap_err();
            assert!(words(&error).contains("the name"), "{name}: {error:?}");
        }
        let set = [b.clone(), string(key), bytes("v")];
        words(&guest.call("set", &set).await.unwrap_err());
        let increment = [b.clone(), string(key), Val::U64(1)];
        words(&guest.call("increment", &increment).await.unwrap_err());
    }
}

pub(crate) async fn values_over_the_limit(rig: &Rig) {
    let mut spec = BucketSpec::default();
    spec.max_value_bytes = Some(1000);
    rig.stores.add("small", rig.link("small").create(spec));
    let mut guest = Guest::new(DRAFT, &rig.stores).await;
    let b = guest.open("small").await;
    let big = [b.clone(), string("k"), bytes(vec![7; 1001])];
    let error = guest.call("set", &big).await.unwrap_err();
    assert!(words(&error).contains("limit exceeded"), "{error:?}");
    // What is over the limit does not hold up the rest of a batch, and is not lost in it.
    let mixed = list([pair(string("big"), bytes(vec![7; 1001])), pair(string("ok"), bytes("v"))]);
    let error = guest.call("set-many", &[b.clone(), mixed]).await.unwrap_err();
    assert!(words(&error).starts_with("1 of 2 keys were set: "), "{error:?}");
    assert_eq!(guest.call("get", &[b.clone(), string("ok")]).await, Ok(some(bytes("v"))));
    let fits = [b, string("k"), bytes(vec![7; 900])];
    assert_eq!(guest.call("set", &fits).await, Ok(unit()));
}

pub(crate) async fn counters_that_are_no_numbers(rig: &Rig) {
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    let texts = ["", "x", " 1", "1 ", "+1", "1.0", "0x10", "9223372036854775808", "\u{0}", "١"];
    for text in texts {
        guest.call("set", &[b.clone(), string("n"), bytes(text)]).await.unwrap();
        let increment = [b.clone(), string("n"), Val::S64(1)];
        let error = guest.call("increment", &increment).await.unwrap_err();
        assert!(words(&error).contains("not a number"), "{text:?}: {error:?}");
        let still = guest.call("get", &[b.clone(), string("n")]).await;
        assert_eq!(still, Ok(some(bytes(text))));
    }
}

pub(crate) async fn tombstones_are_absent(rig: &Rig) {
    let kv = rig.kv().await;
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("").await;
    for with_history in [false, true] {
        let key = Key::parse("t").unwrap();
        kv.put(&key, "9".into(), PutOpts::new()).await.unwrap();
        let opts = DeleteOpts::new();
        let opts = if with_history { opts.with_history() } else { opts };
        kv.delete(&key, opts).await.unwrap();
        assert_eq!(guest.call("exists", &[b.clone(), string("t")]).await, Ok(Val::Bool(false)));
        let step = [b.clone(), string("t"), Val::S64(4)];
        assert_eq!(guest.call("increment", &step).await, Ok(Val::S64(4)));
        kv.delete(&key, opts).await.unwrap();
        let cas = guest.call("cas-new", &[b.clone(), string("t")]).await.unwrap();
        assert_eq!(guest.call("swap", &[cas, bytes("1")]).await, Ok(unit()));
    }
}

/// A bucket that others made for themselves is used as it is, and not changed.
pub(crate) async fn a_bucket_with_foreign_settings(rig: &Rig) {
    let mut spec = BucketSpec::default();
    (spec.history, spec.description) = (9, Some("theirs".to_owned()));
    let link = rig.link("foreign").create(BucketSpec::default());
    let kind = jetbridge_core::BucketKind::Kv;
    rig.backend.create_bucket(kind, link.bucket(), &spec).await.unwrap();
    let name = link.bucket().clone();
    rig.stores.add("foreign", link);
    let mut guest = Guest::new(DRAFT2, &rig.stores).await;
    let b = guest.open("foreign").await;
    for i in 0..5 {
        let set = [b.clone(), string("k"), bytes(format!("{i}"))];
        guest.call("set", &set).await.unwrap();
    }
    assert_eq!(keys(&mut guest, &b).await, ["k"]);
    assert_eq!(rig.backend.bucket(kind, &name).await.unwrap().spec.history, 9);
}

pub(crate) async fn a_result_over_the_limit_is_refused(rig: &Rig) {
    let ctx = KeyvalueCtx::new(rig.stores.clone()).result_bytes_max(10_000);
    let mut guest = Guest::with(SPIN, ctx).await;
    let b = guest.open("").await;
    guest.call("set", &[b.clone(), string("k"), bytes(vec![1; 4000])]).await.unwrap();
    let many = |times: usize| list(vec![string("k"); times]);
    assert!(guest.call("get-many", &[b.clone(), many(2)]).await.is_ok());
    let error = guest.call("get-many", &[b.clone(), many(3)]).await.unwrap_err();
    assert!(words(&error).contains("over the limit of 10000 bytes"), "{error:?}");
    guest.call("set", &[b.clone(), string("k"), bytes(vec![1; 10_001])]).await.unwrap();
    let error = guest.call("get", &[b, string("k")]).await.unwrap_err();
    assert!(words(&error).contains("over the limit of 10000 bytes"), "{error:?}");
}

/// What a handle of compare-and-set has seen is in the host's memory.
pub(crate) async fn handles_hold_no_more_than_an_answer_may_have(rig: &Rig) {
    const KIB: usize = 1024;
    let ctx = KeyvalueCtx::new(rig.stores.clone()).result_bytes_max(100 * KIB);
    let mut guest = Guest::with(DRAFT2, ctx).await;
    let b = guest.open("").await;
    let key = [b.clone(), string("large")];
    guest.call("set", &[b.clone(), string("large"), bytes([7; 30 * KIB])]).await.unwrap();
    let mut handles = Vec::new();
    for _ in 0..3 {
        handles.push(guest.call("cas-new", &key).await.unwrap());
    }
    let error = guest.call("cas-new", &key).await.unwrap_err();
    assert!(words(&error).contains("over the limit of 102400 bytes"), "{error:?}");
    let handle = handles.pop().unwrap();
    assert_eq!(guest.call("swap", &[handle, bytes("small")]).await, Ok(unit()));
    guest.call("cas-new", &key).await.unwrap();
}
