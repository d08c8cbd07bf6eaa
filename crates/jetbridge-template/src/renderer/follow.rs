//! Watches on the buckets that a rendering read: one for each bucket, on the names that matter.
//!
//! A watch says which revision each name has now. Whoever rendered compares that with what was
//! read, so that nothing is missed between reading and watching, nor after an outage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use jetbridge_core::{
    Backend, Backoff, BucketName, Change, ConnectionState, Error, ErrorKind, Key, ObjectChange,
    Open, Result, Scope, Start, Tasks, Watch,
};
use tokio::sync::watch;

use crate::fetch::{Answer, Fetched, Kind, Server, Sources};

/// A bucket of a server.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct BucketId {
    server: Server,
    kind: Kind,
    bucket: String,
}

/// What a watch has seen.
#[derive(Debug, Default)]
struct Seen {
    /// The revision of each name that is there.
    present: BTreeMap<String, u64>,
    /// Everything that is there has been told, and nothing is wrong.
    is_current: bool,
    /// Why nothing is heard.
    trouble: Option<String>,
}

/// One watch. Dropped, its task ends.
#[derive(Debug)]
struct Following {
    names: BTreeSet<String>,
    seen: Arc<Mutex<Seen>>,
    tasks: Tasks,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

impl Following {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watches of one renderer.
pub(super) struct Follower {
    sources: Arc<dyn Sources>,
    changes: watch::Sender<u64>,
    buckets: BTreeMap<BucketId, Following>,
}

impl Follower {
    /// Watches nothing yet; counts up `changes` for each change.
    pub(super) fn new(sources: Arc<dyn Sources>, changes: watch::Sender<u64>) -> Self {
        Self { sources, changes, buckets: BTreeMap::new() }
    }

    /// Watches exactly what was read for `fetched`. A watch on the same names goes on.
    pub(super) fn set(&mut self, fetched: &Fetched) {
        let mut wanted: BTreeMap<BucketId, BTreeSet<String>> = BTreeMap::new();
        for (request, _) in fetched.iter() {
            wanted.entry(id_of(request)).or_default().insert(request.name.clone());
        }
        self.buckets.retain(|id, following| wanted.get(id) == Some(&following.names));
        for (id, names) in wanted {
            if !self.buckets.contains_key(&id) {
                let following = self.follow(&id, names);
                self.buckets.insert(id, following);
            }
        }
    }

    fn follow(&self, id: &BucketId, names: BTreeSet<String>) -> Following {
        let (tasks, seen) = (Tasks::new(), Arc::default());
        let task = Task {
            sources: Arc::clone(&self.sources),
            id: id.clone(),
            names: names.clone(),
            seen: Arc::clone(&seen),
            changes: self.changes.clone(),
        };
        tasks.spawn_until_stop(task.run());
        Following { names, seen, tasks }
    }

    /// Takes out of `fetched` what may not be so any more. A bucket's keys go together, because
    /// they are of one state of it.
    pub(super) fn forget_changed(&self, fetched: &mut Fetched) {
        let mut changed: BTreeSet<BucketId> = BTreeSet::new();
        let mut old = BTreeSet::new();
        for (request, answer) in fetched.iter() {
            let id = id_of(request);
            if self.verdict(&id, &request.name, answer) != Verdict::Same {
                old.insert(request.clone());
                if request.kind == Kind::Kv {
                    changed.insert(id);
                }
            }
        }
        fetched.retain(|request, _| !old.contains(request) && !changed.contains(&id_of(request)));
    }

    /// True if a watch says otherwise than what was read, or hears where nothing could be read.
    pub(super) fn is_stale(&self, fetched: &Fetched) -> bool {
        fetched.iter().any(|(request, answer)| {
            self.verdict(&id_of(request), &request.name, answer) == Verdict::Changed
        })
    }

    fn verdict(&self, id: &BucketId, name: &str, answer: &Answer) -> Verdict {
        let Some(following) = self.buckets.get(id) else { return Verdict::Unknown };
        let seen = following.seen();
        let is_same = |read: Option<u64>| seen.present.get(name).copied() == read;
        match answer {
            _ if !seen.is_current => Verdict::Unknown,
            Answer::Found(found) if is_same(Some(found.revision)) => Verdict::Same,
            Answer::Absent { .. } if is_same(None) => Verdict::Same,
            _ => Verdict::Changed,
        }
    }

    /// What keeps changes from being heard, if anything does.
    pub(super) fn trouble(&self) -> Option<String> {
        self.buckets.values().find_map(|following| following.seen().trouble.clone())
    }

    /// Ends every watch.
    pub(super) async fn stop(&mut self, grace: std::time::Duration) -> usize {
        let buckets: Vec<Following> = std::mem::take(&mut self.buckets).into_values().collect();
        join_all(buckets.iter().map(|following| following.tasks.stop(grace))).await.iter().sum()
    }
}

fn id_of(request: &crate::fetch::Request) -> BucketId {
    BucketId { server: request.server.clone(), kind: request.kind, bucket: request.bucket.clone() }
}

/// What a watch says of something that was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// It is still so.
    Same,
    /// It is not.
    Changed,
    /// It has not been told, or nothing is heard.
    Unknown,
}

/// What one message of a watch means.
enum News {
    Put(String, u64),
    Gone(String),
    CaughtUp,
}

struct Task {
    sources: Arc<dyn Sources>,
    id: BucketId,
    names: BTreeSet<String>,
    seen: Arc<Mutex<Seen>>,
    changes: watch::Sender<u64>,
}

impl Task {
    async fn run(self) {
        let mut backoff = Backoff::outage();
        loop {
            let error = match self.sources.open(&self.id.server).await {
                Ok(store) => self.watch(&*store, &mut backoff).await,
                Err(error) => error,
            };
            self.tell(|seen| {
                seen.is_current = false;
                seen.trouble = Some(format!("{} of {}: {error}", self.id.bucket, self.id.server));
            });
            backoff.wait().await;
        }
    }

    /// Follows the bucket until something is wrong with that.
    async fn watch(&self, store: &dyn Backend, backoff: &mut Backoff) -> Error {
        let mut news = match self.news(store).await {
            Ok(news) => news,
            Err(error) => return error,
        };
        let mut connection = store.connection();
        let mut fresh = BTreeMap::new();
        let mut is_listed = false;
        loop {
            let next = tokio::select! {
                biased;
                Some(state) = connection.next() => {
                    self.connection(&state, is_listed);
                    continue;
                }
                next = news.next() => next,
            };
            match next {
                None => {
                    return Error::new(ErrorKind::Unavailable, "template.watch")
                        .because("the watch ended");
                }
                Some(Err(error)) => return error,
                Some(Ok(News::CaughtUp)) => {
                    is_listed = true;
                    *backoff = Backoff::outage();
                    let present = std::mem::take(&mut fresh);
                    self.tell(|seen| {
                        *seen = Seen { present, is_current: true, trouble: None };
                    });
                }
                Some(Ok(News::Put(name, revision))) if is_listed => {
                    self.tell(|seen| {
                        seen.present.insert(name, revision);
                    });
                }
                Some(Ok(News::Put(name, revision))) => {
                    fresh.insert(name, revision);
                }
                Some(Ok(News::Gone(name))) if is_listed => {
                    self.tell(|seen| {
                        seen.present.remove(&name);
                    });
                }
                Some(Ok(News::Gone(name))) => {
                    fresh.remove(&name);
                }
            }
        }
    }

    async fn news(&self, store: &dyn Backend) -> Result<BoxStream<'static, Result<News>>> {
        let bucket = BucketName::parse(&self.id.bucket)?;
        // Names that cannot be names have been told as errors; there is nothing to hear of them.
        let keys = self.names.iter().filter_map(|name| Key::parse(name).ok());
        match self.id.kind {
            Kind::Kv => {
                let kv = store.kv(&bucket, Open::existing()).await?;
                let watch = Watch::current(Scope::Many(keys.collect())).keys_only();
                Ok(kv.watch(watch).map(|change| Ok(of_key(change?))).boxed())
            }
            Kind::Object => {
                let objects = store.objects(&bucket, Open::existing()).await?;
                let names = self.names.clone();
                let ours = move |news: &Result<News>| match news {
                    Ok(News::Put(name, _) | News::Gone(name)) => names.contains(name),
                    Ok(News::CaughtUp) | Err(_) => true,
                };
                let changes = objects.watch(Scope::All, Start::Current);
                let changes = changes.map(|change| Ok(of_object(change?)));
                Ok(changes.filter(move |news| std::future::ready(ours(news))).boxed())
            }
        }
    }

    /// The watch outlives a lost connection, but hears nothing meanwhile.
    fn connection(&self, state: &ConnectionState, is_listed: bool) {
        let trouble = match state {
            ConnectionState::Connected => None,
            ConnectionState::Reconnecting { reason } => Some(reason.clone()),
            _ => Some("the connection is closed".to_owned()),
        };
        self.tell(|seen| {
            seen.is_current = is_listed && trouble.is_none();
            seen.trouble =
                trouble.map(|why| format!("{} of {}: {why}", self.id.bucket, self.id.server));
        });
    }

    fn tell(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|count| *count += 1);
    }
}

fn of_key(change: Change) -> News {
    match change {
        Change::Put(entry) => News::Put(entry.key.as_str().to_owned(), entry.revision.0),
        Change::Delete { key, .. } => News::Gone(key.as_str().to_owned()),
        Change::CaughtUp => News::CaughtUp,
    }
}

fn of_object(change: ObjectChange) -> News {
    match change {
        ObjectChange::Put(info) => News::Put(info.name.as_str().to_owned(), info.revision.0),
        ObjectChange::Delete { name, .. } => News::Gone(name.as_str().to_owned()),
        ObjectChange::CaughtUp => News::CaughtUp,
    }
}
