//! The seam of Jetbridge: names, keys, objects, messages, errors; and the store in memory.
//!
//! A [`Backend`] is a store. It opens buckets of keys ([`Kv`]) and of objects ([`Objects`]), and
//! carries messages and streams ([`Bus`]). Every backend keeps the same promises, written at the
//! traits' methods and proven by one contract in `jetbridge-testkit`; what a backend cannot do it
//! refuses with [`ErrorKind::Unsupported`], it never ignores it.
//!
//! This crate does no input or output, reads no environment and knows no server.

mod backend;
mod backoff;
mod bus;
mod clock;
pub mod codec;
mod counter;
mod error;
mod ext;
mod flight;
mod headers;
mod kv;
mod lease;
mod memory;
mod name;
mod object;
pub mod random;
mod secret;
mod stream;
mod tasks;
pub mod wrap;

pub use backend::*;
pub use backoff::Backoff;
pub use bus::*;
pub use clock::*;
pub use codec::KeyEncoding;
pub use counter::{
    CounterEncoding, Counters, KvCounters, KvShared, WRITERS_HEADER, WRITERS_MAX, increment,
};
pub use error::{Error, ErrorKind, Outcome, Result};
pub use ext::{
    BusExt, CONTENT_TYPE_HEADER, Codec, Json, KvExt, OBJECT_BYTES_MAX_DEFAULT, ObjectsExt, Update,
    body_of, body_of_reader,
};
pub use headers::Headers;
pub use kv::*;
pub use lease::{Lease, LeaseOpts};
pub use memory::MemoryBackend;
pub use name::*;
pub use object::*;
pub use secret::Secret;
pub use stream::*;
pub use tasks::Tasks;
