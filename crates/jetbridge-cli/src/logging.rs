//! The log of the libraries, on stderr: warnings of ours, and more for users who ask for it.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::Global;

/// What the targets of all our crates begin with.
const OURS: &str = "jetbridge";

/// Begins to log.
pub(crate) fn start(global: &Global) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let filter = match global.verbose {
        _ if global.quiet => Targets::new(),
        0 => Targets::new().with_target(OURS, LevelFilter::WARN),
        1 => Targets::new().with_target(OURS, LevelFilter::DEBUG),
        _ => Targets::new().with_default(LevelFilter::TRACE),
    };
    tracing_subscriber::registry().with(lines).with(filter).init();
}
