//! A bucket as another process has it: a writer of its own, on a store that only compares and
//! sets, over a network that may deliver a write late.

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use jetbridge_core::{
    BucketName, Change, Cursor, DeleteOpts, Entry, Error, ErrorKind, IncrementOpts, Key, Kv,
    KvShared, Page, PutOpts, Read, Result, Revision, Scope, Snapshot, Watch, Written,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    inner: Arc<dyn Kv>,
    shared: KvShared,
    now: SystemTime,
    late: Mutex<Late>,
}

#[derive(Debug, Default)]
enum Late {
    /// Writes arrive as they are sent.
    #[default]
    No,
    /// The next write will be late.
    Next,
    /// This one is: it arrives just before the next one.
    Sent(Key, Bytes, PutOpts),
}

impl Process {
    /// A process at `now`, the store's time.
    pub(crate) fn on(inner: &Arc<dyn Kv>, now: SystemTime) -> Arc<dyn Kv> {
        Arc::new(Self::with(inner, now, Late::No))
    }

    /// A process whose first write arrives after its answer was given up, just before the second.
    pub(crate) fn with_late_write(inner: &Arc<dyn Kv>, now: SystemTime) -> Arc<dyn Kv> {
        Arc::new(Self::with(inner, now, Late::Next))
    }

    fn with(inner: &Arc<dyn Kv>, now: SystemTime, late: Late) -> Self {
        let (inner, shared) = (Arc::clone(inner), KvShared::new());
        Self { inner, shared, now, late: Mutex::new(late) }
    }
}

impl Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a process on {}", self.inner)
    }
}

#[async_trait]
impl Kv for Process {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    fn shared(&self) -> &KvShared {
        &self.shared
    }

    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>> {
        self.inner.get(key, read).await
    }

    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot> {
        self.inner.get_many(keys, read).await
    }

    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Result<Written> {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        match late {
            Late::No => {}
            Late::Next => {
                *self.late.lock().unwrap() = Late::Sent(key.clone(), value, opts);
                let lost = Error::new(ErrorKind::Unavailable, "kv.put").because("it is late");
                return Err(lost.outcome_unknown());
            }
            Late::Sent(key, value, opts) => {
                self.inner.put(&key, value, opts).await.expect("the late write arrives");
            }
        }
        self.inner.put(key, value, opts).await
    }

    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>> {
        self.inner.delete(key, opts).await
    }

    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64> {
        let now = self.now;
        jetbridge_core::increment(self, &move || now, key, delta, opts).await
    }

    async fn purge(&self, scope: Scope) -> Result<u64> {
        self.inner.purge(scope).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Change>> {
        self.inner.history(key).await
    }

    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        self.inner.keys(scope)
    }

    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page> {
        self.inner.page(scope, after, limit).await
    }

    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        self.inner.watch(watch)
    }
}
