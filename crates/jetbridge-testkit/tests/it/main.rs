//! The testkit tested on itself.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod caught;
mod fault;
mod flawed;
mod login;
mod memory;
mod proxy;
mod server;
