//! What a guest may use up, and the errors that name it.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

/// Memory of a guest by default, in bytes: what a Python guest needs, several times over.
const MEMORY_BYTES_DEFAULT: usize = 512 * 1024 * 1024;
/// Elements of a guest's tables: far beyond what compilers emit.
const TABLE_ELEMENTS_MAX: usize = 1_000_000;
/// How long a guest that computes keeps a thread before others have it.
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

/// A guest was ended because its host closes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the guest was ended: its host closes")
    }
}

impl std::error::Error for Closed {}

impl Exceeded {
    /// The limit's name.
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::Memory { .. } => "memory",
            Self::Table { .. } => "table",
            Self::Time { .. } => "time",
        }
    }
}

/// The memory of one guest, all of its instances together.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: usize,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0 }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.bytes.saturating_add(desired.saturating_sub(current));
        if wanted <= self.bytes_max {
            self.bytes = wanted;
            return Ok(true);
        }
        // A plain no would let the guest fail in its own words, without the limit's name.
        Err(Exceeded::Memory { wanted, max: self.bytes_max }.into())
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

/// Makes the guest of `store` give way to others at each tick of the engine.
pub(super) fn give_way<T>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
}

/// Runs a guest for as long as it may run, be it that it computes or that it waits.
pub(super) async fn within<R>(
    time: Option<Duration>,
    guest: impl Future<Output = wasmtime::Result<R>>,
) -> wasmtime::Result<R> {
    let Some(max) = time else { return guest.await };
    let ended = tokio::time::timeout(max, guest).await;
    ended.unwrap_or_else(|_elapsed| Err(Exceeded::Time { max }.into()))
}
