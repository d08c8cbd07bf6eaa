//! A database that is only pages, changed by chance, and its files at several levels.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jetbridge_sqlite::ltx::{Encoder, Header};
use jetbridge_sqlite::store::{Level, LtxFile, Put, Replica};
use jetbridge_sqlite::{PageSize, Pgno, Txid, TxidRange};

pub(crate) const PAGE_SIZE: PageSize = PageSize::new(512).unwrap();

/// The states of a database, one after each transaction, from transaction 1 on.
pub(crate) struct History {
    pub(crate) states: Vec<Vec<Vec<u8>>>,
    dice: Dice,
}

impl History {
    /// A database of `pages` pages.
    pub(crate) fn new(seed: u64, pages: usize) -> Self {
        let mut dice = Dice::new(seed);
        let first = (0..pages).map(|_| page(&mut dice)).collect();
        Self { states: vec![first], dice }
    }

    pub(crate) fn txid(&self) -> Txid {
        Txid(self.states.len() as u64)
    }

    /// Changes some pages; grows or shrinks the database now and then.
    pub(crate) fn step(&mut self) {
        let mut next = self.states.last().unwrap().clone();
        for _ in 0..self.dice.below(6) + 1 {
            let at = self.dice.below(next.len());
            next[at] = page(&mut self.dice);
        }
        match self.dice.below(5) {
            0 => next.push(page(&mut self.dice)),
            1 if next.len() > 2 => next.truncate(next.len() - 1),
            _ => {}
        }
        self.states.push(next);
    }

    /// The bytes of the database after `txid`.
    pub(crate) fn bytes(&self, txid: Txid) -> Vec<u8> {
        self.state(txid).concat()
    }

    fn state(&self, txid: Txid) -> &[Vec<u8>] {
        &self.states[usize::try_from(txid.0).unwrap() - 1]
    }

    /// The pages that a file of `range` holds: all for one from the first transaction on.
    pub(crate) fn changes(&self, range: TxidRange) -> BTreeMap<Pgno, Vec<u8>> {
        let last = self.state(range.max());
        let mut pages = BTreeMap::new();
        for (at, page) in last.iter().enumerate() {
            let changed = range.min() == Txid(1)
                || (range.min().0..=range.max().0).any(|txid| {
                    self.state(Txid(txid - 1)).get(at) != self.state(Txid(txid)).get(at)
                });
            if changed {
                pages.insert(Pgno::try_from(at).unwrap() + 1, page.clone());
            }
        }
        pages
    }

    /// Stores the file of a range at a level.
    pub(crate) async fn put(&self, replica: &Replica, level: u8, min: u64, max: u64) -> LtxFile {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        let file = self.encode(range, &self.changes(range));
        let level = Level::new(level).unwrap();
        let put = Put { level, range, time: time(range.max()), base: None };
        replica.put(put, file.into()).await.unwrap()
    }

    pub(crate) fn encode(&self, range: TxidRange, pages: &BTreeMap<Pgno, Vec<u8>>) -> Vec<u8> {
        let header = Header {
            page_size: PAGE_SIZE,
            commit: Pgno::try_from(self.state(range.max()).len()).unwrap(),
            range,
            timestamp_ms: i64::try_from(range.max().0 * 1000).unwrap(),
            wal: None,
        };
        let mut encoder = Encoder::new(Vec::new(), header).unwrap().partial();
        for (pgno, page) in pages {
            encoder.page(*pgno, page).unwrap();
        }
        encoder.finish().unwrap().0
    }
}

/// When a transaction was captured.
pub(crate) fn time(txid: Txid) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + txid.0)
}

/// Chance that repeats: the same seed, the same throws (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

fn page(dice: &mut Dice) -> Vec<u8> {
    let byte = u8::try_from(dice.below(256)).unwrap();
    let mut page = vec![byte; PAGE_SIZE.bytes()];
    page[..8].copy_from_slice(&(dice.below(usize::MAX) as u64).to_be_bytes());
    page
}
