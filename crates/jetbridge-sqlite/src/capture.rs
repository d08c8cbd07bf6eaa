//! Capture: every committed page of a live database, in order, exactly once.

mod uplink;

pub use uplink::{Delta, Head, Page, Pages, Scope, Uplink};
