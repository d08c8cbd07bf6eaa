//! A pass-through component on a store, and words to speak to it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use jetbridge_wasi::{Dialects, Grants, Keyvalue, KeyvalueCtx, Stores, add_to_linker};
use wasmtime::component::{Component, Instance, Linker, ResourceTable, Val};
use wasmtime::{Config, Engine, Store};

use crate::assemble::pass_through;

/// The packages of the four dialects, each with a world that passes all of it through.
pub(crate) const DRAFT: &str = include_str!("wit/draft.wit");
pub(crate) const DRAFT2: &str = include_str!("wit/draft2.wit");
pub(crate) const SPIN: &str = include_str!("wit/spin.wit");
pub(crate) const WASMCLOUD: &str = include_str!("wit/wasmcloud.wit");
/// A package whose world speaks three of them.
pub(crate) const SEVERAL: &str = include_str!("wit/several.wit");

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    Engine::new(&config).unwrap()
});

/// Compiled once for all tests of the process.
fn compiled(wit: &'static str) -> Component {
    static COMPILED: LazyLock<Mutex<HashMap<&'static str, Component>>> =
        LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap();
    compiled
        .entry(wit)
        .or_insert_with(|| Component::new(&ENGINE, pass_through(wit)).unwrap())
        .clone()
}

/// What a watcher was told of: a key, and its value if it was set.
pub(crate) type Told = (String, Option<Bytes>);

pub(crate) struct Host {
    pub(crate) keyvalue: KeyvalueCtx,
    pub(crate) table: ResourceTable,
    pub(crate) log: Arc<Mutex<Vec<Told>>>,
}

impl Host {
    pub(crate) fn new(keyvalue: KeyvalueCtx) -> Self {
        Self { keyvalue, table: ResourceTable::new(), log: Arc::default() }
    }

    pub(crate) fn view(&mut self) -> Keyvalue<'_> {
        Keyvalue::new(&self.keyvalue, &mut self.table)
    }
}

/// A component that runs.
pub(crate) struct Guest {
    pub(crate) store: Store<Host>,
    instance: Instance,
}

impl Guest {
    pub(crate) async fn new(wit: &'static str, stores: &Stores) -> Self {
        Self::with(wit, KeyvalueCtx::new(stores.clone())).await
    }

    pub(crate) async fn granted(wit: &'static str, stores: &Stores, only: &[&str]) -> Self {
        let grants = Grants::only(only.iter().copied());
        Self::with(wit, KeyvalueCtx::new(stores.clone()).grants(grants)).await
    }

    pub(crate) async fn with(wit: &'static str, ctx: KeyvalueCtx) -> Self {
        let component = compiled(wit);
        let dialects = Dialects::of(&component, &ENGINE).unwrap();
        let mut linker = Linker::new(&ENGINE);
        add_to_linker(&mut linker, &dialects, Host::view).unwrap();
        let mut store = Store::new(&ENGINE, Host::new(ctx));
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        Self { store, instance }
    }

    /// Calls the export `name`, and returns its result.
    pub(crate) async fn call(&mut self, name: &str, params: &[Val]) -> Result<Val, Val> {
        self.try_call(name, params).await.unwrap_or_else(|trap| panic!("{name}: {trap:?}"))
    }

    /// As [`Guest::call`], telling of a trap.
    pub(crate) async fn try_call(
        &mut self,
        name: &str,
        params: &[Val],
    ) -> wasmtime::Result<Result<Val, Val>> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let mut results = [Val::Bool(false)];
        function.call_async(&mut self.store, params, &mut results).await?;
        let [Val::Result(result)] = results else { panic!("{name} has no result") };
        let unit = || Val::Tuple(Vec::new());
        Ok(match result {
            Ok(value) => Ok(value.map_or_else(unit, |it| *it)),
            Err(error) => Err(error.map_or_else(unit, |it| *it)),
        })
    }

    pub(crate) async fn open(&mut self, identifier: &str) -> Val {
        self.call("open", &[string(identifier)]).await.unwrap()
    }
}

pub(crate) fn string(text: &str) -> Val {
    Val::String(text.to_owned())
}

pub(crate) fn bytes(bytes: impl AsRef<[u8]>) -> Val {
    Val::List(bytes.as_ref().iter().map(|byte| Val::U8(*byte)).collect())
}

pub(crate) fn some(value: Val) -> Val {
    Val::Option(Some(Box::new(value)))
}

pub(crate) const NONE: Val = Val::Option(None);

pub(crate) fn list(values: impl IntoIterator<Item = Val>) -> Val {
    Val::List(values.into_iter().collect())
}

pub(crate) fn strings(texts: &[&str]) -> Val {
    list(texts.iter().map(|text| string(text)))
}

pub(crate) fn pair(a: Val, b: Val) -> Val {
    Val::Tuple(vec![a, b])
}

pub(crate) fn unit() -> Val {
    Val::Tuple(Vec::new())
}

pub(crate) fn field<'a>(record: &'a Val, name: &str) -> &'a Val {
    let Val::Record(fields) = record else { panic!("{record:?} is no record") };
    &fields.iter().find(|(known, _)| known == name).unwrap().1
}

/// A case without, or whatever is in it.
pub(crate) fn case(variant: &Val) -> &str {
    let Val::Variant(case, _) = variant else { panic!("{variant:?} is no variant") };
    case
}

/// What is in a case.
pub(crate) fn payload(variant: &Val) -> &Val {
    let Val::Variant(_, Some(payload)) = variant else { panic!("{variant:?} has nothing in it") };
    payload
}

/// The words of an error `other`.
pub(crate) fn words(error: &Val) -> &str {
    assert_eq!(case(error), "other", "{error:?}");
    let Val::String(text) = payload(error) else { panic!("{error:?} has no words") };
    text
}

/// The keys of a listing, page by page.
pub(crate) async fn keys(guest: &mut Guest, bucket: &Val) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), NONE);
    loop {
        let page = guest.call("list-keys", &[bucket.clone(), cursor]).await.unwrap();
        let Val::List(keys) = field(&page, "keys") else { panic!("{page:?}") };
        found.extend(keys.iter().map(|key| match key {
            Val::String(key) => key.clone(),
            other => panic!("{other:?}"),
        }));
        cursor = field(&page, "cursor").clone();
        if cursor == NONE {
            found.sort();
            return found;
        }
    }
}
