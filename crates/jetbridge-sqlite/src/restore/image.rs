//! The database that is being put together: which file each page comes from, and its bytes.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use jetbridge_core::{Error, ErrorKind, Result};

use super::OPERATION;
use super::output::unwritten;
use crate::ltx::{Decoder, Header, IndexEntry};
use crate::{PageSize, Pgno};

/// Bytes of neighbouring pages that are written at once.
const RUN_BYTES: usize = 1 << 20;

/// A database of a known size, page by page claimed by the files that hold its newest version.
/// Files are numbered from the newest, 0, on.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) page_size: PageSize,
    pub(crate) pages: Pgno,
    file: Arc<File>,
    /// One more than the number of the file that a page comes from; 0 for a page not claimed.
    owners: Vec<u32>,
    unclaimed: u32,
}

impl Image {
    /// An empty database of the size that the newest file says.
    pub(super) fn new(newest: &Header, file: Arc<File>) -> Result<Self> {
        let (page_size, pages) = (newest.page_size, newest.commit);
        let bytes = u64::from(pages) * u64::from(page_size.get());
        file.set_len(bytes).map_err(unwritten)?;
        let owners = vec![0; pages as usize];
        let lock_page = u32::from(page_size.lock_page() <= pages);
        Ok(Self { page_size, pages, file, owners, unclaimed: pages - lock_page })
    }

    /// True if every page is claimed: older files have nothing to add.
    pub(crate) fn is_claimed(&self) -> bool {
        self.unclaimed == 0
    }

    /// The first page behind those that are known that no file has.
    pub(super) fn first_unclaimed(&self, known: Pgno) -> Option<Pgno> {
        let lock_page = self.page_size.lock_page();
        (known.saturating_add(1)..=self.pages)
            .find(|pgno| self.owner(*pgno) == 0 && *pgno != lock_page)
    }

    /// The pages that some file has, ascending.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = Pgno> {
        (1..=self.pages).filter(|pgno| self.owner(*pgno) != 0)
    }

    /// Claims the pages of a file that no newer one has; returns how many those are.
    pub(super) fn claim(&mut self, number: u32, entries: &[IndexEntry]) -> u32 {
        entries.iter().map(|entry| u32::from(self.claim_page(number, entry.pgno))).sum()
    }

    fn claim_page(&mut self, number: u32, pgno: Pgno) -> bool {
        let at = (pgno as usize).wrapping_sub(1);
        let free = pgno != self.page_size.lock_page();
        match self.owners.get_mut(at) {
            Some(owner) if *owner == 0 && free => {
                *owner = number + 1;
                self.unclaimed -= 1;
                true
            }
            _ => false,
        }
    }

    fn is_wanted(&self, pgno: Pgno) -> bool {
        pgno <= self.pages && pgno != self.page_size.lock_page()
    }

    fn owner(&self, pgno: Pgno) -> u32 {
        self.owners.get((pgno as usize).wrapping_sub(1)).copied().unwrap_or_default()
    }

    /// Reads a file that is at hand, claims what no newer one has, and writes it.
    pub(super) fn take(&mut self, number: u32, source: impl Read) -> Result<()> {
        let mut decoder = self.decoder(source)?;
        let mut page = vec![0; self.page_size.bytes()];
        let mut run = Run::new(self.page_size);
        while let Some(pgno) = decoder.page(&mut page)? {
            if self.claim_page(number, pgno) {
                run.add(&self.file, pgno, &page)?;
            }
        }
        run.flush(&self.file)
    }

    /// Reads a file whose pages were claimed by its index, and writes those that it owns, which
    /// must be `claimed` many.
    pub(super) fn fill(&self, number: u32, claimed: u32, source: impl Read) -> Result<()> {
        let mut decoder = self.decoder(source)?;
        let mut page = vec![0; self.page_size.bytes()];
        let mut run = Run::new(self.page_size);
        let mut written = 0;
        while let Some(pgno) = decoder.page(&mut page)? {
            let owner = self.owner(pgno);
            if owner == number + 1 {
                run.add(&self.file, pgno, &page)?;
                written += 1;
            } else if owner > number + 1 || (owner == 0 && self.is_wanted(pgno)) {
                return Err(misread(pgno));
            }
        }
        run.flush(&self.file)?;
        if written == claimed { Ok(()) } else { Err(misread(0)) }
    }

    fn decoder<R: Read>(&self, source: R) -> Result<Decoder<R>> {
        let decoder = Decoder::new(source)?.partial();
        let page_size = decoder.header().page_size;
        if page_size == self.page_size {
            return Ok(decoder);
        }
        Err(Error::new(ErrorKind::Corrupt, OPERATION)
            .because("a file has pages of another size than the newest")
            .with("page_size", page_size)
            .with("expected", self.page_size))
    }
}

/// The index that was read first is not that of the file that was read then.
fn misread(pgno: Pgno) -> Error {
    Error::new(ErrorKind::Corrupt, OPERATION)
        .because("the page index of a file is not that of its pages")
        .with("page", pgno)
}

/// Pages in a row, to be written at once.
struct Run {
    page_size: PageSize,
    first: Pgno,
    bytes: Vec<u8>,
}

impl Run {
    fn new(page_size: PageSize) -> Self {
        Self { page_size, first: 0, bytes: Vec::with_capacity(RUN_BYTES) }
    }

    fn add(&mut self, file: &File, pgno: Pgno, page: &[u8]) -> Result<()> {
        let held = self.bytes.len() / self.page_size.bytes();
        let follows = self.first as usize + held == pgno as usize;
        if !follows || self.bytes.len() + page.len() > RUN_BYTES {
            self.flush(file)?;
            self.first = pgno;
        }
        self.bytes.extend_from_slice(page);
        Ok(())
    }

    fn flush(&mut self, file: &File) -> Result<()> {
        if !self.bytes.is_empty() {
            let offset = self.page_size.offset_of(self.first);
            file.write_all_at(&self.bytes, offset).map_err(unwritten)?;
            self.bytes.clear();
        }
        Ok(())
    }
}
