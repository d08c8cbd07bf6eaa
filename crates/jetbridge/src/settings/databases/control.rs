//! What a replicating process offers beside the replication: metrics, a socket by which it is
//! told what to do, heartbeats, and proofs that replicas can be restored.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::{Result, Secret};
use serde::Deserialize;

use super::Top;
use crate::settings::source::{GoDuration, Node};

/// Where Litestream's socket is.
const SOCKET_DEFAULT: &str = "/var/run/litestream.sock";
/// Whom a socket lets in: its owner.
const SOCKET_MODE_DEFAULT: u32 = 0o600;
/// Permissions are three digits.
const MODE_MAX: u32 = 0o777;
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// A shorter interval is taken for a mistake.
const HEARTBEAT_MIN: Duration = Duration::from_secs(60);

/// What a process offers.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ControlSpec {
    /// Where metrics are answered: `addr`.
    pub metrics: Option<SocketAddr>,
    /// The socket: `socket`.
    pub socket: Option<SocketSpec>,
    /// Whom to tell that all is well: `heartbeat-url`.
    pub heartbeat: Option<Heartbeat>,
    /// How often every replica is restored as a proof: `validation.interval`.
    pub validation: Option<Duration>,
}

/// A Unix socket.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SocketSpec {
    /// Where.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
}

/// A URL that is asked for while all is well.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The URL, which says who is alive and so is nobody else's business.
    pub url: Secret<String>,
    /// How often.
    pub interval: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SocketKeys {
    #[serde(default)]
    enabled: bool,
    path: Option<String>,
    permissions: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidationKeys {
    interval: Option<GoDuration>,
}

impl ControlSpec {
    /// True if nothing is offered.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn read(top: &Top, root: &Node) -> Result<ControlSpec> {
    let place = |name: &str| root.get(name).map_or(&root.place, |node| &node.place);
    let metrics = match &top.addr {
        Some(addr) => {
            let wrong = || place("addr").error("`addr` is HOST:PORT or :PORT");
            Some(address(addr).ok_or_else(wrong)?)
        }
        None => None,
    };
    let socket = match top.socket.as_ref().filter(|keys| keys.enabled) {
        Some(keys) => {
            let wrong = || place("socket").error("`permissions` are octal digits, such as 0600");
            let mode = keys.permissions.as_deref().map(|text| {
                let digits = text.trim_start_matches("0o");
                u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= MODE_MAX)
            });
            let mode = mode.unwrap_or(Some(SOCKET_MODE_DEFAULT)).ok_or_else(wrong)?;
            let path = keys.path.clone().unwrap_or_else(|| SOCKET_DEFAULT.to_owned());
            Some(SocketSpec { path: path.into(), mode })
        }
        None => None,
    };
    let interval = top.heartbeat_interval.map_or(HEARTBEAT_DEFAULT, |length| length.0);
    if interval < HEARTBEAT_MIN {
        return Err(place("heartbeat-interval").error("`heartbeat-interval` is at least 1m"));
    }
    let url = top.heartbeat_url.clone().filter(|url| !url.is_empty());
    let heartbeat = url.map(|url| Heartbeat { url: Secret::new(url), interval });
    let validation = top.validation.as_ref().and_then(|keys| keys.interval).map(|it| it.0);
    let validation = validation.filter(|interval| !interval.is_zero());
    Ok(ControlSpec { metrics, socket, heartbeat, validation })
}

/// An address as Go writes it: without a host it is every one of this machine.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.replace("localhost:", "127.0.0.1:");
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text };
    whole.parse().ok()
}
