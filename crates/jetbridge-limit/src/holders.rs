//! Who has calls under way: one entry for each process, with a lease. Pure, as [`State`] is.
//!
//! A process writes how many slots it has, never "one more" or "one less": so a write whose
//! answer was lost is put right by the next one, and nothing leaks. A process that is gone stops
//! renewing, and its slots are free when its lease ends, whatever else happens.
//!
//! [`State`]: crate::state::State

use serde::{Deserialize, Serialize};

use crate::policy::LEASE_MAX;

/// The processes that have slots.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Holders(Vec<Holder>);

/// The slots of one process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Holder {
    /// Names the process, and this limiter in it.
    id: String,
    slots: u32,
    /// The end of its lease, in nanoseconds since 1970 by the store's clock.
    until: u64,
}

impl Holder {
    /// A lease further ahead than anybody takes one was written before the store's clock was set
    /// back.
    fn is_live(&self, now: u64) -> bool {
        let most = u64::try_from(LEASE_MAX.as_nanos()).unwrap_or(u64::MAX);
        self.until > now && self.until <= now.saturating_add(most)
    }
}

impl Holders {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Slots whose lease has not ended at `now`.
    pub(crate) fn in_use(&self, now: u64) -> u32 {
        let live = self.0.iter().filter(|holder| holder.is_live(now));
        live.fold(0, |sum, holder| sum.saturating_add(holder.slots))
    }

    /// True if the process `id` is listed, also if its lease has ended and nobody took its slots.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|holder| holder.id == id)
    }

    /// Forgets who lost their lease before `now`.
    pub(crate) fn expire(&mut self, now: u64) {
        self.0.retain(|holder| holder.is_live(now));
    }

    /// The process `id` has `slots` until then; without slots it is not listed.
    pub(crate) fn set(&mut self, id: &str, slots: u32, until: u64) {
        self.0.retain(|holder| holder.id != id);
        if slots > 0 {
            self.0.push(Holder { id: id.to_owned(), slots, until });
        }
    }

    /// When the last of all leases ends.
    pub(crate) fn last_end(&self) -> Option<u64> {
        self.0.iter().map(|holder| holder.until).max()
    }

    /// When the next lease of somebody else than `id` ends, unless it is renewed.
    pub(crate) fn next_end(&self, id: &str) -> Option<u64> {
        let others = self.0.iter().filter(|holder| holder.id != id);
        others.map(|holder| holder.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_when_a_lease_ends_and_a_process_counts_once() {
        let second = 1_000_000_000;
        let mut holders = Holders::default();
        holders.set("a", 2, 10 * second);
        holders.set("b", 1, 20 * second);
        holders.set("a", 3, 12 * second);
        assert_eq!(holders.in_use(second), 4);
        assert_eq!(holders.next_end("b"), Some(12 * second));
        assert_eq!(holders.in_use(12 * second), 1);
        holders.expire(12 * second);
        assert!(!holders.has("a") && holders.has("b"));
        holders.set("b", 0, 0);
        assert!(holders.is_empty());
    }

    #[test]
    fn a_lease_from_before_the_clock_was_set_back_blocks_nobody() {
        let hour = 3600 * 1_000_000_000;
        let mut holders = Holders::default();
        holders.set("a", 2, 30 * hour);
        assert_eq!(holders.in_use(hour), 0);
    }
}
