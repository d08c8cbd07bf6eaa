//! What a wasmtime store has of wasi:keyvalue: which stores its guest may open, within which
//! limits, and its handles.

use std::sync::{Arc, Mutex};

use wasmtime::component::{Resource, ResourceTable};

use crate::bucket::Bucket;
use crate::budget::Budget;
use crate::cursors::Cursors;
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
    guest: Guest,
}

/// What the host keeps for one guest. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) budget: Budget,
    pub(crate) cursors: Arc<Mutex<Cursors>>,
}

impl KeyvalueCtx {
    /// All of `stores`, and answers of up to [`RESULT_BYTES_MAX_DEFAULT`].
    pub fn new(stores: Stores) -> Self {
        let budget = Budget::new(RESULT_BYTES_MAX_DEFAULT);
        let guest = Guest { budget, cursors: Arc::default() };
        Self(Arc::new(Settings { stores, grants: Grants::All, guest }))
    }

    /// Lets the guest open these stores.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        Arc::make_mut(&mut self.0).grants = grants;
        self
    }

    /// Refuses answers whose values have more bytes than this, and handles of compare-and-set
    /// that together hold more. Those of other contexts do not count.
    #[must_use]
    pub fn result_bytes_max(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.0).guest.budget = Budget::new(bytes);
        self
    }

    pub(crate) async fn open(&self, identifier: &str) -> Answer<Bucket> {
        let Settings { stores, grants, guest } = &*self.0;
        stores.open(identifier, grants, guest.clone()).await
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
