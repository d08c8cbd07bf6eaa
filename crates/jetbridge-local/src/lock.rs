//! The turn to write: one process at a time, in the order they asked.
//!
//! Two locked files make a turnstile: whoever wants to write holds `turn` while it waits for
//! `writer`, so a process that has just written cannot push in front of one that waits. `flock`
//! belongs to the open file, not to the process: two stores opened in one process on the same
//! directory exclude each other as two processes do, and a killed process leaves no lock behind.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

/// The lock of one database.
#[derive(Debug)]
pub(crate) struct TurnLock {
    turn: File,
    writer: File,
}

impl TurnLock {
    /// Opens the lock files next to the database at `path`, making them if missing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let open = |extension| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path.with_extension(extension))
        };
        Ok(Self { turn: open("turn")?, writer: open("lock")? })
    }

    /// The turn, if nobody has it and nobody waits; never blocks.
    pub(crate) fn try_acquire(&self) -> io::Result<Option<Turn<'_>>> {
        if !try_lock(&self.turn)? {
            return Ok(None);
        }
        let acquired = try_lock(&self.writer);
        unlock(&self.turn);
        Ok(acquired?.then_some(Turn(&self.writer)))
    }

    /// Waits for the turn; blocks the thread.
    pub(crate) fn acquire(&self) -> io::Result<Turn<'_>> {
        lock(&self.turn)?;
        let acquired = lock(&self.writer);
        unlock(&self.turn);
        acquired.map(|()| Turn(&self.writer))
    }
}

/// The right to write; dropping it passes it on.
#[derive(Debug)]
pub(crate) struct Turn<'l>(&'l File);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        unlock(self.0);
    }
}

fn lock(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| flock(file, FlockOperation::LockExclusive))?)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn unlock(file: &File) {
    if let Err(error) = flock(file, FlockOperation::Unlock) {
        // The kernel refuses only what is no open file; closing it unlocks as well.
        tracing::error!(%error, "a lock file could not be unlocked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_openers_in_one_process_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.db");
        let (a, b) = (TurnLock::open(&path).unwrap(), TurnLock::open(&path).unwrap());
        let turn = a.try_acquire().unwrap().unwrap();
        assert!(b.try_acquire().unwrap().is_none());
        drop(turn);
        assert!(b.try_acquire().unwrap().is_some());
    }

    #[test]
    fn nobody_pushes_in_front_of_one_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.db");
        let (a, b) = (TurnLock::open(&path).unwrap(), TurnLock::open(&path).unwrap());
        let probe = TurnLock::open(&path).unwrap();
        let held = a.acquire().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| b.acquire().map(drop));
            // The waiter shows by holding the turnstile.
            while try_lock(&probe.turn).unwrap() {
                unlock(&probe.turn);
                std::thread::yield_now();
            }
            assert!(a.try_acquire().unwrap().is_none());
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }
}
