//! A store under test, and connectors on it.

use std::sync::Arc;

use jetbridge::connector::{Connector, ConnectorBuilder};
use jetbridge::core::{Backend, MemoryBackend};
use jetbridge::settings::{Dialect, Environment, NatsSettings, Source, parse_pairs, read};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// A store of its own for one case.
pub(crate) enum Place {
    Local(TempDir),
    Memory(Arc<MemoryBackend>),
    Nats(NatsServer),
}

impl Place {
    pub(crate) async fn memory() -> Self {
        Self::Memory(Arc::new(MemoryBackend::new()))
    }

    pub(crate) async fn local() -> Self {
        Self::Local(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn nats(release: Release) -> Self {
        Self::Nats(NatsServer::start(release, ServerOptions::new()).await)
    }

    /// Another connection to the store, as another process would have it where there can be one.
    pub(crate) async fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Self::Memory(backend) => Arc::clone(backend) as _,
            Self::Nats(server) => jetbridge::connect(server.url()).await.unwrap(),
            Self::Local(directory) => {
                let url = format!("local:{}", directory.path().display());
                jetbridge::connect(url).await.unwrap()
            }
        }
    }

    /// A connector with the defaults.
    pub(crate) async fn connector(&self) -> Connector {
        Connector::new(self.backend().await)
    }

    /// A connector with settings.
    pub(crate) async fn build(&self, builder: ConnectorBuilder) -> Connector {
        builder.build(self.backend().await).unwrap()
    }

    /// A connector whose end is not the end of the store for others.
    pub(crate) async fn build_anew(&self, builder: ConnectorBuilder) -> Connector {
        match self {
            Self::Memory(_) => builder.build(Arc::new(MemoryBackend::new())).unwrap(),
            Self::Local(_) | Self::Nats(_) => self.build(builder).await,
        }
    }

    /// A connector by evo's settings, with `pairs` in `KEY=value` lines; the server's address is
    /// added.
    pub(crate) async fn by_settings(&self, pairs: &str) -> Connector {
        match self {
            Self::Local(_) | Self::Memory(_) => {
                self.build(Connector::builder().settings(&evo_settings(pairs))).await
            }
            Self::Nats(server) => {
                let settings = evo_settings(&format!("NATS.SERVER={}\n{pairs}", server.url()));
                Connector::from_settings(&settings).await.unwrap()
            }
        }
    }

    /// Stops the server, if there is one to stop.
    pub(crate) fn kill(&self) {
        match self {
            Self::Local(_) | Self::Memory(_) => {}
            Self::Nats(server) => server.kill(),
        }
    }

    /// Starts the server again, killing it first if it runs.
    pub(crate) async fn restart(&self) {
        match self {
            Self::Local(_) | Self::Memory(_) => {}
            Self::Nats(server) => server.restart().await,
        }
    }

    /// True if the store is another process that connections reach over the network.
    pub(crate) fn has_server(&self) -> bool {
        match self {
            Self::Local(_) | Self::Memory(_) => false,
            Self::Nats(_) => true,
        }
    }
}

/// evo's settings as `KEY=value` lines.
pub(crate) fn evo_settings(pairs: &str) -> NatsSettings {
    let root = parse_pairs("app.env", pairs).unwrap();
    read(Dialect::Evo, &[Source::evo(&root)], &Environment::default()).unwrap()
}

/// What evo's page keeps under `user:1`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) age: u8,
}

pub(crate) fn ada() -> User {
    User { name: "Ada".into(), age: 36 }
}
