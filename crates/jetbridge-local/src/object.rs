//! Names to objects, on a directory: rows that refer to bodies.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{
    Body, BucketKind, BucketName, DeleteOpts, Error, ErrorKind, Expect, Link, Object, ObjectChange,
    ObjectInfo, ObjectName, ObjectPut, Objects, Result, Revision, Scope, Start, codec,
};

use self::meta::Meta;
use crate::bucket::body::receive::{Received, receive};
use crate::bucket::body::send::{Sending, send};
use crate::bucket::body::{Bodies, older_than};
use crate::bucket::catalog::blocking;
use crate::bucket::follow::{Event, Wanted, follow};
use crate::bucket::handle::Handle;
use crate::bucket::rows::{self, Op, Row, Span, Stored};
use crate::bucket::writer::{New, Writer};
use crate::bucket::{Bucket, absent};
use crate::fault::JobResult;
use crate::headers;

mod meta;

/// Bytes of a chunk where the writer did not say: JetStream's default. A body is one file; its
/// chunks are counted, for those who move it to a store that has some.
const CHUNK_BYTES_DEFAULT: u32 = 128 << 10;
/// Objects read at once by a listing.
const LISTING_OBJECTS: usize = 128;
/// How often a reader looks again for an object whose body went while it was being opened.
const OPENS_MAX: usize = 8;

/// A handle on one bucket of objects.
#[derive(Clone, Debug)]
pub(crate) struct LocalObjects(Handle);

impl LocalObjects {
    pub(crate) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// The bucket of the same store that a link stands for.
    async fn other(&self, bucket: &BucketName, operation: &'static str) -> Result<Self> {
        let catalog = self.0.catalog();
        let found = catalog.find(bucket, operation).await?;
        Ok(Self(Handle::new(catalog.clone(), found)))
    }

    async fn find(
        &self,
        operation: &'static str,
        name: &ObjectName,
    ) -> Result<Option<(Arc<Bucket>, Stored)>> {
        let live = self.0.read(operation, |bucket| bucket.live(operation, name.as_str())).await?;
        Ok(live.map(|stored| (self.0.bucket(), stored)))
    }

    /// Writes a row for `name`, if nothing is against it.
    async fn store(&self, put: Put) -> Result<ObjectInfo> {
        let operation = put.operation;
        self.0
            .write(operation, move |bucket, writer| {
                if let Some(received) = &put.received {
                    received.incoming.set_wanted(false);
                }
                let info = put.run(bucket, writer)?;
                if let Some(received) = &put.received {
                    received.incoming.set_wanted(true);
                }
                Ok(info)
            })
            .await
    }

    /// The body of the object that `stored` describes, or `None` if it is no longer there.
    fn open(
        &self,
        bucket: &Arc<Bucket>,
        name: &ObjectName,
        stored: &Stored,
        range: Option<Range<u64>>,
    ) -> Result<Option<Object>> {
        let meta = Meta::parse(&stored.value)?;
        let info = meta.info(name.clone(), stored)?;
        let whole = 0..info.size;
        let digest = if range.is_none() { info.digest } else { None };
        let range = range.unwrap_or_else(|| whole.clone());
        if range.start > range.end || range.end > whole.end {
            return Err(refused("object.get", bucket, name, "the range is not within the object")
                .with("range", format!("{}..{}", range.start, range.end))
                .with("size", info.size));
        }
        let body = stored.body.as_deref().unwrap_or_default();
        let file = match Bodies::of(bucket).open(body) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(crate::fault::from_io(error, "object.get", bucket.directory()));
            }
        };
        let (bucket, name, revision) = (Arc::clone(bucket), name.clone(), stored.revision);
        let check = move || still_there(&bucket, &name, revision);
        let body = send(Sending { file, range, digest }, check);
        Ok(Some(Object::new(info, body)))
    }

    /// The row that `name` stands for: its own, or that of the object it is a link to.
    async fn resolve(
        &self,
        name: &ObjectName,
    ) -> Result<Option<(Arc<Bucket>, ObjectName, Stored)>> {
        let Some((bucket, stored)) = self.find("object.get", name).await? else { return Ok(None) };
        let Some(link) = Meta::parse(&stored.value)?.link()? else {
            return Ok(Some((bucket, name.clone(), stored)));
        };
        let Some(target) = link.name else {
            let why = "the link stands for a bucket, not for an object";
            return Err(refused("object.get", &bucket, name, why));
        };
        let there = self.other(&link.bucket, "object.get").await?;
        let Some((there, stored)) = there.find("object.get", &target).await? else {
            return Ok(None);
        };
        if Meta::parse(&stored.value)?.link()?.is_some() {
            let why = "the link stands for another link";
            return Err(refused("object.get", &bucket, name, why));
        }
        Ok(Some((there, target, stored)))
    }

    fn list_page(&self, bucket: &Bucket, scope: &Scope, after: &str) -> Result<Listed> {
        let mut infos = Vec::new();
        let page =
            rows::Page { after, limit: LISTING_OBJECTS, now: bucket.now(), names_only: false };
        let next = bucket.read("object.list", |sql| {
            rows::page(sql, &span(scope), page, |Row { name, stored }| {
                if scope.contains(&name, &codec::encode(&name)) {
                    infos.push(describe(&name, &stored));
                }
                Ok(())
            })
        })?;
        Ok(Listed { infos, next })
    }
}

/// Objects, and the name behind which there are more.
struct Listed {
    infos: Vec<Result<ObjectInfo>>,
    next: Option<String>,
}

impl Display for LocalObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local:{}", self.0.name())
    }
}

#[async_trait]
impl Objects for LocalObjects {
    fn bucket(&self) -> &BucketName {
        self.0.name()
    }

    async fn put(&self, name: &ObjectName, body: Body, opts: ObjectPut) -> Result<ObjectInfo> {
        let look = Put {
            operation: "object.put",
            name: name.clone(),
            meta: Meta::default(),
            headers: None,
            received: None,
            expect: opts.expect,
        };
        // Nothing of the body needs to be read where the end is known.
        let limit = self.0.read("object.put", |bucket| look.look(bucket)).await?;
        let bucket = self.0.bucket();
        let check = |size: u64| match limit {
            Some(limit) if size > limit => Err(over_limit(&bucket, name, size, limit)),
            _ => Ok(()),
        };
        let received = receive(&Bodies::of(&bucket), body, check).await?;
        let chunk_bytes = u64::from(opts.chunk_bytes.unwrap_or(CHUNK_BYTES_DEFAULT).max(1));
        let meta = Meta {
            size: received.size,
            chunks: received.size.div_ceil(chunk_bytes),
            digest: Some(received.digest.to_string()),
            description: opts.description,
            ..Meta::default()
        };
        let headers = headers::to_json(&opts.headers);
        self.store(Put { meta, headers, received: Some(received), ..look }).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Option<Object>> {
        for _ in 0..OPENS_MAX {
            let Some((bucket, target, stored)) = self.resolve(name).await? else { return Ok(None) };
            if let Some(object) = self.open(&bucket, &target, &stored, range.clone())? {
                return Ok(Some(object));
            }
            // Replaced between the look at its row and the one at its file, or damaged.
            if still_there(&bucket, &target, stored.revision).is_ok() {
                return Err(Error::new(ErrorKind::Corrupt, "object.get")
                    .because("the body of the object is missing")
                    .with("bucket", &bucket.name)
                    .with("object", &target)
                    .hint("store the object again, or restore the directory from a backup"));
            }
        }
        Err(Error::new(ErrorKind::Conflict, "object.get")
            .because("the object was replaced every time it was looked at")
            .with("bucket", self.bucket())
            .with("object", name))
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        let found = self.find("object.info", name).await?;
        found.map(|(_, stored)| describe(name.as_str(), &stored)).transpose()
    }

    async fn delete(&self, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>> {
        if opts.expect == Expect::Absent {
            return Err(Error::new(ErrorKind::InvalidInput, "object.delete")
                .because("what must be absent cannot be deleted")
                .with("object", name));
        }
        let name = name.clone();
        self.0
            .write("object.delete", move |bucket, writer| {
                check_open("object.delete", bucket, writer.tx.state.sealed)?;
                let present = writer.present(name.as_str())?;
                let live = writer
                    .check(present.as_ref(), opts.expect)
                    .map_err(|present| conflict("object.delete", bucket, &name, present))?;
                if live.is_none() {
                    return Ok(None);
                }
                let deletion = New::deletion(Op::Marker, 0);
                let revision = writer.append(name.as_str(), present.as_ref(), deletion)?;
                bucket.note_due(Some(rows::later(writer.now, Duration::from_secs(3600))));
                Ok(Some(revision))
            })
            .await
    }

    async fn link(&self, name: &ObjectName, target: Link) -> Result<ObjectInfo> {
        let there = self.other(&target.bucket, "object.link").await?;
        if let Some(target) = &target.name
            && let Some((bucket, stored)) = there.find("object.link", target).await?
            && Meta::parse(&stored.value)?.link()?.is_some()
        {
            return Err(refused("object.link", &bucket, name, "the target is itself a link"));
        }
        let expect = match self.find("object.link", name).await? {
            None => Expect::Absent,
            Some((_, stored)) if Meta::parse(&stored.value)?.link()?.is_some() => {
                Expect::Exactly(stored.revision)
            }
            Some((bucket, _)) => {
                let why = "an object of this name is in the way";
                return Err(refused("object.link", &bucket, name, why));
            }
        };
        self.store(Put {
            operation: "object.link",
            name: name.clone(),
            meta: Meta::of_link(&target),
            headers: None,
            received: None,
            expect,
        })
        .await
    }

    async fn seal(&self) -> Result<()> {
        self.0
            .write("object.seal", |_bucket, writer| {
                writer.tx.state.sealed = true;
                Ok(())
            })
            .await
    }

    fn list(&self, scope: Scope) -> BoxStream<'static, Result<ObjectInfo>> {
        let begin = (self.clone(), scope, Some(String::new()));
        let pages = stream::unfold(begin, |(objects, scope, after)| async move {
            let after = after?;
            let list = |bucket: &Bucket| objects.list_page(bucket, &scope, &after);
            let (infos, next) = match objects.0.read("object.list", list).await {
                Ok(Listed { infos, next }) => (infos, next),
                Err(error) => (vec![Err(error)], None),
            };
            Some((stream::iter(infos), (objects, scope, next)))
        });
        pages.flatten().fuse().boxed()
    }

    fn watch(&self, scope: Scope, start: Start) -> BoxStream<'static, Result<ObjectChange>> {
        let start = if start == Start::History { Start::Current } else { start };
        let wanted = Wanted {
            span: span(&scope),
            filter: Box::new(move |name| scope.contains(name, &codec::encode(name))),
            start,
            keys_only: false,
        };
        let changes = follow(&self.0, wanted).map(|event| match event? {
            Event::CaughtUp => Ok(ObjectChange::CaughtUp),
            Event::Row(Row { name, stored }) => match stored.op {
                Op::Put => describe(&name, &stored).map(ObjectChange::Put),
                Op::Delete | Op::Marker => {
                    let name = ObjectName::parse(&name)?;
                    Ok(ObjectChange::Delete { name, revision: stored.revision })
                }
            },
        });
        changes.fuse().boxed()
    }

    async fn sweep(&self, older: Duration) -> Result<u64> {
        let bucket = self.0.bucket();
        let bucket = match bucket.settings("object.sweep") {
            Ok(_) => bucket,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.0.renew("object.sweep").await?
            }
            Err(error) => return Err(error),
        };
        blocking(move || sweep(&bucket, older)).await
    }
}

/// Removes the bodies of `bucket` that nobody refers to. Blocks.
pub(crate) fn sweep(bucket: &Bucket, older: Duration) -> Result<u64> {
    let before = older_than(bucket.clock().now(), older);
    let is_wanted = |body: &str| bucket.read("object.sweep", |sql| rows::refers_to(sql, body));
    Bodies::of(bucket).sweep(before, is_wanted)
}

/// One write of an object or a link.
struct Put {
    operation: &'static str,
    name: ObjectName,
    meta: Meta,
    headers: Option<String>,
    received: Option<Received>,
    expect: Expect,
}

impl Put {
    /// Looks whether the write has a chance, and returns how many bytes it may have.
    fn look(&self, bucket: &Bucket) -> Result<Option<u64>> {
        let settings = bucket.settings(self.operation)?;
        check_open(self.operation, bucket, bucket.db().state(self.operation)?.sealed)?;
        let live = bucket.live(self.operation, self.name.as_str())?.map(|live| live.revision);
        let holds = match self.expect {
            Expect::Any => true,
            Expect::Absent => live.is_none(),
            Expect::Exactly(wanted) => live == Some(wanted),
        };
        if !holds {
            return Err(conflict(self.operation, bucket, &self.name, live.unwrap_or_default()));
        }
        Ok(settings.spec.max_bytes)
    }

    fn run(&self, bucket: &Bucket, writer: &mut Writer<'_, '_>) -> JobResult<ObjectInfo> {
        check_open(self.operation, bucket, writer.tx.state.sealed)?;
        let name = self.name.as_str();
        let present = writer.present(name)?;
        writer
            .check(present.as_ref(), self.expect)
            .map_err(|present| conflict(self.operation, bucket, &self.name, present))?;
        let size = self.meta.size;
        if let Some(excess) = writer.excess(name, present.as_ref(), size)? {
            let limit = writer.settings.spec.max_bytes.unwrap_or_default();
            return Err(over_limit(bucket, &self.name, excess, limit).into());
        }
        let value = self.meta.to_json()?;
        let new = New {
            op: Op::Put,
            size,
            expires: None,
            body: self.received.as_ref().map(|received| received.incoming.name()),
            headers: self.headers.as_deref(),
            value: value.as_bytes(),
        };
        // What was collected for its room may be the present row.
        let present = writer.present(name)?;
        let revision = writer.append(name, present.as_ref(), new)?;
        bucket.note_due(writer.settings.due(None, writer.now));
        let stored = Stored::new(revision, writer.now, self.headers.clone());
        Ok(self.meta.info(self.name.clone(), &stored)?)
    }
}

fn describe(name: &str, stored: &Stored) -> Result<ObjectInfo> {
    Meta::parse(&stored.value)?.info(ObjectName::parse(name)?, stored)
}

/// An error if `name` is no longer what `revision` wrote.
fn still_there(bucket: &Bucket, name: &ObjectName, revision: Revision) -> Result<()> {
    let live = match bucket.live("object.get", name.as_str()) {
        Ok(live) => live.map(|live| live.revision),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(absent(BucketKind::Object, &bucket.name, "object.get"));
        }
        Err(error) => return Err(error),
    };
    match live.unwrap_or_default() {
        present if present == revision => Ok(()),
        present => Err(conflict("object.get", bucket, name, present)
            .because("the object was deleted or replaced while it was read")),
    }
}

/// Where the names of `scope` lie.
fn span(scope: &Scope) -> Span {
    let (from, to) = match scope {
        Scope::Prefix(prefix) => (&**prefix, format!("{prefix}{}", char::MAX)),
        Scope::One(name) => (name.as_str(), format!("{name}\0")),
        _ => return Span::default(),
    };
    Span { from: from.to_owned(), to: Some(to) }
}

fn check_open(operation: &'static str, bucket: &Bucket, sealed: bool) -> Result<()> {
    if !sealed {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, operation)
        .because("the bucket is sealed, nothing can be written to it")
        .with("bucket", &bucket.name))
}

fn conflict(
    operation: &'static str,
    bucket: &Bucket,
    name: &ObjectName,
    present: Revision,
) -> Error {
    Error::new(ErrorKind::Conflict, operation)
        .with("bucket", &bucket.name)
        .with("object", name)
        .with("revision", present)
}

fn over_limit(bucket: &Bucket, name: &ObjectName, is: u64, limit: u64) -> Error {
    Error::new(ErrorKind::LimitExceeded, "object.put")
        .because(format!("the bucket would hold {is} bytes, at most {limit} are allowed"))
        .with("bucket", &bucket.name)
        .with("object", name)
        .with("limit", limit)
}

fn refused(operation: &'static str, bucket: &Bucket, name: &ObjectName, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, operation)
        .because(why)
        .with("bucket", &bucket.name)
        .with("object", name)
}
