#![doc = include_str!("../README.md")]

mod actor;
mod booth;
mod breaker;
mod client;
mod clock;
mod composite;
mod contention;
mod deal;
mod decision;
mod fallback;
mod feed;
mod fields;
mod front;
mod holders;
mod holding;
mod layer;
mod limiter;
mod limits;
mod message;
mod pace;
mod permit;
mod place;
mod plan;
mod policy;
mod record;
mod spare;
mod standing;
mod state;
#[cfg(test)]
mod state_tests;
mod stock;
mod tally;
mod tickets;
#[cfg(test)]
mod tickets_tests;
mod turns;
#[cfg(test)]
mod turns_tests;

pub use booth::tickets_bucket;
pub use composite::{Admissions, Composite};
pub use decision::{Admission, Decision, OnError, Source};
pub use fields::fields;
pub use limiter::{Limiter, LimiterOpts};
pub use limits::Limits;
pub use permit::Permit;
pub use policy::{LOG_LIMIT_MAX, Policy};
pub use tally::Metrics;

/// Requests that pass a limiter before they reach a `tower` service.
pub mod http {
    pub use crate::client::{ByClient, ByHeader, ByPeer, Everybody, KeyOf, Network};
    pub use crate::layer::{LimitLayer, Limited};
}

/// The guide, whose examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/limits.md")]
struct Guide;
