//! What the server can do.
//!
//! The API's level is asked for, where the user may ask, else read off the facts that servers
//! since 2.11 write into a stream's metadata. The version of the server at the other end of the
//! socket says little about the one that keeps a stream; it decides only what needs 2.10, and
//! stands in where nothing better is to be had. Whether a *bucket* can do something is read off
//! its own configuration as the server echoes it, elsewhere.

use std::sync::atomic::{AtomicU32, Ordering};

use jetbridge_core::Result;

use crate::api::Api;
use crate::request::{Call, may_not_ask};
use crate::wire::{AccountInfo, StreamConfig};

/// API level of 2.11: expiry of single messages, direct gets of many.
pub(crate) const LEVEL_TTL: u32 = 1;
/// API level of 2.12: streams that add up.
pub(crate) const LEVEL_COUNTERS: u32 = 2;

/// A server's version, as far as features depend on it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// Consumers with several filters, sources with transforms.
    pub(crate) const V2_10: Self = Self { major: 2, minor: 10 };

    /// Reads `2.10.26` or `2.15.0-dev`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_start_matches('v').split(['.', '-']);
        Some(Self { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }

    /// The API level that came with this version.
    fn level(self) -> u32 {
        match (self.major, self.minor) {
            (0..=1, _) | (2, ..=10) => 0,
            (2, 11) => 1,
            (2, 12) => 2,
            (2, 13..=14) => 4,
            _ => 5,
        }
    }
}

/// What is known of the server so far. [`UNKNOWN`] is no level.
#[derive(Debug)]
pub(crate) struct Probe {
    level: AtomicU32,
}

const UNKNOWN: u32 = u32::MAX;

impl Probe {
    pub(crate) fn new() -> Self {
        Self { level: AtomicU32::new(UNKNOWN) }
    }

    /// The API's level as far as it is known without asking.
    pub(crate) fn level(&self, api: &Api) -> u32 {
        match self.level.load(Ordering::Relaxed) {
            UNKNOWN => version(api).level(),
            known => known,
        }
    }

    /// Asks for the account, and with it the level; `None` if the user may not.
    pub(crate) async fn ask(&self, api: &Api, call: &Call) -> Result<Option<AccountInfo>> {
        match api.account(call).await {
            Ok(account) => {
                self.level.store(account.api.level, Ordering::Relaxed);
                Ok(Some(account))
            }
            Err(error) if may_not_ask(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes note of a stream's configuration.
    pub(crate) fn learn(&self, config: &StreamConfig) {
        if let Some(level) = stream_level(config) {
            self.level.store(level, Ordering::Relaxed);
        }
    }
}

/// The level of the server that keeps a stream; absent before 2.11.
pub(crate) fn stream_level(config: &StreamConfig) -> Option<u32> {
    config.metadata.get("_nats.level")?.parse().ok()
}

/// The version of the server at the other end of the socket.
pub(crate) fn version(api: &Api) -> Version {
    let info = api.link().client().server_info();
    Version::parse(&info.version).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_and_know_their_level() {
        let parse = |text| Version::parse(text).unwrap();
        assert!(parse("2.9.25") < Version::V2_10);
        assert!(parse("2.15.0-dev") > Version::V2_10);
        assert_eq!(parse("2.9.25").level(), 0);
        assert_eq!(parse("2.11.11").level(), LEVEL_TTL);
        assert_eq!(parse("2.12.8").level(), 2);
        assert_eq!(parse("3.0.1").level(), 5);
        assert_eq!(Version::parse("?"), None);
    }
}
