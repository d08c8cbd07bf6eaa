//! Free loopback ports.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Below the range from which systems take the source ports of connections, so that a port is
/// still free when a killed server comes back to it.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// A port that nobody listens on and that this process was not given before.
pub(super) fn free() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let range = u64::from(LAST - FIRST + 1);
    loop {
        let offset = jetbridge_core::random::u64() % range;
        let port = FIRST + u16::try_from(offset).unwrap_or_default();
        let fresh = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if fresh && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
