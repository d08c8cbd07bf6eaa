//! The seam on nats-server: see `docs/guide`.

mod options;

pub use options::*;
