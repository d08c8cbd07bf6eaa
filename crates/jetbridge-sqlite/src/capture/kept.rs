//! Database files that, once opened here, are not closed again.
//!
//! POSIX takes away all locks of a process on a file when the process closes *any* descriptor of
//! it: those of every SQLite connection here too, ours and the application's. So a database file
//! is opened once in a process, and the descriptor is kept. Only a file that was deleted, which
//! nobody can open any more, is let go.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    /// The file that has this name now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&std::fs::metadata(path)?))
    }

    fn from(facts: &std::fs::Metadata) -> Self {
        Self { device: facts.dev(), inode: facts.ino() }
    }
}

static KEPT: Mutex<Vec<(FileId, Arc<File>)>> = Mutex::new(Vec::new());

/// The file of this name, open for reading.
pub(super) fn open(path: &Path) -> io::Result<(FileId, Arc<File>)> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let id = FileId::of(path)?;
    if let Some((_, file)) = kept.iter().find(|(known, _)| *known == id) {
        return Ok((id, Arc::clone(file)));
    }
    let file = Arc::new(File::open(path)?);
    // It may have been replaced since; then this one is kept beside an earlier one of its own.
    let id = FileId::from(&file.metadata()?);
    kept.push((id, Arc::clone(&file)));
    Ok((id, file))
}

/// Lets go of files that have no name any more and that nobody reads.
pub(super) fn forget_deleted() {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|(_, file)| {
        let named = file.metadata().map_or(true, |facts| facts.nlink() > 0);
        named || Arc::strong_count(file) > 1
    });
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn reading_the_file_takes_no_lock_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a); BEGIN EXCLUSIVE").unwrap();
        let (id, file) = open(&path).unwrap();
        drop(file);
        let (again, _file) = open(&path).unwrap();
        assert_eq!(id, again);
        // Another process looks: this one's connections would share its locks.
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0)\n\
                      try: c.execute('SELECT * FROM t'); print('free')\n\
                      except sqlite3.OperationalError: print('locked')";
        let look = std::process::Command::new("python3").args(["-c", script]).arg(&path).output();
        assert_eq!(String::from_utf8(look.unwrap().stdout).unwrap(), "locked\n");
    }
}
