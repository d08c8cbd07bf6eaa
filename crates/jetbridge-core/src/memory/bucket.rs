//! Buckets by name, for keys and objects alike: made, changed, described, deleted, locked.
//!
//! Nothing here knows what a bucket's values are.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::journal::{Journal, Limits};
use crate::backend::{BucketInfo, BucketKind, BucketSpec, HISTORY_MAX, Storage, Support};
use crate::counter::KvShared;
use crate::error::{Error, ErrorKind, Result};
use crate::name::BucketName;

/// All buckets of one kind.
pub(super) struct Table<V> {
    kind: BucketKind,
    buckets: Mutex<BTreeMap<BucketName, Arc<Bucket<V>>>>,
}

/// One bucket. A deleted one lives on until its last reader has noticed.
pub(super) struct Bucket<V> {
    pub(super) name: BucketName,
    kind: BucketKind,
    created: SystemTime,
    /// Told whenever there is a new record, or none any more.
    pub(super) changed: Notify,
    /// What its handles share.
    pub(super) shared: KvShared,
    inner: Mutex<Inner<V>>,
}

/// What the lock of a bucket guards.
pub(super) struct Inner<V> {
    pub(super) spec: BucketSpec,
    pub(super) journal: Journal<V>,
    pub(super) sealed: bool,
    deleted: bool,
}

impl<V> Table<V> {
    pub(super) fn new(kind: BucketKind) -> Self {
        Self { kind, buckets: Mutex::default() }
    }

    pub(super) fn find(
        &self,
        name: &BucketName,
        operation: &'static str,
    ) -> Result<Arc<Bucket<V>>> {
        self.lock().get(name).cloned().ok_or_else(|| absent(self.kind, name, operation))
    }

    /// Finds a bucket, or makes it if `create` says how.
    pub(super) fn open(
        &self,
        name: &BucketName,
        create: Option<&BucketSpec>,
        now: SystemTime,
    ) -> Result<Arc<Bucket<V>>> {
        let mut buckets = self.lock();
        if let Some(bucket) = buckets.get(name) {
            return Ok(Arc::clone(bucket));
        }
        let Some(spec) = create else { return Err(absent(self.kind, name, "bucket.open")) };
        let bucket = Arc::new(Bucket::new(name, self.kind, normalised(self.kind, spec)?, now));
        buckets.insert(name.clone(), Arc::clone(&bucket));
        Ok(bucket)
    }

    pub(super) fn create(
        &self,
        name: &BucketName,
        spec: &BucketSpec,
        now: SystemTime,
    ) -> Result<BucketInfo> {
        let wanted = normalised(self.kind, spec)?;
        let info = self.open(name, Some(spec), now)?.info(now)?;
        let differences = differences(&wanted, &info.spec);
        if differences.is_empty() {
            return Ok(info);
        }
        Err(Error::new(ErrorKind::AlreadyExists, "bucket.create")
            .because("it is there with other settings")
            .with("kind", self.kind)
            .with("bucket", name)
            .with("differs", differences.join(",")))
    }

    pub(super) fn update(
        &self,
        name: &BucketName,
        spec: &BucketSpec,
        now: SystemTime,
    ) -> Result<BucketInfo> {
        let spec = normalised(self.kind, spec)?;
        let bucket = self.find(name, "bucket.update")?;
        bucket.with("bucket.update", now, |inner| {
            inner.journal.set_limits(limits(&spec));
            inner.spec = spec;
            Ok(())
        })?;
        bucket.info(now)
    }

    pub(super) fn list(&self, now: SystemTime) -> Result<Vec<BucketInfo>> {
        let buckets: Vec<_> = self.lock().values().cloned().collect();
        buckets.into_iter().map(|bucket| bucket.info(now)).collect()
    }

    pub(super) fn delete(&self, name: &BucketName) -> bool {
        let Some(bucket) = self.lock().remove(name) else { return false };
        bucket.lock().deleted = true;
        bucket.changed.notify_waiters();
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BucketName, Arc<Bucket<V>>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Bucket<V> {
    fn new(name: &BucketName, kind: BucketKind, spec: BucketSpec, now: SystemTime) -> Self {
        Self {
            name: name.clone(),
            kind,
            created: now,
            changed: Notify::new(),
            shared: KvShared::new(),
            inner: Mutex::new(Inner {
                journal: Journal::new(limits(&spec)),
                spec,
                sealed: false,
                deleted: false,
            }),
        }
    }

    /// Does `act` on the bucket as it is at `now`, and tells readers what came of it.
    pub(super) fn with<T>(
        &self,
        operation: &'static str,
        now: SystemTime,
        act: impl FnOnce(&mut Inner<V>) -> Result<T>,
    ) -> Result<T> {
        let mut inner = self.lock();
        if inner.deleted {
            return Err(absent(self.kind, &self.name, operation));
        }
        let before = inner.journal.last();
        inner.journal.expire(now);
        let result = act(&mut inner);
        if inner.journal.last() != before {
            self.changed.notify_waiters();
        }
        result
    }

    pub(super) fn info(&self, now: SystemTime) -> Result<BucketInfo> {
        self.with("bucket.info", now, |inner| {
            let spec = inner.spec.clone();
            let mut info = BucketInfo::new(self.name.clone(), self.kind, spec, self.created);
            info.messages = inner.journal.len() as u64;
            info.bytes = inner.journal.bytes();
            info.last_revision = inner.journal.last().0;
            info.sealed = inner.sealed;
            if self.kind == BucketKind::Kv {
                info.key_ttl = Support::Native;
            }
            Ok(info)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<V> Debug for Bucket<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The error that a bucket is not there.
fn absent(kind: BucketKind, name: &BucketName, operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .because("there is no such bucket")
        .with("kind", kind)
        .with("bucket", name)
        .hint(format!("create it with `jetbridge {kind} add {name}`"))
}

/// Checks `spec` and replaces wishes by what this store does: one copy, in memory.
fn normalised(kind: BucketKind, spec: &BucketSpec) -> Result<BucketSpec> {
    if kind == BucketKind::Kv && !(1..=HISTORY_MAX).contains(&spec.history) {
        return Err(Error::new(ErrorKind::InvalidInput, "bucket.create")
            .because(format!("a bucket keeps 1 to {HISTORY_MAX} revisions of a key"))
            .with("history", spec.history));
    }
    Ok(BucketSpec {
        history: if kind == BucketKind::Kv { spec.history } else { 1 },
        replicas: 1,
        storage: Storage::Memory,
        placement: None,
        compression: false,
        ..spec.clone()
    })
}

fn differences(wanted: &BucketSpec, present: &BucketSpec) -> Vec<&'static str> {
    let fields = [
        ("history", wanted.history != present.history),
        ("max_age", wanted.max_age != present.max_age),
        ("max_bytes", wanted.max_bytes != present.max_bytes),
        ("max_value_bytes", wanted.max_value_bytes != present.max_value_bytes),
        ("description", wanted.description != present.description),
        ("metadata", wanted.metadata != present.metadata),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn limits(spec: &BucketSpec) -> Limits {
    Limits { history: usize::from(spec.history), max_age: spec.max_age, max_bytes: spec.max_bytes }
}
