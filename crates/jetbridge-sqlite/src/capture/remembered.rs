//! What a capture remembers, for whoever looks while none runs.

use std::io::ErrorKind::NotFound;
use std::path::Path;

use jetbridge_core::Result;

use super::drive::IMAGE_NAME;
use super::fault::io_failed;
use super::memory::{FILE_NAME, Memory};
use crate::Txid;
use crate::replication::WRITER_FILE;

/// The newest transaction that the replica had acknowledged when a capture that remembers in
/// `state` ended; `None` if nothing is remembered.
///
/// # Errors
/// [`Conflict`](jetbridge_core::ErrorKind::Conflict) if a capture runs now.
pub fn remembered(state: &Path) -> Result<Option<Txid>> {
    let Some(memory) = Memory::look(state)? else { return Ok(None) };
    Ok(memory.cursor()?.map(|cursor| cursor.txid))
}

/// Forgets what is remembered in `state`: the next capture reads the replica to learn what it
/// has. `false` if there was nothing.
///
/// # Errors
/// [`Conflict`](jetbridge_core::ErrorKind::Conflict) if a capture runs now.
pub fn forget(state: &Path) -> Result<bool> {
    if !state.exists() {
        return Ok(false);
    }
    // Nobody else can begin while this one is open, and what is open can be removed.
    let _held = Memory::open(state)?;
    for name in [FILE_NAME, IMAGE_NAME] {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            remove(&state.join(format!("{name}{suffix}")))?;
        }
    }
    remove(&state.join(WRITER_FILE))?;
    // The directory may have been named by a user, and hold what is not ours: then it stays.
    std::fs::remove_dir(state).unwrap_or_default();
    Ok(true)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != NotFound => Err(io_failed(path, cause)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_remembered_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        drop(Memory::open(&state).unwrap());
        for name in ["app.db", "app.db-wal", WRITER_FILE] {
            std::fs::write(state.join(name), name).unwrap();
        }
        assert!(forget(&state).unwrap());
        let left = std::fs::read_dir(&state).unwrap().map(|it| it.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["app.db", "app.db-wal"]);

        std::fs::remove_file(state.join("app.db")).unwrap();
        std::fs::remove_file(state.join("app.db-wal")).unwrap();
        assert!(forget(&state).unwrap());
        assert!(!state.exists());
        assert!(!forget(&state).unwrap());
    }
}
