//! Several files become one: of every page the newest version.

use std::collections::BTreeMap;

use bytes::Bytes;
use jetbridge_core::{Error, ErrorKind, Result};

use crate::ltx::{Decoder, Encoder, Header};
use crate::{Pgno, TxidRange};

const OPERATION: &str = "sqlite.merge";

/// Whether the result must hold every page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whole {
    /// It holds what its inputs hold.
    AsItComes,
    /// It is a snapshot from the first transaction on.
    Snapshot,
}

/// Merges files, oldest first.
pub(super) fn merge(files: &[Bytes], range: Option<TxidRange>, whole: Whole) -> Result<Vec<u8>> {
    let nothing =
        || Error::new(ErrorKind::Internal, OPERATION).because("there is nothing to merge");
    let newest = files.last().ok_or_else(nothing)?;
    let mut header = *Decoder::new(&newest[..])?.header();
    let mut pages: BTreeMap<Pgno, Vec<u8>> = BTreeMap::new();
    for file in files.iter().rev() {
        take(file, &header, &mut pages)?;
    }
    header.wal = None;
    header.range = range.ok_or_else(nothing)?;
    if whole == Whole::Snapshot {
        header.range = TxidRange::new(crate::Txid(1), header.range.max()).ok_or_else(nothing)?;
    }
    let encoder = Encoder::new(Vec::new(), header)?;
    let mut encoder = if whole == Whole::Snapshot { encoder } else { encoder.partial() };
    for (pgno, page) in &pages {
        encoder.page(*pgno, page)?;
    }
    encoder.finish().map(|(file, _written)| file)
}

/// Takes the pages of a file that no newer one has.
fn take(file: &Bytes, newest: &Header, pages: &mut BTreeMap<Pgno, Vec<u8>>) -> Result<()> {
    let mut decoder = Decoder::new(&file[..])?.partial();
    if decoder.header().page_size != newest.page_size {
        return Err(Error::new(ErrorKind::Corrupt, OPERATION)
            .because("files with pages of different sizes cannot be merged"));
    }
    let mut page = vec![0; newest.page_size.bytes()];
    while let Some(pgno) = decoder.page(&mut page)? {
        if pgno <= newest.commit {
            pages.entry(pgno).or_insert_with(|| page.clone());
        }
    }
    Ok(())
}
