//! The engine that guests run on.

use jetbridge_core::{Error, ErrorKind, Result};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::handler::GUESTS_MAX;
use super::program::told;

/// Guests beside those that answer requests, such as one that watches.
const OTHERS_MAX: usize = 16;
/// What one guest may consist of where its room is used again: memories, tables and core instances.
const MEMORIES_EACH: u32 = 2;
const TABLES_EACH: u32 = 8;
const INSTANCES_EACH: u32 = 64;
/// Elements of one table there. Only addresses are set aside for it.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// Bytes that an instance may take for itself; nothing is set aside.
const INSTANCE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a memory, a table and a stack that are overwritten for the next guest. What lies beyond
/// is given back to the system. More than a small guest uses would take longer to overwrite.
const MEMORY_KEPT_BYTES: usize = 64 * 1024;
const TABLE_KEPT_BYTES: usize = 4 * 1024;
const STACK_KEPT_BYTES: usize = 16 * 1024;

/// An engine. If guests come and go, what they run in is used again, unless this machine has not
/// enough addresses for that.
pub(super) fn engine(reuse: bool) -> Result<Engine> {
    if reuse {
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        match Engine::new(&config) {
            Ok(engine) => return Ok(engine),
            Err(error) => tracing::debug!("guests run in new memory each: {error:#}"),
        }
    }
    Engine::new(&config())
        .map_err(|error| Error::new(ErrorKind::Unsupported, "wasi.start").caused_by(told(error)))
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true).epoch_interruption(true);
    config
}

fn pool() -> PoolingAllocationConfig {
    let guests = u32::try_from(GUESTS_MAX + OTHERS_MAX).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_stacks(guests)
        .total_core_instances(guests * INSTANCES_EACH)
        .total_memories(guests * MEMORIES_EACH)
        .total_tables(guests * TABLES_EACH)
        .max_tables_per_module(TABLES_EACH)
        .max_memories_per_module(MEMORIES_EACH)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .linear_memory_keep_resident(MEMORY_KEPT_BYTES)
        .table_keep_resident(TABLE_KEPT_BYTES)
        .async_stack_keep_resident(STACK_KEPT_BYTES);
    pool
}

#[cfg(test)]
mod tests {
    use crate::host::{Host, HostOpts};

    use super::*;

    fn kind(module: &str, reuse: bool) -> Option<ErrorKind> {
        let text =
            format!("(component (core module $m {module}) (core instance (instantiate $m)))");
        let host = Host::new(HostOpts { reuse, ..HostOpts::default() }).unwrap();
        host.load("guest", &wat::parse_str(text).unwrap()).err().map(|error| error.kind())
    }

    #[tokio::test]
    async fn what_does_not_fit_into_a_room_that_is_used_again_is_refused_at_once() {
        let tables = |elements: usize| format!("(table {elements} funcref)");
        assert_eq!(kind(&tables(TABLE_ELEMENTS_MAX), true), None);
        let too_large = tables(TABLE_ELEMENTS_MAX + 1);
        assert_eq!(kind(&too_large, true), Some(ErrorKind::InvalidInput));
        assert_eq!(kind(&too_large, false), None);
        assert_eq!(kind(&"(memory 1)".repeat(2), true), None);
        assert_eq!(kind(&"(memory 1)".repeat(3), true), Some(ErrorKind::InvalidInput));
    }
}
