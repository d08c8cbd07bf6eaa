//! The contract over the store in memory.

use std::sync::Arc;

use jetbridge_core::MemoryBackend;
use jetbridge_testkit::Fixture;

async fn open() -> Fixture {
    let backend = Arc::new(MemoryBackend::new());
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::contract!(open);

/// Acknowledgements are all that can be lost on the way to a store in this process.
mod stormy {
    use std::sync::Arc;

    use jetbridge_core::MemoryBackend;
    use jetbridge_testkit::{Faults, Fixture};

    async fn open() -> Fixture {
        let faults = Faults::script([]).only(&["bus.append", "kv.put", "object.put"]);
        let backend = faults.around(Arc::new(MemoryBackend::new()));
        Fixture::new(Arc::clone(&backend), backend, ()).with_storm(Arc::new(faults))
    }

    jetbridge_testkit::storm_contract!(open);
}
