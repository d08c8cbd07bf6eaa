//! The contract over a directory, opened twice as two processes would.

use std::sync::Arc;

use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_testkit::Fixture;

async fn open() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let backend = LocalBackend::open(&path, LocalOptions::default()).await.unwrap();
    let peer = LocalBackend::open(&path, LocalOptions::default()).await.unwrap();
    Fixture::new(Arc::new(backend), Arc::new(peer), dir)
}

jetbridge_testkit::contract!(open);
