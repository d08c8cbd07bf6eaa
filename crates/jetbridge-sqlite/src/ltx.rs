//! The LTX file format, version 3, byte for byte as Litestream writes and reads it.
//!
//! A file carries the pages that a range of transactions changed:
//! header, page frames in ascending order, six zero bytes, page index, trailer. A checksum covers
//! the header, the *uncompressed* pages, and the index. `docs/formats/ltx.md` has every field.
//!
//! This module reads from any [`Read`](std::io::Read) and writes to any
//! [`Write`](std::io::Write); it knows no store, no database and no clock. What it holds in
//! memory is one page, and about ten bytes of index for each page.

mod decoder;
mod encoder;
mod fault;
mod frame;
mod header;
mod index;
mod trailer;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, verify};
pub use encoder::{Encoder, Written};
pub use frame::{FRAME_BYTES_MAX, decode_frame};
pub use header::{HEADER_BYTES, Header, WalSpan};
pub use index::{IndexEntry, PageIndex};
pub use trailer::{TRAILER_BYTES, Trailer};
