//! Wrappers around any backend: the same seam with one thing added.
//!
//! Three of them do something around every operation and share the forwarding: they are a
//! [`Layer`] in [`Layered`]. [`Prefixed`] changes the names themselves. Each also wraps the
//! buckets and the bus that the backend hands out, and passes the contract that the backend
//! passes. `clippy::missing_trait_methods` is denied here, so that a method added to the seam
//! cannot be forgotten.

mod layer;
mod layered;
mod limit;
mod observe;
mod prefix;
mod retry;

pub use layer::{Answer, Call, Layer};
pub use layered::Layered;
pub use limit::Limit;
pub use observe::{Observed, OperationStats};
pub use prefix::Prefixed;
pub use retry::Retry;
