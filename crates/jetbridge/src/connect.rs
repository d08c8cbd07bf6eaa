//! From a [`Location`] to a store. The one place that knows every backend, and nothing else does.

use std::sync::Arc;

use jetbridge_core::{Backend, Error, ErrorKind, MemoryBackend, Result};

use crate::settings::{Environment, Location, StoreRequest, resolve};

/// Opens the store at `location`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge_core::Result<()> {
/// use jetbridge::settings::Location;
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
/// [`InvalidInput`](ErrorKind::InvalidInput) if a directory or file is not what it should be.
pub async fn connect(location: &Location) -> Result<Arc<dyn Backend>> {
    match location {
        Location::Memory => Ok(Arc::new(MemoryBackend::new())),
        Location::Local { .. } | Location::Nats(_) => {
            Err(Error::new(ErrorKind::Unsupported, "store.connect")
                .because("this build has the store in memory alone")
                .with("store", location))
        }
    }
}

/// Opens the store that a URL names: `nats://host:4222`, `context:NAME`, `local:DIR` or
/// `memory:`. As for `--store`, the `NATS_*` variables of the process say what the URL does not.
/// What contradicts itself is a warning in the log.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge_core::Result<()> {
/// let store = jetbridge::connect_url("memory:").await?;
/// assert_eq!(store.status().await?.backend, "memory");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`resolve`] and [`connect`].
pub async fn connect_url(url: &str) -> Result<Arc<dyn Backend>> {
    let request = StoreRequest::new().store(Some(url.to_owned()));
    let resolved = resolve(&request, &Environment::of_process())?;
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    connect(&resolved.location).await
}
