//! Several files become one: of every page the newest version.
//!
//! The files are decoded side by side, lowest page first, so that one page of each is held
//! however well they are compressed.

use bytes::Bytes;
use jetbridge_core::{Error, ErrorKind, Result};

use crate::ltx::{Decoder, Encoder};
use crate::{PageSize, Pgno, TxidRange};

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
    header.wal = None;
    header.range = range.ok_or_else(nothing)?;
    if whole == Whole::Snapshot {
        header.range = TxidRange::new(crate::Txid(1), header.range.max()).ok_or_else(nothing)?;
    }
    let mut inputs = Vec::with_capacity(files.len());
    for file in files {
        inputs.push(Input::open(file, header.page_size)?);
    }
    let encoder = Encoder::new(Vec::new(), header)?;
    let mut encoder = if whole == Whole::Snapshot { encoder } else { encoder.partial() };
    while let Some(lowest) = inputs.iter().filter_map(|input| input.pgno).min() {
        let holders = || inputs.iter().rev().filter(|input| input.pgno == Some(lowest));
        if let Some(newest) = holders().next().filter(|_| lowest <= header.commit) {
            encoder.page(lowest, &newest.page)?;
        }
        for input in inputs.iter_mut().filter(|input| input.pgno == Some(lowest)) {
            input.advance()?;
        }
    }
    encoder.finish().map(|(file, _written)| file)
}

/// True if a file can be read to its end, and is what it says.
pub(super) fn is_sound(file: &Bytes) -> bool {
    let page_size = Decoder::new(&file[..]).map(|decoder| decoder.header().page_size);
    let read = page_size.and_then(|page_size| {
        let mut input = Input::open(file, page_size)?;
        while input.pgno.is_some() {
            input.advance()?;
        }
        Ok(())
    });
    read.is_ok()
}

/// A file that is being read, and the page it stands at.
struct Input<'a> {
    decoder: Decoder<&'a [u8]>,
    page: Vec<u8>,
    /// `None` once all were read, and the file was found to be right.
    pgno: Option<Pgno>,
}

impl<'a> Input<'a> {
    fn open(file: &'a Bytes, page_size: PageSize) -> Result<Self> {
        let decoder = Decoder::new(&file[..])?.partial();
        if decoder.header().page_size != page_size {
            return Err(Error::new(ErrorKind::Corrupt, OPERATION)
                .because("files with pages of different sizes cannot be merged"));
        }
        let mut input = Self { decoder, page: vec![0; page_size.bytes()], pgno: None };
        input.advance()?;
        Ok(input)
    }

    fn advance(&mut self) -> Result<()> {
        self.pgno = self.decoder.page(&mut self.page)?;
        Ok(())
    }
}
