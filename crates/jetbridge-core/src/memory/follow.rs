//! Reading a bucket's changes, for watches of keys and of objects.
//!
//! What was there when the watch began is copied then, so that nothing of it can be missing when
//! the reader is told that it has caught up. From there on the journal itself is the queue: a
//! slow reader costs nothing and sees the last change of every name.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use super::Store;
use super::bucket::Bucket;
use super::journal::{Journal, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Revision, Start};

/// Which names a reader wants, by their stored text.
pub(super) type Filter = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What a reader is told.
pub(super) enum Event<V> {
    Record(Revision, Record<V>),
    CaughtUp,
}

struct Follow<V> {
    store: Arc<Store>,
    bucket: Arc<Bucket<V>>,
    wanted: Filter,
    backlog: VecDeque<(Revision, Record<V>)>,
    cursor: Revision,
    caught_up: bool,
    failed: bool,
}

/// The changes of `bucket` from `start` on.
pub(super) fn follow<V: Clone + Send + 'static>(
    store: &Arc<Store>,
    bucket: Result<Arc<Bucket<V>>>,
    wanted: Filter,
    start: Start,
) -> BoxStream<'static, Result<Event<V>>> {
    let begun = bucket.and_then(|bucket| {
        let now = store.time("watch.start")?;
        bucket.with("watch.start", now, |inner| {
            let mut backlog = backlog(&inner.journal, start);
            backlog.retain(|(_, record)| wanted(&record.name));
            Ok(Follow {
                store: Arc::clone(store),
                bucket: Arc::clone(&bucket),
                wanted,
                backlog,
                cursor: inner.journal.last(),
                caught_up: false,
                failed: false,
            })
        })
    });
    match begun {
        Ok(follow) => stream::unfold(follow, |mut follow| async move {
            let event = follow.next().await?;
            follow.failed = event.is_err();
            Some((event, follow))
        })
        .boxed(),
        Err(error) => stream::once(async { Err(error) }).boxed(),
    }
}

fn backlog<V: Clone>(journal: &Journal<V>, start: Start) -> VecDeque<(Revision, Record<V>)> {
    let own = |(revision, record): (Revision, &Record<V>)| (revision, record.clone());
    match start {
        Start::Current => journal.live_after(Revision(0)).map(own).collect(),
        Start::History => journal.after(Revision(0)).map(own).collect(),
        Start::Now => VecDeque::new(),
        Start::After(seen) => {
            journal.after(seen).filter(|(at, _)| journal.is_newest(at.0)).map(own).collect()
        }
    }
}

impl<V: Clone> Follow<V> {
    async fn next(&mut self) -> Option<Result<Event<V>>> {
        if self.failed {
            return None;
        }
        if let Some((revision, record)) = self.backlog.pop_front() {
            return Some(Ok(Event::Record(revision, record)));
        }
        if !self.caught_up {
            self.caught_up = true;
            return Some(Ok(Event::CaughtUp));
        }
        self.live().await.transpose()
    }

    /// Waits for the next wanted record.
    async fn live(&mut self) -> Result<Option<Event<V>>> {
        let (store, bucket) = (Arc::clone(&self.store), Arc::clone(&self.bucket));
        loop {
            // Taken before the look at the journal, so that no change in between is missed.
            let changed = bucket.changed.notified();
            let now = store.time("watch.next")?;
            let (found, due) = bucket.with("watch.next", now, |inner| {
                self.check_gap(inner.journal.forgotten())?;
                Ok((self.find(&inner.journal), inner.journal.next_due()))
            })?;
            if found.is_some() {
                return Ok(found);
            }
            store.wait(changed, due).await;
        }
    }

    fn find(&mut self, journal: &Journal<V>) -> Option<Event<V>> {
        let found = journal.after(self.cursor).find(|(_, record)| (self.wanted)(&record.name));
        self.cursor = found.as_ref().map_or(journal.last(), |(revision, _)| *revision);
        found.map(|(revision, record)| Event::Record(revision, record.clone()))
    }

    fn check_gap(&self, forgotten: Revision) -> Result<()> {
        if self.cursor >= forgotten {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "watch.next")
            .because("the reader fell behind so far that deletions were forgotten")
            .with("bucket", &self.bucket.name)
            .with("seen", self.cursor)
            .with("forgotten", forgotten)
            .hint("begin the watch anew with the present values"))
    }
}
