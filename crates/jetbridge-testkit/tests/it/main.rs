//! The testkit tested on itself.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod login;
mod memory;
mod server;
