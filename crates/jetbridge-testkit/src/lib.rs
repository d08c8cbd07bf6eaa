#![doc = include_str!("../README.md")]

pub mod certs;
pub mod contract;
pub mod counting;
pub mod coverage;
mod dice;
pub mod fault;
pub mod guest;
pub mod jwt;
pub mod process;
pub mod proxy;
mod rows;
pub mod server;
mod storm;
mod wait;
mod wire;

pub use certs::Certificates;
pub use contract::Fixture;
pub use fault::{Fault, Faults, Odds};
pub use proxy::{AckLoss, Proxy};
pub use server::{NatsCluster, NatsServer, Release, ServerOptions};
pub use storm::{NatsStorm, Storm};
pub use wait::eventually;
