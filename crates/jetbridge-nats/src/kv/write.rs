//! Writing and deleting keys.

use bytes::Bytes;

use async_nats::HeaderMap;

use jetbridge_core::{
    Backoff, DeleteOpts, Error, ErrorKind, Expect, Key, PutOpts, Result, Revision, StoreTime,
    Written,
};

use super::NatsKv;
use super::draft::{Draft, value_bytes_max};
use super::read::SEQUENCE_MAX;
use super::send::Verdict;
use crate::error::code;
use crate::facts::Facts;
use crate::record::expires_at;
use crate::request::{Call, may_not_ask};

impl NatsKv {
    pub(super) async fn put_value(
        &self,
        key: &Key,
        value: &Bytes,
        opts: &PutOpts,
        call: &Call,
    ) -> Result<Written> {
        let facts = self.bucket.facts(call).await?;
        let mut draft = self.draft(&facts, key, value.clone(), call)?;
        draft.writers(&opts.headers, call.operation)?;
        self.check_size(&draft, call)?;
        let mut expires = None;
        if let Some(ttl) = opts.ttl {
            let at = expires_at(ttl, Box::pin(self.store_time(call)).await?)?;
            draft.expires(&facts, ttl, at);
            expires = Some(at);
        }
        let landed = match opts.expect {
            Expect::Any => self.write(&facts, &mut draft, call).await,
            // Boxed, as is whatever else most writes do not need.
            Expect::Absent => Box::pin(self.create(&facts, draft, call)).await,
            Expect::Exactly(revision) => {
                Box::pin(self.replace(&facts, draft, revision, call)).await
            }
        };
        let sequence = landed.map_err(|error| self.about(error, key))?;
        self.bucket.fates.lives(key, Revision(sequence), expires);
        if expires.is_some() {
            self.clean_up_later(&facts);
        }
        Ok(Written::new(Revision(sequence)))
    }

    /// The store's time, or this machine's with a generous error where the user may ask nothing.
    async fn store_time(&self, call: &Call) -> Result<StoreTime> {
        match self.bucket.witness.now(&self.bucket.api, call).await {
            Err(error) if may_not_ask(&error) => Ok(self.bucket.now()),
            told => told,
        }
    }

    /// Says what an error is about, unless it does.
    pub(super) fn about(&self, error: Error, key: &Key) -> Error {
        match error.fact("key") {
            Some(_) => error,
            None if error.fact("bucket").is_some() => error.with("key", key),
            None => error.with("bucket", &self.bucket.name).with("key", key),
        }
    }

    fn draft(&self, facts: &Facts, key: &Key, payload: Bytes, call: &Call) -> Result<Box<Draft>> {
        let text = self.names.text(key, call.operation)?;
        let stored_under = facts.keyspace.write(&text);
        let (api, _) = facts.copies.leader(&self.bucket.api);
        Ok(Box::new(Draft {
            key: key.clone(),
            subject: api.toward(&stored_under).into(),
            stored_under,
            headers: HeaderMap::new(),
            payload,
            expected: None,
            id: None,
            fenced: false,
        }))
    }

    /// What the capabilities promise to fit does, whatever a condition adds; more is refused.
    fn check_size(&self, draft: &Draft, call: &Call) -> Result<()> {
        let bytes = draft.bytes();
        let max = value_bytes_max(self.bucket.api.link().client().max_payload());
        if bytes <= max {
            return Ok(());
        }
        Err(Error::new(ErrorKind::LimitExceeded, call.operation)
            .because("the value with its headers is over the server's limit")
            .with("bucket", &self.bucket.name)
            .with("key", &draft.key)
            .with("bytes", bytes)
            .with("max", max)
            .hint("store large values as objects, or raise `max_payload` on the server"))
    }

    /// Writes unconditionally.
    async fn write(&self, facts: &Facts, draft: &mut Draft, call: &Call) -> Result<u64> {
        let _under_way = self.bucket.blind();
        match self.send(facts, draft, None, call).await? {
            Verdict::Landed(sequence) => Ok(sequence),
            Verdict::Lost(_) => Err(Error::new(ErrorKind::Internal, call.operation)
                .because("the server refused a condition that was not set")),
        }
    }

    /// Writes if there is no live value. A deletion, or a value that has expired and is still
    /// there, is written over on the condition that it is still the last.
    async fn create(&self, facts: &Facts, mut draft: Box<Draft>, call: &Call) -> Result<u64> {
        let mut over = 0;
        loop {
            if let Verdict::Landed(sequence) =
                self.send(facts, &mut draft, Some(over), call).await?
            {
                return Ok(sequence);
            }
            let last = self.last(facts, &draft.key, &call.repeatable()).await?;
            over = last.as_ref().map_or(0, |record| record.revision.0);
            if last.as_ref().is_some_and(|record| self.is_undecided(facts, record)) {
                Box::pin(self.ask_time(call)).await;
            }
            let live = last.is_some_and(|it| it.is_live(self.bucket.now(), facts.max_age));
            if live {
                return Err(self.conflict(&draft.key, Some(over), call));
            }
            if call.is_over() {
                return Err(self.conflict(&draft.key, None, call));
            }
        }
    }

    /// Writes over exactly this revision, if it is a live value.
    async fn replace(
        &self,
        facts: &Facts,
        mut draft: Box<Draft>,
        revision: Revision,
        call: &Call,
    ) -> Result<u64> {
        let key = draft.key.clone();
        let impossible = revision.0 == 0 || revision.0 > SEQUENCE_MAX;
        if impossible || self.bucket.fates.is_over(&key, revision, self.bucket.now()) {
            let last = self.last(facts, &key, &call.repeatable()).await?;
            let live = last.filter(|it| it.is_live(self.bucket.now(), facts.max_age));
            return Err(self.conflict(&key, live.map(|record| record.revision.0), call));
        }
        match self.send(facts, &mut draft, Some(revision.0), call).await? {
            Verdict::Landed(sequence) => Ok(sequence),
            Verdict::Lost(present) => Err(self.conflict(&key, present, call)),
        }
    }

    fn conflict(&self, key: &Key, present: Option<u64>, call: &Call) -> Error {
        let error = Error::new(ErrorKind::Conflict, call.operation)
            .with("bucket", &self.bucket.name)
            .with("key", key);
        match present {
            Some(sequence) if sequence > 0 => error.with("revision", sequence),
            _ => error,
        }
    }

    pub(super) async fn delete_value(
        &self,
        key: &Key,
        opts: DeleteOpts,
        call: &Call,
    ) -> Result<Option<Revision>> {
        if opts.expect == Expect::Absent {
            return Err(Error::new(ErrorKind::InvalidInput, call.operation)
                .because("what must be absent cannot be deleted")
                .with("key", key));
        }
        let facts = self.bucket.facts(call).await?;
        let mut backoff = Backoff::contention();
        loop {
            let last = self.last(&facts, key, &call.repeatable()).await?;
            let live = last.filter(|it| it.is_live(self.bucket.now(), facts.max_age));
            let present = live.map(|record| record.revision);
            if let Expect::Exactly(revision) = opts.expect
                && present != Some(revision)
            {
                return Err(self.conflict(key, present.map(|it| it.0), call));
            }
            let Some(over) = present else { return Ok(None) };
            if let Some(deleted) = self.delete_over(&facts, key, over, opts.history, call).await? {
                return Ok(Some(deleted));
            }
            if call.is_over() {
                return Err(self.conflict(key, None, call));
            }
            backoff.wait().await;
        }
    }

    /// Writes a tombstone over `present`; `None` if that is no longer the last.
    pub(super) async fn delete_over(
        &self,
        facts: &Facts,
        key: &Key,
        present: Revision,
        forget: bool,
        call: &Call,
    ) -> Result<Option<Revision>> {
        let mut draft = self.draft(facts, key, Bytes::new(), call)?;
        draft.tombstone(facts, forget);
        match self.send(facts, &mut draft, Some(present.0), call).await {
            Ok(Verdict::Landed(sequence)) => {
                self.bucket.fates.died(key, Revision(sequence));
                Ok(Some(Revision(sequence)))
            }
            Ok(Verdict::Lost(_)) => Ok(None),
            Err(full) if full.fact("err_code") == Some(code::STORE_REFUSED) => {
                // A full bucket takes no tombstone, so the message itself is removed. Watches do
                // not see it.
                self.forget_up_to(facts, key, present, call).await?;
                Ok(Some(present))
            }
            Err(error) => Err(error),
        }
    }
}
