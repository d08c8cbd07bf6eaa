//! Which dialects of wasi:keyvalue a component speaks, told from its own imports.
//!
//! Two incompatible packages are both called `wasi:keyvalue@0.2.0-draft2`: Spin's answers
//! `batch.get-many` with a pair for each key, upstream's with an optional pair. The type that the
//! component imports tells them apart.

use std::collections::BTreeSet;
use std::fmt;

use jetbridge_core::{Error, ErrorKind, Result};
use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Type};

/// One dialect.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Dialect {
    /// `wasi:keyvalue@0.2.0-draft`, of wasmtime and wasmCloud.
    Draft,
    /// `wasi:keyvalue@0.2.0-draft2`, as upstream has it.
    Draft2,
    /// `wasi:keyvalue@0.2.0-draft2`, as Spin has it.
    SpinDraft2,
    /// `wasmcloud:keyvalue@0.2.0`, whose functions are asynchronous.
    WasmCloud,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Draft2, Self::SpinDraft2, Self::WasmCloud];

    /// Its name, as people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "wasi:keyvalue@0.2.0-draft",
            Self::Draft2 => "wasi:keyvalue@0.2.0-draft2",
            Self::SpinDraft2 => "wasi:keyvalue@0.2.0-draft2 (Spin)",
            Self::WasmCloud => "wasmcloud:keyvalue@0.2.0",
        }
    }

    /// The name of its interface `interface`, as components import it.
    pub(crate) fn interface(self, interface: &str) -> String {
        match self {
            Self::Draft => format!("wasi:keyvalue/{interface}@0.2.0-draft"),
            Self::Draft2 | Self::SpinDraft2 => format!("wasi:keyvalue/{interface}@0.2.0-draft2"),
            Self::WasmCloud => format!("wasmcloud:keyvalue/{interface}@0.2.0"),
        }
    }

    fn interfaces(self) -> &'static [&'static str] {
        match self {
            Self::WasmCloud => &["types", "store", "atomics", "cas", "batch", "watcher"],
            _ => &["store", "atomics", "batch", "watcher"],
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Dialects that one linker serves. Upstream's and Spin's second draft have one name, so a linker
/// has one or the other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dialects(BTreeSet<Dialect>);

impl Dialects {
    /// These.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if both second drafts are among them.
    pub fn new(dialects: impl IntoIterator<Item = Dialect>) -> Result<Self> {
        let dialects: BTreeSet<_> = dialects.into_iter().collect();
        if dialects.contains(&Dialect::Draft2) && dialects.contains(&Dialect::SpinDraft2) {
            return Err(Error::new(ErrorKind::InvalidInput, "wasi.link").because(
                "upstream's and Spin's draft2 have one name: a linker serves one of them",
            ));
        }
        Ok(Self(dialects))
    }

    /// Those that `component` imports; none if it does not use wasi:keyvalue.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if it imports a dialect, or an interface of one,
    /// that is not here; the error names the import and the dialects that are.
    pub fn of(component: &Component, engine: &Engine) -> Result<Self> {
        let mut found = BTreeSet::new();
        let mut spin = false;
        let ty = component.component_type();
        for (name, import) in ty.imports(engine) {
            if !name.starts_with("wasi:keyvalue/") && !name.starts_with("wasmcloud:keyvalue/") {
                continue;
            }
            found.insert(named(name).ok_or_else(|| unknown(name))?);
            if let ComponentItem::ComponentInstance(instance) = &import.ty {
                spin |= name == Dialect::Draft2.interface("batch") && is_spin(instance, engine);
            }
        }
        if spin && found.remove(&Dialect::Draft2) {
            found.insert(Dialect::SpinDraft2);
        }
        Ok(Self(found))
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = Dialect> + '_ {
        self.0.iter().copied()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn named(import: &str) -> Option<Dialect> {
    [Dialect::Draft, Dialect::Draft2, Dialect::WasmCloud].into_iter().find(|dialect| {
        dialect.interfaces().iter().any(|interface| dialect.interface(interface) == import)
    })
}

fn unknown(import: &str) -> Error {
    let known: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.as_str()).collect();
    Error::new(ErrorKind::Unsupported, "wasi.link")
        .because("the component imports an interface of a dialect that is not here")
        .with("import", import)
        .with("dialects", known.join(", "))
        .hint("build the component against one of these dialects")
}

/// True if `get-many` answers with a pair for each key instead of an optional pair.
fn is_spin(batch: &ComponentInstance, engine: &Engine) -> bool {
    let get_many = batch.exports(engine).find(|(name, _)| *name == "get-many");
    let Some((_, export)) = get_many else { return false };
    let ComponentItem::ComponentFunc(get_many) = export.ty else { return false };
    let Some(Type::Result(result)) = get_many.results().next() else { return false };
    let Some(Type::List(list)) = result.ok() else { return false };
    matches!(list.ty(), Type::Tuple(_))
}
