//! Where the store is and how to enter it: arguments, variables and files become typed values.
//!
//! This module is the only reader of environment variables. Everything that a user can write
//! about a NATS connection, whatever the program its name comes from, goes through one table
//! ([`Dialect`]) onto one [`ConnectOptions`](jetbridge_nats::ConnectOptions). It knows no
//! backend and opens no connection: that is [`connect`](crate::connect()).
//!
//! Errors are [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput), say the file, line and
//! column or the variable, and what to write instead. No secret is ever in one.

mod environment;
mod location;
mod place;
mod resolve;
mod url;
mod value;

pub use environment::Environment;
pub use location::{Location, SyncMode};
pub use place::Place;
pub use resolve::{Origin, Resolved, StoreRequest, resolve};
pub use value::{parse_bool, parse_duration, parse_size};
