//! Reading keys: from the only copy where there is one, else from whom the reader's demand says.

use std::sync::Arc;

use jetbridge_core::{Entry, Key, Read, Result, Revision};

use super::NatsKv;
use crate::api::Stored;
use crate::facts::Facts;
use crate::record::{Record, has_passed};
use crate::request::Call;

/// JetStream counts sequences in 63 bits.
pub(super) const SEQUENCE_MAX: u64 = i64::MAX as u64;

impl NatsKv {
    pub(super) async fn read(&self, key: &Key, read: Read, call: &Call) -> Result<Option<Entry>> {
        let facts = self.bucket.facts(call).await?;
        let found = match read {
            Read::At(revision) => Box::pin(self.at(&facts, key, revision, call)).await,
            Read::Fresh => self.last(&facts, key, call).await,
            Read::MaybeStale => Box::pin(self.any_copy(&facts, key, call)).await,
        };
        let found =
            found.map_err(|error| error.with("bucket", &self.bucket.name).with("key", key))?;
        match found {
            // Rare, so its room is not that of every read.
            Some(record) if self.is_undecided(&facts, &record) => {
                Ok(Box::pin(self.live_in_time(facts, record, call)).await)
            }
            found => Ok(found.and_then(|record| self.live(&facts, record))),
        }
    }

    /// The entry of a record of which the store's time has to tell whether it is live.
    async fn live_in_time(&self, facts: Arc<Facts>, record: Record, call: &Call) -> Option<Entry> {
        self.ask_time(call).await;
        self.live(&facts, record)
    }

    /// The entry of a live record.
    pub(super) fn live(&self, facts: &Facts, record: Record) -> Option<Entry> {
        self.learn(facts, &record);
        if !record.is_live(self.bucket.now(), facts.max_age) {
            return None;
        }
        record.into_entry()
    }

    /// Takes note of what a record says about a revision's end.
    pub(super) fn learn(&self, facts: &Facts, record: &Record) {
        if record.value.is_none() {
            self.bucket.fates.died(&record.key, record.revision);
        } else if let Some(due) = record.due(facts.max_age) {
            self.bucket.fates.lives(&record.key, record.revision, Some(due));
        }
    }

    /// The last record of a key, surely.
    pub(super) async fn last(
        &self,
        facts: &Facts,
        key: &Key,
        call: &Call,
    ) -> Result<Option<Record>> {
        let text = self.names.text(key, call.operation)?;
        let found = match facts.keyspace.read_one(&text) {
            Some(subject) => facts.copies.fresh(&self.bucket.api, &subject, call).await?,
            None => Box::pin(self.newest(facts, &text, call)).await?,
        };
        Ok(found.map(|stored| Record::new(key.clone(), stored)))
    }

    /// True if it depends on the store's time, which nobody has told yet, whether a record has
    /// expired: servers before 2.10 tell it only when they are asked.
    pub(super) fn is_undecided(&self, facts: &Facts, record: &Record) -> bool {
        if record.value.is_none() || self.bucket.api.link().clock().now().is_some() {
            return false;
        }
        let now = self.bucket.now();
        let begins = record.due(facts.max_age).and_then(|due| due.checked_sub(now.error));
        begins.is_some_and(|begins| begins <= now.now && !has_passed(begins + now.error, now))
    }

    /// Asks for the store's time. Without an answer this machine's has to do.
    pub(super) async fn ask_time(&self, call: &Call) {
        drop(self.bucket.witness.now(&self.bucket.api, &call.repeatable()).await);
    }

    /// The last message under all subjects that `text` may be read under, surely.
    async fn newest(&self, facts: &Facts, text: &str, call: &Call) -> Result<Option<Stored>> {
        let mut newest = None;
        for subject in facts.keyspace.read(text) {
            let found = facts.copies.fresh(&self.bucket.api, &subject, call).await?;
            newest = newer(newest, found);
        }
        Ok(newest)
    }

    /// The last record of a key as some copy has it.
    async fn any_copy(&self, facts: &Facts, key: &Key, call: &Call) -> Result<Option<Record>> {
        let text = self.names.text(key, call.operation)?;
        let mut newest = None;
        for subject in facts.keyspace.read(&text) {
            let found = facts.copies.any(&self.bucket.api, &subject, call).await?;
            newest = newer(newest, found);
        }
        Ok(newest.map(|stored| Record::new(key.clone(), stored)))
    }

    async fn at(
        &self,
        facts: &Facts,
        key: &Key,
        revision: Revision,
        call: &Call,
    ) -> Result<Option<Record>> {
        if revision.0 == 0 || revision.0 > SEQUENCE_MAX {
            return Ok(None);
        }
        let text = self.names.text(key, call.operation)?;
        let found = facts.copies.at(&self.bucket.api, revision.0, call).await?;
        let of_key = |stored: &Stored| {
            facts.keyspace.read(&text).any(|subject| stored.subject.as_str() == subject)
        };
        Ok(found.filter(of_key).map(|stored| Record::new(key.clone(), stored)))
    }
}

fn newer(one: Option<Stored>, other: Option<Stored>) -> Option<Stored> {
    let sequence = |stored: &Option<Stored>| stored.as_ref().map(|stored| stored.sequence);
    if sequence(&other) > sequence(&one) { other } else { one }
}
