//! Watching keys: what the stream delivers, with expiry told in time.
//!
//! A value that expires is told as deleted when its time has come, whether or not the server
//! removes it, and the marker or tombstone that follows is not told again.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use futures_core::stream::BoxStream;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use jetbridge_core::{Change, Error, Key, Result, Revision, Start, Watch};

use super::NatsKv;
use super::scan::{Filtered, Scan, Scanned};
use crate::facts::Facts;
use crate::reader::{Begin, Follow};
use crate::record::{Record, has_passed};

/// Values that a watch waits for to expire; of more than these the server has to tell.
const DUE_MAX: usize = 65_536;
/// Keys told as expired whose tombstone has not come yet.
const TOLD_MAX: usize = 65_536;
/// Longest wait between two looks at the estimate of the store's time, which may be corrected.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Shortest wait: an estimate that is still uncertain is looked at again, not span on.
const LOOK_SOONEST: Duration = Duration::from_millis(1);

impl NatsKv {
    pub(super) fn changes(&self, watch: Watch) -> BoxStream<'static, Result<Change>> {
        let kv = self.clone();
        let opened = stream::once(async move {
            let call = kv.bucket.api.link().repeatable("kv.watch");
            let facts = kv.bucket.facts(&call).await?;
            let (from, skip_to) = begin(watch.start, &facts);
            let scan = Scan {
                operation: "kv.watch",
                scope: watch.scope,
                from,
                headers_only: watch.keys_only,
                follow: Follow::Yes,
                window: None,
                filtered: Filtered::Yes,
            };
            let (facts, scanned) = kv.scan(scan, &call).await?;
            let watching = Watching {
                kv,
                facts,
                scanned,
                skip_to,
                shows_expired: watch.start == Start::History,
                due: HashMap::new(),
                order: BTreeSet::new(),
                told: HashMap::new(),
            };
            Ok::<_, Error>(stream::try_unfold(watching, |mut watching| async {
                Ok(watching.next().await?.map(|change| (change, watching)))
            }))
        });
        opened.try_flatten().boxed()
    }
}

/// Where the reader begins, and up to which revision what it delivers first is left out.
fn begin(start: Start, facts: &Facts) -> (Begin, Revision) {
    match start {
        Start::Current => (Begin::LastPerSubject, Revision(0)),
        Start::History => (Begin::After(0), Revision(0)),
        Start::Now => (Begin::Now, Revision(0)),
        // Where older values are kept, only the last of each key counts.
        Start::After(revision) if facts.keeps_history() => (Begin::LastPerSubject, revision),
        Start::After(revision) => (Begin::After(revision.0), Revision(0)),
    }
}

/// One watch.
struct Watching {
    kv: NatsKv,
    facts: std::sync::Arc<Facts>,
    scanned: BoxStream<'static, Result<Scanned>>,
    skip_to: Revision,
    /// Whether values that have expired already are delivered as values first.
    shows_expired: bool,
    due: HashMap<Key, (Revision, SystemTime)>,
    order: BTreeSet<(SystemTime, Revision, Key)>,
    /// Keys told as deleted because they expired.
    told: HashMap<Key, Revision>,
}

impl Watching {
    async fn next(&mut self) -> Result<Option<Change>> {
        loop {
            let wait = self.until_due();
            let scanned = tokio::select! {
                biased;
                scanned = self.scanned.next() => scanned,
                () = sleep(wait) => {
                    if let Some(change) = self.expire() {
                        return Ok(Some(change));
                    }
                    continue;
                }
            };
            let change = match scanned {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(Scanned::CaughtUp)) => {
                    self.skip_to = Revision(0);
                    Some(Change::CaughtUp)
                }
                Some(Ok(Scanned::Record(record))) => self.tell(record),
            };
            if let Some(change) = change {
                return Ok(Some(change));
            }
        }
    }

    /// How long until the first value is due; `None` if none is.
    fn until_due(&self) -> Option<Duration> {
        let (due, _, _) = self.order.first()?;
        let now = self.kv.bucket.now();
        let left = due.duration_since(now.now).unwrap_or_default() + now.error;
        Some(left.clamp(LOOK_SOONEST, LOOK_AFTER))
    }

    fn tell(&mut self, record: Record) -> Option<Change> {
        if record.revision <= self.skip_to {
            return None;
        }
        self.kv.learn(&self.facts, &record);
        self.forget(&record.key);
        if record.value.is_none() {
            let told = self.told.remove(&record.key).is_some();
            return (!told).then(|| record.into_change());
        }
        self.told.remove(&record.key);
        let Some(due) = self.due(&record) else { return Some(record.into_change()) };
        if has_passed(due, self.kv.bucket.now()) && !self.shows_expired {
            return Some(self.expired(record.key, record.revision, due));
        }
        if self.due.len() < DUE_MAX {
            self.due.insert(record.key.clone(), (record.revision, due));
            self.order.insert((due, record.revision, record.key.clone()));
        }
        Some(record.into_change())
    }

    /// When a value goes. The bucket's age counts only where the server does not tell of it.
    fn due(&self, record: &Record) -> Option<SystemTime> {
        let max_age = self.facts.max_age.filter(|_| self.facts.marker_ttl.is_none());
        record.due(max_age)
    }

    fn forget(&mut self, key: &Key) {
        if let Some((revision, due)) = self.due.remove(key) {
            self.order.remove(&(due, revision, key.clone()));
        }
    }

    /// The next value that has expired by now.
    fn expire(&mut self) -> Option<Change> {
        let (due, _, _) = self.order.first()?;
        if !has_passed(*due, self.kv.bucket.now()) {
            return None;
        }
        let (due, revision, key) = self.order.pop_first()?;
        self.due.remove(&key);
        Some(self.expired(key, revision, due))
    }

    fn expired(&mut self, key: Key, revision: Revision, at: SystemTime) -> Change {
        if self.told.len() < TOLD_MAX {
            self.told.insert(key.clone(), revision);
        }
        self.kv.clean_up_later(&self.facts);
        Change::Delete { key, revision, at }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
