//! The log behind a bucket: records by revision, names to their last records, and when each goes.
//!
//! Keys and objects are the same to it: a name has a history, its last record is live or a
//! deletion, whatever is due goes. It reads no clock and takes no lock; it is given the time, and
//! its owner holds the lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::kv::{Expect, Revision};

/// How long the deletion that an expiry leaves is remembered: watchers that read at least this
/// often miss none, and a bucket of short-lived keys does not grow for ever.
const MARKER_AGE: Duration = Duration::from_secs(3600);

/// What a bucket holds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) history: usize,
    pub(super) max_age: Option<Duration>,
    pub(super) max_bytes: Option<u64>,
}

/// A write: of a value, or of a deletion.
#[derive(Clone, Debug)]
pub(super) struct Record<V> {
    pub(super) name: Arc<str>,
    pub(super) at: SystemTime,
    /// When its own TTL ends.
    pub(super) expires: Option<SystemTime>,
    /// `None` is a deletion.
    pub(super) value: Option<V>,
    pub(super) bytes: u64,
}

impl<V> Record<V> {
    /// A deletion that is remembered for a while. It is no part of what the bucket holds.
    pub(super) fn marker(name: &Arc<str>, at: SystemTime, now: SystemTime) -> Self {
        let expires = now.checked_add(MARKER_AGE);
        Self { name: Arc::clone(name), at, expires, value: None, bytes: 0 }
    }

    fn is_marker(&self) -> bool {
        self.value.is_none() && self.expires.is_some()
    }

    /// When it goes. A marker outlives the bucket's `max_age`, which may have passed already.
    fn due(&self, limits: &Limits) -> Option<SystemTime> {
        if self.is_marker() {
            return self.expires;
        }
        let aged = limits.max_age.and_then(|age| self.at.checked_add(age));
        [self.expires, aged].into_iter().flatten().min()
    }
}

/// The records of one bucket.
#[derive(Debug)]
pub(super) struct Journal<V> {
    limits: Limits,
    last: u64,
    bytes: u64,
    records: BTreeMap<u64, Record<V>>,
    /// Revisions of each name, oldest first, never empty.
    names: BTreeMap<Arc<str>, VecDeque<u64>>,
    due: BTreeSet<(SystemTime, u64)>,
    forgotten: u64,
}

impl<V> Journal<V> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            last: 0,
            bytes: 0,
            records: BTreeMap::new(),
            names: BTreeMap::new(),
            due: BTreeSet::new(),
            forgotten: 0,
        }
    }

    /// Applies other limits to what is there.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let due = |(revision, record): (&u64, &Record<V>)| Some((record.due(&limits)?, *revision));
        self.due = self.records.iter().filter_map(due).collect();
        for name in self.names.keys().cloned().collect::<Vec<_>>() {
            self.trim(&name);
        }
    }

    /// Adds a record; `None` if the bucket's bytes do not suffice. Deletions always fit.
    pub(super) fn append(&mut self, record: Record<V>) -> Option<Revision> {
        if let Some(max) = self.limits.max_bytes
            && record.value.is_some()
            && self.bytes.saturating_sub(self.replaced_bytes(&record.name)) + record.bytes > max
        {
            return None;
        }
        let name = Arc::clone(&record.name);
        self.last += 1;
        self.bytes += record.bytes;
        if let Some(at) = record.due(&self.limits) {
            self.due.insert((at, self.last));
        }
        self.records.insert(self.last, record);
        self.names.entry(Arc::clone(&name)).or_default().push_back(self.last);
        self.trim(&name);
        Some(Revision(self.last))
    }

    /// Forgets every record of `name`, without a trace.
    pub(super) fn erase(&mut self, name: &str) {
        for revision in self.names.get(name).cloned().unwrap_or_default() {
            self.remove(revision);
        }
    }

    /// Removes what is due at `now`; a name whose last value goes is deleted by a new record.
    pub(super) fn expire(&mut self, now: SystemTime) {
        while let Some((due, revision)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            let newest = self.is_newest(revision);
            let Some(record) = self.remove(revision) else {
                self.due.remove(&(due, revision));
                continue;
            };
            if newest && record.value.is_some() {
                self.append(Record::marker(&record.name, due, now));
            } else if newest {
                self.forgotten = self.forgotten.max(revision);
            }
        }
    }

    /// When [`Journal::expire`] has to be called next.
    pub(super) fn next_due(&self) -> Option<SystemTime> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The newest revision there ever was.
    pub(super) fn last(&self) -> Revision {
        Revision(self.last)
    }

    /// The newest deletion that is no longer remembered.
    pub(super) fn forgotten(&self) -> Revision {
        Revision(self.forgotten)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records it holds, markers left out.
    pub(super) fn len(&self) -> usize {
        self.records.values().filter(|record| !record.is_marker()).count()
    }

    /// The record of `revision`.
    pub(super) fn at(&self, revision: Revision) -> Option<&Record<V>> {
        self.records.get(&revision.0)
    }

    /// The live value of `name`.
    pub(super) fn live(&self, name: &str) -> Option<(Revision, &Record<V>)> {
        let revision = *self.names.get(name)?.back()?;
        let record = self.records.get(&revision)?;
        record.value.is_some().then_some((Revision(revision), record))
    }

    /// What is stored of `name`, oldest first.
    pub(super) fn history(&self, name: &str) -> impl Iterator<Item = (Revision, &Record<V>)> {
        let revisions = self.names.get(name).into_iter().flatten();
        revisions.filter_map(|it| Some((Revision(*it), self.records.get(it)?)))
    }

    /// The records behind `revision`, in order.
    pub(super) fn after(&self, revision: Revision) -> impl Iterator<Item = (Revision, &Record<V>)> {
        let records = self.records.range(revision.0.saturating_add(1)..);
        records.map(|(revision, record)| (Revision(*revision), record))
    }

    /// The live values whose revision is behind `revision`, in order.
    pub(super) fn live_after(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = (Revision, &Record<V>)> {
        self.after(revision).filter(|(at, it)| it.value.is_some() && self.is_newest(at.0))
    }

    /// True if no later record has the name of this one.
    pub(super) fn is_newest(&self, revision: u64) -> bool {
        let name = self.records.get(&revision).map(|record| &record.name);
        name.and_then(|name| self.names.get(name)?.back()) == Some(&revision)
    }

    /// Whether a write under `expect` may happen; else the present revision, 0 if there is none.
    pub(super) fn check(&self, name: &str, expect: Expect) -> Result<(), Revision> {
        let present = self.live(name).map(|(revision, _)| revision);
        match expect {
            Expect::Any => Ok(()),
            Expect::Absent if present.is_none() => Ok(()),
            Expect::Exactly(wanted) if present == Some(wanted) => Ok(()),
            Expect::Absent | Expect::Exactly(_) => Err(present.unwrap_or_default()),
        }
    }

    /// Bytes that the next record of `name` frees, because the history is full.
    fn replaced_bytes(&self, name: &str) -> u64 {
        let Some(revisions) = self.names.get(name) else { return 0 };
        if revisions.len() < self.limits.history {
            return 0;
        }
        let oldest = revisions.front().and_then(|revision| self.records.get(revision));
        oldest.map_or(0, |record| record.bytes)
    }

    fn trim(&mut self, name: &str) {
        while let Some(revisions) = self.names.get(name)
            && revisions.len() > self.limits.history
            && let Some(oldest) = revisions.front().copied()
        {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, revision: u64) -> Option<Record<V>> {
        let record = self.records.remove(&revision)?;
        self.bytes -= record.bytes;
        if let Some(at) = record.due(&self.limits) {
            self.due.remove(&(at, revision));
        }
        if let Some(revisions) = self.names.get_mut(&record.name) {
            revisions.retain(|it| *it != revision);
            if revisions.is_empty() {
                self.names.remove(&record.name);
            }
        }
        Some(record)
    }
}
