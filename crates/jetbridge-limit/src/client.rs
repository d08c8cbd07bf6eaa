//! Whose request it is: the key under which a limiter counts it. Nothing that a client can write
//! as it likes is believed, unless a trusted proxy wrote it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ::http::HeaderName;
use ::http::request::Parts;
use jetbridge_core::{Error, ErrorKind, Result};

/// Finds the key of a request.
pub trait KeyOf: Clone + Send + Sync + 'static {
    /// The key; `None` counts the request with all others that have none.
    fn key(&self, request: &Parts) -> Option<String>;
}

/// All requests together.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to say about it")]
pub struct Everybody;

impl KeyOf for Everybody {
    fn key(&self, _request: &Parts) -> Option<String> {
        None
    }
}

/// By the address at the other end of the connection: an extension [`SocketAddr`] of the request,
/// which whoever accepts connections puts there. IPv6 is counted by its /64: one machine has all
/// of it.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to say about it")]
pub struct ByPeer;

impl KeyOf for ByPeer {
    fn key(&self, request: &Parts) -> Option<String> {
        peer(request).map(text)
    }
}

/// By the client's address as trusted proxies tell it in `X-Forwarded-For`; a peer that is none
/// of them is the client itself, whatever it claims.
#[derive(Clone, Debug)]
pub struct ByClient {
    trusted: Vec<Network>,
}

impl ByClient {
    /// Trusts proxies in these networks, such as `10.0.0.0/8`.
    pub fn behind(trusted: impl IntoIterator<Item = Network>) -> Self {
        Self { trusted: trusted.into_iter().collect() }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

impl KeyOf for ByClient {
    fn key(&self, request: &Parts) -> Option<String> {
        let mut client = peer(request)?;
        let told = request.headers.get_all("x-forwarded-for");
        let told: Vec<&str> = told.iter().filter_map(|value| value.to_str().ok()).collect();
        // The nearest proxy wrote last: what stands before the first stranger is hearsay.
        for address in told.join(",").rsplit(',') {
            if !self.trusts(client) {
                break;
            }
            let Ok(address) = address.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        Some(text(client))
    }
}

/// By the value of a header field, such as an API key. Whoever leaves it out is counted with all
/// who do.
#[derive(Clone, Debug)]
pub struct ByHeader(HeaderName);

impl ByHeader {
    /// By this field. [`InvalidInput`](ErrorKind::InvalidInput) if that is no name of one.
    pub fn new(name: &str) -> Result<Self> {
        HeaderName::from_str(name).map(Self).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "limit.layer").with("header", name).caused_by(error)
        })
    }
}

impl KeyOf for ByHeader {
    fn key(&self, request: &Parts) -> Option<String> {
        let value = request.headers.get(&self.0)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|key| !key.is_empty())
    }
}

/// Addresses that begin alike: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// True if `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(it)) => {
                let left = 32_u32.saturating_sub(u32::from(self.bits));
                (own.to_bits() ^ it.to_bits()).checked_shr(left).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(it)) => {
                let left = 128_u32.saturating_sub(u32::from(self.bits));
                (own.to_bits() ^ it.to_bits()).checked_shr(left).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(written: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::InvalidInput, "limit.layer")
                .because("this is no network")
                .with("network", written)
                .hint("write it as `10.0.0.0/8`")
        };
        let (address, bits) = written.split_once('/').unzip();
        let address: IpAddr = address.unwrap_or(written).parse().map_err(|_syntax| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|it| *it <= most).ok_or_else(wrong)?,
        };
        Ok(Self { address, bits })
    }
}

fn peer(request: &Parts) -> Option<IpAddr> {
    let peer: &SocketAddr = request.extensions.get()?;
    Some(peer.ip().to_canonical())
}

/// The key of an address.
fn text(address: IpAddr) -> String {
    /// The part of an IPv6 address that names a network and not a machine in it.
    const NETWORK: u128 = !0 << 64;
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            format!("{}/64", Ipv6Addr::from_bits(address.to_bits() & NETWORK))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(peer: &str, forwarded: &[&str]) -> Parts {
        let mut request = http::Request::builder();
        for value in forwarded {
            request = request.header("X-Forwarded-For", *value);
        }
        let peer: IpAddr = peer.parse().unwrap();
        request.extension(SocketAddr::new(peer, 1)).body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|it| it.parse().unwrap());
        let by_client = ByClient::behind(networks);
        for (peer, forwarded, key) in [
            ("203.0.113.9", &["1.2.3.4"][..], "203.0.113.9"),
            ("10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.9.9.9"], "1.2.3.4"),
            ("10.0.0.1", &["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", &["1.2.3.4, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("2001:db8::1", &["2606::1:2:3:4"], "2606::/64"),
        ] {
            let found = by_client.key(&request(peer, forwarded));
            assert_eq!(found.as_deref(), Some(key), "{peer} {forwarded:?}");
        }
        assert_eq!(ByPeer.key(&request("2606:0:0:7::9", &[])).as_deref(), Some("2606:0:0:7::/64"));
        assert_eq!(Everybody.key(&request("1.2.3.4", &[])), None);
    }

    #[test]
    fn a_network_is_an_address_and_its_bits() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("1.2.3.4", "1.2.3.4") && !contains("1.2.3.4", "1.2.3.5"));
        assert!(
            contains("172.16.0.0/12", "172.31.0.1") && !contains("172.16.0.0/12", "172.32.0.1")
        );
        for wrong in ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/-1", "1.2.3.4/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
