//! From [`ConnectOptions`] to a [`Link`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectErrorKind, Event, ServerAddr};

use jetbridge_core::{Error, ErrorKind, Result, random};

use crate::link::{Inbox, Link, Parts, observe};
use crate::options::ConnectOptions;
use crate::waiters::{Phase, Waiters};
use crate::{auth, tls};

const OPERATION: &str = "nats.connect";
/// Messages one subscription buffers. The client drops what does not fit, and a watch over a
/// large bucket begins with all of it at once; the buffer is allocated as it fills.
const SUBSCRIPTION_CAPACITY: usize = 1 << 20;
/// The wait before the second attempt to reconnect; it doubles from there.
const RECONNECT_FIRST: Duration = Duration::from_millis(10);
/// Once closed, a client that is offline has nothing left to do, but `async_nats` goes on trying
/// as long as the process lives; it is put to sleep instead.
const RECONNECT_NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Connects; with `connect_in_background`, begins to.
pub(crate) async fn connect(options: &ConnectOptions) -> Result<Link> {
    let servers = addresses(&options.servers)?;
    auth::check(&options.auth).await?;
    let inbox = Inbox::new(inbox_prefix(options)?);
    let waiters = Arc::new(Waiters::new());
    let client = client_options(options, servers.len(), &inbox, &waiters).await?;
    let location = options.servers.join(",");
    let client = client
        .connect(servers)
        .await
        .map_err(|cause| refused(&cause).with("servers", &location))?;
    let request_timeout = options.request_timeout;
    Link::start(Parts { client, waiters, inbox, request_timeout, location }).await
}

fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>> {
    if servers.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, OPERATION).because("no server is named"));
    }
    servers.iter().map(|server| address(server)).collect()
}

fn address(server: &str) -> Result<ServerAddr> {
    // A server with user information is not quoted: it holds a secret.
    let bad = || Error::new(ErrorKind::InvalidInput, OPERATION);
    if server.rsplit_once('@').is_some() {
        return Err(bad().because("a server's address is without user information here"));
    }
    server.parse().map_err(|cause| {
        bad().because("not the address of a server").with("server", server).caused_by(cause)
    })
}

fn inbox_prefix(options: &ConnectOptions) -> Result<&str> {
    let prefix = options.inbox_prefix.as_deref().unwrap_or("_INBOX");
    jetbridge_core::Subject::parse(prefix)?;
    Ok(prefix)
}

async fn client_options(
    options: &ConnectOptions,
    servers: usize,
    inbox: &Inbox,
    waiters: &Arc<Waiters>,
) -> Result<async_nats::ConnectOptions> {
    let login = options.auth.clone();
    let client = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
        let login = login.clone();
        async move { auth::answer(&login, &nonce).await }
    });
    let (events, own_inbox) = (Arc::clone(waiters), inbox.clone());
    let mut client = tls::apply(&options.tls, client)
        .await?
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.request_timeout))
        .ping_interval(options.ping_interval)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .custom_inbox_prefix(inbox_prefix(options)?)
        .max_reconnects(attempts_max(options.reconnects_max, servers))
        .reconnect_delay_callback(reconnect_delay(options, servers, waiters))
        .event_callback(move |event: Event| {
            observe(&event, &events, &own_inbox);
            std::future::ready(())
        });
    if let Some(name) = &options.name {
        client = client.name(name);
    }
    if !options.randomize {
        client = client.retain_servers_order();
    }
    if options.connect_in_background {
        client = client.retry_on_initial_connect();
    }
    Ok(client)
}

/// The client counts attempts over all servers, the first ones included.
fn attempts_max(per_server: Option<usize>, servers: usize) -> Option<usize> {
    per_server.map(|max| max.max(1).saturating_mul(servers))
}

/// How long the client waits before an attempt: not at all before the first connection's, then
/// from [`RECONNECT_FIRST`] doubling to `reconnect_wait`, each between half and all of it at
/// random, so that a server that comes back is not stormed by all its clients at once.
fn reconnect_delay(
    options: &ConnectOptions,
    servers: usize,
    waiters: &Arc<Waiters>,
) -> impl Fn(usize) -> Duration + Send + Sync + 'static {
    let (longest, state) = (options.reconnect_wait, waiters.state());
    let first_round = AtomicBool::new(true);
    move |attempt| {
        if state.borrow().phase == Phase::Closed {
            return RECONNECT_NEVER;
        }
        if first_round.load(Ordering::Relaxed) && attempt <= servers {
            if attempt == servers {
                first_round.store(false, Ordering::Relaxed);
            }
            return Duration::ZERO;
        }
        first_round.store(false, Ordering::Relaxed);
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        let wait = RECONNECT_FIRST.saturating_mul(1 << doublings).min(longest);
        wait.mul_f64(0.5 + random::fraction() / 2.0)
    }
}

/// What rustls says of a certificate that it does not take; the client has no kind for it.
const UNTRUSTED: &str = "invalid peer certificate";

/// What rustls says when the other side does not speak TLS.
const NO_TLS: &str = "InvalidContentType";

fn refused(cause: &async_nats::ConnectError) -> Error {
    let text = cause.to_string();
    let error = |kind, why: &str| Error::new(kind, OPERATION).because(why);
    match cause.kind() {
        ConnectErrorKind::ServerParse => {
            error(ErrorKind::InvalidInput, "not the address of a server")
        }
        ConnectErrorKind::Authentication => {
            error(ErrorKind::PermissionDenied, "the credentials cannot answer the server")
        }
        ConnectErrorKind::AuthorizationViolation => {
            error(ErrorKind::PermissionDenied, "the server refuses the login")
                .hint("check user, password, token or credentials file")
        }
        ConnectErrorKind::TimedOut => {
            error(ErrorKind::Unavailable, "the server did not answer in time")
                .hint("a server with `handshake_first` waits for TLS before it says a word")
        }
        ConnectErrorKind::Io | ConnectErrorKind::Tls if text.contains(UNTRUSTED) => {
            error(ErrorKind::Unavailable, "the server's certificate is not trusted")
                .hint("name the authority that signed it: `tls_ca`, or SSL_CERT_FILE")
        }
        ConnectErrorKind::Io | ConnectErrorKind::Tls if text.contains(NO_TLS) => {
            error(ErrorKind::Unavailable, "the server does not speak TLS at this address")
                .hint("ask for TLS only where the server has it; both sides agree on who begins")
        }
        ConnectErrorKind::Tls => error(ErrorKind::Unavailable, "the encryption failed"),
        ConnectErrorKind::Dns => error(ErrorKind::Unavailable, "the server's name is not known"),
        ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
            error(ErrorKind::Unavailable, "no server could be reached")
        }
    }
    .caused_by(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_in_an_address_is_refused_without_being_quoted() {
        let error = address("nats://me:s3cr3t@host").unwrap_err();
        assert!(!format!("{error:?}").contains("s3cr3t"));
    }

    #[test]
    fn waits_begin_at_once_then_grow_to_the_longest_with_jitter() {
        let options = ConnectOptions::default();
        let waiters = Arc::new(Waiters::new());
        let delay = reconnect_delay(&options, 2, &waiters);
        assert_eq!((delay(1), delay(2)), (Duration::ZERO, Duration::ZERO));
        assert!(delay(1) <= Duration::from_millis(10));
        for attempt in [12, 500] {
            let wait = delay(attempt);
            assert!(wait >= options.reconnect_wait / 2 && wait <= options.reconnect_wait);
        }
        waiters.closed();
        assert_eq!(delay(1), RECONNECT_NEVER);
    }

    #[test]
    fn attempts_are_counted_for_each_server() {
        assert_eq!(attempts_max(None, 3), None);
        assert_eq!(attempts_max(Some(5), 3), Some(15));
        assert_eq!(attempts_max(Some(0), 3), Some(3), "the first connection needs one each");
    }
}
