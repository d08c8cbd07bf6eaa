//! Keys to values, in memory.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use super::bucket::{Bucket, Inner};
use super::follow::{Event, Filter, follow};
use super::journal::Record;
use super::{Store, VALUE_BYTES_MAX, over_limit};
use crate::codec::{self, KeyEncoding};
use crate::counter::KvShared;
use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;
use crate::kv::{
    Change, Cursor, DeleteOpts, Entry, Expect, IncrementOpts, Kv, Page, PutOpts, Read, Revision,
    Scope, Snapshot, Watch, Written,
};
use crate::name::{BucketName, Key};
use crate::object::Digest;

/// A value and its headers.
#[derive(Clone, Debug)]
pub(super) struct Value {
    bytes: Bytes,
    headers: Headers,
}

/// A handle on one bucket. It finds the bucket by name, so it outlives its deletion.
#[derive(Clone, Debug)]
pub(super) struct MemoryKv {
    store: Arc<Store>,
    name: BucketName,
    keys: KeyEncoding,
    shared: KvShared,
}

impl MemoryKv {
    pub(super) fn new(store: Arc<Store>, bucket: &Bucket<Value>, keys: KeyEncoding) -> Self {
        Self { store, name: bucket.name.clone(), keys, shared: bucket.shared.clone() }
    }

    fn with<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut Inner<Value>, SystemTime) -> Result<T>,
    ) -> Result<T> {
        let now = self.store.time(operation)?;
        let bucket = self.store.kv.find(&self.name, operation)?;
        bucket.with(operation, now, |inner| act(inner, now))
    }

    /// The text that `key` is stored under.
    fn text(&self, key: &Key, operation: &'static str) -> Result<Arc<str>> {
        if self.keys == KeyEncoding::Escaped {
            return Ok(codec::encode(key.as_str()).into());
        }
        if codec::is_legal(key.as_str()) {
            return Ok(key.as_str().into());
        }
        Err(Error::new(ErrorKind::InvalidInput, operation)
            .because("the bucket is open with raw keys, and this is no legal NATS key")
            .with("bucket", &self.name)
            .with("key", key))
    }

    fn filter(&self, scope: Scope) -> Filter {
        let keys = self.keys;
        Box::new(move |text| scope.contains(&decode(keys, text), text))
    }

    fn put_now(&self, inner: &mut Inner<Value>, now: SystemTime, put: Put<'_>) -> Result<Revision> {
        let Put { operation, key, value, expect, expires } = put;
        let name = self.text(key, operation)?;
        let bytes = value.bytes.len() + value.headers.wire_bytes();
        let max = inner.spec.max_value_bytes.map_or(VALUE_BYTES_MAX, u64::from);
        if bytes as u64 > max.min(VALUE_BYTES_MAX) {
            return Err(over_limit(operation, "value and headers", bytes as u64, max)
                .with("bucket", &self.name)
                .with("key", key));
        }
        let present = inner.journal.check(&name, expect);
        present.map_err(|present| self.conflict(operation, key, present))?;
        let bytes = (name.len() + bytes) as u64;
        let record = Record { name, at: now, expires, value: Some(value), bytes };
        inner.journal.append(record).ok_or_else(|| {
            let max = inner.spec.max_bytes.unwrap_or_default();
            over_limit(operation, "bucket", inner.journal.bytes() + bytes, max)
                .with("bucket", &self.name)
                .with("key", key)
        })
    }

    fn conflict(&self, operation: &'static str, key: &Key, present: Revision) -> Error {
        Error::new(ErrorKind::Conflict, operation)
            .with("bucket", &self.name)
            .with("key", key)
            .with("revision", present)
    }

    fn read(&self, inner: &Inner<Value>, key: &Key, read: Read) -> Result<Option<Entry>> {
        let name = self.text(key, "kv.get")?;
        let found = match read {
            Read::Fresh | Read::MaybeStale => inner.journal.live(&name),
            Read::At(at) => inner.journal.at(at).filter(|it| it.name == name).map(|it| (at, it)),
        };
        Ok(found.and_then(|(revision, record)| entry(key.clone(), revision, record.clone())))
    }

    /// A mark that only this bucket, as it was made, puts on a cursor.
    fn cursor(&self, revision: Revision) -> Cursor {
        let digest = Digest::of(format!("{}:{revision}", self.shared.writer()).as_bytes());
        let mark: String = digest.as_bytes()[..8].iter().map(|it| format!("{it:02x}")).collect();
        Cursor::new(&format!("{revision}.{mark}"))
    }

    fn parse_cursor(&self, cursor: &Cursor) -> Result<Revision> {
        let revision = cursor.as_str().split('.').next().and_then(|text| text.parse().ok());
        match revision.map(Revision) {
            Some(revision) if self.cursor(revision) == *cursor => Ok(revision),
            _ => Err(Error::new(ErrorKind::InvalidInput, "kv.page")
                .because("this is no cursor that a page of this bucket returned")
                .with("bucket", &self.name)
                .with("cursor", cursor.as_str())),
        }
    }
}

/// One write.
struct Put<'a> {
    operation: &'static str,
    key: &'a Key,
    value: Value,
    expect: Expect,
    expires: Option<SystemTime>,
}

impl Display for MemoryKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory:{}", self.name)
    }
}

#[async_trait]
impl Kv for MemoryKv {
    fn bucket(&self) -> &BucketName {
        &self.name
    }

    fn shared(&self) -> &KvShared {
        &self.shared
    }

    async fn get(&self, key: &Key, read: Read) -> Result<Option<Entry>> {
        self.with("kv.get", |inner, _now| self.read(inner, key, read))
    }

    async fn get_many(&self, keys: &[Key], read: Read) -> Result<Snapshot> {
        self.with("kv.get_many", |inner, _now| {
            let entries = keys.iter().map(|key| self.read(inner, key, read));
            Ok(Snapshot::new(entries.collect::<Result<_>>()?, Some(inner.journal.last())))
        })
    }

    async fn put(&self, key: &Key, value: Bytes, opts: PutOpts) -> Result<Written> {
        self.with("kv.put", |inner, now| {
            let expires = opts.ttl.map(|ttl| expiry(now, ttl)).transpose()?;
            let value = Value { bytes: value, headers: opts.headers };
            let put = Put { operation: "kv.put", key, value, expect: opts.expect, expires };
            self.put_now(inner, now, put).map(|revision| Written::new(revision).at(now))
        })
    }

    async fn delete(&self, key: &Key, opts: DeleteOpts) -> Result<Option<Revision>> {
        let name = self.text(key, "kv.delete")?;
        if opts.expect == Expect::Absent {
            return Err(Error::new(ErrorKind::InvalidInput, "kv.delete")
                .because("what must be absent cannot be deleted")
                .with("key", key));
        }
        self.with("kv.delete", |inner, now| {
            let present = inner.journal.check(&name, opts.expect);
            present.map_err(|present| self.conflict("kv.delete", key, present))?;
            if inner.journal.live(&name).is_none() {
                return Ok(None);
            }
            if opts.history {
                inner.journal.erase(&name);
            }
            let bytes = name.len() as u64;
            Ok(inner.journal.append(Record { name, at: now, expires: None, value: None, bytes }))
        })
    }

    async fn increment(&self, key: &Key, delta: i64, opts: IncrementOpts) -> Result<i64> {
        self.with("kv.increment", |inner, now| {
            let present = self.read(inner, key, Read::Fresh)?;
            let number = match &present {
                Some(entry) => opts.encoding.number(entry)?,
                None => 0,
            };
            let sum = opts.add(key, number, delta)?;
            let (expires, headers) =
                present.map_or_else(Default::default, |entry| (entry.expires, entry.headers));
            let value = Value { bytes: opts.encoding.encode(sum), headers };
            let expect = Expect::Any;
            let put = Put { operation: "kv.increment", key, value, expect, expires };
            self.put_now(inner, now, put)?;
            Ok(sum)
        })
    }

    async fn purge(&self, scope: Scope) -> Result<u64> {
        let wanted = self.filter(scope);
        self.with("kv.purge", |inner, _now| {
            let live = inner.journal.live_after(Revision(0));
            let live = live.filter(|(_, record)| wanted(&record.name)).count();
            let all = inner.journal.after(Revision(0));
            let names: Vec<Arc<str>> = all
                .map(|(_, record)| Arc::clone(&record.name))
                .filter(|name| wanted(name))
                .collect();
            for name in names {
                inner.journal.erase(&name);
            }
            Ok(live as u64)
        })
    }

    async fn history(&self, key: &Key) -> Result<Vec<Change>> {
        let name = self.text(key, "kv.history")?;
        self.with("kv.history", |inner, _now| {
            let records = inner.journal.history(&name);
            Ok(records.map(|(at, record)| change(key.clone(), at, record.clone())).collect())
        })
    }

    fn keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        let wanted = self.filter(scope);
        let keys = self.with("kv.keys", |inner, _now| {
            let live = inner.journal.live_after(Revision(0));
            let names = live.map(|(_, record)| &record.name).filter(|name| wanted(name));
            Ok(names.map(|name| parse(self.keys, name)).collect::<Vec<_>>())
        });
        match keys {
            Ok(keys) => stream::iter(keys).boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn page(&self, scope: Scope, after: Option<Cursor>, limit: usize) -> Result<Page> {
        if limit == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "kv.page")
                .because("a page holds at least one key"));
        }
        let after = after.map(|cursor| self.parse_cursor(&cursor)).transpose()?.unwrap_or_default();
        let wanted = self.filter(scope);
        self.with("kv.page", |inner, _now| {
            let mut live =
                inner.journal.live_after(after).filter(|(_, record)| wanted(&record.name));
            let mut keys = Vec::new();
            let mut last = after;
            for (revision, record) in live.by_ref().take(limit) {
                keys.push(parse(self.keys, &record.name)?);
                last = revision;
            }
            let next = live.next().map(|_| self.cursor(last));
            Ok(Page::new(keys, next))
        })
    }

    fn watch(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        let bucket = self.store.kv.find(&self.name, "kv.watch");
        let events = follow(&self.store, bucket, self.filter(watch.scope), watch.start);
        let (keys, keys_only) = (self.keys, watch.keys_only);
        let changes = events.map(move |event| {
            let Event::Record(revision, mut record) = event? else { return Ok(Change::CaughtUp) };
            if let Some(value) = record.value.as_mut().filter(|_| keys_only) {
                value.bytes = Bytes::new();
            }
            Ok(change(parse(keys, &record.name)?, revision, record))
        });
        changes.boxed()
    }
}

fn decode(keys: KeyEncoding, text: &str) -> std::borrow::Cow<'_, str> {
    match keys {
        KeyEncoding::Escaped => codec::decode(text),
        KeyEncoding::Raw => text.into(),
    }
}

fn parse(keys: KeyEncoding, text: &str) -> Result<Key> {
    Key::parse(decode(keys, text))
}

fn entry(key: Key, revision: Revision, record: Record<Value>) -> Option<Entry> {
    let value = record.value?;
    let mut entry = Entry::new(key, value.bytes, revision, record.at);
    entry.expires = record.expires;
    entry.headers = value.headers;
    Some(entry)
}

fn change(key: Key, revision: Revision, record: Record<Value>) -> Change {
    let at = record.at;
    match entry(key.clone(), revision, record) {
        Some(entry) => Change::Put(entry),
        None => Change::Delete { key, revision, at },
    }
}

fn expiry(now: SystemTime, ttl: Duration) -> Result<SystemTime> {
    now.checked_add(ttl).filter(|_| !ttl.is_zero()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "kv.put")
            .because("a TTL is longer than nothing and ends within the calendar")
            .with("ttl_ms", ttl.as_millis())
    })
}
