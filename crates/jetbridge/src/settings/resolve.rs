//! Which of the places that can name a store does: flags, variables, the file, the default.

use std::fmt::{self, Display};

use jetbridge_core::Result;
use jetbridge_nats::ConnectOptions;

use super::environment::Environment;
use super::location::{Location, StoreUrl};
use super::place::{Place, Problem};
use super::url::ServerList;

/// What the user wrote about the store, beside the variables.
#[derive(Clone, Debug, Default)]
pub struct StoreRequest {
    store: Option<String>,
    context: Option<String>,
}

impl StoreRequest {
    /// Nothing was written: variables or the default decide.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `--store`.
    #[must_use]
    pub fn store(mut self, url: Option<String>) -> Self {
        self.store = url;
        self
    }

    /// The value of `--context`.
    #[must_use]
    pub fn context(mut self, name: Option<String>) -> Self {
        self.context = name;
        self
    }
}

/// A store's place, who named it, and what the user should know about it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// Where the store is.
    pub location: Location,
    /// Who said so.
    pub origin: Origin,
    /// Lines to announce once, on standard error.
    pub notices: Vec<String>,
    /// Lines to warn with: settings that contradict each other or do nothing.
    pub warnings: Vec<String>,
}

/// Who said where the store is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody: it is the default.
    Default,
    /// A flag, a variable or a file.
    Written(Place),
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::Written(place) => place.fmt(f),
        }
    }
}

/// The directory of the embedded store when nobody names a store.
const DIRECTORY_DEFAULT: &str = "./jetbridge-data";

/// The variables that name a store, first come, first served.
const VARIABLES: &[&str] = &["JETBRIDGE_STORE", "NATS_CONTEXT", "NATS_URL", "NATS_SERVER"];

/// Finds the store: `--store` or `--context`, `JETBRIDGE_STORE`, `NATS_CONTEXT`, `NATS_URL`,
/// `NATS_SERVER`, else `local:./jetbridge-data` with a notice.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if `--store` and `--context` are
/// both given, or what is written cannot be read.
pub fn resolve(request: &StoreRequest, environment: &Environment) -> Result<Resolved> {
    match (&request.store, &request.context) {
        (Some(_), Some(_)) => Err(Problem::new("`--store` and `--context` exclude each other")
            .hint("give one of them")
            .into_error(None)),
        (Some(store), None) => written(store, Place::argument("--store")),
        (None, Some(name)) => written(&format!("context:{name}"), Place::argument("--context")),
        (None, None) => from_variables(environment),
    }
}

fn from_variables(environment: &Environment) -> Result<Resolved> {
    let found = VARIABLES.iter().find_map(|name| Some((*name, environment.get(name)?)));
    match found {
        Some(("NATS_CONTEXT", name)) => {
            written(&format!("context:{name}"), Place::variable("NATS_CONTEXT"))
        }
        Some((name, store)) => written(store, Place::variable(name)),
        None => Ok(Resolved {
            location: Location::local(DIRECTORY_DEFAULT),
            origin: Origin::Default,
            notices: vec![format!(
                "no store given: using the embedded store in {DIRECTORY_DEFAULT} \
                 (choose with --store, --context or JETBRIDGE_STORE)"
            )],
            warnings: Vec::new(),
        }),
    }
}

fn written(url: &str, place: Place) -> Result<Resolved> {
    let location = match StoreUrl::parse(url).map_err(|problem| problem.at(&place))? {
        StoreUrl::Location(location) => location,
        StoreUrl::Servers(list) => Location::Nats(Box::new(options(list))),
        StoreUrl::Context(_) => {
            return Err(Problem::new("contexts cannot be read yet").at(&place));
        }
    };
    Ok(Resolved {
        location,
        origin: Origin::Written(place),
        notices: Vec::new(),
        warnings: Vec::new(),
    })
}

fn options(list: ServerList) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.servers = list.servers;
    if let Some(login) = list.login {
        options.auth = login.into_auth();
    }
    options
}
