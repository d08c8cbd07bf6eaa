//! `jetbridge up`: one supervised task for each section that a file names.
//!
//! This crate knows what the sections of a file are and keeps them running; where settings come
//! from is `jetbridge::settings`' business, and printing the binary's.

mod agent;
mod board;
mod bucket;
mod causes;
mod component;
mod database;
mod file;
mod handler;
mod http;
mod limit;
mod metrics;
mod page;
mod permissions;
mod status;
mod supervise;
mod template;
mod traces;
mod watch;

pub use agent::{Agent, Reloaded, UpReport};
pub use board::{SectionId, SectionStatus, State};
pub use bucket::BucketSection;
pub use component::ComponentSpec;
pub use file::UpFile;
pub use handler::{HandlerSpec, Order, Source, Target};
pub use http::{HttpSpec, Reach, TlsSpec, TokenSpec};
pub use supervise::Drained;
pub use template::TemplateSpec;
pub use traces::Traces;
pub use watch::FileWatch;
