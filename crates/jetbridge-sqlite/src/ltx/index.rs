//! The page index: where in a file each page's frame stands.

use jetbridge_core::Result;

use super::fault::corrupt;
use super::header::u64_at;
use super::trailer::TRAILER_BYTES;
use crate::Pgno;

/// Most bytes of a number in the index.
const VARINT_BYTES_MAX: usize = 10;
/// Bytes of the length that stands behind the index.
pub(super) const INDEX_SIZE_BYTES: usize = 8;
const VARINT_BITS: u32 = 7;
const VARINT_MORE: u8 = 0x80;

/// Where the frame of one page stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the format")]
pub struct IndexEntry {
    /// The page.
    pub pgno: Pgno,
    /// Where its frame begins in the file.
    pub offset: u64,
    /// The frame's length with its header.
    pub size: u64,
}

/// The index of a file, read from its end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PageIndex {
    entries: Vec<IndexEntry>,
}

impl PageIndex {
    /// How many bytes from the end of a file hold its index, length and trailer, given at least
    /// its last [`PageIndex::TAIL_BYTES_MIN`] bytes; `None` for fewer or for nonsense.
    pub fn tail_bytes(end: &[u8]) -> Option<u64> {
        let at = end.len().checked_sub(Self::TAIL_BYTES_MIN)?;
        u64_at(end, at).checked_add(Self::TAIL_BYTES_MIN as u64)
    }

    /// The bytes behind the index: its length, and the trailer.
    pub const TAIL_BYTES_MIN: usize = INDEX_SIZE_BYTES + TRAILER_BYTES;

    /// Reads the index from the last [`PageIndex::tail_bytes`] of a file, or more of them.
    ///
    /// The index is covered by the checksum of the file, which this does not see: frames say
    /// themselves which page they are.
    ///
    /// # Errors
    /// [`Corrupt`](jetbridge_core::ErrorKind::Corrupt) if it is no index: pages out of order,
    /// frames that overlap, a length that does not fit.
    pub fn decode(end: &[u8]) -> Result<Self> {
        let tail = Self::tail_bytes(end).and_then(|bytes| usize::try_from(bytes).ok());
        let Some(start) = tail.and_then(|bytes| end.len().checked_sub(bytes)) else {
            return Err(corrupt("the page index is longer than the file", 0));
        };
        let mut reader = Varints { bytes: &end[start..end.len() - Self::TAIL_BYTES_MIN], at: 0 };
        let mut entries: Vec<IndexEntry> = Vec::new();
        loop {
            let pgno = Pgno::try_from(reader.next()?)
                .map_err(|_too_large| corrupt("a page number of the index is too large", 0))?;
            if pgno == 0 {
                break;
            }
            let entry = IndexEntry { pgno, offset: reader.next()?, size: reader.next()? };
            let ordered = entries.last().is_none_or(|last| {
                last.pgno < pgno && last.offset.checked_add(last.size) == Some(entry.offset)
            });
            if !ordered {
                return Err(corrupt("the page index is out of order", 0));
            }
            entries.push(entry);
        }
        if reader.at != reader.bytes.len() {
            return Err(corrupt("the page index ends before its length", 0));
        }
        Ok(Self { entries })
    }

    /// The entries, by ascending page.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Where `pgno` stands.
    pub fn find(&self, pgno: Pgno) -> Option<IndexEntry> {
        let at = self.entries.binary_search_by_key(&pgno, |entry| entry.pgno).ok()?;
        self.entries.get(at).copied()
    }
}

/// An index that grows as frames are written or read, as its bytes in the file.
#[derive(Debug, Default)]
pub(super) struct IndexBytes(Vec<u8>);

impl IndexBytes {
    pub(super) fn push(&mut self, entry: IndexEntry) {
        for number in [u64::from(entry.pgno), entry.offset, entry.size] {
            put_varint(&mut self.0, number);
        }
    }

    /// The whole: entries, end mark, length.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push(0);
        let length = self.0.len() as u64;
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(VARINT_MORE) {
        bytes.push(number.to_le_bytes()[0] | VARINT_MORE);
        number >>= VARINT_BITS;
    }
    bytes.push(number.to_le_bytes()[0]);
}

struct Varints<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Varints<'_> {
    fn next(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for (place, byte) in self.bytes[self.at..].iter().take(VARINT_BYTES_MAX).enumerate() {
            let bits = u64::from(byte & !VARINT_MORE);
            let shifted = bits << (VARINT_BITS as usize * place);
            if shifted >> (VARINT_BITS as usize * place) != bits {
                break;
            }
            number |= shifted;
            if byte & VARINT_MORE == 0 {
                self.at += place + 1;
                return Ok(number);
            }
        }
        Err(corrupt("a number of the page index does not end", 0))
    }
}
