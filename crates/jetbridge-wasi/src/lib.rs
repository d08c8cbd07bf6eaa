#![doc = include_str!("../README.md")]

mod batch;
mod bucket;
mod budget;
mod ctx;
mod cursors;
mod dialect;
mod fault;
#[cfg(feature = "host")]
pub mod host;
mod imports;
mod stores;
mod swap;
mod watcher;
mod wire;

pub use bucket::{Bucket, Cas};
pub use ctx::{Keyvalue, KeyvalueCtx, RESULT_BYTES_MAX_DEFAULT, View};
pub use dialect::{Dialect, Dialects};
pub use imports::add_to_linker;
pub use stores::{DEFAULT_STORE, Grants, Link, Stores};
pub use watcher::{Watched, Watcher};

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/wasi.md")]
struct Guide;
