//! Getting an object: only what is asked for, checked against size and digest, and no consumer
//! for what one request can bring.
//!
//! One chunk comes by one direct get. More come, where the server can, by requests for a batch,
//! else through an ordered reader. A whole read ends well only when every byte was there and the
//! digest is the one its writer stored; chunks that are missing, because the object was replaced
//! or deleted meanwhile, end it with a conflict and never with other bytes.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sha2::{Digest as _, Sha256};

use jetbridge_core::{
    Body, BucketName, Digest, Error, ErrorKind, Object, ObjectInfo, ObjectName, Result,
};

use crate::api::Which;
use crate::object::{Shelf, is_one_token};
use crate::object_again::meta_and_chunk;
use crate::object_batches::ask;
use crate::object_meta::Placed;
use crate::reader::{Begin, Event, Follow, ReaderSpec, events};

pub(crate) const OPERATION: &str = "object.get";
/// How often an object that was replaced before its first bytes came is looked up again.
const LOOKUPS_MAX: u32 = 5;

/// The object called `name`, or `range` of it. Its first bytes are there when this returns, so
/// that one that is replaced meanwhile is simply the new one.
pub(crate) async fn get(
    shelf: &Shelf,
    name: &ObjectName,
    range: Option<Range<u64>>,
) -> Result<Option<Object>> {
    let mut lookups = 1;
    loop {
        let Some((there, placed, chunk)) = resolve(shelf, name).await? else { return Ok(None) };
        let info = placed.info()?;
        if info.chunks > 0 && !is_one_token(&placed.meta.nuid) {
            return Err(Error::new(ErrorKind::Corrupt, OPERATION)
                .because("what describes the object names no upload")
                .with("object", name)
                .with("nuid", format!("{:?}", placed.meta.nuid)));
        }
        let range = check_range(range.clone(), &info)?;
        if range.is_none() {
            there.remembered.note(&info.name, &placed.meta);
        }
        let mut body = match (chunk, range) {
            (Some(chunk), None) => {
                Check::new(info.clone()).body(futures_util::stream::iter([Ok(chunk)]).boxed())
            }
            (_, range) => body(&there, &placed, &info, range)?,
        };
        match body.next().await {
            Some(Err(gone)) if gone.kind() == ErrorKind::Conflict && lookups < LOOKUPS_MAX => {
                lookups += 1;
            }
            Some(first) => {
                let whole = futures_util::stream::iter([first]).chain(body).boxed();
                return Ok(Some(Object::new(info, whole)));
            }
            None => return Ok(Some(Object::new(info, futures_util::stream::empty().boxed()))),
        }
    }
}

/// The object's meta, and where it is; a link is followed once. The only chunk comes with it if
/// it was guessed.
async fn resolve(
    shelf: &Shelf,
    name: &ObjectName,
) -> Result<Option<(Shelf, Placed, Option<Bytes>)>> {
    let (found, chunk) = meta_and_chunk(shelf, name).await?;
    let Some(placed) = found.filter(|placed| !placed.meta.deleted) else { return Ok(None) };
    let Some(link) = placed.meta.options.as_ref().and_then(|options| options.link.as_ref()) else {
        return Ok(Some((shelf.clone(), placed, chunk)));
    };
    let bad = |why: &str| {
        Error::new(ErrorKind::InvalidInput, OPERATION).because(why).with("object", name)
    };
    let Some(target) = link.name.as_deref().filter(|target| !target.is_empty()) else {
        return Err(bad("it is a link to a bucket, which cannot be read as an object"));
    };
    let there = Shelf::find(&shelf.api, &BucketName::parse(&link.bucket)?, OPERATION).await?;
    let target = ObjectName::parse(target)?;
    let found = there.meta(&target, OPERATION).await?.filter(|placed| !placed.meta.deleted);
    match found {
        Some(placed) if placed.meta.is_link() => Err(bad("it is a link to a link")),
        found => Ok(found.map(|placed| (there, placed, None))),
    }
}

/// The range to read; `None` is all of it, whose digest can be checked.
fn check_range(range: Option<Range<u64>>, info: &ObjectInfo) -> Result<Option<Range<u64>>> {
    match range {
        Some(range) if range.start > range.end || range.end > info.size => {
            Err(Error::new(ErrorKind::InvalidInput, OPERATION)
                .because("the range is not within the object")
                .with("object", &info.name)
                .with("range", format!("{}..{}", range.start, range.end))
                .with("size", info.size))
        }
        Some(range) if range == (0..info.size) => Ok(None),
        range => Ok(range),
    }
}

fn body(
    shelf: &Shelf,
    placed: &Placed,
    info: &ObjectInfo,
    range: Option<Range<u64>>,
) -> Result<Body> {
    let all = Chunks::all(shelf.clone(), placed.clone());
    let Some(range) = range else {
        let checked = Check::new(info.clone());
        return Ok(checked.body(all.from(0)));
    };
    if range.is_empty() {
        return Ok(futures_util::stream::empty().boxed());
    }
    let (skip, at) = all.chunk_of(range.start);
    let all = all.up_to(range.end);
    Ok(cut(all.from(skip), at, range, info.name.clone()))
}

/// Checks a whole body against what its writer stored.
struct Check {
    info: ObjectInfo,
    hash: Sha256,
    size: u64,
}

impl Check {
    fn new(info: ObjectInfo) -> Self {
        Self { info, hash: Sha256::new(), size: 0 }
    }

    /// Passes `chunks` on; the end comes only if everything is right.
    fn body(self, chunks: BoxStream<'static, Result<Bytes>>) -> Body {
        let state = Some((self, chunks));
        Box::pin(futures_util::stream::unfold(state, |state| async move {
            let (mut check, mut chunks) = state?;
            match chunks.next().await {
                Some(Ok(chunk)) => {
                    check.hash.update(&chunk);
                    check.size += chunk.len() as u64;
                    Some((Ok(chunk), Some((check, chunks))))
                }
                Some(Err(error)) => Some((Err(error), None)),
                None => check.verdict().err().map(|error| (Err(error), None)),
            }
        }))
    }

    fn verdict(self) -> Result<()> {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        let right = self.info.digest.is_none_or(|stored| stored == digest);
        if self.size == self.info.size && right {
            return Ok(());
        }
        let corrupt = Error::new(ErrorKind::Corrupt, OPERATION)
            .because("the stored bytes are not what was written")
            .with("object", &self.info.name)
            .with("size", self.size)
            .with("size_expected", self.info.size)
            .with("digest", digest);
        Err(match self.info.digest {
            Some(expected) => corrupt.with("digest_expected", expected),
            None => corrupt,
        })
    }
}

/// The part `range` of `chunks`, which begin at byte `at`; ends as soon as it is complete.
fn cut(
    chunks: BoxStream<'static, Result<Bytes>>,
    at: u64,
    range: Range<u64>,
    name: ObjectName,
) -> Body {
    let state = Some((chunks, at));
    Box::pin(futures_util::stream::unfold(state, move |state| {
        let (range, name) = (range.clone(), name.clone());
        async move {
            let (mut chunks, mut at) = state?;
            loop {
                if at >= range.end {
                    return None;
                }
                match chunks.next().await {
                    Some(Ok(chunk)) => {
                        let begin = at;
                        at += chunk.len() as u64;
                        let part = part(&chunk, begin, &range);
                        if !part.is_empty() {
                            return Some((Ok(part), Some((chunks, at))));
                        }
                    }
                    Some(Err(error)) => return Some((Err(error), None)),
                    None => {
                        let short = Error::new(ErrorKind::Corrupt, OPERATION)
                            .because("the object ends before its size")
                            .with("object", &name);
                        return Some((Err(short), None));
                    }
                }
            }
        }
    }))
}

/// What of `chunk`, which begins at byte `begin`, lies in `range`.
fn part(chunk: &Bytes, begin: u64, range: &Range<u64>) -> Bytes {
    let within = |byte: u64| {
        let offset = byte.saturating_sub(begin).min(chunk.len() as u64);
        usize::try_from(offset).unwrap_or(chunk.len())
    };
    chunk.slice(within(range.start)..within(range.end).max(within(range.start)))
}

/// The chunks of one object.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    pub(crate) shelf: Shelf,
    pub(crate) placed: Placed,
    /// The number of the chunk behind the last one that is wanted.
    end: u64,
}

impl Chunks {
    fn all(shelf: Shelf, placed: Placed) -> Self {
        let end = placed.meta.chunks;
        Self { shelf, placed, end }
    }

    /// Those that hold the bytes before `byte`.
    fn up_to(self, byte: u64) -> Self {
        let end = match self.chunk_size() {
            Some(size) => byte.div_ceil(size).min(self.end),
            None => self.end,
        };
        Self { end, ..self }
    }

    /// The size of every chunk but the last; `None` if chunks have no regular size, as some
    /// clients write them.
    fn chunk_size(&self) -> Option<u64> {
        let meta = &self.placed.meta;
        let size = meta.options.as_ref().and_then(|options| options.max_chunk_size);
        let size = size.map(u64::from).filter(|size| *size > 0)?;
        (meta.size.div_ceil(size) == meta.chunks).then_some(size)
    }

    /// The chunk that holds `byte`, and the byte it begins at; the first if that is not known.
    fn chunk_of(&self, byte: u64) -> (u64, u64) {
        self.chunk_size().map_or((0, 0), |size| (byte / size, byte / size * size))
    }

    /// The chunks from number `skip` on, exactly as many as there must be.
    fn from(self, skip: u64) -> BoxStream<'static, Result<Bytes>> {
        let wanted = self.end.saturating_sub(skip);
        let subject = self.shelf.chunk_subject(&self.placed.meta.nuid);
        if wanted == 0 {
            return futures_util::stream::empty().boxed();
        }
        let source = if self.placed.meta.chunks == 1 {
            self.clone().only(subject)
        } else {
            let chunks = self.clone();
            let stream = async move {
                match chunks.sequence(skip, &subject).await {
                    Ok(sequence) if chunks.shelf.batches => ask(chunks, (skip, wanted), sequence),
                    Ok(sequence) => chunks.read(subject, sequence),
                    Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
                }
            };
            futures_util::stream::once(stream).flatten().boxed()
        };
        self.exactly(source, wanted)
    }

    /// One chunk, by one request.
    fn only(self, subject: String) -> BoxStream<'static, Result<Bytes>> {
        let get = async move {
            let stored = self.shelf.last(&subject, OPERATION).await?;
            stored.map(|stored| stored.payload).ok_or_else(|| self.gone())
        };
        futures_util::stream::once(get).boxed()
    }

    /// Passes `wanted` chunks on; fewer are an object that was replaced or deleted.
    fn exactly(
        self,
        source: BoxStream<'static, Result<Bytes>>,
        wanted: u64,
    ) -> BoxStream<'static, Result<Bytes>> {
        let state = Some((source, wanted));
        Box::pin(futures_util::stream::unfold(state, move |state| {
            let chunks = self.clone();
            async move {
                let (mut source, left) = state?;
                if left == 0 {
                    return None;
                }
                match source.next().await {
                    Some(Ok(chunk)) => Some((Ok(chunk), Some((source, left - 1)))),
                    Some(Err(error)) => Some((Err(error), None)),
                    None => Some((Err(chunks.gone()), None)),
                }
            }
        }))
    }

    pub(crate) fn gone(&self) -> Error {
        Error::new(ErrorKind::Conflict, OPERATION)
            .because("the object was replaced or deleted while it was read")
            .with("object", &self.placed.meta.name)
            .hint("read it again")
    }

    /// A sequence that chunk `skip` is at or behind, with no chunk of this object in between.
    async fn sequence(&self, skip: u64, subject: &str) -> Result<u64> {
        if skip == 0 {
            return Ok(1);
        }
        let call = self.shelf.api.link().repeatable(OPERATION);
        let which = Which { seq: Some(1), next_by_subj: Some(subject), ..Which::default() };
        let first = self.shelf.copies.next(&self.shelf.api, &which, &call).await?;
        let first = first.ok_or_else(|| self.gone())?.sequence;
        let meta = &self.placed.meta;
        // Nobody else wrote in between: then the meta follows the chunks directly.
        if first.checked_add(meta.chunks) == Some(self.placed.sequence) {
            return Ok(first + skip);
        }
        self.walk(skip, subject).await
    }

    /// Counts chunks without reading them.
    async fn walk(&self, skip: u64, subject: &str) -> Result<u64> {
        let mut headers =
            events(self.shelf.api.clone(), self.spec(subject, 1).headers_only(), Follow::No);
        let mut passed = 0;
        while let Some(event) = headers.next().await {
            if let Event::Message(read) = event? {
                if passed == skip {
                    return Ok(read.sequence);
                }
                passed += 1;
            }
        }
        Err(self.gone())
    }

    fn spec(&self, subject: &str, sequence: u64) -> ReaderSpec {
        let begin = Begin::After(sequence.saturating_sub(1));
        ReaderSpec::new(OPERATION, &self.shelf.stream, subject, begin)
    }

    /// Through an ordered reader.
    fn read(self, subject: String, sequence: u64) -> BoxStream<'static, Result<Bytes>> {
        let spec = self.spec(&subject, sequence);
        let chunks = events(self.shelf.api.clone(), spec, Follow::No);
        let payloads = chunks.filter_map(|event| {
            std::future::ready(match event {
                Ok(Event::Message(read)) => Some(Ok(read.payload)),
                Ok(Event::CaughtUp) => None,
                Err(error) => Some(Err(error)),
            })
        });
        payloads.boxed()
    }

    pub(crate) async fn is_still_there(&self) -> Result<bool> {
        let name = ObjectName::parse(&self.placed.meta.name)?;
        let now = self.shelf.meta(&name, OPERATION).await?;
        Ok(now.is_some_and(|now| now.meta.nuid == self.placed.meta.nuid))
    }
}
