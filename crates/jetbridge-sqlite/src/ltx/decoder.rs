//! Reads files, and believes nothing that it has not checked.
//!
//! Litestream's own decoder accepts snapshots that lack their last pages and pages that are too
//! short. Here, what does not keep every rule of the format is refused. One exception serves
//! split bases (`docs/formats/ltx.md`): [`Decoder::partial`].

use std::fmt;
use std::io::{self, Read};

use jetbridge_core::Result;

use super::encoder::{check_complete, check_order};
use super::fault::{corrupt, unread};
use super::frame::{
    END_OF_PAGES, PAGE_HEADER_BYTES, PageHeader, SIZE_BYTES, block_bytes_max, decompress_block,
    decompress_frame,
};
use super::header::{HEADER_BYTES, Header};
use super::index::{IndexBytes, IndexEntry};
use super::trailer::{Checksum, TRAILER_BYTES, Trailer};
use crate::Pgno;

/// Reads one file, page by page, from a source that is best buffered.
///
/// What [`Decoder::page`] gives is proven only once it has said `None`: the checksum stands at
/// the end. Until then pages belong where they can be thrown away.
pub struct Decoder<R> {
    source: Counted<R>,
    header: Header,
    tracked: bool,
    partial: bool,
    last: Pgno,
    checksum: Checksum,
    index: IndexBytes,
    block: Vec<u8>,
    end: Option<Trailer>,
}

impl<R: Read> Decoder<R> {
    /// Begins by reading the header.
    ///
    /// # Errors
    /// [`Corrupt`](jetbridge_core::ErrorKind::Corrupt) for a file that breaks a rule of the
    /// format, here and below; and what the source fails with.
    pub fn new(source: R) -> Result<Self> {
        let mut source = Counted { source, count: 0 };
        let mut bytes = [0; HEADER_BYTES];
        source.read_exact(&mut bytes).map_err(|cause| unread(cause, 0))?;
        let header = Header::decode(&bytes)?;
        let mut checksum = Checksum::new();
        checksum.add(&bytes);
        Ok(Self {
            source,
            header,
            tracked: Header::is_tracked(&bytes),
            partial: false,
            last: 0,
            checksum,
            index: IndexBytes::default(),
            block: Vec::new(),
            end: None,
        })
    }

    /// Accepts a file from the first transaction on that is one part of a split base, and so
    /// holds some of the pages only.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The end of the file, once [`Decoder::page`] has said `None`.
    pub fn trailer(&self) -> Option<Trailer> {
        self.end
    }

    /// Reads the next page into `page`, which is one page long, and says which it is; `None` once
    /// all were read and the index, the checksum and the end of the file were right.
    ///
    /// # Errors
    /// As [`Decoder::new`]; [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) for a
    /// buffer of another length.
    pub fn page(&mut self, page: &mut [u8]) -> Result<Option<Pgno>> {
        if self.end.is_some() {
            return Ok(None);
        }
        if page.len() != self.header.page_size.bytes() {
            let text = format!("a page has {} bytes, not {}", self.header.page_size, page.len());
            return Err(super::fault::misuse(text));
        }
        let offset = self.source.count;
        let mut head = [0; PAGE_HEADER_BYTES];
        self.fill(&mut head)?;
        let Some(header) = PageHeader::decode(head, offset)? else {
            self.end()?;
            return Ok(None);
        };
        check_order(&self.judged(), self.last, header.pgno)
            .map_err(|text| corrupt(text, offset))?;
        self.checksum.add(&header.bytes);
        if header.sized {
            self.sized_page(page)?;
        } else {
            decompress_frame(&mut self.source, page, offset)?;
        }
        self.checksum.add(page);
        let size = self.source.count - offset;
        self.index.push(IndexEntry { pgno: header.pgno, offset, size });
        self.last = header.pgno;
        Ok(Some(header.pgno))
    }

    /// The header by which the order of pages is judged.
    fn judged(&self) -> Header {
        if self.partial { self.header.as_part() } else { self.header }
    }

    fn sized_page(&mut self, page: &mut [u8]) -> Result<()> {
        let offset = self.source.count;
        let mut size = [0; SIZE_BYTES];
        self.fill(&mut size)?;
        self.checksum.add(&size);
        let length = u32::from_be_bytes(size) as usize;
        if length > block_bytes_max(self.header.page_size) {
            return Err(corrupt("a page is larger than any that compresses badly", offset));
        }
        self.block.resize(length, 0);
        let at = self.source.count;
        self.source.read_exact(&mut self.block).map_err(|cause| unread(cause, at))?;
        decompress_block(&self.block, page, offset)
    }

    fn end(&mut self) -> Result<()> {
        let offset = self.source.count;
        check_complete(&self.judged(), self.last).map_err(|text| corrupt(text, offset))?;
        self.checksum.add(&END_OF_PAGES);
        let expected = std::mem::take(&mut self.index).finish();
        let mut index = vec![0; expected.len()];
        self.fill(&mut index)?;
        if index != expected {
            return Err(corrupt("the page index does not match the pages", offset));
        }
        self.checksum.add(&index);
        let offset = self.source.count;
        let mut bytes = [0; TRAILER_BYTES];
        self.fill(&mut bytes)?;
        let trailer = Trailer::decode(&bytes, self.tracked, offset)?;
        self.checksum.add(&bytes[..TRAILER_BYTES / 2]);
        if self.checksum.value() != trailer.file_checksum {
            return Err(corrupt("the checksum is wrong", offset)
                .with("stored", format!("{:016x}", trailer.file_checksum))
                .with("computed", format!("{:016x}", self.checksum.value())));
        }
        let end = self.source.count;
        let surplus = self.source.read(&mut [0]).map_err(|cause| unread(cause, end))?;
        if surplus != 0 {
            return Err(corrupt("bytes follow the end of the file", end));
        }
        self.end = Some(trailer);
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let at = self.source.count;
        self.source.read_exact(bytes).map_err(|cause| unread(cause, at))
    }
}

impl<R> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("header", &self.header).field("last", &self.last).finish()
    }
}

/// Reads a whole file for its checks alone.
///
/// # Errors
/// As [`Decoder::new`].
pub fn verify(source: impl Read) -> Result<(Header, Trailer)> {
    let mut decoder = Decoder::new(source)?;
    let mut page = vec![0; decoder.header.page_size.bytes()];
    while decoder.page(&mut page)?.is_some() {}
    let trailer = decoder.trailer().unwrap_or(Trailer { post_apply: 0, file_checksum: 0 });
    Ok((decoder.header, trailer))
}

/// A source that knows how far it was read.
struct Counted<R> {
    source: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.count += length as u64;
        Ok(length)
    }
}
