//! From evo's settings to a connector.

use std::path::Path;

use jetbridge_core::Result;

use super::{Connector, ConnectorBuilder};
use crate::settings::{
    Dialect, Environment, Expansion, Location, NatsSettings, Source, read, read_file,
};

impl Connector {
    /// Connects by the `NATS_*` variables of the process; what they leave open is as
    /// `docs/guide/connector.md` prints it. Errors as [`connect`](crate::connect()).
    pub async fn from_env() -> Result<Self> {
        let environment = Environment::of_process();
        let sources = [Source::variables(&environment)];
        Self::from_settings(&read(Dialect::Evo, &sources, &environment)?).await
    }

    /// Connects by the settings of a file, `NATS.KEY=value` lines or YAML with a map called
    /// `nats`, and by the `NATS_*` variables for what it leaves open. Errors as
    /// [`connect`](crate::connect()), with file, line and column.
    pub async fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let environment = Environment::of_process();
        let mut root = read_file(path.as_ref())?;
        root.expand(&environment, Expansion::Braces)?;
        let sources = [Source::variables(&environment), Source::evo(&root)];
        Self::from_settings(&read(Dialect::Evo, &sources, &environment)?).await
    }

    /// Connects by `settings`. What contradicts itself in them is a warning in the log.
    pub async fn from_settings(settings: &NatsSettings) -> Result<Self> {
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let location = Location::Nats(Box::new(settings.connect.clone()));
        Self::builder().settings(settings).build(crate::connect(location).await?)
    }
}

impl ConnectorBuilder {
    /// Takes the default bucket and the drain timeout from `settings`.
    pub fn settings(mut self, settings: &NatsSettings) -> Self {
        if let Some(bucket) = &settings.bucket {
            self = self.default_bucket(bucket);
        }
        if let Some(timeout) = settings.drain_timeout {
            self = self.drain_timeout(timeout);
        }
        self
    }
}
