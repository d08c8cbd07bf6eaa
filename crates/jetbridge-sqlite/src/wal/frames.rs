//! The frames of a log, one by one, and what of them is committed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use jetbridge_core::{Error, ErrorKind, Result};

use super::header::{FRAME_HEADER_BYTES, HEADER_BYTES, Header, Position, be32, sum};
use crate::Pgno;

/// Bytes read at once: large enough that calls do not count, and more than the largest frame.
const BUFFER_BYTES: usize = 256 << 10;
const _: () = assert!(BUFFER_BYTES > crate::PageSize::MAX as usize + FRAME_HEADER_BYTES);

/// Bytes that are read by place.
pub trait Source {
    /// Reads at most `buffer.len()` bytes from `offset` on; 0 at the end.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads until `buffer` is full or the source ends, and returns how much there was.
    ///
    /// # Errors
    /// As [`Source::read_at`].
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut length = 0;
        while length < buffer.len() {
            match self.read_at(&mut buffer[length..], offset + length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(length)
    }

    /// The header of the log in this source; `None` if there is none.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the source cannot be read.
    fn header(&self) -> Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        let length = self.fill_at(&mut bytes, 0).map_err(unread)?;
        Ok(if length == HEADER_BYTES { Header::decode(&bytes) } else { None })
    }
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..));
        let rest = rest.unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// One frame.
#[derive(Debug)]
#[non_exhaustive]
pub struct Frame<'a> {
    /// Which page.
    pub pgno: Pgno,
    /// The size of the database in pages if the frame ends a transaction, else 0.
    pub commit: Pgno,
    /// Where its page begins in the file.
    pub page_offset: u64,
    /// The page.
    pub page: &'a [u8],
}

/// The valid frames of a log from a place on.
#[derive(Debug)]
pub struct Frames<'a, S: ?Sized> {
    source: &'a S,
    header: Header,
    position: Position,
    buffer: Vec<u8>,
    /// What of the buffer is filled, and what of that was read.
    filled: usize,
    taken: usize,
}

impl<'a, S: Source + ?Sized> Frames<'a, S> {
    /// The frames behind `from`.
    pub fn new(source: &'a S, header: Header, from: Position) -> Self {
        Self { source, header, position: from, buffer: Vec::new(), filled: 0, taken: 0 }
    }

    /// The next frame; `None` at the end of the file and at the first frame that is not valid.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the source cannot be read.
    #[expect(clippy::should_implement_trait, reason = "it lends its buffer")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>> {
        let size = FRAME_HEADER_BYTES + self.header.page_size.bytes();
        if self.filled - self.taken < size && !self.refill(size)? {
            return Ok(None);
        }
        let (head, page) = self.buffer[self.taken..self.taken + size].split_at(FRAME_HEADER_BYTES);
        let pgno = be32(head, 0);
        let big_endian = self.header.big_endian;
        let sums = sum(big_endian, sum(big_endian, self.position.sums, &head[..8]), page);
        let salted = [be32(head, 8), be32(head, 12)] == self.header.salts;
        if pgno == 0 || !salted || sums != [be32(head, 16), be32(head, 20)] {
            return Ok(None);
        }
        let page_offset = self.position.offset + FRAME_HEADER_BYTES as u64;
        self.position = Position { offset: self.position.offset + size as u64, sums };
        self.taken += size;
        Ok(Some(Frame { pgno, commit: be32(head, 4), page_offset, page }))
    }

    /// The place behind the last frame that was given.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Makes a whole frame present; `false` if there is none.
    fn refill(&mut self, size: usize) -> Result<bool> {
        self.buffer.resize(BUFFER_BYTES, 0);
        let length = self.source.fill_at(&mut self.buffer, self.position.offset).map_err(unread)?;
        self.filled = length;
        self.taken = 0;
        Ok(length >= size)
    }
}

/// The transactions of a stretch of the log, taken together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Commits {
    /// Where the newest version of each changed page stands in the file. Pages that a later
    /// transaction cut off are still among them.
    pub pages: BTreeMap<Pgno, u64>,
    /// The size of the database in pages after the last of them, and the place behind it; `None`
    /// if nothing is committed.
    pub end: Option<(Pgno, Position)>,
    /// The smallest size of the database after any of them; 0 if nothing is committed. Pages
    /// behind it are new even if the database is no larger in the end.
    pub fewest: Pgno,
}

/// Reads whole transactions from `from` on, up to `end`: where what is committed ends, in bytes
/// from the beginning of the file.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable) if the source cannot be read.
pub fn commits<S: Source + ?Sized>(
    source: &S,
    header: Header,
    from: Position,
    end: u64,
) -> Result<Commits> {
    let mut frames = Frames::new(source, header, from);
    let mut found = Commits::default();
    let mut open: BTreeMap<Pgno, u64> = BTreeMap::new();
    while frames.position().offset + header.frame_bytes() <= end {
        let Some(frame) = frames.next()? else { break };
        open.insert(frame.pgno, frame.page_offset);
        let commit = frame.commit;
        if commit != 0 {
            found.pages.append(&mut open);
            found.fewest = if found.end.is_none() { commit } else { found.fewest.min(commit) };
            found.end = Some((commit, frames.position()));
        }
    }
    Ok(found)
}

fn unread(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "wal.read").caused_by(cause)
}
