//! A host for guests: it compiles components, keeps them within limits, and runs them as commands
//! or behind HTTP.
//!
//! Guests reach their arguments, their standard streams, the clock, random numbers and the stores
//! they are granted; no files, no variables, no network. Every guest runs within [`Limits`], and
//! an error names the limit that ended it.

mod cache;
mod limits;
mod program;
mod serve;
mod state;

pub use limits::Limits;
pub use program::{Ended, Host, HostOpts, Program, Purpose};
pub use serve::serve;
