//! A server and a connection to it.

use std::time::Duration;

use jetbridge_core::Backend as _;
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

pub(crate) const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Store {
    pub(crate) server: NatsServer,
    pub(crate) backend: NatsBackend,
}

impl Store {
    pub(crate) async fn start(release: Release) -> Self {
        let server = NatsServer::start(release, ServerOptions::default()).await;
        let backend = connect(&server).await;
        Self { server, backend }
    }

    /// Closes the connection, which must leave nothing running.
    pub(crate) async fn close(self) {
        let report = self.backend.close(GRACE).await;
        assert!(report.is_clean(), "{report:?}");
    }
}

pub(crate) async fn connect(server: &NatsServer) -> NatsBackend {
    let mut options = ConnectOptions::default();
    options.servers = vec![server.url()];
    // Acknowledgements of before a restart find nobody; the tests need not wait long for that.
    options.request_timeout = Duration::from_secs(2);
    NatsBackend::connect(&options).await.unwrap()
}
