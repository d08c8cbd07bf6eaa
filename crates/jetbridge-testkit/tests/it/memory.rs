//! The contract over the store in memory.

use std::sync::Arc;

use jetbridge_core::MemoryBackend;
use jetbridge_testkit::Fixture;

async fn open() -> Fixture {
    let backend = Arc::new(MemoryBackend::new());
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::contract!(open);
