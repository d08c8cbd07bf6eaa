//! Where the store is and how to enter it: arguments, variables and files become typed values.
//!
//! This module is the only reader of environment variables. Everything that a user can write
//! about a NATS connection, whatever the program its name comes from, goes through one table
//! ([`Dialect`]) onto one [`ConnectOptions`](jetbridge_nats::ConnectOptions). It knows no
//! backend and opens no connection: that is [`connect`](crate::connect()).
//!
//! Errors are [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput), say the file, line and
//! column or the variable, and what to write instead. No secret is ever in one.

mod call;
mod context;
mod databases;
mod draft;
mod environment;
mod location;
mod login;
mod place;
mod read;
mod resolve;
mod section;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod url;
mod value;

pub use call::{resolve_call, resolve_target};
pub use databases::{
    ControlSpec, DatabaseSource, DatabaseSpec, Databases, Heartbeat, ReplicaSpec, SocketSpec,
    Upkeep, database_path,
};
pub use environment::Environment;
pub use location::Location;
pub use place::Place;
#[cfg(feature = "wasi")]
pub(crate) use read::read_over;
pub use read::{NatsSettings, Source, read, target_variable};
pub use resolve::{Origin, Resolved, StoreRequest, resolve};
pub use section::{SectionStore, resolve_section};
pub use source::{
    ByteSize, Entry, Expansion, GoDuration, Node, Scalar, Seconds, Value, parse_pairs, parse_toml,
    parse_yaml, read_file,
};
pub use table::Dialect;
pub use value::{parse_bool, parse_duration, parse_size};

#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guide/settings.md")]
struct Guide;
