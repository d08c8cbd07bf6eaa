//! Page frames: a page number, flags, and a compressed page.
//!
//! Two kinds exist. Today's has the size of an LZ4 *block* before it. Litestream 0.5.0 to 0.5.15
//! wrote an LZ4 *frame* without a size; those are read, never written.

use std::io::{Cursor, Read};

use jetbridge_core::{Error, Result};
use lz4_flex::block::{decompress_into, get_maximum_output_size};
use lz4_flex::frame::FrameDecoder;

use super::fault::{corrupt, unread};
use super::header::u32_at;
use crate::{PageSize, Pgno};

/// Page number and flags.
pub(super) const PAGE_HEADER_BYTES: usize = 6;
/// The size of an LZ4 block.
pub(super) const SIZE_BYTES: usize = 4;
/// A block with its size follows.
pub(super) const FLAG_SIZED: u16 = 0x0001;
/// Ends the frames: page 0 without flags.
pub(super) const END_OF_PAGES: [u8; PAGE_HEADER_BYTES] = [0; PAGE_HEADER_BYTES];

/// Most bytes of a frame that [`decode_frame`] is given: a page that does not compress, the
/// largest there is, with room for the head and tail of the old kind.
pub const FRAME_BYTES_MAX: usize = 2 * PageSize::MAX as usize;

/// What stands before a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageHeader {
    pub(super) pgno: Pgno,
    pub(super) sized: bool,
    pub(super) bytes: [u8; PAGE_HEADER_BYTES],
}

impl PageHeader {
    pub(super) fn sized(pgno: Pgno) -> Self {
        let mut bytes = [0; PAGE_HEADER_BYTES];
        bytes[..4].copy_from_slice(&pgno.to_be_bytes());
        bytes[4..].copy_from_slice(&FLAG_SIZED.to_be_bytes());
        Self { pgno, sized: true, bytes }
    }

    /// `None` at the end of the pages.
    pub(super) fn decode(bytes: [u8; PAGE_HEADER_BYTES], offset: u64) -> Result<Option<Self>> {
        if bytes == END_OF_PAGES {
            return Ok(None);
        }
        let flags = u16::from_be_bytes([bytes[4], bytes[5]]);
        let pgno = u32_at(&bytes, 0);
        if pgno == 0 || flags & !FLAG_SIZED != 0 {
            return Err(corrupt("this is no page frame", offset));
        }
        Ok(Some(Self { pgno, sized: flags == FLAG_SIZED, bytes }))
    }
}

/// Most bytes that a block of one page may have: the largest that the compressor makes of a page
/// that does not compress.
pub(super) fn block_bytes_max(page_size: PageSize) -> usize {
    get_maximum_output_size(page_size.bytes())
}

/// Fills `page` from a block.
pub(super) fn decompress_block(block: &[u8], page: &mut [u8], offset: u64) -> Result<()> {
    match decompress_into(block, page) {
        Ok(length) if length == page.len() => Ok(()),
        Ok(_short) => Err(corrupt("a page is shorter than the page size", offset)),
        Err(cause) => Err(corrupt("a page cannot be decompressed", offset).caused_by(cause)),
    }
}

/// Fills `page` from one LZ4 frame, of which exactly its own bytes are read.
pub(super) fn decompress_frame(source: impl Read, page: &mut [u8], offset: u64) -> Result<()> {
    let mut decoder = FrameDecoder::new(source);
    decoder.read_exact(page).map_err(|cause| broken_frame(cause, offset))?;
    let surplus = decoder.read(&mut [0]).map_err(|cause| broken_frame(cause, offset))?;
    if surplus != 0 {
        return Err(corrupt("a page is longer than the page size", offset));
    }
    Ok(())
}

/// The codec's own complaints are about the bytes; what the source failed with is passed on.
fn broken_frame(cause: std::io::Error, offset: u64) -> Error {
    let codec = cause.get_ref().is_some_and(|inner| inner.is::<lz4_flex::frame::Error>());
    if codec {
        return corrupt("a page cannot be decompressed", offset).caused_by(cause);
    }
    unread(cause, offset)
}

/// Decodes one frame that was read by its [`IndexEntry`](super::IndexEntry), into `page`, which
/// is one page long; returns which page it is.
///
/// # Errors
/// [`Corrupt`](jetbridge_core::ErrorKind::Corrupt) if `frame` is not exactly one frame of one
/// page. The checksum of the file is not seen here: it covers the file as a whole.
pub fn decode_frame(frame: &[u8], page: &mut [u8]) -> Result<Pgno> {
    let Some((head, rest)) = frame.split_first_chunk::<PAGE_HEADER_BYTES>() else {
        return Err(corrupt("a page frame is cut off", 0));
    };
    let header = PageHeader::decode(*head, 0)?.ok_or_else(|| corrupt("this is no page", 0))?;
    if header.sized {
        let Some((size, block)) = rest.split_first_chunk::<SIZE_BYTES>() else {
            return Err(corrupt("a page frame is cut off", 0));
        };
        if u32::from_be_bytes(*size) as usize != block.len() {
            return Err(corrupt("a page frame has another length than it says", 0));
        }
        decompress_block(block, page, 0)?;
        return Ok(header.pgno);
    }
    let mut source = Cursor::new(rest);
    decompress_frame(&mut source, page, 0)?;
    if source.position() != rest.len() as u64 {
        return Err(corrupt("bytes follow the page in its frame", 0));
    }
    Ok(header.pgno)
}
