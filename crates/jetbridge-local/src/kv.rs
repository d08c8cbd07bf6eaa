//! Keys to values, on a directory.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{
    BucketName, Change, Cursor, DeleteOpts, Entry, Error, ErrorKind, Expect, IncrementOpts, Key,
    KeyEncoding, Kv, KvShared, Page, PutOpts, Read, Result, Revision, Scope, Snapshot, Watch,
    Written, codec,
};

use self::names::{cursor, parse_cursor, spans};
use crate::bucket::Bucket;
use crate::bucket::follow::{Event, Wanted, follow};
use crate::bucket::handle::Handle;
use crate::bucket::rows::{self, Op, Row, Stored};
use crate::bucket::writer::{New, Writer};
use crate::db::State;
use crate::fault::JobResult;
use crate::headers;
use crate::hub::MESSAGE_BYTES_MAX;

mod names;

/// Bytes of a value with its headers at most: as of a message.
pub(crate) const VALUE_BYTES_MAX: u64 = MESSAGE_BYTES_MAX as u64;
/// Keys read at once by a listing.
const LISTING_KEYS: usize = 512;

/// A handle on one bucket of keys.
#[derive(Clone, Debug)]
pub(crate) struct LocalKv {
    handle: Handle,
    keys: KeyEncoding,
    shared: KvShared,
}

impl LocalKv {
    pub(crate) fn new(handle: Handle, keys: KeyEncoding) -> Self {
        let shared = handle.bucket().shared.clone();
        Self { handle, keys, shared }
    }

    /// The text that `key` is stored under.
    fn text<'k>(&self, key: &'k Key, operation: &'static str) -> Result<Cow<'k, str>> {
        if self.keys == KeyEncoding::Escaped {
            return Ok(codec::encode(key.as_str()));
        }
        if codec::is_legal(key.as_str()) {
            return Ok(key.as_str().into());
        }
        Err(Error::new(ErrorKind::InvalidInput, operation)
            .because("the bucket is open with raw keys, and this is no legal NATS key")
            .with("bucket", self.bucket())
            .with("key", key))
    }

    fn filter(&self, scope: Scope) -> Box<dyn Fn(&str) -> bool + Send + Sync> {
        let keys = self.keys;
        if scope == Scope::All {
            return Box::new(|_text| true);
        }
        Box::new(move |text| scope.contains(&names::decode(keys, text), text))
    }

    /// The entry of `key` that `read` asks for.
    fn read_in(
        &self,
        bucket: &Bucket,
        sql: &rusqlite::Connection,
        key: &Key,
        read: Read,
    ) -> JobResult<Option<Entry>> {
        let text = self.text(key, "kv.get")?;
        let found = match read {
            Read::Fresh | Read::MaybeStale => rows::newest(sql, &text)?,
            Read::At(revision) => rows::at(sql, &text, revision, bucket.now())?,
        };
        let live = found.filter(|stored| bucket.is_live(stored));
        Ok(live.map(|stored| entry(key.clone(), stored)).transpose()?)
    }

    /// A page of the keys in `scope` behind the text `after`.
    fn page_in(&self, bucket: &Bucket, scope: &Scope, after: &str, limit: usize) -> Result<Listed> {
        let filter = self.filter(scope.clone());
        let mut listed = Listed { keys: Vec::new(), next: Some(after.to_owned()) };
        for span in spans(self.keys, scope) {
            let mut after = after.to_owned();
            loop {
                let page = rows::Page {
                    after: &after,
                    limit: LISTING_KEYS.min(limit.saturating_add(1)),
                    now: bucket.now(),
                    names_only: true,
                };
                let next = bucket.read("kv.keys", |sql| {
                    rows::page(sql, &span, page, |row| {
                        if filter(&row.name) {
                            listed.keys.push(row.name);
                        }
                        Ok(())
                    })
                })?;
                if listed.keys.len() > limit {
                    listed.keys.truncate(limit);
                    listed.next = listed.keys.last().cloned();
                    return Ok(listed);
                }
                let Some(next) = next else { break };
                after = next;
            }
        }
        listed.next = None;
        Ok(listed)
    }
}

/// Keys by their texts, and the text behind which there are more.
struct Listed {
    keys: Vec<String>,
    next: Option<String>,
}

impl Display for LocalKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local:{}", self.bucket())
    }
}

#[async_trait]
impl Kv for LocalKv {
    fn bucket(&self) -> &BucketName {
        self.handle.name()
    }

    fn shared(&self) -> &KvShared {
        &self.shared
    }

    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>> {
        let get =
            |bucket: &Bucket| bucket.read("kv.get", |sql| self.read_in(bucket, sql, key, read));
        self.handle.read("kv.get", get).await
    }

    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot> {
        let get = |bucket: &Bucket| {
            bucket.db().snapshot("kv.get_many", |sql| {
                let entries = keys.iter().map(|key| self.read_in(bucket, sql, key, read));
                let entries = entries.collect::<JobResult<_>>()?;
                Ok(Snapshot::new(entries, Some(Revision(State::load(sql)?.sequence))))
            })
        };
        self.handle.read("kv.get_many", get).await
    }

    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Result<Written> {
        let put = Put {
            operation: "kv.put",
            text: self.text(key, "kv.put")?.into_owned(),
            key: key.clone(),
            size: (value.len() + opts.headers.wire_bytes()) as u64,
            value,
            headers: headers::to_json(&opts.headers),
            expect: opts.expect,
        };
        let ttl = opts.ttl.map(check_ttl).transpose()?;
        self.handle
            .write("kv.put", move |bucket, writer| {
                let expires = ttl.map(|ttl| expiry(writer.now, ttl)).transpose()?;
                let revision = put.run(bucket, writer, expires)?;
                Ok(Written::new(revision).at(rows::time(writer.now)))
            })
            .await
    }

    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>> {
        if opts.expect == Expect::Absent {
            return Err(Error::new(ErrorKind::InvalidInput, "kv.delete")
                .because("what must be absent cannot be deleted")
                .with("key", key));
        }
        let (text, key) = (self.text(key, "kv.delete")?.into_owned(), key.clone());
        self.handle
            .write("kv.delete", move |bucket, writer| {
                let mut present = writer.present(&text)?;
                let live = writer
                    .check(present.as_ref(), opts.expect)
                    .map_err(|present| conflict("kv.delete", bucket, &key, present))?;
                if live.is_none() {
                    return Ok(None);
                }
                if opts.history {
                    writer.erase(&text)?;
                    present = None;
                }
                let deletion = New::deletion(Op::Delete, text.len() as u64);
                Ok(Some(writer.append(&text, present.as_ref(), deletion)?))
            })
            .await
    }

    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64> {
        let (text, key) = (self.text(key, "kv.increment")?.into_owned(), key.clone());
        self.handle
            .write("kv.increment", move |bucket, writer| {
                let present = rows::live(writer.tx.sql(), &text, writer.now)?;
                let present = present.map(|stored| entry(key.clone(), stored)).transpose()?;
                let number = match &present {
                    Some(entry) => opts.encoding.number(entry)?,
                    None => 0,
                };
                let sum = opts.add(&key, number, delta)?;
                // The headers stay, and among them the table of writers that the value may have
                // brought from a store where increments need one: it includes what it included.
                let (headers, expires) =
                    present.map_or_else(Default::default, |entry| (entry.headers, entry.expires));
                let value = opts.encoding.encode(sum);
                let put = Put {
                    operation: "kv.increment",
                    text: text.clone(),
                    key: key.clone(),
                    size: (value.len() + headers.wire_bytes()) as u64,
                    value,
                    headers: headers::to_json(&headers),
                    expect: Expect::Any,
                };
                put.run(bucket, writer, expires.map(rows::nanos))?;
                Ok(sum)
            })
            .await
    }

    async fn purge(&self, scope: Scope) -> Result<u64> {
        let (all, spans, filter) =
            (scope == Scope::All, spans(self.keys, &scope), self.filter(scope));
        self.handle
            .write("kv.purge", move |_bucket, writer| {
                let names = names::stored(writer.tx.sql(), &spans, &*filter)?;
                let mut live = 0;
                for name in names {
                    let present = writer.present(&name)?;
                    live += u64::from(writer.live(present.as_ref()).is_some());
                    if !all {
                        writer.erase(&name)?;
                    }
                }
                if all {
                    writer.erase_all()?;
                }
                Ok(live)
            })
            .await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Change>> {
        let text = self.text(key, "kv.history")?;
        let history = |bucket: &Bucket| {
            let now = bucket.now();
            let rows = bucket.db().snapshot("kv.history", |sql| rows::history(sql, &text, now))?;
            rows.into_iter().map(|stored| change(key.clone(), stored)).collect()
        };
        self.handle.read("kv.history", history).await
    }

    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        let begin = (self.clone(), scope, Some(String::new()));
        let pages = stream::unfold(begin, |(kv, scope, after)| async move {
            let after = after?;
            let list = |bucket: &Bucket| kv.page_in(bucket, &scope, &after, LISTING_KEYS);
            let (keys, next) = match kv.handle.read("kv.keys", list).await {
                Ok(Listed { keys, next }) => {
                    (keys.iter().map(|text| names::parse(kv.keys, text)).collect(), next)
                }
                Err(error) => (vec![Err(error)], None),
            };
            Some((stream::iter(keys), (kv, scope, next)))
        });
        pages.flatten().fuse().boxed()
    }

    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page> {
        if limit == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "kv.page")
                .because("a page holds at least one key"));
        }
        let after = match &after {
            Some(cursor) => parse_cursor(self.bucket(), cursor)?,
            None => String::new(),
        };
        let list = |bucket: &Bucket| self.page_in(bucket, &scope, &after, limit);
        let Listed { keys, next } = self.handle.read("kv.page", list).await?;
        let keys = keys.iter().map(|text| names::parse(self.keys, text)).collect::<Result<_>>()?;
        Ok(Page::new(keys, next.map(|text| cursor(self.bucket(), &text))))
    }

    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        let wanted = Wanted {
            span: names::hull(spans(self.keys, &watch.scope)),
            filter: self.filter(watch.scope),
            start: watch.start,
            keys_only: watch.keys_only,
        };
        let keys = self.keys;
        let changes = follow(&self.handle, wanted).map(move |event| match event? {
            Event::CaughtUp => Ok(Change::CaughtUp),
            Event::Row(Row { name, stored }) => change(names::parse(keys, &name)?, stored),
        });
        changes.fuse().boxed()
    }
}

/// One write of a value.
struct Put {
    operation: &'static str,
    text: String,
    key: Key,
    value: Bytes,
    headers: Option<String>,
    /// Bytes of the value and the headers.
    size: u64,
    expect: Expect,
}

impl Put {
    fn run(
        &self,
        bucket: &Bucket,
        writer: &mut Writer<'_, '_>,
        expires: Option<i64>,
    ) -> JobResult<Revision> {
        let limit = writer.settings.spec.max_value_bytes.map_or(VALUE_BYTES_MAX, u64::from);
        let limit = limit.min(VALUE_BYTES_MAX);
        if self.size > limit {
            return Err(self.over_limit(bucket, "value and headers", self.size, limit).into());
        }
        let present = writer.present(&self.text)?;
        writer
            .check(present.as_ref(), self.expect)
            .map_err(|present| conflict(self.operation, bucket, &self.key, present))?;
        let size = self.text.len() as u64 + self.size;
        if let Some(excess) = writer.excess(&self.text, present.as_ref(), size)? {
            let limit = writer.settings.spec.max_bytes.unwrap_or_default();
            return Err(self.over_limit(bucket, "bucket", excess, limit).into());
        }
        let new = New {
            op: Op::Put,
            size,
            expires,
            body: None,
            headers: self.headers.as_deref(),
            value: &self.value,
        };
        // What was collected for its room may be the present row.
        let present = match writer.settings.spec.max_bytes {
            Some(_) => writer.present(&self.text)?,
            None => present,
        };
        let revision = writer.append(&self.text, present.as_ref(), new)?;
        bucket.note_due(writer.settings.due(expires, writer.now));
        Ok(revision)
    }

    fn over_limit(&self, bucket: &Bucket, what: &str, is: u64, limit: u64) -> Error {
        Error::new(ErrorKind::LimitExceeded, self.operation)
            .because(format!("{what} would hold {is} bytes, at most {limit} are allowed"))
            .with("bucket", &bucket.name)
            .with("key", &self.key)
            .with("limit", limit)
    }
}

fn conflict(operation: &'static str, bucket: &Bucket, key: &Key, present: Revision) -> Error {
    Error::new(ErrorKind::Conflict, operation)
        .with("bucket", &bucket.name)
        .with("key", key)
        .with("revision", present)
}

fn entry(key: Key, stored: Stored) -> Result<Entry> {
    let headers = headers::from_json(stored.headers.as_deref())?;
    let mut entry = Entry::new(key, stored.value, stored.revision, rows::time(stored.written));
    entry.expires = stored.expires.map(rows::time);
    entry.headers = headers;
    Ok(entry)
}

fn change(key: Key, stored: Stored) -> Result<Change> {
    match stored.op {
        Op::Put => entry(key, stored).map(Change::Put),
        Op::Delete | Op::Marker => {
            let at = rows::time(stored.written);
            Ok(Change::Delete { key, revision: stored.revision, at })
        }
    }
}

fn check_ttl(ttl: Duration) -> Result<Duration> {
    if ttl.is_zero() { Err(bad_ttl(ttl)) } else { Ok(ttl) }
}

/// When something written `now` with this time to live expires.
fn expiry(now: i64, ttl: Duration) -> Result<i64> {
    match rows::later(now, ttl) {
        i64::MAX => Err(bad_ttl(ttl)),
        expires => Ok(expires),
    }
}

fn bad_ttl(ttl: Duration) -> Error {
    Error::new(ErrorKind::InvalidInput, "kv.put")
        .because("a TTL is longer than nothing and ends within the calendar")
        .with("ttl_ms", ttl.as_millis())
}
