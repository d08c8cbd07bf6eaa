//! Everything an application keeps in NATS JetStream or in an embedded store: settings that say
//! where the store is, the connection to it, and the connector: typed keys, values and messages.

pub mod codec;
mod connect;
pub mod connector;
pub mod copy;
pub mod limit;
#[cfg(feature = "wasi")]
mod links;
mod replicator;
pub mod settings;
mod sources;
pub mod typed;
pub mod worker;

pub use jetbridge_core as core;
pub use jetbridge_core::{Error, ErrorKind, Outcome, Result};
pub use jetbridge_local as local;
pub use jetbridge_nats as nats;
pub use jetbridge_sqlite as sqlite;
pub use jetbridge_template as template;
#[cfg(feature = "wasi")]
pub use jetbridge_wasi as wasi;

pub use connect::{Target, connect};
pub use connector::Connector;
pub use copy::Copy;
#[cfg(feature = "wasi")]
pub use links::{LinkPlan, Links};
pub use replicator::{DatabaseState, DatabaseStatus, Replicator, Verified};
pub use sources::{Remarks, StoreSources};
