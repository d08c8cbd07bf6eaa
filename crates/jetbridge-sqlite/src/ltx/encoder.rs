//! Writes files: block pages, without a checksum of the database, as Litestream does.

use std::fmt;
use std::io::Write;

use jetbridge_core::Result;
use lz4_flex::block::compress_into;

use super::fault::{misuse, unwritten};
use super::frame::{END_OF_PAGES, PAGE_HEADER_BYTES, PageHeader, SIZE_BYTES, block_bytes_max};
use super::header::{HEADER_BYTES, Header};
use super::index::{IndexBytes, IndexEntry};
use super::trailer::{Checksum, TRAILER_BYTES, Trailer};
use crate::Pgno;

/// Writes one file, page by page.
///
/// ```
/// use jetbridge_sqlite::{PageSize, Txid, TxidRange, ltx};
///
/// # fn demo() -> jetbridge_core::Result<()> {
/// let header = ltx::Header {
///     page_size: PageSize::new(512).unwrap(),
///     commit: 3,
///     range: TxidRange::one(Txid(5)).unwrap(),
///     timestamp_ms: 1_700_000_000_123,
///     wal: None,
/// };
/// let mut encoder = ltx::Encoder::new(Vec::new(), header)?;
/// encoder.page(3, &[7; 512])?;
/// let (file, written) = encoder.finish()?;
/// assert_eq!(file.len() as u64, written.bytes);
///
/// let mut decoder = ltx::Decoder::new(&file[..])?;
/// let mut page = [0; 512];
/// assert_eq!(decoder.page(&mut page)?, Some(3));
/// assert_eq!(decoder.page(&mut page)?, None); // and the checksum was right
/// # Ok(()) }
/// # demo().unwrap();
/// ```
pub struct Encoder<W> {
    writer: W,
    header: Header,
    partial: bool,
    offset: u64,
    last: Pgno,
    pages: u64,
    checksum: Checksum,
    index: IndexBytes,
    block: Vec<u8>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// The length of the file.
    pub bytes: u64,
    /// How many pages it holds.
    pub pages: u64,
    /// Its end.
    pub trailer: Trailer,
}

impl<W: Write> Encoder<W> {
    /// Begins a file by writing its header.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if the header breaks the rules
    /// of the format; and what the writer fails with, here and below.
    pub fn new(writer: W, header: Header) -> Result<Self> {
        let bytes = header.encode()?;
        let mut encoder = Self {
            writer,
            header,
            partial: false,
            offset: 0,
            last: 0,
            pages: 0,
            checksum: Checksum::new(),
            index: IndexBytes::default(),
            block: vec![0; block_bytes_max(header.page_size)],
        };
        encoder.checksum.add(&bytes);
        encoder.put(&bytes)?;
        debug_assert_eq!(encoder.offset, HEADER_BYTES as u64);
        Ok(encoder)
    }

    /// Makes the file one part of a split base: from the first transaction on, and yet with some
    /// of the pages only.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// Adds a page.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if pages do not ascend, if one
    /// lies behind the end of the database, is the lock page or has another size, and if a
    /// snapshot leaves one out. The file is worthless after any error.
    pub fn page(&mut self, pgno: Pgno, page: &[u8]) -> Result<()> {
        check_order(&self.judged(), self.last, pgno).map_err(misuse)?;
        if page.len() != self.header.page_size.bytes() {
            return Err(misuse(format!("page {pgno} has {} bytes", page.len())));
        }
        let size = compress_into(page, &mut self.block)
            .map_err(|cause| misuse("a page cannot be compressed").caused_by(cause))?;
        let head = PageHeader::sized(pgno).bytes;
        let length = u32::try_from(size).map_err(|_large| misuse("a page is too large"))?;
        let length = length.to_be_bytes();
        self.checksum.add(&head);
        self.checksum.add(&length);
        self.checksum.add(page);
        let frame_bytes = (PAGE_HEADER_BYTES + SIZE_BYTES + size) as u64;
        self.index.push(IndexEntry { pgno, offset: self.offset, size: frame_bytes });
        self.put(&head)?;
        self.put(&length)?;
        self.writer.write_all(&self.block[..size]).map_err(unwritten)?;
        self.offset += size as u64;
        self.last = pgno;
        self.pages += 1;
        Ok(())
    }

    /// Ends the file, and returns the writer with what was written.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if a snapshot lacks its last
    /// pages.
    pub fn finish(mut self) -> Result<(W, Written)> {
        check_complete(&self.judged(), self.last).map_err(misuse)?;
        let index = std::mem::take(&mut self.index).finish();
        let mut trailer = Trailer { post_apply: 0, file_checksum: 0 };
        self.checksum.add(&END_OF_PAGES);
        self.checksum.add(&index);
        self.checksum.add(&trailer.encode()[..TRAILER_BYTES / 2]);
        trailer.file_checksum = self.checksum.value();
        self.put(&END_OF_PAGES)?;
        self.put(&index)?;
        self.put(&trailer.encode())?;
        self.writer.flush().map_err(unwritten)?;
        Ok((self.writer, Written { bytes: self.offset, pages: self.pages, trailer }))
    }

    /// The writer, for taking away what it holds between two pages.
    pub fn writer_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// The header by which the order of pages is judged.
    fn judged(&self) -> Header {
        if self.partial { self.header.as_part() } else { self.header }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(unwritten)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl<W> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("header", &self.header).field("pages", &self.pages).finish()
    }
}

/// Whether `pgno` may follow `last`: ascending and within the database; in a snapshot without a
/// gap but for the lock page.
pub(super) fn check_order(header: &Header, last: Pgno, pgno: Pgno) -> Result<(), String> {
    let lock_page = header.page_size.lock_page();
    if pgno == lock_page {
        return Err(format!("page {pgno} is the lock page, which holds no data"));
    }
    if pgno <= last || pgno > header.commit {
        return Err(format!("page {pgno} is out of order: after {last}, of {}", header.commit));
    }
    let expected = if last + 1 == lock_page { last + 2 } else { last + 1 };
    if header.is_snapshot() && pgno != expected {
        return Err(format!("a snapshot lacks page {expected}"));
    }
    Ok(())
}

/// Whether the pages may end at `last`.
pub(super) fn check_complete(header: &Header, last: Pgno) -> Result<(), String> {
    let lock_page = header.page_size.lock_page();
    let end = if header.commit == lock_page { header.commit - 1 } else { header.commit };
    if header.is_snapshot() && last != end {
        return Err(format!("a snapshot of {} pages ends with page {last}", header.commit));
    }
    Ok(())
}
