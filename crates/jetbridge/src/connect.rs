//! From a [`Location`] to a store. The one place that knows every backend, and nothing else does.

use std::sync::Arc;

use jetbridge_core::{Backend, Error, ErrorKind, MemoryBackend, Result, Secret};
use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_nats::{Auth, NatsBackend};

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
        Location::Local { directory, durability } => {
            let mut options = LocalOptions::default();
            options.durability = durability;
            Ok(Arc::new(LocalBackend::open(directory, options).await?))
        }
        Location::Memory => Ok(Arc::new(MemoryBackend::new())),
        Location::Nats(options) => match NatsBackend::connect(&options).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(name_login(error, &options.auth)),
        },
    }
}

/// Says which login a server refuses and what to look at: a user may have written several, and
/// only the settings knew which one is used.
fn name_login(error: Error, auth: &Auth) -> Error {
    if error.kind() != ErrorKind::PermissionDenied {
        return error;
    }
    let (login, hint) = match auth {
        Auth::Creds(_) => ("the text of a creds file".to_owned(), JWT_HINT),
        Auth::CredsFile(path) => (format!("the creds file {}", path.display()), JWT_HINT),
        Auth::Jwt { .. } => ("a user JWT".to_owned(), JWT_HINT),
        Auth::NkeyFile(path) => (format!("the nkey in {}", path.display()), NKEY_HINT),
        Auth::NkeySeed(_) => ("an nkey".to_owned(), NKEY_HINT),
        Auth::Token(_) => ("a token".to_owned(), "check the token"),
        Auth::UserPassword { user, .. } => {
            (format!("the user {user}"), "check the user's name and password")
        }
        _ => (
            "none".to_owned(),
            "write a login: a token, a user and password, an nkey or a creds file",
        ),
    };
    error.with("login", login).hint(hint)
}

const JWT_HINT: &str = "check that the JWT has not expired and that its account is one of this \
                        server's";
const NKEY_HINT: &str = "check that the server lists the public key of this nkey";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_named_and_not_shown() {
        let secret = || Secret::new("s3cr3t".to_owned());
        let user = "ann".to_owned();
        for (auth, login) in [
            (Auth::None, "none"),
            (Auth::Token(secret()), "a token"),
            (Auth::UserPassword { user, password: secret() }, "the user ann"),
            (Auth::NkeySeed(secret()), "an nkey"),
            (Auth::NkeyFile("a.nk".into()), "the nkey in a.nk"),
            (Auth::Jwt { jwt: secret(), seed: secret() }, "a user JWT"),
            (Auth::Creds(secret()), "the text of a creds file"),
            (Auth::CredsFile("a.creds".into()), "the creds file a.creds"),
        ] {
            let error = name_login(Error::new(ErrorKind::PermissionDenied, "nats.connect"), &auth);
            assert_eq!(error.fact("login"), Some(login));
            assert!(error.hint_text().is_some() && !format!("{error:?}").contains("s3cr3t"));
        }
        let error = Error::new(ErrorKind::Unavailable, "nats.connect");
        assert_eq!(name_login(error, &Auth::None).fact("login"), None);
    }
}
