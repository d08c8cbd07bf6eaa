//! Bytes that the host holds for one guest. Handles of compare-and-set keep the value that they
//! saw; the guest's own limit on memory does not count them, so they are counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fault::{Answer, Fault};

/// What one guest may have: so much in one answer, and as much in all its handles. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    held: Arc<AtomicUsize>,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Arc::default() }
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Counts `bytes` until the answer is dropped.
    pub(crate) fn hold(&self, bytes: usize) -> Answer<Held> {
        let before = self.held.fetch_add(bytes, Ordering::AcqRel);
        // Counted at once: a refusal gives the bytes back when it is dropped.
        let held = Held { bytes, budget: self.clone() };
        let sum = before.saturating_add(bytes);
        if sum <= self.bytes_max {
            return Ok(held);
        }
        Err(Fault::Quota(format!(
            "the handles of compare-and-set hold {sum} bytes, over the limit of {} bytes: drop some",
            self.bytes_max
        )))
    }
}

/// Bytes that are counted.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    budget: Budget,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
