//! Permits that this process has taken and nobody uses yet: reserved ahead, or given back by a
//! caller that went away.
//!
//! A permit is good for as long as it could be saved up: used in that time, it adds to no more
//! than the burst that the limiter promises anyhow. Whoever asks next gets the first that it can
//! wait for.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::message::{Request, Unused};

/// How many are looked through for one that fits a request: they are in the order of their times,
/// so that the first one fits nearly always.
const LOOKED_AT: usize = 64;

/// Permits that wait for a caller.
#[derive(Debug, Default)]
pub(crate) struct Spare(VecDeque<Unused>);

impl Spare {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn add(&mut self, unused: Unused) {
        let behind = self.0.partition_point(|it| it.ready <= unused.ready);
        self.0.insert(behind, unused);
    }

    /// The permits whose time has passed, which are good for nobody.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Unused> {
        self.0.pop_front_if(|unused| unused.expires < now)
    }

    /// The first that `request` can wait for.
    pub(crate) fn take(&mut self, request: &Request, now: Instant) -> Option<Unused> {
        let fits = |unused: &Unused| {
            unused.taken.cost == request.cost
                && unused.expires >= now
                && request.until.is_none_or(|at| at >= unused.ready)
        };
        let index = self.0.iter().take(LOOKED_AT).position(fits)?;
        self.0.remove(index)
    }

    /// The first, if it can be used at `now` by whoever comes.
    pub(crate) fn pick(&mut self, now: Instant) -> Option<Unused> {
        while self.0.pop_front_if(|unused| unused.expires < now && unused.slots == 0).is_some() {}
        let fits = |unused: &mut Unused| {
            unused.taken.cost == 1 && unused.slots == 0 && unused.ready <= now
        };
        self.0.pop_front_if(fits)
    }

    /// All of them.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Unused> {
        std::mem::take(&mut self.0).into_iter()
    }

    /// One with a slot: those are not kept.
    pub(crate) fn take_slot(&mut self) -> Option<Unused> {
        let index = self.0.iter().position(|unused| unused.slots > 0)?;
        self.0.remove(index)
    }
}
