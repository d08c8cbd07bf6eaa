//! How one component does: it runs if its file could be loaded and all of its watches go on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::board::{Reporter, State};

/// The board's line of a component. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Health {
    reporter: Reporter,
    failures: Arc<Mutex<Failures>>,
}

#[derive(Debug)]
struct Failures {
    file: Option<String>,
    /// `None` of a watch that has not begun.
    watches: Vec<Option<WatchState>>,
}

/// What is wrong with a watch, if something is.
type WatchState = Option<String>;

impl Health {
    /// Of a component that has not begun.
    pub(super) fn new(reporter: Reporter, watches: usize) -> Self {
        let watches = vec![None; watches];
        Self { reporter, failures: Arc::new(Mutex::new(Failures { file: None, watches })) }
    }

    /// What is wrong with the file.
    pub(super) fn file(&self, failure: Option<String>) {
        self.change(|failures| failures.file = failure);
    }

    /// The part of one watch.
    pub(super) fn of(&self, at: usize) -> WatchHealth {
        WatchHealth { health: self.clone(), at }
    }

    fn change(&self, change: impl FnOnce(&mut Failures)) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut failures);
        let watches = failures.watches.iter().flatten().flatten();
        match failures.file.iter().chain(watches).next() {
            Some(reason) => self.reporter.degraded(reason),
            None if failures.watches.iter().any(Option::is_none) => {}
            None => self.reporter.set(State::Running),
        }
    }
}

/// How one watch does.
#[derive(Clone, Debug)]
pub(super) struct WatchHealth {
    health: Health,
    at: usize,
}

impl WatchHealth {
    /// What is wrong with it.
    pub(super) fn set(&self, failure: Option<String>) {
        self.health.change(|failures| failures.watches[self.at] = Some(failure));
    }
}
