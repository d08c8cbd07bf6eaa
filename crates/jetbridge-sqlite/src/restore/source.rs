//! Bringing the files of a plan: small ones whole and many at a time, of large ones the page
//! index first and the whole when it is known which pages of it count.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::image::Image;
use super::{Failure, OPERATION, Progress};
use crate::Pgno;
use crate::ltx::{Decoder, HEADER_BYTES, Header, PageIndex};
use crate::store::{LtxFile, Plan, Replica};

/// Files up to this size are read whole at once.
const SMALL_BYTES: u64 = 1 << 20;
/// Requests for files or their indexes that are out at once: a chain of hundreds of small files
/// on a line of 50 ms is a matter of seconds.
const AHEAD: usize = 16;
/// Bytes of the end of a large file that are asked for at first: the index of 10,000 pages.
const TAIL_BYTES: u64 = 128 << 10;
/// No page of any size takes less in a file.
const PAGE_FRAME_BYTES_MIN: u64 = 10;
/// Parts of a file that wait to be decoded; 8 MiB of chunks as Litestream writes them.
const PARTS: usize = 64;

/// What was brought of a file.
enum Brought {
    Whole(Bytes),
    Index(Box<(Header, PageIndex)>),
}

/// What is read, and how.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) replica: &'a Replica,
    pub(crate) plan: &'a Plan,
    /// Pages of the database that the plan stands on.
    pub(crate) known: Pgno,
    /// Large files that are read at once.
    pub(crate) parallelism: usize,
    pub(crate) progress: Progress<'a>,
}

/// Puts together what a plan leads to: the pages of its files, and of others only those that are
/// known.
pub(crate) async fn fill(reading: Reading<'_>, file: Arc<File>) -> Result<Image, Failure> {
    let (image, large) = small(reading, file).await?;
    write(reading, whole(image, reading)?, large).await
}

/// Takes the small files, newest first, and of large ones the indexes.
async fn small(
    reading: Reading<'_>,
    file: Arc<File>,
) -> Result<(Option<Image>, Vec<Large>), Failure> {
    let Reading { replica, plan, progress, .. } = reading;
    let newest_first: Vec<LtxFile> = plan.files.iter().rev().cloned().collect();
    let bringing = newest_first.clone().into_iter().map(|file| bring(replica, file));
    let mut brought = stream::iter(bringing).buffered(AHEAD);
    let mut image: Option<Image> = None;
    let mut large: Vec<Large> = Vec::new();
    for (number, entry) in (0_u32..).zip(newest_first) {
        if image.as_ref().is_some_and(Image::is_claimed) {
            progress(entry.bytes);
            continue;
        }
        let Some(content) = brought.next().await else { break };
        let content = content?;
        let mut at_hand = match image.take() {
            Some(image) => image,
            None => begin(&content, Arc::clone(&file), reading).map_err(Failure::of(&entry))?,
        };
        match content {
            Brought::Whole(bytes) => {
                let taken = blocking(move || {
                    let taken = at_hand.take(number, bytes.reader());
                    taken.map(|()| at_hand)
                });
                image = Some(taken.await.map_err(Failure::of(&entry))?);
                progress(entry.bytes);
            }
            Brought::Index(index) => {
                // One that has nothing new is read as well: only the whole shows that its index,
                // which says so, is right.
                let claimed = at_hand.claim(number, index.1.entries());
                large.push(Large { number, claimed, file: entry.clone() });
                image = Some(at_hand);
            }
        }
    }
    Ok((image, large))
}

/// Reads the large files and writes what the image has of them.
async fn write(reading: Reading<'_>, image: Image, large: Vec<Large>) -> Result<Image, Failure> {
    let Reading { replica, parallelism, progress, .. } = reading;
    let image = Arc::new(image);
    let reads = large.into_iter().map(|it| it.read(replica, Arc::clone(&image), progress));
    stream::iter(reads).buffer_unordered(parallelism.max(1)).try_collect::<()>().await?;
    Arc::into_inner(image).ok_or_else(|| Error::new(ErrorKind::Internal, OPERATION).into())
}

/// A file of which only the index was read so far.
struct Large {
    number: u32,
    claimed: u32,
    file: LtxFile,
}

impl Large {
    async fn read(
        self,
        replica: &Replica,
        image: Arc<Image>,
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let Self { number, claimed, file } = self;
        let decode = move |source| image.fill(number, claimed, source);
        read_large(replica, &file, progress, decode).await.map_err(Failure::of(&file))
    }
}

fn whole(image: Option<Image>, reading: Reading<'_>) -> Result<Image, Failure> {
    let missing = image.as_ref().and_then(|image| image.first_unclaimed(reading.known));
    match (image, missing, reading.plan.files.first()) {
        (Some(image), None, _) => Ok(image),
        (_, missing, oldest) => {
            let error = Error::new(ErrorKind::Corrupt, OPERATION)
                .because("no file of the chain has a page of the database")
                .with("page", missing.unwrap_or_default());
            Err(Failure { file: oldest.cloned(), error })
        }
    }
}

/// An image of the size that the newest file says, which is believed as far as the pages that are
/// known and the bytes of all files can hold that many.
fn begin(newest: &Brought, file: Arc<File>, reading: Reading<'_>) -> Result<Image> {
    let header = match newest {
        Brought::Whole(bytes) => *Decoder::new(&bytes[..])?.header(),
        Brought::Index(index) => index.0,
    };
    let held = u64::from(reading.known) + reading.plan.bytes() / PAGE_FRAME_BYTES_MIN + 1;
    if u64::from(header.commit) > held {
        return Err(Error::new(ErrorKind::Corrupt, OPERATION)
            .because("the newest file has a larger database than there are pages")
            .with("pages", header.commit));
    }
    Image::new(&header, file)
}

async fn bring(replica: &Replica, file: LtxFile) -> Result<Brought, Failure> {
    let brought = if file.bytes <= SMALL_BYTES {
        replica.bytes(&file).await.map(Brought::Whole)
    } else {
        index(replica, &file).await.map(|index| Brought::Index(Box::new(index)))
    };
    brought.map_err(Failure::of(&file))
}

/// The header and the page index of a file, without the pages. Not verified: the file is, later.
pub(crate) async fn index(replica: &Replica, file: &LtxFile) -> Result<(Header, PageIndex)> {
    let head = replica.part(file, 0..(HEADER_BYTES as u64).min(file.bytes)).await?;
    let header = *Decoder::new(&head[..])?.header();
    let mut tail = replica.tail(file, TAIL_BYTES).await?;
    let wanted = PageIndex::tail_bytes(&tail).unwrap_or_default();
    if wanted > tail.len() as u64 && wanted <= file.bytes {
        tail = replica.tail(file, wanted).await?;
    }
    Ok((header, PageIndex::decode(&tail)?))
}

/// Reads a whole file on its way through `decode`, which runs where it may block.
pub(crate) async fn read_large(
    replica: &Replica,
    file: &LtxFile,
    progress: Progress<'_>,
    decode: impl FnOnce(Parts) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (send, receive) = mpsc::channel(PARTS);
    let mut fetch = replica.fetch(file)?;
    let pump = async move {
        while let Some(part) = fetch.next().await? {
            let length = part.len() as u64;
            // A decoder that has ended has said why.
            if send.send(part).await.is_err() {
                break;
            }
            progress(length);
        }
        Ok::<(), Error>(())
    };
    let decoding = blocking(move || decode(Parts { receive, part: Bytes::new() }));
    let (pumped, decoded) = tokio::join!(pump, decoding);
    // What the store says explains why the file ends early.
    pumped.and(decoded)
}

/// The parts of a file as they come, for a thread that may block.
pub(crate) struct Parts {
    receive: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receive.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        self.part.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(cause) => Err(Error::new(ErrorKind::Internal, OPERATION).caused_by(cause)),
    }
}
