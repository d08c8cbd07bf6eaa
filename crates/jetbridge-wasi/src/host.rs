//! A host for guests: it compiles components, keeps them within limits, and runs them as commands
//! behind HTTP, or as watchers.
//!
//! Guests reach their arguments, their standard streams, the clock, random numbers and the stores
//! they are granted; no files, no variables, no network. Every guest runs within [`Limits`], and
//! an error names the limit that ended it.

mod cache;
mod clock;
mod engine;
mod handler;
mod limits;
mod program;
mod serve;
mod state;
mod watch;

pub use handler::{Answer, Handler};
pub use limits::Limits;
pub use program::{Ended, Host, HostOpts, Program, Purpose};
pub use serve::serve;
pub use watch::{Follower, Told};
