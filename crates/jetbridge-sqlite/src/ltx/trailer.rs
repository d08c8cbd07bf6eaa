//! The last sixteen bytes, and the checksum they hold.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};
use jetbridge_core::Result;

use super::fault::corrupt;
use super::header::u64_at;

/// Bytes of a trailer.
pub const TRAILER_BYTES: usize = 16;
/// Set in every checksum that is there.
const CHECKSUM_FLAG: u64 = 1 << 63;

/// What stands at the end of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the format")]
pub struct Trailer {
    /// The checksum of the whole database; 0 where none is kept.
    pub post_apply: u64,
    /// The checksum of this file.
    pub file_checksum: u64,
}

impl Trailer {
    pub(super) fn encode(self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.post_apply.to_be_bytes());
        bytes[8..].copy_from_slice(&self.file_checksum.to_be_bytes());
        bytes
    }

    /// Reads a trailer that ends a file with or without a checksum of the database.
    pub(super) fn decode(bytes: &[u8; TRAILER_BYTES], tracked: bool, offset: u64) -> Result<Self> {
        let trailer = Self { post_apply: u64_at(bytes, 0), file_checksum: u64_at(bytes, 8) };
        let has_post_apply = trailer.post_apply & CHECKSUM_FLAG != 0;
        if tracked != has_post_apply || (!tracked && trailer.post_apply != 0) {
            return Err(corrupt("the checksum of the database contradicts the header", offset));
        }
        Ok(trailer)
    }
}

/// The running CRC-64/GO-ISO of a file.
#[derive(Clone)]
pub(super) struct Checksum(Digest);

impl Checksum {
    pub(super) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64GoIso))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.finalize() | CHECKSUM_FLAG
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}
