//! Which files a replica has, shared by those who write them and those who merge them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Txid;
use crate::store::{LtxFile, Manifest};

/// The manifest of a replica with one writer. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    page: Mutex<Page>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Page {
    manifest: Manifest,
    /// How often files were added and removed.
    changes: u64,
}

/// The manifest while it is looked at. Not to be held over an await.
#[derive(Debug)]
pub(crate) struct Reading<'a>(MutexGuard<'a, Page>);

impl std::ops::Deref for Reading<'_> {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.0.manifest
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

    /// How often it was changed.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Takes what the store has listed, unless it was changed more than `changes` times: a list
    /// that was begun before a file was added or removed knows nothing of that.
    pub(crate) fn replace(&self, manifest: Manifest, changes: u64) -> bool {
        let mut page = self.lock();
        let current = page.changes == changes;
        if current {
            page.manifest = manifest;
            self.0.changed.notify_one();
        }
        current
    }

    /// Returns when it was changed since this was called last: for the one who looks after it.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(crate) fn add(&self, file: LtxFile) {
        self.change(|manifest| manifest.insert(file));
    }

    pub(crate) fn remove(&self, file: &LtxFile) {
        self.change(|manifest| {
            manifest.remove(file.level, file.range);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Manifest)) {
        let mut page = self.lock();
        change(&mut page.manifest);
        page.changes += 1;
        self.0.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Page> {
        self.0.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::TxidRange;
    use crate::store::Level;

    #[test]
    fn a_list_that_was_begun_before_a_change_is_not_taken() {
        let file = LtxFile {
            level: Level::CAPTURED,
            range: TxidRange::one(Txid(1)).unwrap(),
            bytes: 1,
            time: SystemTime::UNIX_EPOCH,
            digest: None,
            base: None,
        };
        let ledger = Ledger::default();
        let begun = ledger.changes();
        ledger.add(file.clone());
        assert!(!ledger.replace(Manifest::default(), begun));
        assert_eq!(ledger.read().len(), 1);
        let begun = ledger.changes();
        ledger.remove(&file);
        let mut listed = Manifest::default();
        listed.insert(file);
        assert!(!ledger.replace(listed, begun));
        assert!(ledger.read().is_empty());
        assert!(ledger.replace(Manifest::default(), ledger.changes()));
    }
}
