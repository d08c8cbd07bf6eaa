//! What a capture remembers, for whoever looks while none runs.

use std::path::Path;

use jetbridge_core::Result;

use super::fault::io_failed;
use super::memory::{FILE_NAME, Memory};
use crate::Txid;

/// The newest transaction that the replica had acknowledged when a capture that remembers in
/// `state` ended; `None` if nothing is remembered.
///
/// # Errors
/// [`Conflict`](jetbridge_core::ErrorKind::Conflict) if a capture runs now.
pub fn remembered(state: &Path) -> Result<Option<Txid>> {
    if !state.join(FILE_NAME).exists() {
        return Ok(None);
    }
    Ok(Memory::open(state)?.cursor()?.map(|cursor| cursor.txid))
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
    std::fs::remove_dir_all(state).map_err(|cause| io_failed(state, cause))?;
    Ok(true)
}
