//! The header of the log, the chain of checksums, and places in it.

use crate::PageSize;

/// Bytes before the first frame.
pub const HEADER_BYTES: usize = 32;
/// Bytes before the page of a frame.
pub const FRAME_HEADER_BYTES: usize = 24;
/// The last bit says whether checksums are taken over big-endian words.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
/// What of the header its own checksum covers.
const CHECKED_BYTES: usize = 24;

/// More restarts than that between two looks are taken for another log: a log made anew begins
/// with random salts, and is to be near by chance once in 67 million times only.
const RESTARTS_MAX: u32 = 64;

/// What a log says about itself. Two logs of one database with the same sequence and salts are
/// the same log, and what was written to one is still there in the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Header {
    /// The size of each page.
    pub page_size: PageSize,
    /// How often the connection that restarted the log last has done so, since it found it.
    pub sequence: u32,
    /// Two numbers that every frame of this log repeats: the first counts, the second is random.
    pub salts: [u32; 2],
    pub(super) big_endian: bool,
    pub(super) sums: [u32; 2],
}

/// A place between two frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "kept and compared by its owner")]
pub struct Position {
    /// In bytes from the beginning of the file.
    pub offset: u64,
    /// The checksums up to there.
    pub sums: [u32; 2],
}

impl Header {
    /// Reads a header; `None` if it is none that SQLite would accept, which for SQLite means that
    /// the log is empty.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let magic = be32(bytes, 0);
        let big_endian = magic & 1 == 1;
        let page_size = PageSize::new(be32(bytes, 8))?;
        let sums = sum(big_endian, [0, 0], &bytes[..CHECKED_BYTES]);
        let known = magic & !1 == MAGIC && be32(bytes, 4) == VERSION;
        let intact = sums == [be32(bytes, 24), be32(bytes, 28)];
        (known && intact).then_some(Self {
            page_size,
            sequence: be32(bytes, 12),
            salts: [be32(bytes, 16), be32(bytes, 20)],
            big_endian,
            sums,
        })
    }

    /// Before the first frame.
    pub fn start(&self) -> Position {
        Position { offset: HEADER_BYTES as u64, sums: self.sums }
    }

    /// The bytes of one frame.
    pub fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.page_size.get())
    }

    /// Where `frames` frames end.
    pub fn end_of(&self, frames: u32) -> u64 {
        HEADER_BYTES as u64 + u64::from(frames) * self.frame_bytes()
    }

    /// True if `later` is what restarting this log, once or more often, makes of it: each restart
    /// adds 1 to the first salt. A log that was deleted and made anew begins with other salts. The
    /// sequence says nothing, since each connection counts its own.
    pub fn restarts_as(&self, later: &Self) -> bool {
        let times = later.salts[0].wrapping_sub(self.salts[0]);
        (1..=RESTARTS_MAX).contains(&times) && later.page_size == self.page_size
    }

    /// The place at `offset`, given the header of the frame that ends there.
    pub fn position_after(&self, frame_header: &[u8; FRAME_HEADER_BYTES], offset: u64) -> Position {
        debug_assert!(offset > HEADER_BYTES as u64);
        Position { offset, sums: [be32(frame_header, 16), be32(frame_header, 20)] }
    }
}

/// Continues the checksum `from` over `bytes`, whose length is a multiple of 8.
pub(super) fn sum(big_endian: bool, from: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let [mut first, mut second] = from;
    for pair in bytes.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *pair;
        let (x, y) = if big_endian {
            (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
        } else {
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
        };
        first = first.wrapping_add(x).wrapping_add(second);
        second = second.wrapping_add(y).wrapping_add(first);
    }
    [first, second]
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}
