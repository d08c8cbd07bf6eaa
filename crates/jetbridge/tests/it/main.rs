//! The library over every store, and against real servers.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod connector;
mod copy;
mod coverage;
mod directory;
mod evo;
mod guide;
#[cfg(feature = "wasi")]
mod links;
mod logins;
mod render;
mod templates;
