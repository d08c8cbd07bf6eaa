//! Keys, pages of keys, histories, and the purge of many.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_core::stream::BoxStream;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use jetbridge_core::{
    Change, Cursor, Digest, Error, ErrorKind, HISTORY_MAX, Key, Page, Result, Revision, Scope,
};

use super::NatsKv;
use super::scan::{Filtered, Scan, Scanned};
use crate::api::{Purge, Which};
use crate::facts::Facts;
use crate::reader::{Begin, Follow};
use crate::record::Record;
use crate::request::{Call, may_not_ask};

/// Records looked at again at once, to see whether they are still the last of their keys.
const LOOKS_MAX: usize = 128;
/// Keys purged at once.
const PURGES_MAX: usize = 16;

impl NatsKv {
    /// The live keys in `scope`.
    pub(super) fn live_keys(&self, scope: Scope) -> BoxStream<'static, Result<Key>> {
        let kv = self.clone();
        let records =
            stream::once(async move {
                let scan = listing("kv.keys", scope, Begin::LastPerSubject);
                let call = kv.bucket.api.link().repeatable("kv.keys");
                let (facts, scanned) = kv.scan(scan, &call).await?;
                Ok::<_, Error>(until_caught_up(scanned).try_filter_map(move |record| {
                    std::future::ready(Ok(kv.live_key(&facts, record)))
                }))
            });
        records.try_flatten().boxed()
    }

    /// The key of a live record; the others are taken note of.
    fn live_key(&self, facts: &Facts, record: Record) -> Option<Key> {
        self.learn(facts, &record);
        record.is_live(self.bucket.now(), facts.max_age).then_some(record.key)
    }

    pub(super) async fn live_page(
        &self,
        scope: Scope,
        after: Option<Cursor>,
        limit: usize,
        call: &Call,
    ) -> Result<Page> {
        if limit == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, call.operation)
                .because("a page holds at least one key"));
        }
        let after = after.map_or(Ok(0), |cursor| self.parse_cursor(&scope, &cursor, call))?;
        let denied = &self.bucket.unfiltered_denied;
        if scope == Scope::All && !denied.load(Ordering::Relaxed) {
            // A server looks through all keys to say how many a filter lets through, even if that
            // is all of them, and does so for every page.
            match self.page_behind(&scope, (after, limit), Filtered::No, call).await {
                Err(error) if may_not_ask(&error) => denied.store(true, Ordering::Relaxed),
                page => return page,
            }
        }
        self.page_behind(&scope, (after, limit), Filtered::Yes, call).await
    }

    async fn page_behind(
        &self,
        scope: &Scope,
        (after, limit): (u64, usize),
        filtered: Filtered,
        call: &Call,
    ) -> Result<Page> {
        // One more than asked for tells whether there is more.
        let window = u32::try_from(limit.saturating_add(1)).ok();
        let listing = listing(call.operation, scope.clone(), Begin::After(after));
        let scan = Scan { window, filtered, ..listing };
        let (facts, scanned) = self.scan(scan, call).await?;
        let mut records = until_caught_up(scanned);
        let mut found: Vec<(Key, u64)> = Vec::new();
        while found.len() <= limit {
            let wanted = limit + 1 - found.len();
            let candidates = self.candidates(&facts, &mut records, wanted).await?;
            let last = candidates.len() < wanted;
            found.extend(self.still_last(&facts, candidates, call).await?);
            if last {
                break;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(_, at)| self.cursor(scope, *at));
        Ok(Page::new(found.into_iter().map(|(key, _)| key).collect(), next))
    }

    async fn candidates(
        &self,
        facts: &Facts,
        records: &mut BoxStream<'static, Result<Record>>,
        wanted: usize,
    ) -> Result<Vec<(Key, u64)>> {
        let mut found = Vec::new();
        while found.len() < wanted {
            let Some(record) = records.try_next().await? else { break };
            let sequence = record.revision.0;
            found.extend(self.live_key(facts, record).map(|key| (key, sequence)));
        }
        Ok(found)
    }

    /// Where older values are kept, those of the candidates that are the last of their key; the
    /// others come later in the listing, or are gone.
    async fn still_last(
        &self,
        facts: &Arc<Facts>,
        candidates: Vec<(Key, u64)>,
        call: &Call,
    ) -> Result<Vec<(Key, u64)>> {
        if !facts.keeps_history() {
            return Ok(candidates);
        }
        let looks = candidates.into_iter().map(|(key, sequence)| async move {
            let last = self.last(facts, &key, call).await?;
            let still = last.is_some_and(|record| record.revision.0 == sequence);
            Ok::<_, Error>(still.then_some((key, sequence)))
        });
        let looked: Vec<_> = stream::iter(looks).buffered(LOOKS_MAX).try_collect().await?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// A mark that belongs to this bucket and scope.
    fn cursor(&self, scope: &Scope, sequence: u64) -> Cursor {
        let digest = Digest::of(format!("{}:{scope:?}:{sequence}", self.bucket.stream).as_bytes());
        let mark: String = digest.as_bytes()[..8].iter().map(|it| format!("{it:02x}")).collect();
        Cursor::new(&format!("{sequence}.{mark}"))
    }

    fn parse_cursor(&self, scope: &Scope, cursor: &Cursor, call: &Call) -> Result<u64> {
        let sequence = cursor.as_str().split('.').next().and_then(|text| text.parse().ok());
        match sequence {
            Some(sequence) if self.cursor(scope, sequence) == *cursor => Ok(sequence),
            _ => Err(Error::new(ErrorKind::InvalidInput, call.operation)
                .because("this is no cursor that a page of this bucket and scope returned")
                .with("bucket", &self.bucket.name)
                .with("cursor", cursor.as_str())),
        }
    }

    pub(super) async fn stored_history(&self, key: &Key, call: &Call) -> Result<Vec<Change>> {
        let facts = self.bucket.facts(call).await?;
        if !facts.copies.is_only_one() {
            match self.leaders_history(&facts, key, call).await {
                Err(error) if may_not_ask(&error) => {}
                answered => return answered,
            }
        }
        let scan = Scan {
            headers_only: false,
            ..listing(call.operation, Scope::One(key.clone()), Begin::After(0))
        };
        let (_, scanned) = self.scan(scan, call).await?;
        until_caught_up(scanned).map_ok(Record::into_change).try_collect().await
    }

    /// Step by step from the leader: a copy that lags knows less, and may still go by an earlier
    /// configuration.
    async fn leaders_history(&self, facts: &Facts, key: &Key, call: &Call) -> Result<Vec<Change>> {
        let text = self.names.text(key, call.operation)?;
        let mut found = Vec::new();
        for subject in facts.keyspace.read(&text) {
            let mut from = 1;
            for _ in 0..=HISTORY_MAX {
                let next = Some(subject.as_str());
                let which = Which { seq: Some(from), next_by_subj: next, ..Which::default() };
                let stored = facts.copies.next(&self.bucket.api, &which, call).await?;
                let Some(stored) = stored else { break };
                from = stored.sequence + 1;
                found.push(Record::new(key.clone(), stored));
            }
        }
        found.sort_by_key(|record| record.revision);
        Ok(found.into_iter().map(Record::into_change).collect())
    }

    pub(super) async fn purge_scope(&self, scope: Scope, call: &Call) -> Result<u64> {
        let facts = self.bucket.facts(call).await?;
        if let Scope::Prefix(_) = scope {
            return self.purge_listed(&facts, scope, call).await;
        }
        let filters = self.names.filters(&facts.keyspace, &scope, call.operation)?;
        let purges: Vec<_> =
            filters.iter().map(|it| self.purge_subjects(&facts, it, call).boxed()).collect();
        let purged: Vec<u64> =
            stream::iter(purges).buffer_unordered(PURGES_MAX).try_collect().await?;
        Ok(purged.into_iter().sum())
    }

    /// A server filters by whole tokens, which a prefix need not end with.
    async fn purge_listed(&self, facts: &Facts, scope: Scope, call: &Call) -> Result<u64> {
        let scan = listing(call.operation, scope, Begin::LastPerSubject);
        let (_, scanned) = self.scan(scan, call).await?;
        let records: Vec<Record> = until_caught_up(scanned).try_collect().await?;
        let mut live = 0;
        let mut subjects = Vec::with_capacity(records.len());
        for record in records {
            let text = self.names.text(&record.key, call.operation)?;
            subjects.extend(facts.keyspace.read(&text));
            live += u64::from(record.is_live(self.bucket.now(), facts.max_age));
        }
        let purges: Vec<_> =
            subjects.iter().map(|it| self.purge_subjects(facts, it, call).boxed()).collect();
        stream::iter(purges).buffer_unordered(PURGES_MAX).try_collect::<Vec<u64>>().await?;
        Ok(live)
    }

    /// Purges what a filter lets through; returns how many keys that were, dead ones included.
    async fn purge_subjects(&self, facts: &Facts, filter: &str, call: &Call) -> Result<u64> {
        let (api, stream) = facts.copies.leader(&self.bucket.api);
        let several = filter.ends_with('>') || filter.contains('*');
        let keys = match several {
            true => api.subjects(&stream, filter, call).await.ok(),
            false => Some(1),
        };
        let purge = Purge { filter: Some(filter), ..Purge::default() };
        match api.purge(&stream, &purge, call).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(facts.copies.gone(call.operation))
            }
            Ok(messages) => Ok(keys.map_or(messages, |keys| keys.min(messages))),
            Err(error) => Err(error),
        }
    }

    /// Removes the message at `revision` of a key and those before it, without a trace.
    pub(super) async fn forget_up_to(
        &self,
        facts: &Facts,
        key: &Key,
        revision: Revision,
        call: &Call,
    ) -> Result<()> {
        let text = self.names.text(key, call.operation)?;
        let subject = facts.keyspace.write(&text);
        let (api, stream) = facts.copies.leader(&self.bucket.api);
        let purge = Purge { filter: Some(&subject), seq: Some(revision.0 + 1), ..Purge::default() };
        api.purge(&stream, &purge, call).await.map(drop)
    }
}

fn listing(operation: &'static str, scope: Scope, from: Begin) -> Scan {
    Scan {
        operation,
        scope,
        from,
        headers_only: true,
        follow: Follow::No,
        window: None,
        filtered: Filtered::Yes,
    }
}

/// The records that were there at the beginning.
fn until_caught_up(
    scanned: BoxStream<'static, Result<Scanned>>,
) -> BoxStream<'static, Result<Record>> {
    scanned
        .try_take_while(|item| std::future::ready(Ok(matches!(item, Scanned::Record(_)))))
        .try_filter_map(|item| {
            std::future::ready(Ok(match item {
                Scanned::Record(record) => Some(record),
                Scanned::CaughtUp => None,
            }))
        })
        .boxed()
}
