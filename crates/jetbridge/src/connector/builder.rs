//! A connector's own settings, and their defaults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jetbridge_core::{Backend, BucketName, Key, Result, Subject};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::memo::Memo;
use super::{Connector, Inner};
use crate::codec::{Codec, Codecs};

/// The bucket of calls that name none, unless set otherwise.
const DEFAULT_BUCKET: &str = "default";
/// How long shutting down waits for handlers, unless set otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of a [`Connector`] to be.
///
/// ```
/// # use std::time::Duration;
/// use jetbridge::codec::Cbor;
/// use jetbridge::connector::Connector;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge::Result<()> {
/// let connector = Connector::builder()
///     .default_bucket("myapp")
///     .topic_prefix("shop.")
///     .key_prefix("shop:")
///     .codec(Cbor)
///     .drain_timeout(Duration::from_secs(10))
///     .build(jetbridge::connect("memory:").await?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is made before `build`"]
pub struct ConnectorBuilder {
    default_bucket: String,
    topic_prefix: String,
    key_prefix: String,
    codecs: Codecs,
    drain_timeout: Duration,
}

impl Default for ConnectorBuilder {
    fn default() -> Self {
        Self {
            default_bucket: DEFAULT_BUCKET.to_owned(),
            topic_prefix: String::new(),
            key_prefix: String::new(),
            codecs: Codecs::default(),
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

impl ConnectorBuilder {
    /// The bucket of calls that name none; by default `default`.
    pub fn default_bucket(mut self, name: impl Into<String>) -> Self {
        self.default_bucket = name.into();
        self
    }

    /// What goes before every topic and pattern, as it stands: `"shop."` with its dot.
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// What goes before every key.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// How values and messages are written, and read where they do not say; by default
    /// [`Json`](crate::codec::Json).
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.codecs = Codecs::new(Arc::new(codec));
        self
    }

    /// How long [`Connector::shutdown_on_signal`] takes at most; by default 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// The connector, on `backend`.
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the bucket is no name, or a prefix
    /// can begin no topic or key.
    pub fn build(self, backend: Arc<dyn Backend>) -> Result<Connector> {
        BucketName::parse(&self.default_bucket)?;
        Subject::parse(format!("{}x", self.topic_prefix))?;
        Key::parse(format!("{}x", self.key_prefix))?;
        Ok(self.assemble(backend))
    }

    /// The connector; names were looked at.
    pub(super) fn assemble(self, backend: Arc<dyn Backend>) -> Connector {
        let memo = Memo::new(
            Arc::clone(&backend),
            self.default_bucket,
            self.key_prefix,
            self.codecs.clone(),
        );
        Connector(Arc::new(Inner {
            bus: backend.bus(),
            backend,
            codecs: self.codecs,
            memo,
            topic_prefix: self.topic_prefix,
            drain_timeout: self.drain_timeout,
            closing: CancellationToken::new(),
            abandon: CancellationToken::new(),
            runners: Mutex::default(),
            report: OnceCell::new(),
        }))
    }
}
