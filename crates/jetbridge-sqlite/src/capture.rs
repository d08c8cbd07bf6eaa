//! Capture: every committed page of a live database, in order, exactly once.

mod database;
mod drive;
mod engine;
mod fault;
mod held;
mod kept;
mod memory;
mod options;
mod patience;
mod remembered;
mod run;
mod slim;
mod snapshot;
mod start;
mod uplink;
mod wake;

pub use options::Options;
pub use patience::Progress;
pub use remembered::{forget, remembered};
pub(crate) use run::Rebase;
pub use run::{Capture, Status};
pub use uplink::{Delta, Head, Page, Pages, Scope, Touched, Uplink};
