//! Objects on NATS: a stream of chunks and metas, as every NATS client has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;

use jetbridge_core::{
    Body, BucketKind, BucketName, DeleteOpts, Error, ErrorKind, Expect, Link, Object, ObjectChange,
    ObjectInfo, ObjectName, ObjectPut, Objects, Outcome, Result, Revision, Scope, Start,
};

use crate::api::{Api, Purge, Stored, Which};
use crate::copies::{Copies, no_bucket};
use crate::object_again::Remembered;
use crate::object_meta::{LinkMeta, Meta, Placed, token};
use crate::reader::{Begin, Event, Follow, ReaderSpec, events};
use crate::request::Outgoing;
use crate::wire::StreamInfo;
use crate::{headers, object_get, object_put, probe};

/// How long the server keeps a tombstone that the caller may not remove.
const TOMBSTONE_TTL: &str = "3600";
/// How long the mark of a deletion stays, so that watchers see it, one that reconnects too.
const MARK_STAYS: Duration = Duration::from_secs(5);
/// Marks that wait to be removed, per connection; beyond, they are removed at once.
const MARKS_MAX: usize = 1024;

/// One bucket's stream: how its parts are called, read and removed. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) api: Api,
    pub(crate) bucket: BucketName,
    /// The stream's name.
    pub(crate) stream: String,
    /// Whom to ask for what.
    pub(crate) copies: Copies,
    /// Single messages may be given a time to live.
    pub(crate) ttl: bool,
    /// Several messages can be read by one request.
    pub(crate) batches: bool,
    /// Small objects that were read.
    pub(crate) remembered: Arc<Remembered>,
}

impl Shelf {
    /// What `info` tells of the bucket's stream.
    pub(crate) fn new(api: Api, bucket: BucketName, info: &StreamInfo) -> Self {
        let config = &info.config;
        Self {
            copies: Copies::of(BucketKind::Object, bucket.clone(), info),
            api,
            bucket,
            stream: config.name.clone(),
            ttl: config.allow_msg_ttl,
            remembered: Arc::default(),
            batches: config.allow_direct
                && probe::stream_level(config).is_some_and(|level| level >= probe::LEVEL_TTL),
        }
    }

    /// The bucket's shelf; [`NotFound`](ErrorKind::NotFound) if there is no such bucket.
    pub(crate) async fn find(
        api: &Api,
        bucket: &BucketName,
        operation: &'static str,
    ) -> Result<Self> {
        let call = api.link().repeatable(operation);
        let Some(info) = api.stream(&stream_name(bucket), &call).await? else {
            return Err(no_bucket(BucketKind::Object, bucket, operation));
        };
        Ok(Self::new(api.clone(), bucket.clone(), &info))
    }

    pub(crate) fn chunk_subject(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    fn meta_subject(&self, name: &ObjectName) -> String {
        format!("$O.{}.M.{}", self.bucket, token(name.as_str()))
    }

    /// The last message on `subject`, as the last acknowledged write left it.
    pub(crate) async fn last(
        &self,
        subject: &str,
        operation: &'static str,
    ) -> Result<Option<Stored>> {
        let call = self.api.link().repeatable(operation);
        let found = self.copies.fresh(&self.api, subject, &call).await;
        found.map_err(|error| error.with("bucket", &self.bucket))
    }

    /// What describes `name`, a deleted one too.
    pub(crate) async fn meta(
        &self,
        name: &ObjectName,
        operation: &'static str,
    ) -> Result<Option<Placed>> {
        let subject = self.meta_subject(name);
        let Some(stored) = self.last(&subject, operation).await? else { return Ok(None) };
        placed(&stored.payload, &stored.subject, stored.sequence, stored.time)
    }

    /// Writes `meta` if the last message on its subject is at `over`; `None` if it is not.
    pub(crate) async fn write_meta(&self, meta: &Meta, over: u64) -> Result<Option<Placed>> {
        const OPERATION: &str = "object.write";
        let name = ObjectName::parse(&meta.name)?;
        let json = serde_json::to_vec(meta).map_err(|cause| {
            Error::new(ErrorKind::Internal, OPERATION).with("object", &name).caused_by(cause)
        })?;
        let mut map = HeaderMap::new();
        map.insert(headers::ROLLUP, "sub");
        map.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, over.to_string());
        if meta.deleted && self.ttl {
            map.insert(headers::TTL, TOMBSTONE_TTL);
        }
        let out = Outgoing::new(self.meta_subject(&name), json).headers(map);
        let link = self.api.link();
        match self.publish(&out, &link.once(OPERATION)).await? {
            Ok(ack) => {
                let time = match link.clock().now() {
                    Some(estimate) => estimate.now,
                    None => self.time_of(ack.seq, &name).await?,
                };
                Ok(Some(Placed { meta: meta.clone(), sequence: ack.seq, time }))
            }
            Err(refused) if refused.is_wrong_last_sequence() => Ok(None),
            Err(refused) => Err(refused.into_error(OPERATION).with("bucket", &self.bucket)),
        }
    }

    /// When the meta at `sequence` was stored, or, if it is replaced already, what replaced it.
    async fn time_of(&self, sequence: u64, name: &ObjectName) -> Result<std::time::SystemTime> {
        const OPERATION: &str = "object.write";
        let call = self.api.link().repeatable(OPERATION);
        let stored = self.api.message(&self.stream, &Which::at(sequence), &call).await?;
        let stored = match stored {
            Some(stored) => Some(stored),
            None => self.last(&self.meta_subject(name), OPERATION).await?,
        };
        stored.map(|stored| stored.time).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, OPERATION)
                .because("the object was written, and deleted by somebody at once")
                .with("object", name)
        })
    }

    /// Removes the chunks of an object that was replaced or deleted, if it had any.
    pub(crate) async fn remove_chunks_of(&self, replaced: Option<&Meta>) {
        if let Some(meta) = replaced.filter(|meta| meta.chunks > 0) {
            self.remove_chunks(&meta.nuid).await;
        }
    }

    /// Removes what is stored under `nuid`. Nobody refers to it any more, so what cannot be
    /// removed now costs space and nothing else; sweeping finds it.
    pub(crate) async fn remove_chunks(&self, nuid: &str) {
        if !is_one_token(nuid) {
            tracing::warn!(bucket = %self.bucket, nuid, "this names no upload: nothing is removed");
            return;
        }
        let subject = self.chunk_subject(nuid);
        if let Err(error) = self.forget(&subject).await {
            tracing::warn!(bucket = %self.bucket, %error, "chunks stay behind until a sweep");
        }
    }

    /// Forgets every message on `subject`. A caller who may not purge leaves one empty message
    /// instead, which the server removes in its time if it can.
    async fn forget(&self, subject: &str) -> Result<()> {
        let link = self.api.link();
        let purge = Purge { filter: Some(subject), ..Purge::default() };
        let call = link.repeatable("object.purge");
        match self.api.purge(&self.stream, &purge, &call).await {
            Ok(_removed) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        let mut map = HeaderMap::new();
        map.insert(headers::ROLLUP, "sub");
        if self.ttl {
            map.insert(headers::TTL, TOMBSTONE_TTL);
        }
        let out = Outgoing::new(subject.to_owned(), bytes::Bytes::new()).headers(map);
        let rolled = link.publish(&out, &link.repeatable("object.purge")).await?;
        rolled.map(|_ack| ()).map_err(|refused| refused.into_error("object.purge"))
    }

    /// Reads the metas, from where `begin` says.
    fn metas(
        &self,
        begin: Begin,
        follow: Follow,
        operation: &'static str,
    ) -> BoxStream<'static, Result<Event>> {
        let filter = format!("$O.{}.M.>", self.bucket);
        let mut spec = ReaderSpec::new(operation, &self.stream, filter.clone(), begin);
        spec.shared = Some(filter);
        spec.asks_for_end = begin != Begin::Now;
        if follow == Follow::Yes {
            spec.away_max = Some(MARK_STAYS);
        }
        events(self.api.clone(), spec, follow)
    }
}

/// True if `nuid` stands for one upload. As a filter, anything else could name the chunks of every
/// object, and metas come from whoever may publish.
pub(crate) fn is_one_token(nuid: &str) -> bool {
    let is_plain = |c: char| !matches!(c, '.' | '*' | '>') && !c.is_whitespace() && !c.is_control();
    !nuid.is_empty() && nuid.chars().all(is_plain)
}

/// The stream behind a bucket of objects.
pub(crate) fn stream_name(bucket: &BucketName) -> String {
    format!("OBJ_{bucket}")
}

/// A meta and its place. An empty message is what a caller leaves who may not purge: nothing.
fn placed(
    payload: &[u8],
    subject: &str,
    sequence: u64,
    time: std::time::SystemTime,
) -> Result<Option<Placed>> {
    if payload.is_empty() {
        return Ok(None);
    }
    Ok(Some(Placed { meta: Meta::parse(payload, subject)?, sequence, time }))
}

/// A bucket of objects.
#[derive(Clone, Debug)]
pub(crate) struct NatsObjects {
    shelf: Shelf,
}

impl NatsObjects {
    pub(crate) fn new(shelf: Shelf) -> Self {
        Self { shelf }
    }
}

impl Display for NatsObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "objects {} of {}", self.shelf.bucket, self.shelf.api.link().location())
    }
}

#[async_trait]
impl Objects for NatsObjects {
    fn bucket(&self) -> &BucketName {
        &self.shelf.bucket
    }

    async fn put(&self, name: &ObjectName, body: Body, opts: ObjectPut) -> Result<ObjectInfo> {
        object_put::put(&self.shelf, name, body, opts).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Option<Object>> {
        object_get::get(&self.shelf, name, range).await
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        let placed = self.shelf.meta(name, "object.info").await?;
        placed.filter(|placed| !placed.meta.deleted).map(|placed| placed.info()).transpose()
    }

    async fn delete(&self, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>> {
        delete(&self.shelf, name, opts).await
    }

    async fn link(&self, name: &ObjectName, target: Link) -> Result<ObjectInfo> {
        if let Some(object) = &target.name {
            let there = Shelf::find(&self.shelf.api, &target.bucket, "object.link").await?;
            let found = there.meta(object, "object.link").await?;
            if found.is_some_and(|placed| !placed.meta.deleted && placed.meta.is_link()) {
                return Err(Error::new(ErrorKind::InvalidInput, "object.link")
                    .because("the target is a link itself")
                    .with("target", object)
                    .hint("link to what it stands for"));
            }
        }
        let link = LinkMeta {
            bucket: target.bucket.to_string(),
            name: target.name.map(|name| name.to_string()),
        };
        object_put::link(&self.shelf, name, link).await
    }

    async fn seal(&self) -> Result<()> {
        let link = self.shelf.api.link();
        let call = link.repeatable("object.seal");
        let Some(info) = self.shelf.api.stream(&self.shelf.stream, &call).await? else {
            return Err(
                Error::new(ErrorKind::NotFound, "object.seal").with("bucket", &self.shelf.bucket)
            );
        };
        let mut config = info.config;
        config.sealed = true;
        self.shelf.api.update_stream(&config, &call).await.map(|_info| ())
    }

    fn list(&self, scope: Scope) -> BoxStream<'static, Result<ObjectInfo>> {
        let metas = self.shelf.metas(Begin::LastPerSubject, Follow::No, "object.list");
        let bucket = self.shelf.bucket.clone();
        let mut unreadable = 0_u64;
        Box::pin(metas.filter_map(move |event| {
            std::future::ready(match event {
                Ok(Event::Message(read)) => match listed(&read, &scope) {
                    // What somebody wrote there is no object, and hides none of the others.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        unreadable += 1;
                        if unreadable == 1 {
                            tracing::warn!(%bucket, %error, "what is no object is left out");
                        }
                        None
                    }
                    listed => listed.transpose(),
                },
                Ok(Event::CaughtUp) => None,
                Err(error) => Some(Err(error)),
            })
        }))
    }

    fn watch(&self, scope: Scope, start: Start) -> BoxStream<'static, Result<ObjectChange>> {
        let begin = match start {
            Start::Current | Start::History => Begin::LastPerSubject,
            Start::Now => Begin::Now,
            Start::After(revision) => Begin::After(revision.0),
        };
        // What is gone is of no interest to whoever asks for what is there.
        let mut current = matches!(start, Start::Current | Start::History);
        let metas = self.shelf.metas(begin, Follow::Yes, "object.watch");
        Box::pin(metas.filter_map(move |event| {
            std::future::ready(match event {
                Ok(Event::CaughtUp) => {
                    current = false;
                    Some(Ok(ObjectChange::CaughtUp))
                }
                Ok(Event::Message(read)) => changed(&read, &scope, current).transpose(),
                Err(error) => Some(Err(error)),
            })
        }))
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        sweep(&self.shelf, older_than).await
    }
}

fn read_meta(read: &Stored, scope: &Scope) -> Result<Option<Placed>> {
    let placed = placed(&read.payload, &read.subject, read.sequence, read.time)?;
    let meant = |placed: &Placed| {
        let text = read.subject.splitn(4, '.').nth(3).unwrap_or_default();
        scope.contains(&placed.meta.name, text)
    };
    Ok(placed.filter(meant))
}

fn listed(read: &Stored, scope: &Scope) -> Result<Option<ObjectInfo>> {
    let placed = read_meta(read, scope)?.filter(|placed| !placed.meta.deleted);
    placed.map(|placed| placed.info()).transpose()
}

fn changed(read: &Stored, scope: &Scope, current: bool) -> Result<Option<ObjectChange>> {
    let Some(placed) = read_meta(read, scope)? else { return Ok(None) };
    if !placed.meta.deleted {
        return Ok(Some(ObjectChange::Put(placed.info()?)));
    }
    if current {
        return Ok(None);
    }
    let name = ObjectName::parse(&placed.meta.name)?;
    Ok(Some(ObjectChange::Delete { name, revision: Revision(placed.sequence) }))
}

/// Marks the object as deleted, which watchers see, then removes the mark and the chunks.
async fn delete(shelf: &Shelf, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>> {
    const OPERATION: &str = "object.delete";
    if opts.expect == Expect::Absent {
        return Err(Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("what is absent cannot be deleted")
            .with("object", name));
    }
    let before = shelf.meta(name, OPERATION).await?;
    let Some(live) = before.filter(|placed| !placed.meta.deleted) else {
        return match opts.expect {
            Expect::Exactly(_) => Err(Error::new(ErrorKind::Conflict, OPERATION)
                .because("there is no object of that name")
                .with("object", name)),
            Expect::Any | Expect::Absent => Ok(None),
        };
    };
    let mark = Meta {
        name: live.meta.name.clone(),
        bucket: live.meta.bucket.clone(),
        // Its own, so that a lost acknowledgement can be told from somebody else's deletion.
        nuid: jetbridge_core::random::name(),
        deleted: true,
        ..Meta::default()
    };
    let (marked, replaced) = match shelf.replace(mark, opts.expect, Some(live)).await {
        Ok(done) => done,
        Err(error) if error.outcome() == Outcome::Unknown => return Err(error),
        Err(error) => return Err(error.with("object", name)),
    };
    shelf.remove_chunks_of(replaced.as_ref().map(|placed| &placed.meta)).await;
    remove_mark(shelf, name, marked.sequence).await;
    Ok(Some(Revision(marked.sequence)))
}

/// Removes the mark of a deletion when watchers have seen it, and nothing that was written behind
/// it. If this process ends first, the mark stays, as other clients leave it.
async fn remove_mark(shelf: &Shelf, name: &ObjectName, sequence: u64) {
    let (shelf, subject) = (shelf.clone(), shelf.meta_subject(name));
    let cleanups = shelf.api.link().cleanups().clone();
    let wait = cleanups.len() < MARKS_MAX;
    let stopping = cleanups.clone();
    let removal = async move {
        if wait {
            tokio::select! {
                () = tokio::time::sleep(MARK_STAYS) => {}
                () = stopping.stopping() => {}
            }
        }
        let purge = Purge { filter: Some(&subject), seq: Some(sequence + 1), keep: None };
        let call = shelf.api.link().repeatable("object.purge");
        if let Err(error) = shelf.api.purge(&shelf.stream, &purge, &call).await {
            tracing::debug!(bucket = %shelf.bucket, %error, "a tombstone stays");
        }
    };
    if wait {
        cleanups.spawn(removal);
    } else {
        removal.await;
    }
}

/// Removes the chunks of uploads that came to nothing.
async fn sweep(shelf: &Shelf, older_than: Duration) -> Result<u64> {
    const OPERATION: &str = "object.sweep";
    let link = shelf.api.link();
    let info = |call| async move { shelf.api.stream(&shelf.stream, &call).await };
    let before = info(link.repeatable(OPERATION)).await?;
    let Some(before) = before else { return Ok(0) };
    let mut uploads: BTreeMap<String, std::time::SystemTime> = BTreeMap::new();
    let filter = format!("$O.{}.C.*", shelf.bucket);
    let spec = ReaderSpec::new(OPERATION, &shelf.stream, filter, Begin::LastPerSubject);
    let spec = spec.headers_only();
    let mut chunks = events(shelf.api.clone(), spec, Follow::No);
    while let Some(event) = chunks.next().await {
        if let Event::Message(read) = event? {
            let nuid = read.subject.rsplit('.').next().unwrap_or_default();
            uploads.insert(nuid.to_owned(), read.time);
        }
    }
    // The metas are read behind the chunks: an upload that is finished in between is seen.
    let mut live = BTreeSet::new();
    let mut metas = shelf.metas(Begin::LastPerSubject, Follow::No, OPERATION);
    while let Some(event) = metas.next().await {
        if let Event::Message(read) = event?
            && let Some(placed) = read_meta(&read, &Scope::All)?
        {
            live.insert(placed.meta.nuid);
        }
    }
    let now = link.clock().now().map(|estimate| estimate.now);
    let old = |time: &std::time::SystemTime| {
        now.and_then(|now| now.duration_since(*time).ok()).is_some_and(|age| age >= older_than)
    };
    let unused = |nuid: &String| is_one_token(nuid) && !live.contains(nuid);
    for (nuid, _) in uploads.iter().filter(|(nuid, time)| unused(nuid) && old(time)) {
        shelf.forget(&shelf.chunk_subject(nuid)).await?;
    }
    let after = info(link.repeatable(OPERATION)).await?;
    Ok(before.state.bytes.saturating_sub(after.map_or(0, |after| after.state.bytes)))
}
