//! The turns of callers that already wait for a permit: when one goes away, everybody behind it
//! who asked for as many moves up, and the last turn is free.
//!
//! Only permits change hands, never their times: each is still used once, and in the time in
//! which it is good. So it makes no difference to the limiter's promise who uses it.

use std::mem::swap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::message::Unused;

/// Most callers that move up by one turn: each is woken for it. Those behind keep their times.
const MOVED_MAX: usize = 1_024;
/// Turns are looked through for those that are over when there are so many, and when there are
/// twice as many as were left then.
const PRUNED_FIRST: usize = 64;

/// Permits that a caller waits for, or holds until it is known whether it wants them.
#[derive(Debug)]
pub(crate) struct Turn {
    unused: Mutex<Option<Unused>>,
    moved: Notify,
}

impl Turn {
    pub(crate) fn new(unused: Unused) -> Self {
        Self { unused: Mutex::new(Some(unused)), moved: Notify::new() }
    }

    /// Waits until the permits may be used, and takes them; `None` if they were taken already.
    pub(crate) async fn wait(&self) -> Option<Unused> {
        loop {
            // Looked at first: a timer that is due already may still take its millisecond.
            let ready = self.ready()?;
            if ready <= Instant::now() {
                return self.take();
            }
            tokio::select! {
                () = sleep_until(ready) => {}
                () = self.moved.notified() => {}
            }
        }
    }

    pub(crate) fn take(&self) -> Option<Unused> {
        self.unused().take()
    }

    /// When the permits may be used; `None` if they were taken.
    pub(crate) fn ready(&self) -> Option<Instant> {
        self.unused().as_ref().map(|own| own.ready)
    }

    /// The same, if that is still to come.
    fn due(&self, now: Instant) -> Option<Instant> {
        self.ready().filter(|ready| *ready > now)
    }

    /// Takes `given` if that is due sooner, and leaves its own in its place; false if it is not.
    /// Slots stay with who has them.
    fn exchange(&self, given: &mut Unused, now: Instant) -> bool {
        let mut unused = self.unused();
        let sooner = |own: &&mut Unused| {
            own.taken.cost == given.taken.cost && own.ready > given.ready && own.ready > now
        };
        let Some(own) = unused.as_mut().filter(sooner) else { return false };
        swap(&mut own.taken, &mut given.taken);
        swap(&mut own.ready, &mut given.ready);
        swap(&mut own.expires, &mut given.expires);
        swap(&mut own.decision, &mut given.decision);
        drop(unused);
        self.moved.notify_one();
        true
    }

    fn unused(&self) -> MutexGuard<'_, Option<Unused>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turns of one limiter's callers in this process, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: Vec<Weak<Turn>>,
    /// How many there may be before they are looked through.
    pruned_at: usize,
    /// When the last of them is due.
    until: Option<Instant>,
}

impl Turns {
    /// Adds a turn that is still to come.
    pub(crate) fn add(&mut self, turn: &Arc<Turn>, now: Instant) {
        let Some(due) = turn.due(now) else { return };
        if self.waiting.len() >= self.pruned_at.max(PRUNED_FIRST) {
            self.prune(now);
            self.pruned_at = self.waiting.len() * 2;
        }
        self.until = self.until.max(Some(due));
        self.waiting.push(Arc::downgrade(turn));
    }

    /// Until when somebody waits.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Hands `given` to the first who gets its turn sooner by it, what that one had to the next,
    /// and so on; returns what is left.
    pub(crate) fn move_up(&mut self, mut given: Unused, now: Instant) -> Unused {
        let (mut moved, mut last) = (0, None);
        for turn in self.waiting.iter().filter_map(Weak::upgrade) {
            // What is no good any more is no good to anybody.
            if given.expires >= now && moved < MOVED_MAX {
                moved += usize::from(turn.exchange(&mut given, now));
            }
            last = last.max(turn.due(now));
        }
        self.until = last;
        given
    }

    fn prune(&mut self, now: Instant) {
        let waits = |turn: &Weak<Turn>| turn.upgrade().is_some_and(|it| it.due(now).is_some());
        self.waiting.retain(waits);
    }
}
