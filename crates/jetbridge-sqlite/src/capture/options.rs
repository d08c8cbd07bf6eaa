//! What a capture is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Clock, SystemClock};

/// The database, and how it is captured. The defaults are Litestream's where it has one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// Where is remembered how far the capture came; `.<name>-jetbridge` beside the database.
    pub state: Option<PathBuf>,
    /// How long another connection may hold a lock that is needed.
    pub busy: Duration,
    /// Pages in the log at which it is moved into the file.
    pub checkpoint_pages: u32,
    /// The time after which it is, whatever its length.
    pub checkpoint_interval: Duration,
    /// The length of the log's file from which on it is cut when it can be.
    pub log_bytes_max: u64,
    /// The time between two transactions shipped at least, so that under load one holds many
    /// commits. A commit after a pause is shipped at once.
    pub batch: Duration,
    /// How often the database is looked at if nothing tells of changes.
    pub poll: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The defaults for a database.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            state: None,
            busy: Duration::from_secs(1),
            checkpoint_pages: 1000,
            checkpoint_interval: Duration::from_secs(60),
            log_bytes_max: 64 << 20,
            batch: Duration::from_millis(100),
            poll: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
        }
    }

    /// Where is remembered how far the capture came.
    pub fn state_dir(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| {
            let name = self.path.file_name().unwrap_or_default().to_string_lossy();
            self.path.with_file_name(format!(".{name}-jetbridge"))
        })
    }
}
