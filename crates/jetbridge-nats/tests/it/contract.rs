//! The stores that the contract runs over.

use std::sync::Arc;

use jetbridge_core::Backend;
use jetbridge_testkit::{Fixture, NatsServer, Release, ServerOptions};

use crate::store::connect;

/// A row of the contract's matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    /// One server.
    Single(Release),
}

impl Row {
    /// Two connections to a fresh store.
    pub(crate) async fn open(self) -> Fixture {
        match self {
            Self::Single(release) => {
                let server = NatsServer::start(release, ServerOptions::new()).await;
                let ours: Arc<dyn Backend> = Arc::new(connect(&server).await);
                let peers: Arc<dyn Backend> = Arc::new(connect(&server).await);
                Fixture::new(ours, peers, server)
            }
        }
    }
}
