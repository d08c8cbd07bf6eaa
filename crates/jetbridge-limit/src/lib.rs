#![doc = include_str!("../README.md")]

mod actor;
mod clock;
mod decision;
mod limiter;
mod limits;
mod policy;
mod record;
mod state;
#[cfg(test)]
mod state_tests;

pub use decision::{Decision, OnError, Source};
pub use limiter::{Limiter, LimiterOpts};
pub use limits::Limits;
pub use policy::{LOG_LIMIT_MAX, Policy};

/// The guide, whose examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/limits.md")]
struct Guide;
