//! What a bucket must hold, in the simplest words.

use std::collections::BTreeMap;

use jetbridge_core::{CounterEncoding, ErrorKind, Revision};

/// A write: of a value, or of a deletion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Version {
    pub(super) revision: Revision,
    pub(super) value: Option<Vec<u8>>,
}

/// A key as the model sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What is stored, oldest first.
    pub(super) versions: Vec<Version>,
    /// The seam leaves open what stands before the first of `versions`.
    pub(super) open_beginning: bool,
    /// Revisions of values that are certainly stored no more.
    pub(super) spent: Vec<Revision>,
}

/// One bucket.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    history: usize,
    pub(super) keys: BTreeMap<&'static str, Known>,
    pub(super) last: Revision,
}

impl Reference {
    pub(super) fn new(history: u8) -> Self {
        Self { history: history.into(), keys: BTreeMap::new(), last: Revision(0) }
    }

    pub(super) fn known(&self, key: &str) -> Known {
        self.keys.get(key).cloned().unwrap_or_default()
    }

    /// The live value of `key`.
    pub(super) fn live(&self, key: &str) -> Option<(Revision, &[u8])> {
        let last = self.keys.get(key)?.versions.last()?;
        Some((last.revision, last.value.as_deref()?))
    }

    /// The live keys that begin with `prefix`.
    pub(super) fn live_keys(&self, prefix: &str) -> Vec<&'static str> {
        let keys = self.keys.keys().copied();
        keys.filter(|key| key.starts_with(prefix) && self.live(key).is_some()).collect()
    }

    /// A revision of a value of `key` that is not its live one.
    pub(super) fn stale(&self, key: &str) -> Option<Revision> {
        let known = self.keys.get(key)?;
        let live = self.live(key).map(|(revision, _)| revision);
        let stored = known.versions.iter().filter(|it| it.value.is_some()).map(|it| it.revision);
        stored.chain(known.spent.iter().copied()).find(|revision| Some(*revision) != live)
    }

    /// What adding `delta` must come to.
    pub(super) fn sum(&self, key: &str, delta: i64) -> Result<i64, ErrorKind> {
        let Some((_, value)) = self.live(key) else { return Ok(delta) };
        let number = CounterEncoding::Decimal.decode(value).ok_or(ErrorKind::Corrupt)?;
        number.checked_add(delta).ok_or(ErrorKind::LimitExceeded)
    }

    /// A write of `key`; `None` is a deletion that keeps the history.
    pub(super) fn write(&mut self, key: &'static str, revision: Revision, value: Option<&[u8]>) {
        self.last = revision;
        let known = self.keys.entry(key).or_default();
        known.versions.push(Version { revision, value: value.map(<[u8]>::to_vec) });
        while known.versions.len() > self.history {
            let oldest = known.versions.remove(0);
            known.spent.extend(oldest.value.map(|_| oldest.revision));
        }
    }

    /// `key` and its history are forgotten; a deletion may stand in their place.
    pub(super) fn forget(&mut self, key: &'static str, revision: Option<Revision>) {
        self.last = revision.unwrap_or(self.last);
        let known = self.keys.entry(key).or_default();
        let values = known.versions.drain(..).filter(|it| it.value.is_some());
        known.spent.extend(values.map(|it| it.revision));
        known.open_beginning = true;
    }

    /// The value of `key` has expired. What is stored of what was before it is left open.
    pub(super) fn expire(&mut self, key: &'static str, at_least: Revision) {
        self.last = self.last.max(at_least);
        let known = self.keys.entry(key).or_default();
        known.versions.clear();
        known.open_beginning = true;
    }
}
