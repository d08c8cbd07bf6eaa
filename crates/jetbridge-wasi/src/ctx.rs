//! What a wasmtime store has of wasi:keyvalue: which stores its guest may open, within which
//! limits, and its handles.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};

use crate::bucket::Bucket;
use crate::fault::{Answer, Fault};
use crate::stores::{Grants, Stores};

/// Bytes of one answer at most, unless [`KeyvalueCtx::result_bytes_max`] says otherwise: what a
/// guest has to find room for at once.
pub const RESULT_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;

/// What one guest may do. Cheap to clone; usually one for each component.
#[derive(Clone, Debug)]
pub struct KeyvalueCtx(Arc<Settings>);

#[derive(Clone, Debug)]
struct Settings {
    stores: Stores,
    grants: Grants,
    result_bytes_max: usize,
}

impl KeyvalueCtx {
    /// All of `stores`, and answers of up to [`RESULT_BYTES_MAX_DEFAULT`].
    pub fn new(stores: Stores) -> Self {
        let result_bytes_max = RESULT_BYTES_MAX_DEFAULT;
        Self(Arc::new(Settings { stores, grants: Grants::All, result_bytes_max }))
    }

    /// Lets the guest open these stores.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        Arc::make_mut(&mut self.0).grants = grants;
        self
    }

    /// Refuses answers whose values have more bytes than this.
    #[must_use]
    pub fn result_bytes_max(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.0).result_bytes_max = bytes;
        self
    }

    pub(crate) async fn open(&self, identifier: &str) -> Answer<Bucket> {
        let Settings { stores, grants, result_bytes_max } = &*self.0;
        stores.open(identifier, grants, *result_bytes_max).await
    }
}

/// Finds what the data of a wasmtime store has of wasi:keyvalue.
pub type View<T> = fn(&mut T) -> Keyvalue<'_>;

/// A guest's context and its table of handles.
#[derive(Debug)]
pub struct Keyvalue<'a> {
    pub(crate) ctx: &'a KeyvalueCtx,
    pub(crate) table: &'a mut ResourceTable,
}

impl<'a> Keyvalue<'a> {
    /// From the two parts.
    pub fn new(ctx: &'a KeyvalueCtx, table: &'a mut ResourceTable) -> Self {
        Self { ctx, table }
    }

    /// A handle for the guest; a full table is an error that it can read.
    pub(crate) fn hand_out<R: Send + 'static>(&mut self, it: R) -> Answer<Resource<R>> {
        self.table.push(it).map_err(|full| Fault::Quota(format!("too many open handles: {full}")))
    }
}
