//! A store whose users are patient.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::MemoryBackend;
use jetbridge_core::wrap::{Layered, Retry};
use jetbridge_testkit::Fixture;

async fn open() -> Fixture {
    let store = Arc::new(MemoryBackend::new());
    let retry = Retry::within(Duration::from_secs(5));
    let backend = Layered::new(Arc::clone(&store) as _, retry);
    Fixture::new(Arc::new(backend), Arc::new(Layered::new(store, retry)), ())
}

jetbridge_testkit::kv_contract!(open);
jetbridge_testkit::object_contract!(open);
