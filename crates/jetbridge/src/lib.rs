//! Everything an application keeps in NATS JetStream or in an embedded store: settings that say
//! where the store is, and the connection to it.

mod connect;
pub mod settings;

pub use jetbridge_core::{Error, ErrorKind, Outcome, Result};

pub use connect::{Target, connect};
