//! Permits in hand: any caller of this process takes one without asking the limiter's task.
//!
//! Only permits whose time has come are taken so; for others a caller must wait for its turn,
//! which the task keeps. The task hears that the stock runs low once, by whoever took the permit
//! that made it so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::decision::Decision;
use crate::message::Unused;
use crate::spare::Spare;

/// The permits of one limiter that nobody of this process uses yet.
#[derive(Debug, Default)]
pub(crate) struct Stock(Mutex<Shelf>);

/// What lies in stock, for the task that fills it.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) spare: Spare,
    /// With fewer than so many, the task is told.
    low: usize,
    /// Permits that callers took, since the stock was first filled.
    taken: u64,
    /// Of these, those that the task knows of.
    known: u64,
}

/// A permit that was taken, and whether the task must hear of it.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) decision: Decision,
    pub(crate) runs_low: bool,
}

impl Stock {
    /// Takes one permit that can be used at `now`.
    pub(crate) fn pick(&self, now: Instant) -> Option<Picked> {
        let mut shelf = self.shelf();
        let decision = shelf.spare.pick(now)?.decision;
        shelf.taken += 1;
        let runs_low = shelf.spare.len() < shelf.low;
        if runs_low {
            shelf.low = 0;
        }
        Some(Picked { decision, runs_low })
    }

    /// Forgets all of it.
    pub(crate) fn clear(&self) {
        self.shelf().spare = Spare::default();
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Adds permits; the task wants to hear when half of what is there then is gone.
    pub(crate) fn fill(&mut self, permits: impl IntoIterator<Item = Unused>) {
        permits.into_iter().for_each(|unused| self.spare.add(unused));
        self.low = self.spare.len().div_ceil(2);
    }

    /// How many permits callers took since this was last asked.
    pub(crate) fn just_taken(&mut self) -> u64 {
        self.taken - std::mem::replace(&mut self.known, self.taken)
    }

    /// How many permits callers took so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }
}
