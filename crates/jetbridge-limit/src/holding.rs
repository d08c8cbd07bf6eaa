//! The slots that callers of this process have, and for how long that is certain.
//!
//! What is here is the truth about this process; the store follows it. How long a lease is
//! certain is reckoned from the moment before its write was sent, on the monotonic clock, and a
//! tenth of it is left to the error of other processes' clocks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge_core::{Error, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A lease is renewed when this part of it has passed, which leaves time for two more attempts.
const RENEW_AFTER: u32 = 3;
/// The part of a lease that is left to the error of clocks.
const MARGIN: u32 = 10;

/// One lease of this process, from its first slot until it has none or the lease is lost.
#[derive(Debug)]
pub(crate) struct Lease {
    certain_until: Mutex<Instant>,
    lost: CancellationToken,
}

impl Lease {
    pub(crate) fn new() -> Arc<Self> {
        let (certain_until, lost) = (Mutex::new(Instant::now()), CancellationToken::new());
        Arc::new(Self { certain_until, lost })
    }

    fn certain_until(&self) -> Instant {
        *self.certain_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True as long as no other process can have taken the slots.
    pub(crate) fn is_certain(&self) -> bool {
        !self.lost.is_cancelled() && Instant::now() < self.certain_until()
    }

    /// Resolves when that is no longer so.
    pub(crate) async fn lost(&self) {
        while self.is_certain() {
            tokio::select! {
                () = self.lost.cancelled() => {}
                () = tokio::time::sleep_until(self.certain_until()) => {}
            }
        }
    }
}

/// Slots that come back.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) slots: u32,
    pub(crate) lease: Arc<Lease>,
    /// Who wants to know that the store has it.
    pub(crate) done: Option<oneshot::Sender<Result<(), Arc<Error>>>>,
}

/// What one limiter's callers in this process hold.
#[derive(Debug)]
pub(crate) struct Holding {
    /// Its name among the holders.
    pub(crate) id: String,
    pub(crate) lease: Arc<Lease>,
    /// How long a lease lasts.
    span: Duration,
    pub(crate) slots: u32,
    /// The store may have something else.
    pub(crate) dirty: bool,
    renew_at: Instant,
    acks: Vec<oneshot::Sender<Result<(), Arc<Error>>>>,
}

impl Holding {
    pub(crate) fn new(span: Duration) -> Self {
        Self {
            id: jetbridge_core::random::name(),
            lease: Lease::new(),
            span,
            slots: 0,
            dirty: false,
            renew_at: Instant::now(),
            acks: Vec::new(),
        }
    }

    pub(crate) fn span_ns(&self) -> u64 {
        u64::try_from(self.span.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes slots back; those of a lease that was lost are gone already.
    pub(crate) fn release(&mut self, released: Released) {
        if Arc::ptr_eq(&released.lease, &self.lease) {
            self.slots = self.slots.saturating_sub(released.slots);
            self.dirty = true;
            self.acks.extend(released.done);
        } else if let Some(done) = released.done {
            // Whoever gave up waiting for it needs no answer.
            drop(done.send(Ok(())));
        }
    }

    /// Finds out whether the slots are still this process's, by what the store lists.
    pub(crate) fn check(&mut self, listed: bool, now: Instant) {
        if self.slots > 0 && (!listed || now >= self.lease.certain_until()) {
            tracing::warn!(slots = self.slots, "the lease of a limiter's slots was lost");
            self.lease.lost.cancel();
            self.lease = Lease::new();
            self.slots = 0;
            self.dirty = listed;
        }
    }

    /// When the store must hear of this process again; `None` without slots.
    pub(crate) fn renew_at(&self) -> Option<Instant> {
        (self.slots > 0).then_some(self.renew_at)
    }

    /// The store has `slots`, by a write that was sent after `sent`.
    pub(crate) fn written(&mut self, sent: Instant, slots: u32) {
        let certain = sent + self.span - self.span / MARGIN;
        *self.lease.certain_until.lock().unwrap_or_else(PoisonError::into_inner) = certain;
        self.renew_at = sent + self.span / RENEW_AFTER;
        (self.slots, self.dirty) = (slots, false);
        for done in self.acks.drain(..) {
            drop(done.send(Ok(())));
        }
    }

    /// The store could not be told.
    pub(crate) fn failed(&mut self, error: &Arc<Error>) {
        for done in self.acks.drain(..) {
            drop(done.send(Err(Arc::clone(error))));
        }
    }

    /// There is no use in telling the store for a while: the lease will end by itself.
    pub(crate) fn snooze(&mut self) {
        self.dirty = false;
        self.renew_at = Instant::now() + self.span / MARGIN;
    }
}
