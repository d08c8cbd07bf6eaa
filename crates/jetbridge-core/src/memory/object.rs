//! Names to objects, in memory.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::bucket::Inner;
use super::follow::{Event, Filter, follow};
use super::journal::Record;
use super::{Store, over_limit};
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;
use crate::kv::{DeleteOpts, Expect, Revision, Scope, Start};
use crate::name::{BucketName, ObjectName};
use crate::object::{Body, Digest, Link, Object, ObjectChange, ObjectInfo, ObjectPut, Objects};

/// Bytes of a chunk where the writer did not say: JetStream's default.
const CHUNK_BYTES_DEFAULT: u32 = 128 << 10;

/// An object without what its record knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    size: u64,
    chunks: Arc<[Bytes]>,
    digest: Option<Digest>,
    description: Option<String>,
    headers: Headers,
    link: Option<Link>,
}

/// A handle on one bucket. It finds the bucket by name, so it outlives its deletion.
#[derive(Clone, Debug)]
pub(super) struct MemoryObjects {
    store: Arc<Store>,
    name: BucketName,
}

impl MemoryObjects {
    pub(super) fn new(store: Arc<Store>, name: BucketName) -> Self {
        Self { store, name }
    }

    fn with<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut Inner<Stored>, SystemTime) -> Result<T>,
    ) -> Result<T> {
        let now = self.store.time(operation)?;
        let bucket = self.store.objects.find(&self.name, operation)?;
        bucket.with(operation, now, |inner| act(inner, now))
    }

    /// As [`MemoryObjects::with`], unless the bucket is sealed.
    fn write<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut Inner<Stored>, SystemTime) -> Result<T>,
    ) -> Result<T> {
        self.with(operation, |inner, now| {
            if inner.sealed {
                return Err(Error::new(ErrorKind::InvalidInput, operation)
                    .because("the bucket is sealed, nothing can be written to it")
                    .with("bucket", &self.name));
            }
            act(inner, now)
        })
    }

    fn store_now(
        &self,
        operation: &'static str,
        name: &ObjectName,
        stored: Stored,
        expect: Expect,
    ) -> Result<ObjectInfo> {
        self.write(operation, |inner, at| {
            let present = inner.journal.check(name.as_str(), expect);
            present.map_err(|present| self.conflict(operation, name, present))?;
            let (text, bytes) = (Arc::from(name.as_str()), stored.size);
            let record =
                Record { name: text, at, expires: None, value: Some(stored.clone()), bytes };
            let revision = inner.journal.append(record).ok_or_else(|| {
                let max = inner.spec.max_bytes.unwrap_or_default();
                over_limit(operation, "bucket", inner.journal.bytes() + bytes, max)
                    .with("bucket", &self.name)
                    .with("object", name)
            })?;
            Ok(stored.info(name.clone(), revision, at))
        })
    }

    fn conflict(&self, operation: &'static str, name: &ObjectName, present: Revision) -> Error {
        Error::new(ErrorKind::Conflict, operation)
            .with("bucket", &self.name)
            .with("object", name)
            .with("revision", present)
    }

    fn find(
        &self,
        operation: &'static str,
        name: &ObjectName,
    ) -> Result<Option<(ObjectInfo, Stored)>> {
        self.with(operation, |inner, _now| {
            let live = inner.journal.live(name.as_str());
            Ok(live.and_then(|(revision, record)| {
                let stored = record.value.clone()?;
                Some((stored.info(name.clone(), revision, record.at), stored))
            }))
        })
    }

    /// The chunks one by one, as long as the object is the one that was opened.
    fn body(&self, name: &ObjectName, revision: Revision, chunks: Vec<Bytes>) -> Body {
        let (this, name) = (self.clone(), name.clone());
        let chunks = stream::iter(chunks).map(move |chunk| {
            this.with("object.get", |inner, _now| {
                match inner.journal.live(name.as_str()).map_or(Revision(0), |(at, _)| at) {
                    present if present == revision => Ok(chunk),
                    present => Err(this
                        .conflict("object.get", &name, present)
                        .because("the object was deleted or replaced while it was read")),
                }
            })
        });
        end_at_error(chunks.boxed())
    }

    fn filter(scope: Scope) -> Filter {
        Box::new(move |name| scope.contains(name, &codec::encode(name)))
    }
}

impl Stored {
    fn info(&self, name: ObjectName, revision: Revision, modified: SystemTime) -> ObjectInfo {
        let mut info = ObjectInfo::new(name, revision, modified);
        info.size = self.size;
        info.chunks = self.chunks.len() as u64;
        info.digest = self.digest;
        info.description.clone_from(&self.description);
        info.headers = self.headers.clone();
        info.link.clone_from(&self.link);
        info
    }
}

impl Display for MemoryObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory:{}", self.name)
    }
}

#[async_trait]
impl Objects for MemoryObjects {
    fn bucket(&self) -> &BucketName {
        &self.name
    }

    async fn put(&self, name: &ObjectName, body: Body, opts: ObjectPut) -> Result<ObjectInfo> {
        let max_bytes = self.write("object.put", |inner, _now| {
            let present = inner.journal.check(name.as_str(), opts.expect);
            present.map_err(|present| self.conflict("object.put", name, present))?;
            Ok(inner.spec.max_bytes.unwrap_or(u64::MAX))
        })?;
        let chunk_bytes = opts.chunk_bytes.unwrap_or(CHUNK_BYTES_DEFAULT);
        let mut stored = collect(body, chunk_bytes, max_bytes).await.map_err(|error| {
            if error.operation() != "object.put" {
                return error;
            }
            error.with("bucket", &self.name).with("object", name)
        })?;
        stored.description = opts.description;
        stored.headers = opts.headers;
        self.store_now("object.put", name, stored, opts.expect)
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let Some((mut info, mut stored)) = self.find("object.get", name)? else { return Ok(None) };
        let mut source = self.clone();
        if let Some(link) = info.link {
            let Some(target) = link.name else {
                return Err(self.no_object(name, "the link stands for a bucket, not for an object"));
            };
            source = Self::new(Arc::clone(&self.store), link.bucket);
            let Some(found) = source.find("object.get", &target)? else { return Ok(None) };
            (info, stored) = found;
            if info.link.is_some() {
                return Err(self.no_object(name, "the link stands for another link"));
            }
        }
        let chunks = match range {
            None => stored.chunks.to_vec(),
            Some(range) => cut(&stored, &range).ok_or_else(|| {
                self.no_object(name, "the range is not within the object")
                    .with("range", format!("{}..{}", range.start, range.end))
                    .with("size", info.size)
            })?,
        };
        let body = source.body(&info.name, info.revision, chunks);
        Ok(Some(Object::new(info, body)))
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        Ok(self.find("object.info", name)?.map(|(info, _)| info))
    }

    async fn delete(&self, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>> {
        if opts.expect == Expect::Absent {
            return Err(Error::new(ErrorKind::InvalidInput, "object.delete")
                .because("what must be absent cannot be deleted")
                .with("object", name));
        }
        self.write("object.delete", |inner, now| {
            let present = inner.journal.check(name.as_str(), opts.expect);
            present.map_err(|present| self.conflict("object.delete", name, present))?;
            if inner.journal.live(name.as_str()).is_none() {
                return Ok(None);
            }
            Ok(inner.journal.append(Record::marker(&name.as_str().into(), now, now)))
        })
    }

    async fn link(&self, name: &ObjectName, target: Link) -> Result<ObjectInfo> {
        let there = Self::new(Arc::clone(&self.store), target.bucket.clone());
        let linked = match &target.name {
            Some(target) => there.find("object.link", target)?.and_then(|(info, _)| info.link),
            None => there.with("object.link", |_inner, _now| Ok(None))?,
        };
        if linked.is_some() {
            return Err(self.no_object(name, "the target is itself a link"));
        }
        let expect = match self.find("object.link", name)? {
            None => Expect::Absent,
            Some((info, _)) if info.link.is_some() => Expect::Exactly(info.revision),
            Some(_) => return Err(self.no_object(name, "an object of this name is in the way")),
        };
        let stored = Stored { link: Some(target), ..Stored::default() };
        self.store_now("object.link", name, stored, expect)
    }

    async fn seal(&self) -> Result<()> {
        self.with("object.seal", |inner, _now| {
            inner.sealed = true;
            Ok(())
        })
    }

    fn list(&self, scope: Scope) -> BoxStream<'static, Result<ObjectInfo>> {
        let wanted = Self::filter(scope);
        let infos = self.with("object.list", |inner, _now| {
            let live = inner.journal.live_after(Revision(0));
            let live = live.filter(|(_, record)| wanted(&record.name));
            Ok(live.filter_map(|(at, record)| describe(at, record)).collect::<Vec<_>>())
        });
        match infos {
            Ok(infos) => stream::iter(infos).boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn watch(&self, scope: Scope, start: Start) -> BoxStream<'static, Result<ObjectChange>> {
        let start = if start == Start::History { Start::Current } else { start };
        let bucket = self.store.objects.find(&self.name, "object.watch");
        let events = follow(&self.store, bucket, Self::filter(scope), start);
        let changes = events.map(|event| {
            let Event::Record(revision, record) = event? else { return Ok(ObjectChange::CaughtUp) };
            match describe(revision, &record) {
                Some(info) => info.map(ObjectChange::Put),
                None => {
                    let name = ObjectName::parse(&record.name)?;
                    Ok(ObjectChange::Delete { name, revision })
                }
            }
        });
        changes.boxed()
    }

    async fn sweep(&self, _older_than: Duration) -> Result<u64> {
        // Chunks are stored with their object in one step: none is ever left behind.
        self.with("object.sweep", |_inner, _now| Ok(0))
    }
}

impl MemoryObjects {
    fn no_object(&self, name: &ObjectName, why: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, "object.get")
            .because(why)
            .with("bucket", &self.name)
            .with("object", name)
    }
}

fn describe(revision: Revision, record: &Record<Stored>) -> Option<Result<ObjectInfo>> {
    let stored = record.value.as_ref()?;
    let name = ObjectName::parse(&record.name);
    Some(name.map(|name| stored.info(name, revision, record.at)))
}

/// Reads `body` to its end, into chunks of one size and a digest.
async fn collect(mut body: Body, chunk_bytes: u32, max_bytes: u64) -> Result<Stored> {
    let chunk_bytes = usize::try_from(chunk_bytes.max(1)).unwrap_or(usize::MAX);
    let (mut digest, mut size) = (Sha256::new(), 0);
    let (mut chunks, mut rest) = (Vec::new(), BytesMut::new());
    while let Some(bytes) = body.try_next().await? {
        digest.update(&bytes);
        size += bytes.len() as u64;
        if size > max_bytes {
            return Err(over_limit("object.put", "bucket", size, max_bytes));
        }
        rest.extend_from_slice(&bytes);
        while rest.len() >= chunk_bytes {
            chunks.push(rest.split_to(chunk_bytes).freeze());
        }
    }
    if !rest.is_empty() {
        chunks.push(rest.freeze());
    }
    let digest = Some(Digest::from_bytes(digest.finalize().into()));
    Ok(Stored { size, chunks: chunks.into(), digest, ..Stored::default() })
}

/// The parts of the chunks within `range`; `None` if it is not within the object.
fn cut(stored: &Stored, range: &Range<u64>) -> Option<Vec<Bytes>> {
    if range.start > range.end || range.end > stored.size {
        return None;
    }
    let mut at = 0;
    let mut parts = Vec::new();
    for chunk in stored.chunks.iter() {
        let length = chunk.len() as u64;
        let from = range.start.clamp(at, at + length) - at;
        let to = range.end.clamp(at, at + length) - at;
        if from < to {
            parts.push(chunk.slice(usize::try_from(from).ok()?..usize::try_from(to).ok()?));
        }
        at += length;
    }
    Some(parts)
}

/// Ends `body` behind its first error.
fn end_at_error(body: Body) -> Body {
    let parts = stream::unfold(Some(body), |body| async {
        let mut body = body?;
        let part = body.next().await?;
        let rest = part.is_ok().then_some(body);
        Some((part, rest))
    });
    parts.boxed()
}
