//! The seam on a directory, for several processes at once.
//!
//! A [`LocalBackend`] keeps what JetStream would keep, with the same semantics, in SQLite: one
//! database per bucket or stream, in write-ahead mode, and the bodies of objects in files next to
//! them. Any number of processes may have the directory open. Writers share commits and take
//! turns by lock files; readers read on their own thread and wait for nobody; watchers are woken
//! by a socket in the directory, through which plain messages pass too. Nothing polls.
//!
//! `docs/formats/local.md` has the layout.

mod backend;
mod bucket;
mod bus;
mod changes;
#[cfg(test)]
mod child;
mod commit;
mod consumer;
mod db;
mod diagnose;
mod fault;
mod headers;
mod hub;
mod kv;
mod layout;
mod lock;
mod log;
mod object;
mod stream;

pub use backend::{LocalBackend, LocalOptions};
pub use db::Durability;
