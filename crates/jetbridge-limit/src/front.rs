//! What callers see of a limiter without asking its task.

use crate::standing::Standing;
use crate::stock::Stock;

/// The last denial, and the permits in hand, of a limiter that is in use.
#[derive(Debug, Default)]
pub(crate) struct Front {
    pub(crate) standing: Standing,
    pub(crate) stock: Stock,
}

impl Front {
    /// The limiter was reset.
    pub(crate) fn clear(&self) {
        self.standing.clear();
        self.stock.clear();
    }
}
