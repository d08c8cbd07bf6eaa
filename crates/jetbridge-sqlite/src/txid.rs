//! Transaction numbers, and the names of the files that carry them.

use std::fmt;

use jetbridge_core::{Error, ErrorKind, Result};

/// Digits of a number in a name.
const DIGITS: usize = 16;

/// The number of a transaction. One transaction here is what was shipped at once: one commit, or
/// several in a row. `0` stands before the first. Prints as 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_structs, reason = "a number, as the format has it")]
pub struct Txid(pub u64);

impl Txid {
    /// Before the first transaction.
    pub const NONE: Self = Self(0);

    /// The next.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Parses 16 hex digits.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let digits = text.len() == DIGITS
            && text.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
        match u64::from_str_radix(text, 16) {
            Ok(number) if digits => Ok(Self(number)),
            _ => Err(Error::new(ErrorKind::InvalidInput, "txid.parse")
                .because("a TXID is 16 lower-case hex digits")
                .with("txid", text)),
        }
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Transactions in a row, both ends included; at least one, from 1 on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TxidRange {
    min: Txid,
    max: Txid,
}

impl TxidRange {
    /// `min` to `max`; `None` unless `1 ≤ min ≤ max`.
    pub const fn new(min: Txid, max: Txid) -> Option<Self> {
        if min.0 >= 1 && min.0 <= max.0 { Some(Self { min, max }) } else { None }
    }

    /// One transaction; `None` for [`Txid::NONE`].
    pub const fn one(txid: Txid) -> Option<Self> {
        Self::new(txid, txid)
    }

    /// The first.
    pub const fn min(self) -> Txid {
        self.min
    }

    /// The last.
    pub const fn max(self) -> Txid {
        self.max
    }

    /// True if it holds `txid`.
    pub const fn contains(self, txid: Txid) -> bool {
        self.min.0 <= txid.0 && txid.0 <= self.max.0
    }

    /// True if a file of this range, applied to the state at `txid`, leads on without a gap.
    pub const fn extends(self, txid: Txid) -> bool {
        self.min.0 <= txid.next().0 && self.max.0 > txid.0
    }

    /// The name of the file that carries it: `<min>-<max>.ltx`.
    pub fn file_name(self) -> String {
        format!("{}-{}.ltx", self.min, self.max)
    }

    /// The range of a file of that name; `None` if it is no such name.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
        Self::new(Txid::parse(min).ok()?, Txid::parse(max).ok()?)
    }
}

impl fmt::Display for TxidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let range = TxidRange::new(Txid(1), Txid(0xab)).unwrap();
        assert_eq!(range.file_name(), "0000000000000001-00000000000000ab.ltx");
        assert_eq!(TxidRange::from_file_name(&range.file_name()), Some(range));
        for name in [
            "0000000000000001-00000000000000AB.ltx",
            "0000000000000000-00000000000000ab.ltx",
            "0000000000000002-0000000000000001.ltx",
            "+000000000000001-00000000000000ab.ltx",
            "0000000000000001-00000000000000ab.ltx.tmp",
            "1-2.ltx",
        ] {
            assert_eq!(TxidRange::from_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_range_extends_a_state_without_a_gap() {
        let range = TxidRange::new(Txid(5), Txid(8)).unwrap();
        assert!(range.extends(Txid(4)) && range.extends(Txid(7)));
        assert!(!range.extends(Txid(3)) && !range.extends(Txid(8)));
    }
}
