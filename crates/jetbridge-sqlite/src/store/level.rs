//! Levels: how often a file was merged.

use std::fmt;

/// 0 for what was captured, 1 to 8 for what was merged, 9 for whole databases.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Level(u8);

impl Level {
    /// What was captured.
    pub const CAPTURED: Self = Self(0);
    /// Whole databases.
    pub const SNAPSHOT: Self = Self(9);
    /// The level of a base that was cut into parts: the highest that Litestream merges into by
    /// default, and so one that it does not merge further.
    pub const BASE: Self = Self(3);

    /// A legal level, or `None`.
    pub const fn new(number: u8) -> Option<Self> {
        if number <= Self::SNAPSHOT.0 { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The level whose files are merged into this one; `None` for the lowest and for snapshots.
    pub const fn source(self) -> Option<Self> {
        match self.0 {
            0 | 9 => None,
            number => Some(Self(number - 1)),
        }
    }

    /// All levels from the highest down.
    pub fn descending() -> impl Iterator<Item = Self> {
        (0..=Self::SNAPSHOT.0).rev().map(Self)
    }

    /// The level that `text` names, as in the name of an object.
    pub(super) fn from_name(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [digit @ b'0'..=b'9'] => Some(Self(digit - b'0')),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
