use jetbridge_core::ErrorKind;
use proptest::prelude::*;

use super::*;
use crate::{PageSize, Pgno, Txid, TxidRange};

/// Written by the Go encoder: a snapshot of two pages of 512 bytes.
const GOLDEN_SNAPSHOT: &str = "4c545831000000020000020000000002000000000000000100000000000000010000018bcfe5687b00000000000000000000000000000020\
0000000000000430112233445566778800000000000000000000000000000000000000000000000000000000000000010001000000181f00\
0100ffda000200000200b0000000000000000000000000000002000100000118fff100070e151c232a31383f464d545b626970777e858c93\
9aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b424950575e656c737a81888f969da4abb2b9c0c7ced5dce3eaf1f8ff060d141b\
222930373e454c535a61686f767d848b9299a0a7aeb5bcc3cad1d8dfe6edf4fb020910171e252c333a41484f565d646b727980878e959ca3\
aab1b8bfc6cdd4dbe2e9f0f7fe050c131a21282f363d444b525960676e757c838a91989fa6adb4bbc2c9d0d7dee5ecf3fa01080f161d242b\
323940474e555c636a71787f868d949ba2a9b0b7bec5ccd3dae1e8eff6fd040b121920272e353c434a51585f666d747b828990979ea5acb3\
bac1c8cfd6dde4ebf2f9b500a20fb5012900b501b0c0c7ced5dce3eaf1f8ff06000000000000016422028601a20200000000000000000900\
000000000000009629748ac4d83741";
/// The trailer of a file without pages, likewise.
const GOLDEN_EMPTY_TRAILER: &str = "0000000000000000915a72c4cc770ac6";

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap()).collect()
}

fn page_b() -> Vec<u8> {
    (0..512_usize).map(|i| (7 * i + 13 * (i / 256)).to_le_bytes()[0]).collect()
}

fn header(txid: u64, commit: Pgno) -> Header {
    Header {
        page_size: PageSize::new(512).unwrap(),
        commit,
        range: TxidRange::one(Txid(txid)).unwrap(),
        timestamp_ms: 1,
        wal: None,
    }
}

fn encode(header: Header, pages: &[(Pgno, Vec<u8>)]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    for (pgno, page) in pages {
        encoder.page(*pgno, page).unwrap();
    }
    let (file, written) = encoder.finish().unwrap();
    assert_eq!(written.bytes, file.len() as u64);
    file
}

type Decoded = (Header, Vec<(Pgno, Vec<u8>)>);

fn decode(file: &[u8]) -> jetbridge_core::Result<Decoded> {
    let mut decoder = Decoder::new(file)?;
    let mut pages = Vec::new();
    let mut page = vec![0; decoder.header().page_size.bytes()];
    while let Some(pgno) = decoder.page(&mut page)? {
        pages.push((pgno, page.clone()));
    }
    Ok((*decoder.header(), pages))
}

fn refused(file: &[u8]) -> String {
    let error = decode(file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    error.to_string()
}

#[test]
fn a_file_of_the_go_encoder_is_read() {
    let (header, pages) = decode(&unhex(GOLDEN_SNAPSHOT)).unwrap();
    let wal = WalSpan { offset: 32, size: 1072, salts: [0x1122_3344, 0x5566_7788] };
    assert_eq!(header.wal, Some(wal));
    assert_eq!((header.commit, header.timestamp_ms), (2, 1_700_000_000_123));
    assert_eq!(pages, [(1, vec![0; 512]), (2, page_b())]);
}

#[test]
fn what_the_go_encoder_checksums_we_checksum_alike() {
    let (header, pages) = decode(&unhex(GOLDEN_SNAPSHOT)).unwrap();
    let ours = encode(header, &pages);
    assert_eq!(ours[..HEADER_BYTES], unhex(GOLDEN_SNAPSHOT)[..HEADER_BYTES]);
    assert_eq!(decode(&ours).unwrap(), (header, pages));

    let empty = encode(Header { commit: 3, ..self::header(6, 3) }, &[]);
    assert_eq!(empty.len(), 131);
    assert_eq!(empty[131 - TRAILER_BYTES..], unhex(GOLDEN_EMPTY_TRAILER));
}

#[test]
fn a_page_that_does_not_compress_is_kept() {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(512)
    .collect();
    let file = encode(header(5, 9), &[(4, noise.clone())]);
    assert!(file.len() > 512 + HEADER_BYTES + TRAILER_BYTES);
    assert_eq!(decode(&file).unwrap().1, [(4, noise)]);
}

#[test]
fn old_pages_in_frames_are_read() {
    use std::io::Write as _;
    let mut frames = Vec::new();
    let mut index = index::IndexBytes::default();
    for (pgno, page) in [(2_u32, page_b()), (3, vec![9; 512])] {
        let mut compressed = lz4_flex::frame::FrameEncoder::new(Vec::new());
        compressed.write_all(&page).unwrap();
        let compressed = compressed.finish().unwrap();
        let offset = (HEADER_BYTES + frames.len()) as u64;
        index.push(IndexEntry { pgno, offset, size: 6 + compressed.len() as u64 });
        frames.extend_from_slice(&pgno.to_be_bytes());
        frames.extend_from_slice(&[0, 0]);
        frames.extend_from_slice(&compressed);
    }
    let head = header(5, 3).encode().unwrap();
    let index = index.finish();
    let mut sum = trailer::Checksum::new();
    sum.add(&head);
    for (pgno, page) in [(2_u32, page_b()), (3, vec![9; 512])] {
        sum.add(&pgno.to_be_bytes());
        sum.add(&[0, 0]);
        sum.add(&page);
    }
    sum.add(&[0; 6]);
    sum.add(&index);
    sum.add(&[0; 8]);
    let end = Trailer { post_apply: 0, file_checksum: sum.value() }.encode();
    let file = [&head[..], &frames, &[0; 6], &index, &end].concat();
    assert_eq!(decode(&file).unwrap().1, [(2, page_b()), (3, vec![9; 512])]);

    let entry = PageIndex::decode(&file).unwrap().find(3).unwrap();
    let at = usize::try_from(entry.offset).unwrap();
    let frame = &file[at..at + usize::try_from(entry.size).unwrap()];
    let mut page = [0; 512];
    assert_eq!(decode_frame(frame, &mut page).unwrap(), 3);
    assert_eq!(page, [9; 512]);
}

#[test]
fn rules_are_kept_by_the_writer() {
    let page = [0; 512];
    let mut encoder = Encoder::new(Vec::new(), header(5, 9)).unwrap();
    encoder.page(3, &page).unwrap();
    for (pgno, page) in [(3, &page[..]), (2, &page), (0, &page), (10, &page), (4, &page[..511])] {
        assert_eq!(encoder.page(pgno, page).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let mut snapshot = Encoder::new(Vec::new(), header(1, 3)).unwrap();
    assert!(snapshot.page(2, &page).unwrap_err().to_string().contains("lacks page 1"));
    snapshot.page(1, &page).unwrap();
    assert!(snapshot.finish().unwrap_err().to_string().contains("ends with page 1"));
    assert!(Encoder::new(Vec::new(), header(5, 0)).is_err());
}

#[test]
fn a_snapshot_that_ends_early_is_refused_unless_it_is_a_part() {
    // As the Go library would write it: all pages but the last, and a right checksum.
    let mut whole = header(2, 3);
    let pages = [(1, vec![1; 512]), (2, vec![2; 512])];
    let mut file = encode(whole, &pages);
    whole.range = TxidRange::one(Txid(1)).unwrap();
    let head = whole.encode().unwrap();
    file[..HEADER_BYTES].copy_from_slice(&head);
    let mut sum = trailer::Checksum::new();
    sum.add(&head);
    let mut at = HEADER_BYTES;
    for (_, page) in &pages {
        let size = header::u32_at(&file, at + 6) as usize;
        sum.add(&file[at..at + 10]);
        sum.add(page);
        at += 10 + size;
    }
    let end = file.len();
    sum.add(&file[at..end - 8]);
    file[end - 8..].copy_from_slice(&sum.value().to_be_bytes());
    assert!(refused(&file).contains("ends with page 2"));

    let mut part = Decoder::new(&file[..]).unwrap().partial();
    let mut page = [0; 512];
    assert_eq!(part.page(&mut page).unwrap(), Some(1));
    assert_eq!(part.page(&mut page).unwrap(), Some(2));
    assert_eq!(part.page(&mut page).unwrap(), None);
}

#[test]
fn every_cut_and_every_surplus_byte_is_refused() {
    let file = unhex(GOLDEN_SNAPSHOT);
    for length in 0..file.len() {
        refused(&file[..length]);
    }
    assert!(refused(&[&file[..], &[0]].concat()).contains("bytes follow"));
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let file = unhex(GOLDEN_SNAPSHOT);
    let whole = decode(&file).unwrap();
    let mut harmless = 0;
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match decode(&flipped) {
            Ok(decoded) => {
                assert_eq!(decoded, whole, "bit {bit}");
                harmless += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }
    // An LZ4 match may point to another place with the same bytes; little else is.
    assert!(harmless < 40, "{harmless} flips went unseen");
}

#[test]
fn the_index_is_read_from_the_end() {
    let file = unhex(GOLDEN_SNAPSHOT);
    let tail = PageIndex::tail_bytes(&file[file.len() - PageIndex::TAIL_BYTES_MIN..]).unwrap();
    let start = file.len() - usize::try_from(tail).unwrap();
    let index = PageIndex::decode(&file[start..]).unwrap();
    assert_eq!(index.entries()[0], IndexEntry { pgno: 1, offset: 100, size: 34 });
    assert_eq!(index.find(2), Some(IndexEntry { pgno: 2, offset: 134, size: 290 }));
    assert_eq!(index.find(3), None);
    let mut page = [0; 512];
    assert_eq!(decode_frame(&file[134..134 + 290], &mut page).unwrap(), 2);
    assert_eq!(page[..], page_b());
    assert!(decode_frame(&file[134..134 + 289], &mut page).is_err());
}

fn files() -> impl Strategy<Value = (Header, Vec<(Pgno, Vec<u8>)>)> {
    let page = prop_oneof![
        proptest::collection::vec(any::<u8>(), 512),
        any::<u8>().prop_map(|byte| vec![byte; 512]),
    ];
    let pages = proptest::collection::btree_map(1_u32..60, page, 0..12);
    (2_u64..9, any::<i64>(), proptest::option::of((32_u64..1 << 40, any::<[u32; 2]>())), pages)
        .prop_map(|(txid, timestamp_ms, wal, pages)| {
            let wal = wal.map(|(offset, salts)| WalSpan { offset, size: 4120, salts });
            (Header { timestamp_ms, wal, ..header(txid, 60) }, pages.into_iter().collect())
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read((header, pages) in files()) {
        let file = encode(header, &pages);
        prop_assert_eq!(decode(&file).unwrap(), (header, pages.clone()));
        let index = PageIndex::decode(&file).unwrap();
        let mut page = [0; 512];
        for (pgno, content) in &pages {
            let entry = index.find(*pgno).unwrap();
            let at = usize::try_from(entry.offset).unwrap();
            let size = usize::try_from(entry.size).unwrap();
            let found = decode_frame(&file[at..at + size], &mut page).unwrap();
            prop_assert_eq!((found, &page[..]), (*pgno, &content[..]));
        }
    }

    #[test]
    fn a_flipped_bit_never_reads_as_something_else((header, pages) in files(), place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut file = encode(header, &pages);
        let at = place.index(file.len());
        file[at] ^= 1_u8 << bit;
        if let Ok(decoded) = decode(&file) {
            prop_assert_eq!(decoded, (header, pages));
        }
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..600), after in 0..3_u8) {
        let golden = unhex(GOLDEN_SNAPSHOT);
        let kept = [0, 4, HEADER_BYTES][usize::from(after)];
        let file = [&golden[..kept], &noise].concat();
        prop_assert!(decode(&file).is_err());
        PageIndex::decode(&noise).map(drop).unwrap_or_default();
        decode_frame(&noise, &mut [0; 512]).map(drop).unwrap_or_default();
    }
}
