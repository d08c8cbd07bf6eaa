//! Changes of a bucket, delivered to a component that exports `watcher`.
//!
//! The interface has no answer and so no acknowledgement: a change is delivered once for each
//! time the store tells of it, in the order of its key. Whoever runs the guest decides what
//! becomes of a guest that traps.

use std::fmt;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use jetbridge_core::{Change, Error, ErrorKind, Result, Start};
use wasmtime::component::{Component, Instance, Resource, TypedFunc};
use wasmtime::{AsContextMut, Engine, Store};

use crate::bucket::Bucket;
use crate::ctx::{KeyvalueCtx, View};
use crate::dialect::Dialect;
use crate::fault::Fault;

/// The dialects in which a component may export `watcher`.
const DIALECTS: [Dialect; 3] = [Dialect::Draft, Dialect::Draft2, Dialect::WasmCloud];

/// The store `identifier` as a watcher sees it: its changes, and the handle that goes with each.
#[derive(Debug)]
pub struct Watched {
    identifier: String,
    bucket: Bucket,
}

impl Watched {
    /// Opens the store `identifier` of `ctx`.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none, or what the store answers.
    pub async fn open(ctx: &KeyvalueCtx, identifier: &str) -> Result<Self> {
        let bucket = ctx.open(identifier).await.map_err(|fault| refused(identifier, fault))?;
        Ok(Self { identifier: identifier.to_owned(), bucket })
    }

    /// Its identifier.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// Every change from `start` on.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if its link was taken away.
    pub fn changes(&self, start: Start) -> Result<BoxStream<'static, Result<Change>>> {
        self.bucket.watch(start).map_err(|fault| refused(&self.identifier, fault))
    }
}

fn refused(identifier: &str, fault: Fault) -> Error {
    let (kind, words) = match fault {
        Fault::NoSuchStore => (ErrorKind::NotFound, "no-such-store".to_owned()),
        Fault::AccessDenied => (ErrorKind::PermissionDenied, "access-denied".to_owned()),
        Fault::InvalidArgument(text) => (ErrorKind::InvalidInput, text),
        Fault::Quota(text) => (ErrorKind::LimitExceeded, text),
        Fault::Unavailable(text) | Fault::Other(text) => (ErrorKind::Unavailable, text),
        Fault::PreconditionFailed => (ErrorKind::Conflict, "precondition-failed".to_owned()),
    };
    Error::new(kind, "wasi.watch").because(words).with("store", format!("{identifier:?}"))
}

/// The `watcher` that an instance exports.
#[derive(Clone, Copy)]
pub struct Watcher {
    on_set: TypedFunc<(Resource<Bucket>, String, Bytes), ()>,
    on_delete: TypedFunc<(Resource<Bucket>, String), ()>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Watcher {
    /// The dialect in which `component` exports `watcher`, if it does.
    pub fn dialect(component: &Component, engine: &Engine) -> Option<Dialect> {
        let ty = component.component_type();
        let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
        DIALECTS.into_iter().find(|it| exports.contains(&it.interface("watcher").as_str()))
    }

    /// The export of `instance`, `None` if it has none.
    ///
    /// # Errors
    /// An export of the name that has other functions.
    pub fn of(mut store: impl AsContextMut, instance: &Instance) -> wasmtime::Result<Option<Self>> {
        for dialect in DIALECTS {
            let name = dialect.interface("watcher");
            let Some(watcher) = instance.get_export_index(&mut store, None, &name) else {
                continue;
            };
            let mut find = |function: &str| {
                let found = instance.get_export_index(&mut store, Some(&watcher), function);
                found.ok_or_else(|| wasmtime::format_err!("`{name}` exports no `{function}`"))
            };
            let (on_set, on_delete) = (find("on-set")?, find("on-delete")?);
            return Ok(Some(Self {
                on_set: instance.get_typed_func(&mut store, on_set)?,
                on_delete: instance.get_typed_func(&mut store, on_delete)?,
            }));
        }
        Ok(None)
    }

    /// Tells the guest of `change`; of [`Change::CaughtUp`] it is told nothing.
    ///
    /// # Errors
    /// The guest's trap, after which its instance is of no more use.
    pub async fn deliver<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        view: View<T>,
        watched: &Watched,
        change: Change,
    ) -> wasmtime::Result<()> {
        let bucket = watched.bucket.clone();
        match change {
            Change::CaughtUp => Ok(()),
            Change::Put(entry) => {
                let handle = view(store.data_mut()).table.push(bucket)?;
                let key = entry.key.as_str().to_owned();
                self.on_set.call_async(store, (handle, key, entry.value)).await
            }
            Change::Delete { key, .. } => {
                let handle = view(store.data_mut()).table.push(bucket)?;
                self.on_delete.call_async(store, (handle, key.as_str().to_owned())).await
            }
        }
    }
}
