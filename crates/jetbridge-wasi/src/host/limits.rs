//! What a guest may use up, and the errors that name it.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

/// Memory of a guest by default, in bytes: what a Python guest needs, several times over.
const MEMORY_BYTES_DEFAULT: usize = 512 * 1024 * 1024;
/// Bytes that an element of a table takes at most: a pointer, in a vector that may have room for
/// as many again.
const TABLE_ELEMENT_BYTES: usize = 16;
/// How long a guest that computes keeps a thread before others have it.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// What one instance of a guest may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of memory, tables included.
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
    Time { max: Duration },
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { wanted, max } => write!(
                f,
                "the guest asked for {wanted} bytes of memory, over its limit of {max} bytes"
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
            Self::Time { .. } => "time",
        }
    }
}

/// The memory of one guest: the memories and tables of all of its instances together.
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

impl Memory {
    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let wanted = self.bytes.saturating_add(bytes);
        if wanted <= self.bytes_max {
            self.bytes = wanted;
            return Ok(true);
        }
        // A plain no would let the guest fail in its own words, without the limit's name.
        Err(Exceeded::Memory { wanted, max: self.bytes_max }.into())
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES))
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

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    const MIB: usize = 1 << 20;

    /// What a guest of `module` with 64 MiB comes to, as the name of the limit that ended it.
    fn ended_by(module: &str) -> Option<&'static str> {
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(module).unwrap()).unwrap();
        let mut store = Store::new(&engine, Memory::new(64 * MIB));
        store.limiter(|memory| memory);
        let ran = Instance::new(&mut store, &module, &[]);
        ran.err().map(|error| error.downcast_ref::<Exceeded>().unwrap().limit())
    }

    #[test]
    fn tables_are_memory_too() {
        let tables = |number: usize, elements: usize| {
            format!("(module {})", format!("(table {elements} funcref)").repeat(number))
        };
        assert_eq!(ended_by(&tables(1, 1_000_000)), None);
        assert_eq!(ended_by(&tables(100, 1_000_000)), Some("memory"), "all of them together");
        assert_eq!(ended_by(&tables(1, 5_000_000)), Some("memory"));
        let grows = "(module (table $t 1 funcref) (start $s) (func $s
            (drop (table.grow $t (ref.null func) (i32.const 5000000)))))";
        assert_eq!(ended_by(grows), Some("memory"));
        let both = "(module (memory 900) (table 600000 funcref))";
        assert_eq!(ended_by(both), Some("memory"), "memories and tables together");
        assert_eq!(ended_by("(module (memory 900) (table 300000 funcref))"), None);
    }
}
