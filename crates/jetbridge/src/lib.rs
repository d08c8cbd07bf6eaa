//! Everything an application keeps in NATS JetStream or in an embedded store: settings that say
//! where the store is, and the connection to it.

mod connect;
pub mod settings;

pub use connect::{connect, connect_url};
