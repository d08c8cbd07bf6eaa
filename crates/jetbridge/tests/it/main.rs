//! The library against real servers.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod logins;
