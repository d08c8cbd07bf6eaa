//! Local files that operators read, and what tells one from what it was before.

use std::fs::File;
use std::io::{self, Read as _};
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

/// Bytes of a file that an operator reads at most, as of an object: it becomes one value.
const FILE_BYTES_MAX: u64 = crate::fetch::OBJECT_BYTES_MAX;

/// The bytes of a file for an operator. It may be one that never ends.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        let message =
            format!("it has more than the {FILE_BYTES_MAX} bytes that one value may have");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
