//! Limits over processes: the crate `jetbridge-limit`, and the files that name limiters and the
//! stores they live in, which are rate-sync's.

mod file;
mod limiter;
mod open;
mod store;
#[cfg(test)]
mod tests;

pub use file::LimitFile;
pub use jetbridge_limit::*;
pub use limiter::LimiterSpec;
pub use open::{Found, Limiters, connect_store, open_store};
pub use store::{Engine, StoreSpec};
