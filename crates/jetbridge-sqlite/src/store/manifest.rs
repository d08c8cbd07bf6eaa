//! Which files a replica has. Pure: whoever reads and writes the store keeps it up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use jetbridge_core::Digest;

use super::level::Level;
use crate::{Txid, TxidRange};

/// One file of a replica.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "made by tests and by every reader of a store")]
pub struct LtxFile {
    /// How often it was merged.
    pub level: Level,
    /// The transactions it carries.
    pub range: TxidRange,
    /// Its length.
    pub bytes: u64,
    /// When its last transaction was captured, as its object says; else when it was stored.
    pub time: SystemTime,
    /// The digest that its writer stored.
    pub digest: Option<Digest>,
    /// The transactions that carry the parts of the base that this is a part of. Only the last of
    /// them is a state of the database.
    pub base: Option<TxidRange>,
}

impl LtxFile {
    /// The name of the file.
    pub fn file_name(&self) -> String {
        self.range.file_name()
    }
}

/// The files of one replica.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    files: BTreeMap<(Level, TxidRange), LtxFile>,
}

impl Manifest {
    /// Adds a file, or replaces what is known of it.
    pub fn insert(&mut self, file: LtxFile) {
        self.files.insert((file.level, file.range), file);
    }

    /// Forgets a file.
    pub fn remove(&mut self, level: Level, range: TxidRange) -> Option<LtxFile> {
        self.files.remove(&(level, range))
    }

    /// The files of a level, by their first transaction, then by their last.
    pub fn level(&self, level: Level) -> impl DoubleEndedIterator<Item = &LtxFile> {
        let first = TxidRange::new(Txid(1), Txid(1));
        let last = TxidRange::new(Txid(u64::MAX), Txid(u64::MAX));
        first.zip(last).into_iter().flat_map(move |(first, last)| {
            self.files.range((level, first)..=(level, last)).map(|(_, file)| file)
        })
    }

    /// All files, from level 0 up.
    pub fn files(&self) -> impl Iterator<Item = &LtxFile> {
        self.files.values()
    }

    /// True if there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The last transaction that any file of a level carries.
    pub fn last_of(&self, level: Level) -> Option<Txid> {
        self.level(level).map(|file| file.range.max()).max()
    }

    /// The files that may stand in a plan: all but those of bases that are not complete.
    pub fn usable(&self) -> impl Iterator<Item = &LtxFile> {
        let broken: BTreeSet<TxidRange> =
            self.bases().into_iter().filter(|base| !self.is_complete(*base)).collect();
        self.files().filter(move |file| file.base.is_none_or(|base| !broken.contains(&base)))
    }

    /// The parts of bases that were begun and never completed.
    pub fn abandoned(&self) -> Vec<LtxFile> {
        let bases = self.bases().into_iter().filter(|base| !self.is_complete(*base));
        let broken: BTreeSet<TxidRange> = bases.collect();
        let is_part = |file: &&LtxFile| file.base.is_some_and(|base| broken.contains(&base));
        self.files().filter(is_part).cloned().collect()
    }

    /// The bases that any file is a part of, by the transactions of their parts.
    pub fn bases(&self) -> BTreeSet<TxidRange> {
        self.files().filter_map(|file| file.base).collect()
    }

    /// True if every part of a base is there: the lowest, which leads to the others and is
    /// stored last, and one for each transaction behind it.
    pub fn is_complete(&self, base: TxidRange) -> bool {
        let parts = || self.files().filter(|file| file.base == Some(base));
        let ends: BTreeSet<Txid> = parts().map(|file| file.range.max()).collect();
        let lowest = parts().find(|file| file.range.min() <= base.min());
        let Some(lowest) = lowest else { return false };
        (lowest.range.max().0..=base.max().0).all(|txid| ends.contains(&Txid(txid)))
    }

    /// The times of the oldest and the newest file.
    pub fn times(&self) -> Option<(SystemTime, SystemTime)> {
        let times = || self.files().map(|file| file.time);
        times().min().zip(times().max())
    }
}
