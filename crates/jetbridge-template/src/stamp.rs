//! What tells a file from what it was before, without reading it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The outside of a file, links followed. A file that is not there has one too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp(Option<Outside>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Outside {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds; this also changes where the time of the contents is set back.
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|found| Outside {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        }))
    }
}
