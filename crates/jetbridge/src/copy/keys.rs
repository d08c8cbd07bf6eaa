//! Buckets of keys: values with their headers, the rest of their time to live, and their history
//! where the bucket keeps one.
//!
//! Of two different values the younger write counts: a source that is still used wins over what was
//! copied before, an application that already uses the destination is never overwritten. Every write
//! is conditional, so that who comes in between is not overwritten either.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::ready;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{
    BucketInfo, Change, DeleteOpts, Entry, ErrorKind, Expect, Key, Kv, Open, PutOpts, Read, Result,
    Revision, Scope, Watch,
};

use super::age::{Clocks, Write, fields, marked};
use super::report::{CopyReport, Settled, Step, Tally};
use super::{PASSES_MAX, Stores, into, out_of};

/// Keys that are looked at in one read of the destination.
const BATCH_KEYS: usize = 512;
/// Bytes of the values of one batch, beyond which it is settled with fewer keys.
const BATCH_BYTES: usize = 4 << 20;
/// Batches under way, so that reading, asking and writing overlap.
const BATCHES: usize = 3;
/// Writes of one batch that are under way at once.
const WRITES: usize = 256;

pub(super) async fn copy(
    stores: &Stores,
    info: &BucketInfo,
    seen: &(dyn Fn(Step) + Send + Sync),
) -> Result<CopyReport> {
    let mut report = CopyReport::default();
    let mut is_empty = stores.ensure_bucket(info, &mut report).await?;
    let keys = Keys {
        stores,
        source: stores.from.kv(&info.name, Open::existing()).await.map_err(out_of)?,
        target: stores.to.kv(&info.name, Open::existing()).await.map_err(into)?,
        has_history: info.spec.history > 1,
        seen,
    };
    let was_empty = is_empty;
    for pass in 0..PASSES_MAX {
        let is_first = pass == 0;
        let mut tally = keys.pass(is_empty, is_first).await?;
        if is_first && !was_empty {
            keys.deletions(&mut tally, &mut report).await?;
        }
        report.add(tally);
        if report.verified {
            break;
        }
        is_empty = false;
    }
    Ok(report)
}

struct Keys<'a> {
    stores: &'a Stores,
    source: Arc<dyn Kv>,
    target: Arc<dyn Kv>,
    has_history: bool,
    seen: &'a (dyn Fn(Step) + Send + Sync),
}

/// The last change of a key in the source.
enum Wanted {
    Deleted { key: Key, at: SystemTime },
    Value(Entry),
}

impl Wanted {
    fn key(&self) -> &Key {
        match self {
            Self::Deleted { key, .. } => key,
            Self::Value(entry) => &entry.key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Deleted { .. } => 0,
            Self::Value(entry) => entry.value.len(),
        }
    }
}

impl Keys<'_> {
    /// Looks at every key of the source once. Nothing is asked of a destination that is empty.
    async fn pass(&self, is_empty: bool, is_first: bool) -> Result<Tally> {
        let changes = self.source.watch(Watch::current(Scope::All)).map_err(out_of);
        let wanted = changes
            .try_take_while(|change| ready(Ok(*change != Change::CaughtUp)))
            .try_filter_map(|change| {
                ready(Ok(match change {
                    Change::Put(entry) => Some(Wanted::Value(entry)),
                    Change::Delete { key, at, .. } => Some(Wanted::Deleted { key, at }),
                    Change::CaughtUp => None,
                }))
            });
        batches(wanted)
            .map_ok(|batch| self.settle(batch, is_empty, is_first))
            .try_buffer_unordered(BATCHES)
            .try_fold(Tally::default(), |mut tally, settled| {
                settled.into_iter().for_each(|one| tally.count(one));
                ready(Ok(tally))
            })
            .await
    }

    /// Looks at what only the destination has: a store need not tell in a watch what was deleted
    /// before, but it knows when it is asked for that key.
    async fn deletions(&self, tally: &mut Tally, report: &mut CopyReport) -> Result<()> {
        let mut keys = self.target.keys(Scope::All).map_err(into).try_chunks(BATCH_KEYS);
        let mut only_there = 0_u64;
        while let Some(batch) = keys.try_next().await.map_err(|cut| cut.1)? {
            let clocks = Clocks::of(self.stores).await?;
            let snapshot = self.source.get_many(&batch, Read::Fresh).await.map_err(out_of)?;
            for (key, entry) in batch.iter().zip(snapshot.entries) {
                if entry.is_some() {
                    continue;
                }
                match self.deletion(key, clocks).await? {
                    Some(settled) => tally.count(settled),
                    None => only_there += 1,
                }
            }
        }
        if only_there > 0 {
            report.remark(format!("{only_there} keys are only in the destination; they were left"));
        }
        Ok(())
    }

    /// Deletes what the source says was deleted after it had been written here.
    async fn deletion(&self, key: &Key, clocks: Clocks) -> Result<Option<Settled>> {
        let history = self.source.history(key).await.map_err(out_of)?;
        let Some(Change::Delete { at, .. }) = history.last() else { return Ok(None) };
        let there = self.target.get(key, Read::Fresh).await.map_err(into)?;
        match self.delete(key, *at, there, clocks).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(Some(Settled::Moved)),
            settled => settled.map(Some),
        }
    }

    async fn settle(
        &self,
        batch: Vec<Wanted>,
        is_empty: bool,
        is_first: bool,
    ) -> Result<Vec<Settled>> {
        let mut present: HashMap<Key, Entry> = HashMap::new();
        if !is_empty {
            let keys: Vec<Key> = batch.iter().map(|wanted| wanted.key().clone()).collect();
            let snapshot = self.target.get_many(&keys, Read::Fresh).await.map_err(into)?;
            let entries = snapshot.entries.into_iter().flatten();
            present.extend(entries.map(|entry| (entry.key.clone(), entry)));
        }
        let clocks = Clocks::of(self.stores).await?;
        let present = &present;
        stream::iter(batch)
            .map(|wanted| async move {
                let bytes = wanted.bytes();
                let there = present.get(wanted.key()).cloned();
                let settled = self.one(wanted, there, clocks).await?;
                if is_first {
                    (self.seen)(Step::one(bytes));
                }
                Ok(settled)
            })
            .buffer_unordered(WRITES)
            .try_collect()
            .await
    }

    /// Brings one key up to date. Whoever writes it in between is looked at in the next pass.
    async fn one(&self, wanted: Wanted, there: Option<Entry>, clocks: Clocks) -> Result<Settled> {
        let settled = match wanted {
            Wanted::Deleted { key, at } => self.delete(&key, at, there, clocks).await,
            Wanted::Value(entry) => self.value(entry, there, clocks).await,
        };
        match settled {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(Settled::Moved),
            settled => settled,
        }
    }

    async fn delete(
        &self,
        key: &Key,
        at: SystemTime,
        there: Option<Entry>,
        clocks: Clocks,
    ) -> Result<Settled> {
        let Some(there) = there else { return Ok(Settled::Nothing) };
        if clocks.is_kept(write(&there), Write::deletion(at)) {
            return Ok(Settled::Kept(key.to_string()));
        }
        let opts = DeleteOpts::exactly(there.revision);
        let deleted = self.target.delete(key, opts).await.map_err(into)?;
        Ok(if deleted.is_some() { Settled::Copied(0) } else { Settled::Nothing })
    }

    async fn value(&self, entry: Entry, there: Option<Entry>, clocks: Clocks) -> Result<Settled> {
        if there.as_ref().is_some_and(|there| is_same(&entry, there)) {
            return Ok(Settled::Unchanged);
        }
        if self.has_history {
            return self.history(&entry.key, there, clocks).await;
        }
        let expect = match there {
            Some(there) if clocks.is_kept(write(&there), write(&entry)) => {
                return Ok(Settled::Kept(entry.key.to_string()));
            }
            Some(there) => Expect::Exactly(there.revision),
            None => Expect::Absent,
        };
        let bytes = entry.value.len() as u64;
        Ok(match self.put(entry, expect, clocks.from).await? {
            Some(_revision) => Settled::Copied(bytes),
            None => Settled::Nothing,
        })
    }

    /// Writes what the source still has of a key, oldest first. What was cut short goes on behind
    /// the version that the destination has.
    async fn history(&self, key: &Key, there: Option<Entry>, clocks: Clocks) -> Result<Settled> {
        let versions = self.source.history(key).await.map_err(out_of)?;
        let is_there = |version: &Change| match (version, &there) {
            (Change::Put(entry), Some(there)) => is_same(entry, there),
            _ => false,
        };
        let done = versions.iter().rposition(is_there).map(|at| at + 1);
        let newest = versions.iter().rev().find_map(|version| match version {
            Change::Put(entry) => Some(write(entry)),
            Change::Delete { at, .. } => Some(Write::deletion(*at)),
            Change::CaughtUp => None,
        });
        let is_newer =
            |there: &Entry| newest.is_none_or(|newest| clocks.is_kept(write(there), newest));
        if done.is_none() && there.as_ref().is_some_and(is_newer) {
            return Ok(Settled::Kept(key.to_string()));
        }
        let mut expect = there.map_or(Expect::Absent, |there| Expect::Exactly(there.revision));
        let mut bytes = 0;
        for version in versions.into_iter().skip(done.unwrap_or_default()) {
            match (version, expect) {
                (Change::Put(entry), _) => {
                    let size = entry.value.len() as u64;
                    if let Some(revision) = self.put(entry, expect, clocks.from).await? {
                        bytes += size;
                        expect = Expect::Exactly(revision);
                    }
                }
                (Change::Delete { .. }, Expect::Exactly(revision)) => {
                    let opts = DeleteOpts::exactly(revision);
                    self.target.delete(key, opts).await.map_err(into)?;
                    expect = Expect::Absent;
                }
                _ => {}
            }
        }
        Ok(Settled::Copied(bytes))
    }

    /// Writes one version, unless its time is over.
    async fn put(&self, entry: Entry, expect: Expect, now: SystemTime) -> Result<Option<Revision>> {
        let headers = marked(&entry.headers, entry.revision)?;
        let mut opts = PutOpts::new().expect(expect).headers(headers);
        match entry.ttl(now) {
            Some(left) if left.is_zero() => return Ok(None),
            Some(left) => opts = opts.ttl(left),
            None => {}
        }
        let written = self.target.put(&entry.key, entry.value, opts).await.map_err(into)?;
        Ok(Some(written.revision))
    }
}

fn write(entry: &Entry) -> Write {
    Write::new(entry.written, &entry.headers)
}

/// Equal but for what no copy can carry over: revisions, times, and when exactly it expires.
fn is_same(source: &Entry, target: &Entry) -> bool {
    source.value == target.value
        && fields(&source.headers) == fields(&target.headers)
        && source.expires.is_some() == target.expires.is_some()
}

/// Gathers changes into batches of a bounded number and size.
fn batches(
    wanted: impl futures_util::Stream<Item = Result<Wanted>> + Send,
) -> impl futures_util::Stream<Item = Result<Vec<Wanted>>> + Send {
    let state = (Box::pin(wanted), false);
    stream::try_unfold(state, async |(mut wanted, ended)| {
        if ended {
            return Ok(None);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_KEYS && bytes < BATCH_BYTES {
            let Some(one) = wanted.try_next().await? else {
                return Ok((!batch.is_empty()).then_some((batch, (wanted, true))));
            };
            bytes += one.bytes();
            batch.push(one);
        }
        Ok(Some((batch, (wanted, false))))
    })
}
