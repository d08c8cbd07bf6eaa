//! What a guest may use up, and the errors that name it.

use std::fmt;
use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

/// Memory of a guest by default, in bytes: what a Python guest needs, several times over.
const MEMORY_BYTES_DEFAULT: usize = 512 * 1024 * 1024;
/// Elements of a guest's tables: far beyond what compilers emit.
const TABLE_ELEMENTS_MAX: usize = 1_000_000;
/// How often a running guest is looked at: its overtime, and how long it keeps a thread.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// What one instance of a guest may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: usize,
    /// Time from its start to its end, waiting included; `None` for no limit.
    pub time: Option<Duration>,
    /// Bytes of one answer of a store.
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: MEMORY_BYTES_DEFAULT,
            time: None,
            result_bytes: crate::RESULT_BYTES_MAX_DEFAULT,
        }
    }
}

/// Why a guest was ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Exceeded {
    Memory { wanted: usize, max: usize },
    Table { wanted: usize },
    Time { max: Duration },
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { wanted, max } => write!(
                f,
                "the guest asked for {wanted} bytes of memory, over its limit of {max} bytes"
            ),
            Self::Table { wanted } => write!(
                f,
                "the guest asked for a table of {wanted} elements, over the limit of \
                 {TABLE_ELEMENTS_MAX} elements"
            ),
            Self::Time { max } => {
                write!(f, "the guest ran for longer than its time limit of {max:?}")
            }
        }
    }
}

impl std::error::Error for Exceeded {}

/// The memory of one guest.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) bytes_max: usize,
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired <= self.bytes_max {
            return Ok(true);
        }
        // A plain no would let the guest fail in its own words, without the limit's name.
        Err(Exceeded::Memory { wanted: desired, max: self.bytes_max }.into())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired <= TABLE_ELEMENTS_MAX {
            return Ok(true);
        }
        Err(Exceeded::Table { wanted: desired }.into())
    }
}

/// Ends the guest of `store` when `time` is over; until then it makes room for others each tick.
pub(super) fn watch_time<T>(store: &mut Store<T>, time: Option<Duration>) {
    let started = Instant::now();
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| match time {
        Some(max) if started.elapsed() > max => Err(Exceeded::Time { max }.into()),
        _ => Ok(UpdateDeadline::Yield(1)),
    });
}
