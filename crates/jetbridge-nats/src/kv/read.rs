//! Reading keys: from the only copy where there is one, else from whom the reader's demand says.

use jetbridge_core::{Entry, Error, ErrorKind, Key, Read, Result, Revision};

use super::NatsKv;
use crate::api::{Stored, Which};
use crate::error::not_sent;
use crate::facts::{Authority, Facts};
use crate::headers;
use crate::record::Record;
use crate::request::{Call, is_no_responders, may_not_ask};

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
        if facts.is_only_copy() {
            match self.any_copy_message(facts, key, call).await? {
                Some(stored) if self.is_of_the_stream(&stored) => {
                    return Ok(Some(Record::new(key.clone(), stored)));
                }
                // Mirrors answer for a stream, and may lag; who finds nothing does not say who
                // it is.
                Some(_mirrors) => {}
                None if facts.hides_mirrors => {
                    return self.confirm_absence(facts, key, call).await;
                }
                None => return Ok(None),
            }
        }
        let found = self.leader_message(facts, key, call).await?;
        Ok(found.map(|stored| Record::new(key.clone(), stored)))
    }

    /// True if this is no mirror's answer.
    pub(super) fn is_of_the_stream(&self, stored: &Stored) -> bool {
        stored.header(headers::STREAM).is_none_or(|stream| stream == self.bucket.stream)
    }

    /// Asks the leader about a key that a copy does not have, in one way or the other.
    async fn confirm_absence(
        &self,
        facts: &Facts,
        key: &Key,
        call: &Call,
    ) -> Result<Option<Record>> {
        let denial = match self.leader_message(facts, key, call).await {
            Err(error) if may_not_ask(&error) => error,
            answered => {
                return Ok(answered?.map(|stored| Record::new(key.clone(), stored)));
            }
        };
        // Who may ask about the stream is told on which subjects it has messages.
        let text = self.names.text(key, call.operation)?;
        for subject in facts.keyspace.read(&text) {
            let subjects = self.bucket.api.subjects(&self.bucket.stream, &subject, call).await;
            if subjects.is_err() || subjects? > 0 {
                return Err(denial);
            }
        }
        Ok(None)
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
            Ok(None) if facts.is_only_copy() && facts.hides_mirrors => {
                let confirmed = self.bucket.api.message(&self.bucket.stream, &which, call).await;
                confirmed
                    .or_else(|error| if may_not_ask(&error) { Ok(None) } else { Err(error) })?
            }
            Ok(found) => found,
            Err(error) => return Err(self.explain_silence(error, call).await),
        };
        let of_key = |stored: &Stored| {
            facts.keyspace.read(&text).any(|subject| stored.subject.as_str() == subject)
        };
        Ok(found.filter(of_key).map(|stored| Record::new(key.clone(), stored)))
    }
}
