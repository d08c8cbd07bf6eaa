//! Additions to one counter that this process makes at the same time, sent as one.
//!
//! A few are under way at once; what comes meanwhile waits for one of these to end, and then goes
//! as their sum. Each caller gets a sum of its own, as if they had been added one behind the other,
//! and all of them hear of it if the one message failed, or nobody knows. A caller that is dropped
//! takes nobody else's addition with it: what several wait for runs in a task.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jetbridge_core::{Key, Result};
use tokio::sync::oneshot;

/// Messages of one counter under way at once: enough that who comes waits for a part of a round
/// trip, few enough that what comes under load is gathered.
const FLIGHTS_MAX: usize = 4;

/// Who adds to which counter. A counter leaves with its last caller.
#[derive(Debug, Default)]
pub(crate) struct Combine(Mutex<HashMap<Key, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    flights: usize,
    waiting: Vec<Part>,
}

/// One caller's addition.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) n: i64,
    told: oneshot::Sender<Result<i64>>,
}

impl Part {
    /// Tells its caller, who may have given up.
    pub(crate) fn tell(self, sum: Result<i64>) {
        drop(self.told.send(sum));
    }
}

/// What a caller is to do.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Add, and say so at the [end](Combine::end).
    Now,
    /// Wait: somebody adds it with others.
    Later(oneshot::Receiver<Result<i64>>),
}

impl Combine {
    /// The turn of who adds `n` to `key`.
    pub(crate) fn begin(&self, key: &Key, n: i64) -> Turn {
        let mut queues = self.lock();
        let queue = queues.entry(key.clone()).or_default();
        if queue.flights < FLIGHTS_MAX {
            queue.flights += 1;
            return Turn::Now;
        }
        let (told, hear) = oneshot::channel();
        queue.waiting.push(Part { n, told });
        Turn::Later(hear)
    }

    /// One addition to `key` has ended; what has come meanwhile takes its place, if anything.
    pub(crate) fn end(&self, key: &Key) -> Vec<Part> {
        let mut queues = self.lock();
        let Entry::Occupied(mut entry) = queues.entry(key.clone()) else { return Vec::new() };
        let queue = entry.get_mut();
        // Nobody waits any more for the sums of those that were dropped, and none was sent.
        queue.waiting.retain(|part| !part.told.is_closed());
        let next = std::mem::take(&mut queue.waiting);
        if next.is_empty() {
            queue.flights -= 1;
            if queue.flights == 0 {
                entry.remove();
            }
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sums of each of `parts` where all of them came to `sum`; `None` if one is out of range.
pub(crate) fn sums(parts: &[Part], sum: i128) -> Option<Vec<i64>> {
    let mut at = sum - total(parts);
    let each = parts.iter().map(|part| {
        at += i128::from(part.n);
        i64::try_from(at).ok()
    });
    each.collect()
}

/// What `parts` add up to.
pub(crate) fn total(parts: &[Part]) -> i128 {
    parts.iter().map(|part| i128::from(part.n)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::parse("n").unwrap()
    }

    fn later(combine: &Combine, n: i64) -> oneshot::Receiver<Result<i64>> {
        match combine.begin(&key(), n) {
            Turn::Later(hear) => hear,
            Turn::Now => panic!("its turn has not come"),
        }
    }

    fn full() -> Combine {
        let combine = Combine::default();
        for _ in 0..FLIGHTS_MAX {
            assert!(matches!(combine.begin(&key(), 1), Turn::Now));
        }
        combine
    }

    #[test]
    fn what_comes_meanwhile_goes_together() {
        let combine = full();
        let _hear = [later(&combine, 2), later(&combine, -3), later(&combine, 5)];
        let parts = combine.end(&key());
        assert_eq!(total(&parts), 4);
        assert_eq!(sums(&parts, 14), Some(vec![12, 9, 14]));
    }

    #[test]
    fn a_sum_out_of_range_on_the_way_is_told() {
        let combine = full();
        let _hear = [later(&combine, 1), later(&combine, -1)];
        let parts = combine.end(&key());
        assert_eq!(sums(&parts, i128::from(i64::MAX)), None);
        assert_eq!(sums(&parts, i128::from(i64::MAX) - 1), Some(vec![i64::MAX, i64::MAX - 1]));
    }

    #[test]
    fn who_gave_up_before_is_not_added_and_nothing_is_left_behind() {
        let combine = full();
        drop(later(&combine, 2));
        let kept = later(&combine, 3);
        let parts = combine.end(&key());
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].n, 3);
        drop(kept);
        for _ in 0..FLIGHTS_MAX {
            assert!(combine.end(&key()).is_empty());
        }
        assert!(combine.lock().is_empty());
    }
}
