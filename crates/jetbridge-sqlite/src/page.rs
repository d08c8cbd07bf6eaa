//! Pages: their size, and their numbers.

use std::fmt;

/// The number of a page, from 1.
pub type Pgno = u32;

/// Bytes that lie before the page on which SQLite takes its locks.
const LOCK_OFFSET: u32 = 0x4000_0000;

/// The size of a page in bytes: a power of two from 512 to 65536.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PageSize(u32);

impl PageSize {
    /// The smallest.
    pub const MIN: u32 = 512;
    /// The largest.
    pub const MAX: u32 = 65536;

    /// A legal size, or `None`.
    pub const fn new(bytes: u32) -> Option<Self> {
        let legal = bytes.is_power_of_two() && bytes >= Self::MIN && bytes <= Self::MAX;
        if legal { Some(Self(bytes)) } else { None }
    }

    /// In bytes.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// In bytes, to allocate and to slice by.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The page that holds no data because SQLite locks its bytes.
    pub const fn lock_page(self) -> Pgno {
        LOCK_OFFSET / self.0 + 1
    }

    /// Where a page begins in a database file.
    pub const fn offset_of(self, pgno: Pgno) -> u64 {
        (pgno as u64 - 1) * self.0 as u64
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_and_know_their_lock_page() {
        for bytes in [0, 1, 256, 513, 131_072, u32::MAX] {
            assert_eq!(PageSize::new(bytes), None);
        }
        for (bytes, lock_page) in [(512, 2_097_153), (4096, 262_145), (65536, 16_385)] {
            let size = PageSize::new(bytes).unwrap();
            assert_eq!(size.lock_page(), lock_page);
            assert_eq!(size.offset_of(lock_page), 1 << 30);
        }
    }
}
