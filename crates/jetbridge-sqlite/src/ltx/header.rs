//! The first hundred bytes: which transactions, of how large a database, from which WAL.

use std::time::{Duration, SystemTime};

use jetbridge_core::Result;

use super::fault::{corrupt, misuse};
use crate::{PageSize, Pgno, Txid, TxidRange};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 100;
const MAGIC: [u8; 4] = *b"LTX1";
/// The one flag there is: the file carries no checksum of the whole database. Litestream always
/// sets it, and refuses to merge files without it, so nothing here writes one.
const NO_CHECKSUM: u32 = 0x2;
/// Where the fields after the salts begin: node id and reserved bytes, all zero.
const NODE_ID_OFFSET: usize = 72;
const PRE_APPLY_OFFSET: usize = 40;
/// Set in every checksum that is there.
const CHECKSUM_FLAG: u64 = 1 << 63;

/// What a file says about itself before its pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the format")]
pub struct Header {
    /// The size of each page.
    pub page_size: PageSize,
    /// The size of the database in pages, once this file is applied; at least 1.
    pub commit: Pgno,
    /// The transactions it carries.
    pub range: TxidRange,
    /// When they were captured, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Where in which WAL the pages stood; `None` in files that were merged.
    pub wal: Option<WalSpan>,
}

/// A piece of a WAL file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the format")]
pub struct WalSpan {
    /// Where it begins; at least 32, behind the header of the WAL.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The salts of the WAL.
    pub salts: [u32; 2],
}

impl Header {
    /// True if the file begins at the first transaction, and so needs no other before it.
    pub fn is_snapshot(&self) -> bool {
        self.range.min() == Txid(1)
    }

    /// When it was captured.
    pub fn time(&self) -> SystemTime {
        let length = Duration::from_millis(self.timestamp_ms.unsigned_abs());
        let moved = if self.timestamp_ms < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(length)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(length)
        };
        moved.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// This header as that of a file that need not hold every page: a part is no snapshot.
    pub(super) fn as_part(self) -> Self {
        let (min, max) = (self.range.min(), self.range.max());
        Self { range: TxidRange::new(min.next(), max.next()).unwrap_or(self.range), ..self }
    }

    pub(super) fn encode(&self) -> Result<[u8; HEADER_BYTES]> {
        if self.commit == 0 {
            return Err(misuse("a database has at least one page"));
        }
        let wal = self.wal.unwrap_or(WalSpan { offset: 0, size: 0, salts: [0, 0] });
        if self.wal.is_some() && (wal.offset == 0 || wal.offset.max(wal.size) > i64::MAX as u64) {
            return Err(misuse("a piece of a WAL begins behind its header"));
        }
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&NO_CHECKSUM.to_be_bytes());
        put(&self.page_size.get().to_be_bytes());
        put(&self.commit.to_be_bytes());
        put(&self.range.min().0.to_be_bytes());
        put(&self.range.max().0.to_be_bytes());
        put(&self.timestamp_ms.to_be_bytes());
        put(&0_u64.to_be_bytes());
        put(&wal.offset.to_be_bytes());
        put(&wal.size.to_be_bytes());
        put(&wal.salts[0].to_be_bytes());
        put(&wal.salts[1].to_be_bytes());
        Ok(bytes)
    }

    /// Reads a header; what follows it is not looked at.
    ///
    /// # Errors
    /// [`Corrupt`](jetbridge_core::ErrorKind::Corrupt), with the offset of what is wrong.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        if bytes[..4] != MAGIC {
            return Err(corrupt("this is not an LTX file", 0));
        }
        let flags = u32_at(bytes, 4);
        if flags & !NO_CHECKSUM != 0 {
            return Err(corrupt(format!("unknown flags {flags:#x}"), 4));
        }
        let page_size = PageSize::new(u32_at(bytes, 8))
            .ok_or_else(|| corrupt("the page size is no power of two from 512 to 65536", 8))?;
        let commit = u32_at(bytes, 12);
        if commit == 0 {
            return Err(corrupt("a database has at least one page", 12));
        }
        let range = TxidRange::new(Txid(u64_at(bytes, 16)), Txid(u64_at(bytes, 24)))
            .ok_or_else(|| corrupt("the TXIDs are no range", 16))?;
        check_pre_apply(u64_at(bytes, PRE_APPLY_OFFSET), flags, range)?;
        if bytes[NODE_ID_OFFSET..].iter().any(|byte| *byte != 0) {
            return Err(corrupt("reserved bytes are not zero", NODE_ID_OFFSET as u64));
        }
        let timestamp_ms = u64_at(bytes, 32).cast_signed();
        Ok(Self { page_size, commit, range, timestamp_ms, wal: wal_of(bytes)? })
    }

    /// True if the bytes of a header announce a checksum of the database in the trailer.
    pub(super) fn is_tracked(bytes: &[u8; HEADER_BYTES]) -> bool {
        u32_at(bytes, 4) & NO_CHECKSUM == 0
    }
}

fn check_pre_apply(sum: u64, flags: u32, range: TxidRange) -> Result<()> {
    let absent = flags & NO_CHECKSUM != 0 || range.min() == Txid(1);
    if absent && sum != 0 {
        return Err(corrupt("a checksum stands where there is none", PRE_APPLY_OFFSET as u64));
    }
    if !absent && sum & CHECKSUM_FLAG == 0 {
        return Err(corrupt("the checksum before is missing", PRE_APPLY_OFFSET as u64));
    }
    Ok(())
}

fn wal_of(bytes: &[u8; HEADER_BYTES]) -> Result<Option<WalSpan>> {
    let span = WalSpan {
        offset: u64_at(bytes, 48),
        size: u64_at(bytes, 56),
        salts: [u32_at(bytes, 64), u32_at(bytes, 68)],
    };
    if span.offset.max(span.size) > i64::MAX as u64 {
        return Err(corrupt("a place in the WAL is negative", 48));
    }
    if span.offset == 0 && (span.size != 0 || span.salts != [0, 0]) {
        return Err(corrupt("a piece of a WAL has no beginning", 48));
    }
    Ok((span.offset != 0).then_some(span))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}
