//! The seam of Jetbridge on nats-server, from 2.9 to the newest.
//!
//! `async_nats` keeps the connection; everything above it is this crate's own: requests that are
//! settled when a connection dies, JetStream's API, keys, watches. What a server can do is read
//! off what it answers, never assumed from its version alone and never from the absence of an
//! error: old servers ignore what they do not know.

mod api;
mod append;
mod auth;
mod backend;
mod bucket;
mod buckets;
mod bus;
mod call;
mod clock;
mod combine;
mod connect;
mod consumer;
mod consumers;
mod copies;
mod counters;
mod delivered;
mod diagnose;
mod error;
mod facts;
mod fates;
mod headers;
mod intake;
mod keyspace;
mod kv;
mod link;
mod merge;
mod message;
mod object;
mod object_again;
mod object_batches;
mod object_get;
mod object_meta;
mod object_put;
mod options;
mod permissions;
mod probe;
mod publish;
mod reader;
mod record;
mod request;
mod settle;
mod stream;
mod time;
mod tls;
mod waiters;
mod wire;

pub use backend::NatsBackend;
pub use options::*;
pub use permissions::Permissions;
