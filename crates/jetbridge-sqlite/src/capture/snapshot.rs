//! The pages of a database as they are at one place in its log.
//!
//! A page is what the log says it is, else what the file says. That is one state, and stays it,
//! for as long as the read lock under which the log was read is held: nobody may then reset the
//! log, and what checkpoints copy into the file are versions that the log up to here has too.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{Error, ErrorKind, Result};

use super::fault::{CAPTURE, io_failed};
use super::uplink::{Page, Pages};
use crate::wal::Source as _;
use crate::{PageSize, Pgno};

/// Bytes of pages that are read at once for a stream, which is what a stream holds in memory.
const STREAM_CHUNK_BYTES: usize = 1 << 20;

/// One state of a database.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) page_size: PageSize,
    /// The size of the database in pages.
    pub(super) pages: Pgno,
    pub(super) file: Arc<File>,
    pub(super) log: Arc<File>,
    /// Where in the log the newest version of a page stands.
    pub(super) overlay: Arc<HashMap<Pgno, u64>>,
}

impl Snapshot {
    /// Every page but the lock page.
    pub(super) fn all(&self) -> impl Iterator<Item = Pgno> + use<> {
        let lock_page = self.page_size.lock_page();
        (1..=self.pages).filter(move |pgno| *pgno != lock_page)
    }

    /// Reads a page. What lies behind the end of the file is zeros, as SQLite reads it.
    pub(super) fn read(&self, pgno: Pgno, page: &mut [u8]) -> Result<()> {
        let (source, offset) = match self.overlay.get(&pgno) {
            Some(offset) => (&self.log, *offset),
            None => (&self.file, self.page_size.offset_of(pgno)),
        };
        let length = source.fill_at(page, offset).map_err(|cause| io_failed(&self.path, cause))?;
        page[length..].fill(0);
        Ok(())
    }

    /// Tells the digest of every page.
    pub(super) fn digest_all(&self, mut tell: impl FnMut(Pgno, u64)) -> Result<()> {
        let mut page = vec![0; self.page_size.bytes()];
        for pgno in self.all() {
            self.read(pgno, &mut page)?;
            tell(pgno, digest(&page));
        }
        Ok(())
    }

    /// The pages of `list` in memory.
    pub(super) fn hold(&self, list: &[Pgno]) -> Result<Arc<[Page]>> {
        list.iter().map(|pgno| self.page(*pgno)).collect()
    }

    /// The pages of `list`, read as they are asked for; the digest of each that was read is added
    /// to `digests`.
    pub(super) fn stream(
        self: Arc<Self>,
        list: Arc<[Pgno]>,
        digests: Arc<Mutex<Digests>>,
    ) -> Pages {
        let pages_at_once = STREAM_CHUNK_BYTES / self.page_size.bytes();
        let chunks = stream::try_unfold(0, move |start| {
            let (snapshot, list) = (Arc::clone(&self), Arc::clone(&list));
            let digests = Arc::clone(&digests);
            let end = list.len().min(start + pages_at_once);
            async move {
                if start == list.len() {
                    return Ok(None);
                }
                let read = move || {
                    let pages = snapshot.hold(&list[start..end])?;
                    digests_of(&pages, &digests);
                    Ok::<_, Error>(pages)
                };
                let pages = tokio::task::spawn_blocking(read)
                    .await
                    .map_err(|cause| Error::new(ErrorKind::Internal, CAPTURE).caused_by(cause))??;
                Ok(Some((stream::iter(pages.to_vec()).map(Ok), end)))
            }
        });
        Pages::Streamed(chunks.try_flatten().boxed())
    }

    fn page(&self, pgno: Pgno) -> Result<Page> {
        let mut data = vec![0; self.page_size.bytes()];
        self.read(pgno, &mut data)?;
        Ok(Page { pgno, data: Bytes::from(data) })
    }
}

/// Pages and what stands for each.
pub(super) type Digests = Vec<(Pgno, u64)>;

/// Adds what stands for each of `pages`.
pub(super) fn digests_of(pages: &[Page], digests: &Mutex<Digests>) {
    let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
    digests.extend(pages.iter().map(|page| (page.pgno, digest(&page.data))));
}

/// How many pages a database file has, and what stands for each.
pub(super) fn digests_in(path: &Path, page_size: PageSize) -> Result<(Pgno, Digests)> {
    let failed = |cause| io_failed(path, cause);
    let mut file = BufReader::with_capacity(STREAM_CHUNK_BYTES, File::open(path).map_err(failed)?);
    let (mut page, mut digests) = (vec![0; page_size.bytes()], Digests::new());
    loop {
        match file.read_exact(&mut page) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(cause) => return Err(failed(cause)),
        }
        let pgno = digests.last().map_or(1, |(pgno, _)| pgno + 1);
        digests.push((pgno, digest(&page)));
    }
    Ok((digests.last().map_or(0, |(pgno, _)| *pgno), digests))
}

/// Stands for a page of which nothing is known.
pub(super) const UNKNOWN: u64 = 0;

/// Eight bytes that stand for a page; never [`UNKNOWN`].
pub(super) fn digest(page: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, page).max(1)
}
