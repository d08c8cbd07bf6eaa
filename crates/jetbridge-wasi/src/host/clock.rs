//! What makes guests that compute give way: a thread that moves the engine's epoch, and rests
//! while no guest runs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use wasmtime::Engine;

use super::limits::TICK;

/// Counts the guests that run. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    guests: usize,
    is_stopped: bool,
}

impl Clock {
    /// Ticks for the guests of `engine` until it is told to stop and the last of them has ended:
    /// one that computes gives way at a tick alone. To be called on a thread of its own: guests
    /// may have all the runtime's.
    pub(super) fn tick(&self, engine: &Engine) {
        while self.wait_for_guests() {
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    }

    /// True when a guest runs, false when there will be none any more.
    fn wait_for_guests(&self) -> bool {
        let idle = |state: &mut State| state.guests == 0 && !state.is_stopped;
        let state = self.0.changed.wait_while(self.state(), idle);
        state.unwrap_or_else(PoisonError::into_inner).guests > 0
    }

    /// A guest runs until the answer is dropped.
    pub(super) fn guest(&self) -> Running {
        let mut state = self.state();
        state.guests += 1;
        if state.guests == 1 {
            self.0.changed.notify_one();
        }
        drop(state);
        Running(self.clone())
    }

    /// Ticks no longer than there are guests.
    pub(super) fn stop(&self) {
        self.state().is_stopped = true;
        self.0.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest that runs.
#[derive(Debug)]
pub(super) struct Running(Clock);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state().guests -= 1;
    }
}
