//! The store in memory in a storm; the rest of the contract runs over it in `jetbridge-core`.

use std::sync::Arc;

use jetbridge_core::MemoryBackend;
use jetbridge_testkit::{Faults, Fixture};

/// Acknowledgements are all that can be lost on the way to a store in this process.
async fn open() -> Fixture {
    let faults = Faults::script([]).only(&["bus.append", "kv.put", "object.put"]);
    let backend = faults.around(Arc::new(MemoryBackend::new()));
    Fixture::new(Arc::clone(&backend), backend, ()).with_storm(Arc::new(faults))
}

jetbridge_testkit::storm_contract!(open);
