//! A component that exports `watcher` is told of changes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use jetbridge_core::{Change, DeleteOpts, Key, PutOpts, Start};
use jetbridge_wasi::{Dialect, Dialects, KeyvalueCtx, Link, Watched, Watcher, add_to_linker};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use crate::assemble::{RUNTIME, component};
use crate::guest::{DRAFT, ENGINE, Host};
use crate::rig::Rig;

const W: &str = "wasi:keyvalue/watcher@0.2.0-draft";
const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";

/// Tells its log of what it is told, and lets go of the handle.
fn watcher() -> Component {
    let wat = format!(
        r#"(module
          (import "$root" "log-set" (func $set (param i32 i32 i32 i32)))
          (import "$root" "log-delete" (func $deleted (param i32 i32)))
          (import "{STORE}" "[resource-drop]bucket" (func $drop (param i32)))
          {RUNTIME}
          (func (export "{W}#on-set") (param i32 i32 i32 i32 i32)
            (call $set (local.get 1) (local.get 2) (local.get 3) (local.get 4))
            (call $drop (local.get 0)) (global.set $brk (i32.const 1024)))
          (func (export "{W}#on-delete") (param i32 i32 i32)
            (call $deleted (local.get 1) (local.get 2))
            (call $drop (local.get 0)) (global.set $brk (i32.const 1024))))"#
    );
    Component::new(&ENGINE, component(DRAFT, "watch", &wat)).unwrap()
}

pub(crate) async fn changes_reach_the_guest_in_order(rig: &Rig) {
    let component = watcher();
    assert_eq!(Watcher::dialect(&component, &ENGINE), Some(Dialect::Draft));
    let mut linker = Linker::<Host>::new(&ENGINE);
    let dialects = Dialects::of(&component, &ENGINE).unwrap();
    add_to_linker(&mut linker, &dialects, Host::view).unwrap();
    let mut log = linker.root();
    log.func_wrap("log-set", |cx, (key, value): (String, Bytes)| {
        cx.data().log.lock().unwrap().push((key, Some(value)));
        Ok(())
    })
    .unwrap();
    log.func_wrap("log-delete", |cx, (key,): (String,)| {
        cx.data().log.lock().unwrap().push((key, None));
        Ok(())
    })
    .unwrap();

    let ctx = KeyvalueCtx::new(rig.stores.clone());
    let mut store = Store::new(&ENGINE, Host::new(ctx.clone()));
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    let watcher = Watcher::of(&mut store, &instance).unwrap().unwrap();
    let watched = Watched::open(&ctx, "").await.unwrap();
    let mut changes = watched.changes(Start::Now).unwrap();
    assert_eq!(changes.next().await.unwrap().unwrap(), Change::CaughtUp);

    let kv = rig.kv().await;
    let (a, b) = (Key::parse("a").unwrap(), Key::parse("b c").unwrap());
    let mut expected = Vec::new();
    for round in 0..3 {
        let value = Bytes::from(format!("{round}"));
        for (key, value) in [(&a, Some(value.clone())), (&a, None), (&b, Some(value))] {
            match value.clone() {
                Some(value) => drop(kv.put(key, value, PutOpts::new()).await.unwrap()),
                None => drop(kv.delete(key, DeleteOpts::new()).await.unwrap()),
            }
            let change = changes.next().await.unwrap().unwrap();
            watcher.deliver(&mut store, Host::view, &watched, change).await.unwrap();
            expected.push((key.as_str().to_owned(), value));
        }
    }
    assert_eq!(*store.data().log.lock().unwrap(), expected);
    assert!(store.data().table.is_empty(), "every handle was let go of");
    let absent = Watched::open(&ctx, "nowhere").await.unwrap_err();
    assert_eq!(absent.kind(), jetbridge_core::ErrorKind::NotFound);
}

pub(crate) async fn a_link_that_is_taken_away_tells_nothing_more(rig: &Rig) {
    let ctx = KeyvalueCtx::new(rig.stores.clone());
    let kv = rig.kv().await;
    for is_replaced in [false, true] {
        let watched = Watched::open(&ctx, "").await.unwrap();
        let mut changes = watched.changes(Start::Now).unwrap();
        assert_eq!(changes.next().await.unwrap().unwrap(), Change::CaughtUp);
        if !is_replaced {
            assert!(rig.stores.remove(""));
        }
        rig.stores.add("", Link::new(Arc::clone(&rig.backend), rig.bucket.clone()));
        kv.put(&Key::parse("later").unwrap(), "v".into(), PutOpts::new()).await.unwrap();
        let ended = changes.next().await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), jetbridge_core::ErrorKind::NotFound, "replaced: {is_replaced}");
        assert!(changes.next().await.is_none());
    }
}
