//! Any bytes as a log: frames or their end, never a panic; what is committed ends at a commit,
//! within the limit, and lies in the file. A log whose sums are put right is read to its end.
//!
//! `cargo +nightly fuzz run wal`, in this directory's parent.

#![no_main]

use jetbridge_sqlite::wal::{FRAME_HEADER_BYTES, Frames, HEADER_BYTES, Header, Source, commits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut mended = data.to_vec();
    if let Some(frames) = mend(&mut mended) {
        let header = Source::header(&mended[..]).expect("bytes are read").expect("a header");
        let mut read = Frames::new(&mended[..], header, header.start());
        for number in 0..frames {
            let found = read.next().expect("bytes are read");
            assert!(found.is_some(), "frame {number} of {frames}");
        }
        check(&mended);
    }
});

fn check(log: &[u8]) {
    let Ok(Some(header)) = Source::header(log) else { return };
    let size = header.frame_bytes();
    for end in [log.len() as u64, header.end_of(1), header.end_of(3), 0] {
        let found = commits(log, header, header.start(), end).expect("bytes are read");
        let Some((pages, position)) = found.end else {
            assert!(found.pages.is_empty() && found.fewest == 0);
            continue;
        };
        assert!(position.offset <= end && position.offset <= log.len() as u64);
        assert_eq!((position.offset - HEADER_BYTES as u64) % size, 0);
        assert!(found.fewest > 0 && found.fewest <= pages);
        for offset in found.pages.values() {
            assert!(offset + u64::from(header.page_size.get()) <= position.offset);
        }
        let after = commits(log, header, position, end).expect("bytes are read");
        assert_eq!(after.end, None, "all was read at once");
    }
}

/// Puts the header and the sums of every whole frame right, and says how many frames there are.
fn mend(log: &mut [u8]) -> Option<u64> {
    let (head, frames) = log.split_first_chunk_mut::<HEADER_BYTES>()?;
    let big_endian = head[0] & 1 == 1;
    let page_size = 512_u32 << (head[11] % 3);
    head[..4].copy_from_slice(&(0x377f_0682 | u32::from(big_endian)).to_be_bytes());
    head[4..8].copy_from_slice(&3_007_000_u32.to_be_bytes());
    head[8..12].copy_from_slice(&page_size.to_be_bytes());
    let mut sums = sum(big_endian, [0, 0], &head[..24]);
    put(&mut head[24..], sums);
    let salts: [u8; 8] = head[16..24].try_into().ok()?;
    Header::decode(head)?;
    let size = FRAME_HEADER_BYTES + page_size as usize;
    let mut count = 0;
    for frame in frames.chunks_exact_mut(size) {
        let (head, page) = frame.split_at_mut(FRAME_HEADER_BYTES);
        head[3] |= 1;
        head[8..16].copy_from_slice(&salts);
        sums = sum(big_endian, sum(big_endian, sums, &head[..8]), page);
        put(&mut head[16..], sums);
        count += 1;
    }
    Some(count)
}

/// The checksum, written once more and differently.
fn sum(big_endian: bool, [mut first, mut second]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("four bytes");
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    [first, second]
}

fn put(target: &mut [u8], sums: [u32; 2]) {
    target[..4].copy_from_slice(&sums[0].to_be_bytes());
    target[4..8].copy_from_slice(&sums[1].to_be_bytes());
}
