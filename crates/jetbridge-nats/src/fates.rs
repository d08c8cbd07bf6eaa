//! Revisions of one bucket that this process knows to end, or to have ended.
//!
//! A server compares sequences and nothing else, so it would let a write over revision R pass
//! although R is a deletion, or has expired and is not removed yet. What passes through this
//! process is remembered here, and such a write is refused. On servers that do not remove what
//! has expired, the values written here are also those that this process cleans up after.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jetbridge_core::{Key, Revision, StoreTime};

use crate::record::has_passed;

/// Expiring values remembered for one bucket; beyond them others are left to readers.
const DUE_MAX: usize = 65_536;
/// Deletions remembered for one bucket; the oldest go first.
const DEAD_MAX: usize = 4096;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Fates(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    due: HashMap<Key, (Revision, SystemTime)>,
    order: BTreeSet<(SystemTime, Revision, Key)>,
    dead: HashMap<Revision, Key>,
    dead_order: VecDeque<Revision>,
}

/// A key's revision, and when it was to go.
pub(crate) type Expired = (Key, Revision, SystemTime);

impl Fates {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `revision` of `key` goes at `due`, or stays.
    pub(crate) fn lives(&self, key: &Key, revision: Revision, due: Option<SystemTime>) {
        let mut inner = self.lock();
        if !inner.due.is_empty() {
            inner.forget(key, revision);
        }
        if !inner.dead.is_empty() {
            inner.dead.remove(&revision);
        }
        if let Some(at) = due.filter(|_| inner.due.len() < DUE_MAX) {
            inner.due.insert(key.clone(), (revision, at));
            inner.order.insert((at, revision, key.clone()));
        }
    }

    /// `revision` of `key` is a deletion.
    pub(crate) fn died(&self, key: &Key, revision: Revision) {
        let mut inner = self.lock();
        inner.forget(key, revision);
        if inner.dead.insert(revision, key.clone()).is_none() {
            inner.dead_order.push_back(revision);
        }
        if inner.dead_order.len() > DEAD_MAX
            && let Some(oldest) = inner.dead_order.pop_front()
        {
            inner.dead.remove(&oldest);
        }
    }

    /// True if `revision` is known to have no live value at `now`.
    pub(crate) fn is_over(&self, key: &Key, revision: Revision, now: StoreTime) -> bool {
        let inner = self.lock();
        let expired = inner
            .due
            .get(key)
            .is_some_and(|(known, due)| *known == revision && has_passed(*due, now));
        expired || inner.dead.get(&revision) == Some(key)
    }

    /// True if nothing is known that will expire.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().order.is_empty()
    }

    /// `revision` of `key`, which has expired, was not cleaned up after all.
    pub(crate) fn stays(&self, key: Key, revision: Revision, due: SystemTime) {
        let mut inner = self.lock();
        if !inner.due.contains_key(&key) && inner.due.len() < DUE_MAX {
            inner.due.insert(key.clone(), (revision, due));
            inner.order.insert((due, revision, key));
        }
    }

    /// Takes out what has expired at `now`, and says when the next will.
    pub(crate) fn expired(&self, now: StoreTime) -> (Vec<Expired>, Option<SystemTime>) {
        let mut inner = self.lock();
        let mut found = Vec::new();
        while let Some((due, _, _)) = inner.order.first() {
            if !has_passed(*due, now) {
                return (found, Some(*due));
            }
            if let Some((due, revision, key)) = inner.order.pop_first() {
                inner.due.remove(&key);
                found.push((key, revision, due));
            }
        }
        (found, None)
    }
}

impl Inner {
    /// Forgets what was known of revisions of `key` up to `revision`.
    fn forget(&mut self, key: &Key, revision: Revision) {
        if let Some((known, due)) = self.due.get(key).copied()
            && known <= revision
        {
            self.due.remove(key);
            self.order.remove(&(due, known, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_unix_ms;
    use std::time::Duration;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn at(ms: u64) -> StoreTime {
        StoreTime { now: from_unix_ms(ms), error: Duration::ZERO }
    }

    #[test]
    fn a_write_over_what_has_ended_is_known_to_be_vain() {
        let fates = Fates::default();
        fates.lives(&key("a"), Revision(1), Some(from_unix_ms(10)));
        fates.died(&key("b"), Revision(2));
        assert!(!fates.is_over(&key("a"), Revision(1), at(9)));
        assert!(fates.is_over(&key("a"), Revision(1), at(10)));
        assert!(fates.is_over(&key("b"), Revision(2), at(0)));
        assert!(!fates.is_over(&key("a"), Revision(2), at(99)), "another key's revision");
    }

    #[test]
    fn what_was_overwritten_does_not_expire() {
        let fates = Fates::default();
        fates.lives(&key("a"), Revision(1), Some(from_unix_ms(10)));
        fates.lives(&key("b"), Revision(2), Some(from_unix_ms(20)));
        fates.lives(&key("a"), Revision(3), None);
        assert_eq!(fates.expired(at(15)), (Vec::new(), Some(from_unix_ms(20))));
        let expired = (key("b"), Revision(2), from_unix_ms(20));
        assert_eq!(fates.expired(at(25)), (vec![expired], None));
    }

    #[test]
    fn what_stays_expires_again_unless_it_was_overwritten() {
        let fates = Fates::default();
        let stays = |name| fates.stays(key(name), Revision(1), from_unix_ms(20));
        stays("a");
        fates.lives(&key("b"), Revision(3), Some(from_unix_ms(90)));
        stays("b");
        let expired = (key("a"), Revision(1), from_unix_ms(20));
        assert_eq!(fates.expired(at(25)), (vec![expired], Some(from_unix_ms(90))));
    }

    #[test]
    fn deletions_are_remembered_within_bounds() {
        let fates = Fates::default();
        for revision in 1..=DEAD_MAX as u64 + 1 {
            fates.died(&key("a"), Revision(revision));
        }
        assert!(!fates.is_over(&key("a"), Revision(1), at(0)));
        assert!(fates.is_over(&key("a"), Revision(2), at(0)));
    }
}
