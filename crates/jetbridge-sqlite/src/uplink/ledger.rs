//! Which files a replica has, shared by those who write them and those who merge them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Txid;
use crate::store::{LtxFile, Manifest};

/// The manifest of a replica with one writer. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    manifest: Mutex<Manifest>,
}

/// The manifest while it is looked at. Not to be held over an await.
#[derive(Debug)]
pub(crate) struct Reading<'a>(MutexGuard<'a, Manifest>);

impl std::ops::Deref for Reading<'_> {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.0
    }
}

impl Reading<'_> {
    /// Files that hold every change after `after`, as few changes before it as possible; `None`
    /// if some are not there.
    pub(crate) fn since(&self, after: Txid) -> Option<Vec<LtxFile>> {
        let newest = self.usable().map(|file| file.range.max()).max()?;
        let mut files = Vec::new();
        let mut reached = after;
        while reached < newest {
            let extending = self.usable().filter(|file| file.range.extends(reached));
            let next = extending.max_by_key(|file| (file.range.min(), file.range.max()))?;
            reached = next.range.max();
            files.push(next.clone());
        }
        Some(files)
    }
}

impl Ledger {
    pub(crate) fn read(&self) -> Reading<'_> {
        Reading(self.lock())
    }

    pub(crate) fn replace(&self, manifest: Manifest) {
        *self.lock() = manifest;
    }

    pub(crate) fn add(&self, file: LtxFile) {
        self.lock().insert(file);
    }

    pub(crate) fn remove(&self, file: &LtxFile) {
        self.lock().remove(file.level, file.range);
    }

    fn lock(&self) -> MutexGuard<'_, Manifest> {
        self.0.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
