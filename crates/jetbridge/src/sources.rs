//! Where templates read: each server that a call names is found by the settings and connected to
//! when it is first asked for, once for every place and login. What the template crate knows as a
//! name becomes a connection here, and nowhere else.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use jetbridge_core::{Backend, ErrorKind, Result, StopReport};
use jetbridge_nats::ConnectOptions;
use jetbridge_template::{Server, Sources};
use tokio::sync::OnceCell;

use crate::connect::connect;
use crate::settings::{
    Environment, Location, Resolved, StoreRequest, resolve, resolve_call, resolve_target,
    target_variable,
};

/// The stores that templates read, by what their calls name.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use jetbridge::StoreSources;
/// use jetbridge::settings::{Environment, StoreRequest};
/// use jetbridge::template::{Input, Options, render};
///
/// let request = StoreRequest::new().store(Some("memory:".to_owned()));
/// let sources = StoreSources::new(request, Environment::default());
/// let input = Input::new("t.yml", "a: 1\nb: (( grab a ))\n");
/// assert_eq!(render(vec![input], &Options::default(), &sources).await?.text, "a: 1\nb: 1\n");
/// assert!(sources.close(Duration::from_secs(1)).await.is_empty(), "nothing was opened");
/// # Ok(())
/// # }
/// ```
pub struct StoreSources {
    request: StoreRequest,
    environment: Environment,
    default_store: Option<Arc<dyn Backend>>,
    secret: BTreeSet<String>,
    timeout: Option<Duration>,
    in_background: bool,
    opened: Mutex<Vec<Opened>>,
    remarks: Mutex<Remarks>,
}

/// A place, and the connection to it once there is one.
#[derive(Clone)]
struct Opened {
    location: Location,
    store: Arc<OnceCell<Arc<dyn Backend>>>,
}

/// What the user should know about the stores that were found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Remarks {
    /// Lines to announce once.
    pub notices: Vec<String>,
    /// Lines to warn with.
    pub warnings: Vec<String>,
}

impl StoreSources {
    /// The default store is the one that `request` finds, when a call asks for it.
    pub fn new(request: StoreRequest, environment: Environment) -> Self {
        Self {
            request,
            environment,
            default_store: None,
            secret: BTreeSet::new(),
            timeout: None,
            in_background: false,
            opened: Mutex::default(),
            remarks: Mutex::default(),
        }
    }

    /// The default store is `store`, which stays its owner's to close.
    #[must_use]
    pub fn over(mut self, store: Arc<dyn Backend>) -> Self {
        self.default_store = Some(store);
        self
    }

    /// Values of these buckets must not be shown.
    #[must_use]
    pub fn secret(mut self, buckets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.secret.extend(buckets.into_iter().map(Into::into));
        self
    }

    /// The time to connect, and for each answer, whatever the settings say.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opening a server that nobody answers for succeeds, and it is tried for ever: for processes
    /// that outlive outages.
    #[must_use]
    pub fn in_background(mut self) -> Self {
        self.in_background = true;
        self
    }

    /// What the user should know, since the last time of asking.
    pub fn remarks(&self) -> Remarks {
        std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes every connection that was opened, within `grace`, and reports on each.
    pub async fn close(&self, grace: Duration) -> Vec<StopReport> {
        let opened = std::mem::take(&mut *self.opened());
        let stores: Vec<_> =
            opened.iter().filter_map(|opened| opened.store.get().cloned()).collect();
        join_all(stores.iter().map(|store| store.close(grace))).await
    }

    /// Finds the place that `server` names. Nothing is connected to.
    ///
    /// # Errors
    /// As those of [`resolve`], [`resolve_call`] and [`resolve_target`].
    pub fn locate(&self, server: &Server) -> Result<Location> {
        let resolved = match server {
            Server::Target(target) => resolve_target(target, &self.environment),
            Server::Settings(call) => resolve_call(call, &self.request, &self.environment),
            _ => resolve(&self.request, &self.environment),
        };
        let Resolved { mut location, notices, warnings, .. } = resolved?;
        if let Location::Nats(options) = &mut location {
            self.adjust(options);
        }
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |lines: &mut Vec<String>, new: Vec<String>| {
            lines.extend(new.into_iter().filter(|line| !lines.contains(line)).collect::<Vec<_>>());
        };
        add(&mut remarks.notices, notices);
        add(&mut remarks.warnings, warnings);
        Ok(location)
    }

    fn adjust(&self, options: &mut ConnectOptions) {
        if let Some(timeout) = self.timeout {
            options.connect_timeout = timeout;
            options.request_timeout = timeout;
        }
        if self.in_background {
            options.connect_in_background = true;
            options.reconnects_max = None;
        }
        // Each bucket that is read says what its server can do.
        options.ask_level = false;
        options.name.get_or_insert_with(|| "jetbridge".to_owned());
    }

    /// How often an unreachable server is tried again, as far as somebody has written it.
    fn retries(&self, server: &Server) -> usize {
        let variable = |name: &str| self.environment.get(name).map(str::to_owned);
        let written = match server {
            Server::Settings(call) => call.get("retries").cloned(),
            Server::Target(target) => {
                let url = target_variable(target);
                let retries = url.strip_suffix("URL").map(|prefix| format!("{prefix}RETRIES"));
                retries.as_deref().and_then(variable)
            }
            _ => None,
        };
        let of_all = || match server {
            Server::Target(_) => None,
            _ => variable("NATS_RETRIES"),
        };
        written.or_else(of_all).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The connection to `location`, or the place where it will be.
    fn slot(&self, location: Location) -> Opened {
        let mut opened = self.opened();
        if let Some(known) = opened.iter().find(|known| same(&known.location, &location)) {
            return known.clone();
        }
        let new = Opened { location, store: Arc::default() };
        opened.push(new.clone());
        new
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Vec<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest wait between two attempts to connect.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(30);

/// Connects; a server that nobody answers for is tried `retries` times more, each time after
/// twice the wait.
async fn connect_patiently(location: &Location, retries: usize) -> Result<Arc<dyn Backend>> {
    let mut wait = match location {
        Location::Nats(options) => options.reconnect_wait,
        _ => Duration::ZERO,
    };
    for _ in 0..retries {
        match connect(location).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::debug!(%location, ?wait, "no server could be reached; trying again");
                tokio::time::sleep(wait.min(RETRY_WAIT_MAX)).await;
                wait = wait.saturating_mul(2);
            }
            settled => return settled,
        }
    }
    connect(location).await
}

/// True if both lead to the same account by the same login and encryption, however patiently.
fn same(a: &Location, b: &Location) -> bool {
    match (a, b) {
        (Location::Nats(a), Location::Nats(b)) => {
            let identity = |options: &ConnectOptions| {
                let mut identity = ConnectOptions::default();
                identity.servers.clone_from(&options.servers);
                identity.auth = options.auth.clone();
                identity.tls = options.tls.clone();
                identity.domain.clone_from(&options.domain);
                identity.api_prefix.clone_from(&options.api_prefix);
                identity.inbox_prefix.clone_from(&options.inbox_prefix);
                identity
            };
            identity(a) == identity(b)
        }
        (Location::Local { directory: a, .. }, Location::Local { directory: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

#[async_trait]
impl Sources for StoreSources {
    async fn open(&self, server: &Server) -> Result<Arc<dyn Backend>> {
        if let (Server::Default, Some(store)) = (server, &self.default_store) {
            return Ok(Arc::clone(store));
        }
        let slot = self.slot(self.locate(server)?);
        // A failure is not kept: the next rendering tries again.
        let retries = self.retries(server);
        let store =
            slot.store.get_or_try_init(|| connect_patiently(&slot.location, retries)).await?;
        Ok(Arc::clone(store))
    }

    fn is_secret(&self, bucket: &str) -> bool {
        self.secret.contains(bucket)
    }

    fn has_secrets(&self) -> bool {
        !self.secret.is_empty()
    }
}

impl fmt::Debug for StoreSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opened: Vec<String> =
            self.opened().iter().map(|opened| opened.location.to_string()).collect();
        f.debug_struct("StoreSources").field("opened", &opened).finish_non_exhaustive()
    }
}
