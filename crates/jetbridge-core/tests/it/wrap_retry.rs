//! A store whose users are patient.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::MemoryBackend;
use jetbridge_core::wrap::{Layered, Retry};
use jetbridge_testkit::Fixture;

async fn open() -> Fixture {
    let backend = Arc::new(Layered::new(
        Arc::new(MemoryBackend::new()),
        Retry::within(Duration::from_secs(5)),
    ));
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::kv_contract!(open);
jetbridge_testkit::object_contract!(open);
jetbridge_testkit::bus_contract!(open);
jetbridge_testkit::backend_contract!(open);
