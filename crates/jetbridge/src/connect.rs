//! From a [`Location`] to a store. The one place that knows every backend, and nothing else does.

use std::sync::Arc;

use jetbridge_core::{Backend, Error, ErrorKind, MemoryBackend, Result, Secret};

use crate::settings::{Environment, Location, StoreRequest, resolve};

/// What [`connect`] takes: a [`Location`], or the URL of one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Target {
    /// A place that settings have found.
    Location(Location),
    /// A store URL: `nats://host:4222`, `context:NAME`, `local:DIR` or `memory:`. As for
    /// `--store`, the `NATS_*` variables of the process say what it does not.
    Url(Secret<String>),
}

impl From<&Location> for Target {
    fn from(location: &Location) -> Self {
        Self::Location(location.clone())
    }
}

impl From<Location> for Target {
    fn from(location: Location) -> Self {
        Self::Location(location)
    }
}

impl From<&str> for Target {
    fn from(url: &str) -> Self {
        Self::Url(Secret::new(url.to_owned()))
    }
}

impl From<String> for Target {
    fn from(url: String) -> Self {
        Self::Url(Secret::new(url))
    }
}

/// Opens a store. What contradicts itself in the settings is a warning in the log.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge::Result<()> {
/// use jetbridge::settings::Location;
///
/// let store = jetbridge::connect("memory:").await?;
/// assert_eq!(store.status().await?.backend, "memory");
///
/// let store = jetbridge::connect(&Location::Memory).await?;
/// assert!(!store.capabilities().durable);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable) if no server answers,
/// [`PermissionDenied`](ErrorKind::PermissionDenied) if it refuses the login, and
/// [`InvalidInput`](ErrorKind::InvalidInput) if the URL cannot be read or a directory or file is
/// not what it should be.
pub async fn connect(target: impl Into<Target>) -> Result<Arc<dyn Backend>> {
    let location = match target.into() {
        Target::Location(location) => location,
        Target::Url(url) => {
            let request = StoreRequest::new().store(Some(url.expose().clone()));
            let resolved = resolve(&request, &Environment::of_process())?;
            for warning in &resolved.warnings {
                tracing::warn!("{warning}");
            }
            resolved.location
        }
    };
    match location {
        Location::Memory => Ok(Arc::new(MemoryBackend::new())),
        Location::Local { .. } | Location::Nats(_) => {
            Err(Error::new(ErrorKind::Unsupported, "store.connect")
                .because("this build has the store in memory alone")
                .with("store", location))
        }
    }
}
