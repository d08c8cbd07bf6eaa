//! Reading keys: from the only copy where there is one, else from whom the reader's demand says.

use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;

use jetbridge_core::{Entry, Error, ErrorKind, Key, Read, Result, Revision, Snapshot};

use super::NatsKv;
use crate::api::{Stored, Which, stored};
use crate::error::not_sent;
use crate::facts::{Authority, Facts};
use crate::headers;
use crate::record::Record;
use crate::request::{Call, is_no_responders, may_not_ask};

/// Subjects that one question for many may match.
const MANY_MAX: usize = 1024;
/// Single gets under way at once where a question for many cannot be asked.
const GETS_MAX: usize = 128;
/// Questions for many whose answers are put together at most this often in the hope that nobody
/// wrote in between.
const SNAPSHOT_ATTEMPTS: u32 = 3;
/// JetStream counts sequences in 63 bits.
pub(super) const SEQUENCE_MAX: u64 = i64::MAX as u64;

impl NatsKv {
    pub(super) async fn read(&self, key: &Key, read: Read, call: &Call) -> Result<Option<Entry>> {
        let facts = self.bucket.facts(call).await?;
        let found = match read {
            Read::At(revision) => self.at(&facts, key, revision, call).await,
            Read::Fresh => self.last(&facts, key, call).await,
            Read::MaybeStale => self.any_copy(&facts, key, call).await,
        };
        let found =
            found.map_err(|error| error.with("bucket", &self.bucket.name).with("key", key))?;
        Ok(found.and_then(|record| self.live(&facts, record)))
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
        if facts.authority == Authority::OnlyCopy {
            match self.any_copy_message(facts, key, call).await? {
                // A mirror that was made since joins in answering, and may lag.
                Some(stored) if self.is_of_the_stream(&stored) => {
                    return Ok(Some(Record::new(key.clone(), stored)));
                }
                Some(_mirrors) => {}
                None => return Ok(None),
            }
        }
        let found = self.leader_message(facts, key, call).await?;
        Ok(found.map(|stored| Record::new(key.clone(), stored)))
    }

    fn is_of_the_stream(&self, stored: &Stored) -> bool {
        stored.header(headers::STREAM).is_none_or(|stream| stream == self.bucket.stream)
    }

    /// The last message of a key as the leader has it.
    pub(super) async fn leader_message(
        &self,
        facts: &Facts,
        key: &Key,
        call: &Call,
    ) -> Result<Option<Stored>> {
        let text = self.names.text(key, call.operation)?;
        let (api, stream) = self.authority(facts);
        let mut newest: Option<Stored> = None;
        for subject in facts.keyspace.read(&text) {
            let which = Which { last_by_subj: Some(&subject), ..Which::default() };
            let found = api.message(&stream, &which, call).await;
            let found = found.map_err(|error| self.explain_leader(error))?;
            if found.as_ref().map(|it| it.sequence) > newest.as_ref().map(|it| it.sequence) {
                newest = found;
            }
        }
        Ok(newest)
    }

    /// The API and the stream whose leader surely knows.
    pub(super) fn authority(&self, facts: &Facts) -> (crate::api::Api, String) {
        let api = self.bucket.api.clone();
        match &facts.authority {
            Authority::OnlyCopy => (api, self.bucket.stream.clone()),
            Authority::Leader { stream, prefix: None } => (api, stream.clone()),
            Authority::Leader { stream, prefix: Some(prefix) } => {
                (api.behind(prefix), stream.clone())
            }
        }
    }

    fn explain_leader(&self, error: Error) -> Error {
        if !may_not_ask(&error) {
            return error;
        }
        error.hint(
            "a fresh read needs this permission, or the one for `STREAM.INFO` of a bucket with a \
             single copy; a read that may be stale needs neither",
        )
    }

    async fn any_copy(&self, facts: &Facts, key: &Key, call: &Call) -> Result<Option<Record>> {
        let found = self.any_copy_message(facts, key, call).await?;
        Ok(found.map(|stored| Record::new(key.clone(), stored)))
    }

    async fn any_copy_message(
        &self,
        facts: &Facts,
        key: &Key,
        call: &Call,
    ) -> Result<Option<Stored>> {
        if !facts.direct {
            return self.leader_message(facts, key, call).await;
        }
        let text = self.names.text(key, call.operation)?;
        let mut newest: Option<Stored> = None;
        for subject in facts.keyspace.read(&text) {
            let found = self.direct_last(&subject, call).await?;
            if found.as_ref().map(|it| it.sequence) > newest.as_ref().map(|it| it.sequence) {
                newest = found;
            }
        }
        Ok(newest)
    }

    /// A direct get. A server that has deleted the stream may go on listening for a while and say
    /// nothing, so after the time of one attempt it is asked whether the stream is there.
    async fn direct_last(&self, subject: &str, call: &Call) -> Result<Option<Stored>> {
        let (api, stream) = (&self.bucket.api, &self.bucket.stream);
        let first = match api.direct_last(stream, subject, &call.first_attempt()).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            answered => return answered,
        };
        match api.stream(stream, call).await {
            Ok(None) => Err(self.bucket.not_found(call.operation)),
            _ if is_no_responders(&first) => Err(self.explain_silence(first, call).await),
            _ => api.direct_last(stream, subject, call).await,
        }
    }

    /// Nobody answers for the bucket: usually it is gone, but a cluster may just have no leader.
    pub(super) async fn explain_silence(&self, error: Error, call: &Call) -> Error {
        let silent = is_no_responders(&error) || error.kind() == ErrorKind::NotFound;
        if !silent {
            return error;
        }
        match self.bucket.api.stream(&self.bucket.stream, call).await {
            Ok(None) => self.bucket.not_found(call.operation),
            Ok(Some(_)) => not_sent(call.operation, "nobody answers for the bucket just now")
                .with("bucket", &self.bucket.name)
                .caused_by(error),
            Err(asking) if may_not_ask(&asking) => {
                self.bucket.not_found(call.operation).caused_by(error)
            }
            Err(asking) => asking,
        }
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
        let which = Which::at(revision.0);
        let found = match &facts.authority {
            Authority::OnlyCopy => self.bucket.api.direct(&self.bucket.stream, &which, call).await,
            Authority::Leader { .. } => {
                let (api, stream) = self.authority(facts);
                api.message(&stream, &which, call).await
            }
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => return Err(self.explain_silence(error, call).await),
        };
        let of_key = |stored: &Stored| {
            facts.keyspace.read(&text).any(|subject| stored.subject.as_str() == subject)
        };
        Ok(found.filter(of_key).map(|stored| Record::new(key.clone(), stored)))
    }

    pub(super) async fn read_many(
        &self,
        keys: &[Key],
        read: Read,
        call: &Call,
    ) -> Result<Snapshot> {
        let facts = self.bucket.facts(call).await?;
        let copies_will_do = match read {
            Read::Fresh => facts.authority == Authority::OnlyCopy,
            Read::MaybeStale => facts.direct,
            Read::At(_) => false,
        };
        let denied = self.bucket.many_denied.load(Ordering::Relaxed);
        if facts.many && copies_will_do && !denied && !keys.is_empty() {
            match self.snapshot(&facts, keys, call).await {
                Err(error) if may_not_ask(&error) => {
                    self.bucket.many_denied.store(true, Ordering::Relaxed);
                }
                answered => return answered,
            }
        }
        let gets: Vec<_> = keys.iter().map(|key| self.read(key, read, call).boxed()).collect();
        let entries: Vec<_> = stream::iter(gets).buffered(GETS_MAX).try_collect().await?;
        Ok(Snapshot::new(entries, None))
    }

    async fn snapshot(&self, facts: &Facts, keys: &[Key], call: &Call) -> Result<Snapshot> {
        let mut texts = Vec::with_capacity(keys.len());
        for key in keys {
            texts.push(self.names.text(key, call.operation)?);
        }
        for attempt in 1.. {
            let found = self.ask_for_many(facts, &texts, call).await?;
            if found.revision.is_none() && attempt < SNAPSHOT_ATTEMPTS {
                continue;
            }
            let mut entries = Vec::with_capacity(keys.len());
            for (key, text) in keys.iter().zip(&texts) {
                let newest = facts
                    .keyspace
                    .read(text)
                    .filter_map(|subject| found.messages.get(subject.as_str()))
                    .max_by_key(|stored| stored.sequence);
                let record = newest.map(|stored| Record::new(key.clone(), stored.clone()));
                entries.push(record.and_then(|record| self.live(facts, record)));
            }
            return Ok(Snapshot::new(entries, found.revision));
        }
        Ok(Snapshot::default())
    }

    /// Asks page by page. It is one state if every page was answered up to the same sequence.
    async fn ask_for_many(&self, facts: &Facts, texts: &[Box<str>], call: &Call) -> Result<Many> {
        let mut subjects: Vec<String> =
            texts.iter().flat_map(|text| facts.keyspace.read(text)).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let mut many = Many::default();
        let mut states = Vec::new();
        for page in subjects.chunks(MANY_MAX) {
            let mut after = 0;
            loop {
                let answered = self.ask_page(page, after, &mut many, call).await?;
                // The rest of a page that turns out empty says nothing of the state.
                if after == 0 || answered.up_to.is_some() {
                    states.push(answered.up_to);
                }
                match answered.more_after {
                    Some(sequence) => after = sequence,
                    None => break,
                }
            }
        }
        let first = states.first().copied().flatten();
        let same = states.iter().all(|state| *state == first);
        many.revision = first.filter(|_| same).map(Revision);
        Ok(many)
    }

    async fn ask_page(
        &self,
        subjects: &[String],
        after: u64,
        many: &mut Many,
        call: &Call,
    ) -> Result<Answered> {
        let body = json!({ "multi_last": subjects, "seq": after + 1 });
        let body = if after == 0 { json!({ "multi_last": subjects }) } else { body };
        let mut answers = self.bucket.api.direct_many(&self.bucket.stream, &body, call).await?;
        let mut last = after;
        loop {
            let message = match answers.next().await {
                Ok(message) => message,
                Err(error) => return Err(self.explain_silence(error, call).await),
            };
            let status = message.status.map(|status| status.as_u16());
            match status {
                None => {
                    let stored = stored(message, call.operation)?;
                    last = last.max(stored.sequence);
                    many.messages.insert(stored.subject.as_str().into(), stored);
                }
                Some(204) => {
                    let number = |name: &str| {
                        let headers = message.headers.as_ref()?;
                        headers.get(name)?.as_str().parse::<u64>().ok()
                    };
                    let pending = number(headers::PENDING).unwrap_or(0);
                    return Ok(Answered {
                        up_to: number(headers::UP_TO_SEQUENCE),
                        more_after: (pending > 0 && last > after).then_some(last),
                    });
                }
                Some(404) => return Ok(Answered { up_to: None, more_after: None }),
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    let refused = crate::error::ApiError { code: status, err_code: 0, description };
                    return Err(refused.into_error(call.operation));
                }
            }
        }
    }
}

/// The last messages of several subjects.
#[derive(Debug, Default)]
struct Many {
    messages: std::collections::HashMap<Box<str>, Stored>,
    revision: Option<Revision>,
}

/// How a page ended.
#[derive(Debug)]
struct Answered {
    /// The sequence up to which it holds.
    up_to: Option<u64>,
    /// It was cut off behind this sequence.
    more_after: Option<u64>,
}
