//! The seam of Jetbridge: names, keys, objects, messages, errors; and the store in memory.
//!
//! A [`Backend`] is a store. It opens buckets of keys ([`Kv`]) and of objects ([`Objects`]), and
//! carries messages and streams ([`Bus`]). Everything above this crate is written against these
//! traits once; every store below keeps the same promises. They stand at the methods, they are
//! proven by one executable contract in `jetbridge-testkit`, and this is the page of them:
//!
//! # The contract
//!
//! **Names.** A [`Key`] or [`ObjectName`] is any UTF-8 text of 1 byte to 1 KiB; buckets, streams
//! and consumers are words of `[A-Za-z0-9_-]`. What was listed can be read, watched and deleted
//! under the name it was listed by ([`codec`]).
//!
//! **Answers.** An absent, deleted or expired key is `Ok(None)`; an absent bucket is
//! [`NotFound`](ErrorKind::NotFound). [`Read::Fresh`] sees every acknowledged write, or fails.
//!
//! **Writes.** Each has one condition ([`Expect`]), a lost race is
//! [`Conflict`](ErrorKind::Conflict) with the present revision. Revisions of a bucket only grow.
//! A future dropped in mid-write leaves the store consistent and the connection usable.
//!
//! **Errors.** One [`Error`]: its [`kind`](Error::kind) is what the caller does next, its
//! [`outcome`](Error::outcome) whether the write may have happened. Only an error that
//! [may be retried](Error::is_retryable) is ever repeated by this crate.
//!
//! **Time.** A TTL is kept or refused, never ignored; sub-second ones work, and overwriting
//! without one clears it. Times are the store's, estimated on the monotonic clock
//! ([`StoreClock`]); wall time comes from a [`Clock`] and decides nothing between machines.
//!
//! **Watches** deliver the last change of every key at least once, say
//! [`CaughtUp`](Change::CaughtUp) exactly once, and end with an error rather than skip one.
//!
//! **Objects** appear whole and verified, or not at all; a failed or cancelled put leaves nothing
//! behind.
//!
//! **Messages.** [`publish`](Bus::publish) is at most once, [`append`](Bus::append) at least once,
//! [`request`](Bus::request) says at once that nobody listens, a full buffer reports what it
//! dropped, a durable [`consume`](Bus::consume) delivers again until settled.
//!
//! **Counters** ([`Kv::increment`]) are exact over processes, lost acknowledgements and restarts.
//! A [`Lease`] has a fencing token that grows with every holder.
//!
//! **Limits.** What a backend cannot do it refuses with [`Unsupported`](ErrorKind::Unsupported),
//! and says so beforehand in [`Capabilities`].
//!
//! # Beside the seam
//!
//! [`MemoryBackend`] is the reference and the store of tests. [`wrap`] has what can be put around
//! any backend: retries, limits, observation, prefixes. [`KvExt`], [`ObjectsExt`] and [`BusExt`]
//! have the loops and conversions that callers would otherwise repeat. [`Tasks`], [`Backoff`],
//! [`Secret`] are what backends are built with.
//!
//! This crate does no input or output, reads no environment and knows no server.
//!
//! ```
//! # async fn demo() -> jetbridge_core::Result<()> {
//! use jetbridge_core::{
//!     Backend, BucketName, BucketSpec, ErrorKind, Key, MemoryBackend, Open, PutOpts, Read,
//! };
//!
//! let store = MemoryBackend::new();
//! let kv = store.kv(&BucketName::parse("config")?, Open::ensure(BucketSpec::default())).await?;
//! let port = Key::parse("app/port")?;
//! let first = kv.put(&port, "8080".into(), PutOpts::create()).await?;
//! kv.put(&port, "8081".into(), PutOpts::over(first.revision)).await?;
//! let late = kv.put(&port, "8082".into(), PutOpts::over(first.revision)).await.unwrap_err();
//! assert_eq!(late.kind(), ErrorKind::Conflict);
//! assert_eq!(kv.get(&port, Read::Fresh).await?.unwrap().value, "8081");
//! # Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
//! ```

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
