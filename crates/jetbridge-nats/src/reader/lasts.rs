//! How the delivery of the last messages of all subjects goes. Servers miscount what is still to
//! come when messages are overwritten meanwhile, so their word is taken only if none was.

#[derive(Debug)]
pub(super) struct Lasts {
    /// How many there were at the beginning.
    initial: u64,
    received: u64,
    in_order: bool,
}

impl Lasts {
    /// Of `initial` messages none has come.
    pub(super) fn new(initial: u64) -> Self {
        Self { initial, received: 0, in_order: true }
    }

    /// One has come, behind `before`.
    pub(super) fn count(&mut self, sequence: u64, before: Option<u64>) {
        self.received += 1;
        self.in_order &= before.is_none_or(|before| sequence > before);
    }

    /// True if as many were delivered as there were, in order.
    pub(super) fn are_complete(&self) -> bool {
        self.received == self.initial && self.in_order
    }
}
