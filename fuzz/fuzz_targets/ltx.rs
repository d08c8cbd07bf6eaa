//! Any bytes as an LTX file: pages or an error, never a panic; what reads as a file is, written
//! again, read as the same, and its index says of each page where it stands.
//!
//! Checksums would refuse nearly every input. So the input says what the pages are, is written as
//! a file, and damaged; and it is read as it is, too.
//!
//! `cargo +nightly fuzz run ltx`, in this directory's parent.

#![no_main]

use jetbridge_sqlite::ltx::{Decoder, Encoder, Header, PageIndex, WalSpan, verify};
use jetbridge_sqlite::{PageSize, Pgno, Txid, TxidRange};
use libfuzzer_sys::fuzz_target;

/// Pages of one file at most.
const PAGES_MAX: u32 = 8;

fuzz_target!(|data: &[u8]| {
    let _judged = read(data);
    let _index = PageIndex::decode(data);
    if let Some((facts, rest)) = data.split_first_chunk::<8>() {
        damage(*facts, rest);
    }
});

/// Writes a file of these pages, reads it, and reads it with one byte changed.
fn damage(facts: [u8; 8], content: &[u8]) {
    let page_size = PageSize::new(512 << (facts[0] % 3)).expect("a legal size");
    let header = Header {
        page_size,
        commit: u32::from(facts[1]) % PAGES_MAX + 1,
        range: TxidRange::one(Txid(u64::from(facts[2]) % 3 + 1)).expect("a range"),
        timestamp_ms: i64::from(facts[3]) - 100,
        wal: (facts[4] & 1 == 1).then_some(WalSpan { offset: 32, size: 536, salts: [1, 2] }),
    };
    let skip = |pgno: Pgno| !header.is_snapshot() && facts[5] >> (pgno % 8) & 1 == 1;
    let pages: Vec<(Pgno, Vec<u8>)> = (1..=header.commit)
        .filter(|pgno| !skip(*pgno))
        .map(|pgno| {
            let chunk = content.chunks(page_size.bytes()).nth(pgno as usize - 1);
            let mut page = chunk.unwrap_or_default().to_vec();
            page.resize(page_size.bytes(), pgno as u8);
            (pgno, page)
        })
        .collect();
    let mut encoder = Encoder::new(Vec::new(), header).expect("a legal header");
    for (pgno, page) in &pages {
        encoder.page(*pgno, page).expect("a legal page");
    }
    let (mut file, _) = encoder.finish().expect("a whole file");
    let (found, again) = read(&file).expect("what was written is read");
    assert_eq!((found, &again), (header, &pages));
    let index = PageIndex::decode(&file).expect("an index");
    assert_eq!(index.entries().len(), pages.len());
    // The checksum is over uncompressed pages: another block for the same page is no damage.
    let at = u16::from_be_bytes([facts[6], facts[7]]) as usize % file.len();
    file[at] ^= 1 << (facts[4] >> 5);
    if let Ok((other, read)) = read(&file) {
        assert_eq!((other, read), (header, pages), "a changed byte at {at} was not noticed");
    }
}

fn read(file: &[u8]) -> jetbridge_core::Result<(Header, Vec<(Pgno, Vec<u8>)>)> {
    let verified = verify(file);
    let read = read_pages(file);
    assert_eq!(verified.is_ok(), read.is_ok());
    read
}

fn read_pages(file: &[u8]) -> jetbridge_core::Result<(Header, Vec<(Pgno, Vec<u8>)>)> {
    let mut decoder = Decoder::new(file)?;
    let mut page = vec![0; decoder.header().page_size.bytes()];
    let mut pages = Vec::new();
    while let Some(pgno) = decoder.page(&mut page)? {
        pages.push((pgno, page.clone()));
    }
    Ok((*decoder.header(), pages))
}
