//! Open buckets by name. Opening one waits for nobody but those who want the same one, and a
//! handle whose bucket was deleted is forgotten, so that the next call opens it anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jetbridge_core::{Backend, BucketName, BucketSpec, Kv, Open, Result};
use tokio::sync::OnceCell;

use super::compete::Turns;

/// Open buckets kept at most. Beyond it all are forgotten and opened again as needed: a program
/// that works on so many is not slowed down by one more round trip each.
const OPEN_MAX: usize = 1024;

type Slot = Arc<OnceCell<Arc<OpenBucket>>>;

pub(super) struct Buckets {
    backend: Arc<dyn Backend>,
    open: Mutex<HashMap<BucketName, Slot>>,
}

/// A bucket, and who is at work on its keys in this process.
pub(super) struct OpenBucket {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) turns: Turns,
}

impl Buckets {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, open: Mutex::default() }
    }

    pub(super) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The bucket, opened or made if this is its first use.
    pub(super) async fn open(&self, name: &BucketName) -> Result<Arc<OpenBucket>> {
        let slot = self.slot(name);
        let bucket = slot.get_or_try_init(async || {
            let kv = self.backend.kv(name, Open::ensure(BucketSpec::default())).await?;
            Ok(Arc::new(OpenBucket { kv, turns: Turns::default() }))
        });
        bucket.await.cloned()
    }

    /// Forgets `bucket`, unless somebody has opened it anew already.
    pub(super) fn forget(&self, name: &BucketName, bucket: &Arc<OpenBucket>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |slot: &Slot| slot.get().is_some_and(|held| Arc::ptr_eq(held, bucket));
        if open.get(name).is_some_and(same) {
            open.remove(name);
        }
    }

    fn slot(&self, name: &BucketName) -> Slot {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX && !open.contains_key(name) {
            open.clear();
        }
        Arc::clone(open.entry(name.clone()).or_default())
    }
}
