//! `up` as a library: what the files name runs, and goes on running.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api;
mod browser;
mod components;
mod coverage;
mod databases;
mod handlers;
mod http;
mod limits;
mod mistakes;
mod page;
mod permissions;
mod reload;
mod rig;
mod templates;
