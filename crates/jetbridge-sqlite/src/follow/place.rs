//! Where a followed database stands: in its first page, where SQLite counts changes.
//!
//! The counter of changes is the low half of the transaction, so that readers see that what they
//! hold is old. Where SQLite says which version of it wrote last, the high half stands: no version
//! is that small, so that whoever else writes to the database is noticed. In the bytes that SQLite
//! keeps for later, and does not look at, stands which file led there: another history may have
//! the same transaction, and not the same file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use jetbridge_core::Digest;

use crate::store::LtxFile;
use crate::{Pgno, Txid};

/// Bytes of the head of the first page.
pub(super) const HEAD_BYTES: usize = 100;
/// The versions for writing and reading: 1 without a log beside the database, 2 with one.
const VERSIONS: std::ops::Range<usize> = 18..20;
const COUNTER: std::ops::Range<usize> = 24..28;
const PAGES: std::ops::Range<usize> = 28..32;
/// Reserved for expansion: zero where SQLite makes a database.
const FILE: std::ops::Range<usize> = 72..92;
const COUNTER_OF_PAGES: std::ops::Range<usize> = 92..96;
const WRITER: std::ops::Range<usize> = 96..100;
/// No SQLite that writes its version there has a smaller one.
const SQLITE_VERSION_MIN: u32 = 3_007_000;

/// Where a database stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// The transaction.
    pub(crate) txid: Txid,
    /// The file that ends with it.
    pub(crate) file: Mark,
}

/// What tells a file from every other: the beginning of its digest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Mark([u8; FILE.end - FILE.start]);

impl Place {
    /// Behind `file`.
    pub(crate) fn behind(file: &LtxFile) -> Self {
        Self { txid: file.range.max(), file: Mark::of(file) }
    }
}

impl Mark {
    pub(super) fn of(file: &LtxFile) -> Self {
        // A store without digests has nothing better than when and how long.
        let digest = file.digest.unwrap_or_else(|| {
            Digest::of(format!("{} {} {:?}", file.range, file.bytes, file.time).as_bytes())
        });
        let mut mark = Self([0; FILE.end - FILE.start]);
        mark.0.iter_mut().zip(digest.as_bytes()).for_each(|(own, byte)| *own = *byte);
        mark
    }
}

/// Makes the head say that the database has so many pages and stands at `place`.
pub(super) fn stamp_head(head: &mut [u8], pages: Pgno, place: Place) {
    let number = place.txid.0.to_be_bytes();
    let (high, low) = number.split_at(4);
    head[VERSIONS].fill(1);
    head[COUNTER].copy_from_slice(low);
    head[PAGES].copy_from_slice(&pages.to_be_bytes());
    head[FILE].copy_from_slice(&place.file.0);
    head[COUNTER_OF_PAGES].copy_from_slice(low);
    head[WRITER].copy_from_slice(high);
}

/// As [`stamp_head`], in a file.
pub(crate) fn stamp(file: &File, pages: Pgno, place: Place) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0)?;
    stamp_head(&mut head, pages, place);
    file.write_all_at(&head, 0)
}

/// Where the head says that the database stands; `None` if it is none that is followed, or if
/// somebody else has written to it.
pub(super) fn place_of(head: &[u8; HEAD_BYTES]) -> Option<Place> {
    let number = |range: std::ops::Range<usize>| {
        head[range].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
    };
    let low = number(COUNTER);
    let high = number(WRITER);
    let ours = head[VERSIONS] == [1, 1]
        && number(COUNTER_OF_PAGES) == low
        && high < SQLITE_VERSION_MIN
        && (low, high) != (0, 0);
    let mut file = Mark([0; FILE.end - FILE.start]);
    file.0.copy_from_slice(&head[FILE]);
    ours.then_some(Place { txid: Txid(u64::from(high) << 32 | u64::from(low)), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_no_other_is() {
        for txid in [1, 0xffff_ffff, 0x1_0000_0000, 0x2d_0000_0007] {
            let mut head = [7; HEAD_BYTES];
            let place = Place { txid: Txid(txid), file: Mark([5; 20]) };
            stamp_head(&mut head, 9, place);
            assert_eq!(place_of(&head), Some(place));
            // As SQLite does when it writes.
            head[27] = head[27].wrapping_add(1);
            head[95] = head[95].wrapping_add(1);
            head[WRITER].copy_from_slice(&3_040_001_u32.to_be_bytes());
            assert_eq!(place_of(&head), None);
        }
        assert_eq!(place_of(&[0; HEAD_BYTES]), None);
    }
}
