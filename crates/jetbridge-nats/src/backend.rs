//! [`NatsBackend`]: one account on nats-server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;

use jetbridge_core::{BucketName, Bus, ConnectionState, Objects, Result, StopReport};

use crate::api::Api;
use crate::bus::NatsBus;
use crate::connect::connect;
use crate::link::Link;
use crate::object::{NatsObjects, Shelf};
use crate::options::ConnectOptions;
use crate::probe::Probe;

/// A NATS account, reached through one connection.
pub struct NatsBackend {
    api: Api,
    probe: Probe,
}

impl fmt::Debug for NatsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBackend").field("link", self.link()).finish_non_exhaustive()
    }
}

impl fmt::Display for NatsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.link().location())
    }
}

impl NatsBackend {
    /// Connects. With [`ConnectOptions::connect_in_background`] it returns at once and what needs
    /// the server waits for it.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let link = connect(options).await?;
        let api = Api::new(link, options.domain.as_deref(), options.api_prefix.as_deref())?;
        let backend = Self { api, probe: Probe::new() };
        if !options.connect_in_background && backend.jetstream_is_near() {
            let call = backend.link().repeatable("nats.connect");
            // A user without that permission, or a server that is still starting, is no reason
            // not to connect: the version stands in until a stream says more.
            drop(backend.probe.ask(&backend.api, &call).await);
        }
        Ok(backend)
    }

    /// The client itself, for what the seam does not have. Its requests do not share this crate's
    /// promises.
    pub fn client(&self) -> &async_nats::Client {
        self.link().client()
    }

    /// A bucket of objects that is there.
    pub async fn open_objects(&self, bucket: &BucketName) -> Result<Arc<dyn Objects>> {
        let shelf = Shelf::find(&self.api, bucket, "objects.open").await?;
        Ok(Arc::new(NatsObjects::new(shelf)))
    }

    /// Subjects and streams.
    pub fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(NatsBus::new(self.api.clone()))
    }

    /// The state of the connection now, then every change of it.
    pub fn connection(&self) -> BoxStream<'static, ConnectionState> {
        self.link().states()
    }

    /// Waits for what is on its way, joins every task and closes the connection, within `grace`.
    pub async fn close(&self, grace: Duration) -> StopReport {
        let (tasks, requests) = self.link().close(grace).await;
        StopReport::new(tasks, requests)
    }

    fn link(&self) -> &Link {
        self.api.link()
    }

    /// Whether the server at the other end of the socket says that it has JetStream. Others of
    /// its cluster may have it when it does not.
    fn jetstream_is_near(&self) -> bool {
        self.client().server_info().jetstream
    }
}
