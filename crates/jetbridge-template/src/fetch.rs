//! Reading stores: the only part that waits.
//!
//! An evaluation asks for what it needs; everything that is asked for at once is read at once,
//! the keys of a bucket in one snapshot. Whoever calls makes the connections; here they are told
//! apart by what names them, and kept for one rendering.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::future::{join, join_all};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend, BucketKind, BucketName, Error, ErrorKind, Key, Kv, Link, ObjectInfo, ObjectName,
    Objects, Open, Read, Result,
};

use crate::stamp::Stamp;
use crate::tree::{At, Step};
use crate::wording::{chain, unopened};

/// Bytes of an object at most: it becomes one value of a document.
pub const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// Bytes of all objects of one rendering at most: they are in memory at the same time.
const OBJECTS_BYTES_MAX: u64 = 256 << 20;

/// Objects of a bucket that are read at once.
const OBJECTS_AT_ONCE: usize = 8;

/// Times that the keys of a bucket are read again because one moved in between.
const SNAPSHOT_READS_MAX: usize = 5;

/// Where `(( nats … ))` reads: made by the caller, which knows how to connect.
#[async_trait]
pub trait Sources: Send + Sync {
    /// The store that `server` names. Asked once per server and rendering. An error whose kind
    /// is [`Unavailable`](ErrorKind::Unavailable) is an outage.
    async fn open(&self, server: &Server) -> Result<Arc<dyn Backend>>;

    /// True if values of `bucket` must not be shown.
    fn is_secret(&self, bucket: &str) -> bool {
        let _unnamed = bucket;
        false
    }

    /// True if there may be a bucket for which [`is_secret`](Self::is_secret) is true. Then what
    /// a present file holds may be a secret too, and previews do not show it.
    fn has_secrets(&self) -> bool {
        true
    }
}

/// No stores: every `(( nats … ))` fails, saying so.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoSources;

#[async_trait]
impl Sources for NoSources {
    async fn open(&self, _server: &Server) -> Result<Arc<dyn Backend>> {
        Err(Error::new(ErrorKind::Unavailable, "template.open").because("there is no store"))
    }

    fn has_secrets(&self) -> bool {
        false
    }
}

/// What a call names as its server. Two that are equal share one connection.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Server {
    /// Nothing: the caller's own store.
    Default,
    /// `@target`: by name.
    Target(String),
    /// A URL alone or a map of settings, `url` among them; values are text.
    Settings(BTreeMap<String, String>),
}

impl Server {
    pub(crate) fn url(url: &str) -> Self {
        Self::Settings(BTreeMap::from([("url".to_owned(), url.to_owned())]))
    }

    pub(crate) fn settings(settings: BTreeMap<String, String>) -> Self {
        Self::Settings(settings)
    }
}

/// The URL without its credentials; no other setting.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default store"),
            Self::Target(name) => write!(f, "@{name}"),
            Self::Settings(settings) => match settings.get("url") {
                Some(url) => f.write_str(&without_credentials(url)),
                None => f.write_str("the default server"),
            },
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

/// The schemes of servers: what else stands before `://` may be a piece of a login.
const SCHEMES: [&str; 4] = ["nats", "tls", "ws", "wss"];

/// A login may hold commas and schemes, so that a list of URLs cannot be taken apart for certain:
/// of one with logins, what stands behind the last of them is shown.
fn without_credentials(urls: &str) -> String {
    let Some((_hidden, shown)) = urls.rsplit_once('@') else { return urls.to_owned() };
    match urls.split_once("://") {
        Some((scheme, _)) if SCHEMES.contains(&scheme) => format!("{scheme}://{shown}"),
        _ => shown.to_owned(),
    }
}

/// Keys or objects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Kv,
    Object,
}

impl Kind {
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Kv => "key",
            Self::Object => "object",
        }
    }
}

impl From<Kind> for BucketKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Kv => Self::Kv,
            Kind::Object => Self::Object,
        }
    }
}

/// One value that an evaluation wants.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Request {
    pub(crate) server: Server,
    pub(crate) kind: Kind,
    pub(crate) bucket: String,
    pub(crate) name: String,
}

/// A value as a store has it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
    pub(crate) revision: u64,
    pub(crate) written: SystemTime,
    pub(crate) secret: bool,
}

impl Found {
    /// What is said of a value that is no tree: what is wrong with it quotes it.
    pub(crate) fn unreadable(&self, why: String) -> String {
        if self.secret { "the value is not valid YAML".to_owned() } else { why }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Found(Found),
    /// The store answered that it is not there.
    Absent {
        message: String,
        /// The message says all that can be found out.
        explained: bool,
    },
    /// A permission, an absent bucket: no default hides it.
    Failed(String),
    /// As [`Answer::Failed`], for want of a store that answers.
    Outage(String),
}

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    answers: HashMap<Request, Answer>,
}

impl Fetched {
    pub(crate) fn get(&self, request: &Request) -> Option<&Answer> {
        self.answers.get(request)
    }

    /// True if one of `errors` is about a key that is not there, and it is not known yet what
    /// became of it.
    pub(crate) fn has_unexplained(&self, errors: &[(Vec<Step>, At, String)]) -> bool {
        let told: HashSet<&str> = errors.iter().map(|(.., error)| error.as_str()).collect();
        self.answers.values().any(|answer| match answer {
            Answer::Absent { message, explained: false } => told.contains(message.as_str()),
            _ => false,
        })
    }

    /// Forgets what `keep` does not hold for.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Request, &Answer) -> bool) {
        self.answers.retain(|request, answer| keep(request, answer));
    }

    /// True if a store did not answer.
    pub(crate) fn has_outage(&self) -> bool {
        self.answers.values().any(|answer| matches!(answer, Answer::Outage(_)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Request, &Answer)> {
        self.answers.iter()
    }
}

/// The connections of one rendering, and what was read through them.
pub(crate) struct Fetcher<'a> {
    sources: &'a dyn Sources,
    stores: HashMap<Server, std::result::Result<Arc<dyn Backend>, Answer>>,
    pub(crate) fetched: Fetched,
    /// What the last evaluation read of it.
    pub(crate) used: BTreeSet<Request>,
    /// The local files that operators asked for, there or not.
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// Whoever could tell has been asked, for this document, what became of what is not there.
    pub(crate) has_explained: bool,
    /// Bytes that the objects of this rendering may still have.
    objects_left: AtomicU64,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(sources: &'a dyn Sources) -> Self {
        Self::resume(sources, Fetched::default())
    }

    /// Goes on from what an earlier rendering read.
    pub(crate) fn resume(sources: &'a dyn Sources, fetched: Fetched) -> Self {
        Self {
            sources,
            stores: HashMap::new(),
            fetched,
            used: BTreeSet::new(),
            files: BTreeMap::new(),
            has_explained: false,
            objects_left: AtomicU64::new(OBJECTS_BYTES_MAX),
        }
    }

    /// Reads `requests`, with what was read of the same buckets before; true if something that
    /// an evaluation has already used is no longer so.
    pub(crate) async fn fetch(&mut self, requests: BTreeSet<Request>) -> bool {
        let mut buckets: BTreeMap<(Server, Kind, String), BTreeSet<String>> = BTreeMap::new();
        for request in &requests {
            let bucket = (request.server.clone(), request.kind, request.bucket.clone());
            buckets.entry(bucket).or_default().insert(request.name.clone());
        }
        for known in self.fetched.answers.keys() {
            let bucket = (known.server.clone(), known.kind, known.bucket.clone());
            if known.kind == Kind::Kv
                && let Some(names) = buckets.get_mut(&bucket)
            {
                names.insert(known.name.clone());
            }
        }
        self.open(buckets.keys().map(|(server, ..)| server.clone()).collect()).await;
        let reads = buckets.into_iter().map(|((server, kind, bucket), names)| {
            let store = self.stores.get(&server).cloned();
            let left = &self.objects_left;
            let secret = self.sources.is_secret(&bucket);
            async move {
                let names: Vec<String> = names.into_iter().collect();
                let answers = match store {
                    Some(Ok(store)) => read_bucket(&*store, (kind, &bucket), &names, left).await,
                    Some(Err(why)) => vec![why; names.len()],
                    None => Vec::new(),
                };
                let request = move |name: String| Request {
                    server: server.clone(),
                    kind,
                    bucket: bucket.clone(),
                    name,
                };
                let answers = answers.into_iter().map(|answer| match answer {
                    Answer::Found(found) => Answer::Found(Found { secret, ..found }),
                    other => other,
                });
                names.into_iter().map(request).zip(answers).collect::<Vec<_>>()
            }
        });
        let read: Vec<_> = join_all(reads).await.into_iter().flatten().collect();
        let mut moved = false;
        for (request, answer) in read {
            let revision = |answer: &Answer| match answer {
                Answer::Found(found) => Some(found.revision),
                _ => None,
            };
            let old = self.fetched.answers.get(&request).map(revision);
            moved |= old.is_some_and(|old| old != revision(&answer));
            self.fetched.answers.insert(request, answer);
        }
        moved
    }

    /// Finds out what became of the keys that are not there. It takes a question for each, so it
    /// is asked only when somebody will read the answer.
    pub(crate) async fn explain_absences(&mut self) {
        let absent = |(request, answer): (&Request, &Answer)| match answer {
            Answer::Absent { explained: false, .. } => Some(request.clone()),
            _ => None,
        };
        let absent: Vec<Request> = self.fetched.answers.iter().filter_map(absent).collect();
        // A rendering that goes on from an earlier one has not opened any store yet.
        self.open(absent.iter().map(|request| request.server.clone()).collect()).await;
        self.has_explained = true;
        let stores = &self.stores;
        let messages = join_all(absent.iter().map(|request| async move {
            let store = stores.get(&request.server)?.as_ref().ok()?;
            let bucket = BucketName::parse(&request.bucket).ok()?;
            let kv = store.kv(&bucket, Open::existing()).await.ok()?;
            Some(absent_key(request, &why_absent(&*kv, &Key::parse(&request.name).ok()?).await))
        }));
        for (request, message) in absent.iter().zip(messages.await) {
            if let Some(message) = message
                && let Some(answer) = self.fetched.answers.get_mut(request)
            {
                *answer = Answer::Absent { message, explained: true };
            }
        }
    }

    async fn open(&mut self, servers: BTreeSet<Server>) {
        let new: Vec<_> =
            servers.into_iter().filter(|server| !self.stores.contains_key(server)).collect();
        let sources = self.sources;
        let opened = join_all(new.iter().map(|server| sources.open(server))).await;
        for (server, store) in new.into_iter().zip(opened) {
            let store = store.map_err(|error| failed(&error, unopened(&server, &error)));
            self.stores.insert(server, store);
        }
    }
}

fn failed(error: &Error, message: String) -> Answer {
    match error.kind() {
        ErrorKind::Unavailable => Answer::Outage(message),
        _ => Answer::Failed(message),
    }
}

async fn read_bucket(
    store: &dyn Backend,
    (kind, bucket): (Kind, &str),
    names: &[String],
    objects_left: &AtomicU64,
) -> Vec<Answer> {
    let label = match kind {
        Kind::Kv => "failed to access KV store",
        Kind::Object => "failed to access Object store",
    };
    let failed = |error: &Error| {
        vec![failed(error, format!("{label} '{bucket}': {}", chain(error))); names.len()]
    };
    let name = match BucketName::parse(bucket) {
        Ok(name) => name,
        Err(error) => return failed(&error),
    };
    match kind {
        Kind::Kv => match store.kv(&name, Open::existing()).await {
            Ok(kv) => read_keys(&*kv, names).await,
            Err(error) => failed(&error),
        },
        Kind::Object => match store.objects(&name, Open::existing()).await {
            Ok(objects) => {
                let objects = &*objects;
                let reads: Vec<_> = names
                    .iter()
                    .map(|name| read_object(objects, name, objects_left).boxed())
                    .collect();
                futures_util::stream::iter(reads).buffered(OBJECTS_AT_ONCE).collect().await
            }
            Err(error) => failed(&error),
        },
    }
}

/// All keys as of one state of the bucket: where the store cannot promise that, they are read
/// until nothing moved between two readings.
async fn read_keys(kv: &dyn Kv, names: &[String]) -> Vec<Answer> {
    let parsed: Vec<Result<Key>> = names.iter().map(Key::parse).collect();
    let keys: Vec<Key> = parsed.iter().flatten().cloned().collect();
    let entries = match snapshot(kv, &keys).await {
        Ok(entries) => entries,
        Err(error) => {
            let bucket = kv.bucket();
            let why = chain(&error);
            return names
                .iter()
                .map(|name| {
                    failed(
                        &error,
                        format!("failed to get key '{name}' from store '{bucket}': {why}"),
                    )
                })
                .collect();
        }
    };
    let mut entries = entries.into_iter();
    let mut answers = Vec::with_capacity(names.len());
    for (name, key) in names.iter().zip(parsed) {
        let begin = format!("failed to get key '{name}' from store '{}'", kv.bucket());
        answers.push(match key {
            Err(error) => Answer::Failed(format!("{begin}: {}", chain(&error))),
            Ok(_) => match entries.next().flatten() {
                Some(entry) => Answer::Found(Found {
                    bytes: entry.value.to_vec(),
                    content_type: None,
                    revision: entry.revision.0,
                    written: entry.written,
                    secret: false,
                }),
                None => {
                    Answer::Absent { message: format!("{begin}: {NOT_FOUND}"), explained: false }
                }
            },
        });
    }
    answers
}

async fn snapshot(kv: &dyn Kv, keys: &[Key]) -> Result<Vec<Option<jetbridge_core::Entry>>> {
    let mut last = kv.get_many(keys, Read::Fresh).await?;
    if last.revision.is_some() || keys.len() < 2 {
        return Ok(last.entries);
    }
    for _ in 0..SNAPSHOT_READS_MAX {
        let next = kv.get_many(keys, Read::Fresh).await?;
        let revisions = |entries: &[Option<jetbridge_core::Entry>]| -> Vec<_> {
            entries.iter().map(|entry| entry.as_ref().map(|entry| entry.revision)).collect()
        };
        if revisions(&next.entries) == revisions(&last.entries) {
            return Ok(next.entries);
        }
        last = next;
    }
    Err(Error::new(ErrorKind::Conflict, "template.snapshot")
        .because("the bucket is written to faster than it can be read"))
}

/// Not found, or deleted: with revision and time, where the history tells.
async fn why_absent(kv: &dyn Kv, key: &Key) -> String {
    match kv.history(key).await.ok().and_then(|mut changes| changes.pop()) {
        Some(jetbridge_core::Change::Delete { revision, at, .. }) => {
            format!("key was deleted at revision {revision}, {}", time_text(at))
        }
        _ => NOT_FOUND.to_owned(),
    }
}

fn time_text(at: SystemTime) -> String {
    /// The first second that RFC 3339 cannot write: of the year 10000.
    const SECONDS_END: u64 = 253_402_300_800;
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since.as_secs() < SECONDS_END => {
            humantime::format_rfc3339_seconds(at).to_string()
        }
        _ => "at a time that no calendar has".to_owned(),
    }
}

/// What is said of a key that was never there, or of which no trace is left.
const NOT_FOUND: &str = "key not found";

fn absent_key(request: &Request, why: &str) -> String {
    format!("failed to get key '{}' from store '{}': {why}", request.name, request.bucket)
}

async fn read_object(objects: &dyn Objects, name: &str, left: &AtomicU64) -> Answer {
    let begin = format!("failed to get object '{name}' from bucket '{}'", objects.bucket());
    let failed = |error: &Error| failed(error, format!("{begin}: {}", chain(error)));
    let name = match ObjectName::parse(name) {
        Ok(name) => name,
        Err(error) => return failed(&error),
    };
    let (info, object) = join(objects.info(&name), objects.get(&name, None)).await;
    match info {
        Ok(Some(ObjectInfo { link: Some(link), .. })) => {
            return Answer::Failed(format!("{begin}: {}", refused(&link)));
        }
        Ok(_) => {}
        // Whether it is a link to something secret is not known then.
        Err(error) => return failed(&error),
    }
    let object = match object {
        Ok(Some(object)) => object,
        Ok(None) => {
            return Answer::Absent {
                message: format!("{begin}: object not found"),
                explained: true,
            };
        }
        Err(error) => return failed(&error),
    };
    if object.info.size > OBJECT_BYTES_MAX {
        let (size, limit) = (object.info.size, OBJECT_BYTES_MAX);
        return Answer::Failed(format!(
            "{begin}: it has {size} bytes, more than the {limit} that one value may have"
        ));
    }
    let size = object.info.size;
    let take = |left: u64| left.checked_sub(size);
    if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
        return Answer::Failed(format!(
            "{begin}: with it the objects of one rendering have more than the {OBJECTS_BYTES_MAX} \
             bytes that they may have"
        ));
    }
    match object.body.try_collect::<Vec<_>>().await {
        Ok(parts) => Answer::Found(Found {
            bytes: parts.concat(),
            content_type: content_type(&object.info.headers),
            revision: object.info.revision.0,
            written: object.info.modified,
            secret: false,
        }),
        Err(error) => failed(&error),
    }
}

/// A link is not followed: changes of its target are not heard of, and whether that is a secret
/// says another bucket.
fn refused(link: &Link) -> String {
    match &link.name {
        Some(name) => format!("it is a link: name what it leads to, obj:{}/{name}", link.bucket),
        None => format!("it is a link to the bucket '{}'", link.bucket),
    }
}

fn content_type(headers: &jetbridge_core::Headers) -> Option<String> {
    let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    found.map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_login_of_a_server_is_shown() {
        for (urls, shown) in [
            ("nats://u:p@h:1", "nats://h:1"),
            ("nats://u:p,w@h", "nats://h"),
            ("nats://u:p://x@h", "nats://h"),
            ("nats://u:p://x,y://z@h", "nats://h"),
            ("nats://u:p,nats://x@h", "nats://h"),
            ("nats://u:p@w,tls://x@h", "nats://h"),
            ("nats://u:p,w@h,nats://u:p,w@i", "nats://i"),
            ("nats://h1,nats://h2", "nats://h1,nats://h2"),
            ("u:p@h1,u:p@h2", "h2"),
            ("u:p://x@h", "h"),
            ("p://x@h", "h"),
            ("h1:4222,h2", "h1:4222,h2"),
            ("tls://t,o@ken@h", "tls://h"),
        ] {
            assert_eq!(Server::url(urls).to_string(), shown);
        }
    }
}
