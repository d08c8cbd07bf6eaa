//! Templates as their users see them: cases are files, stores are in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
mod coverage;
mod limits;
mod random;
mod stores;
