//! SQLite's write-ahead log, read as bytes.
//!
//! A header, then frames: each a page, and a checksum over everything before it in the file. A
//! commit is a frame that says so. What makes a frame valid is that its salts are the header's
//! and that the chain of checksums holds; the first that is not ends the log. Whether a valid
//! commit frame *counts* is not for the file to say: a writer that dies before it tells the
//! wal-index leaves one behind that the next writer overwrites. [`commits`] therefore is
//! told where to end.
//!
//! Nothing here locks, writes or knows a database.

mod frames;
mod header;

#[cfg(test)]
mod tests;

pub use frames::{Commits, Frame, Frames, Source, commits};
pub use header::{FRAME_HEADER_BYTES, HEADER_BYTES, Header, Position};
