//! The executable contract of the seam, and the tools to break it.
//!
//! For the tests of Jetbridge and of anybody who writes a backend for it; no stable interface.
//! A test library fails by panicking with what it saw, so this crate does what the others may
//! not: it panics.

pub mod certs;
pub mod contract;
mod dice;
pub mod fault;
pub mod jwt;
pub mod proxy;
pub mod server;
mod wait;
mod wire;

pub use certs::Certificates;
pub use contract::Fixture;
pub use fault::{Fault, Faults, Odds};
pub use proxy::{AckLoss, Proxy};
pub use server::{NatsCluster, NatsServer, Release, ServerOptions};
pub use wait::eventually;
