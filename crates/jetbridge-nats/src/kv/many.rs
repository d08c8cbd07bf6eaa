//! Reading many keys at once: by one question where the server has such, else by many gets.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;

use jetbridge_core::{Backoff, Entry, Key, Read, Result, Revision, Snapshot};

use super::NatsKv;
use crate::api::{Stored, stored};
use crate::error::ApiError;
use crate::facts::Facts;
use crate::headers;
use crate::record::Record;
use crate::request::{Call, may_not_ask};

/// Subjects that one question for many may match.
const MANY_MAX: usize = 1024;
/// Single gets under way at once where a question for many cannot be asked: as many as one such
/// question covers, at about a kilobyte each.
const GETS_MAX: usize = MANY_MAX;
/// How often is asked in the hope that nobody writes in between, and that a copy has caught up.
const SNAPSHOT_ATTEMPTS: u32 = 5;

/// How long the last sequence of a stream is good for proving a state: one that is made anew under
/// its name begins to count again.
const LAST_KNOWN_TTL: Duration = Duration::from_secs(1);

/// The state that `entries` are of, if it is known though they were read one by one. Each was its
/// key's last when it was read, which was after the stream had come to some sequence: what is not
/// newer than that was the last one there too. Its time counts beside its number, for the one who
/// answers may be another stream that counts from 1 again: the origin of a mirror, made anew.
fn state_of(facts: &Facts, entries: &[Option<Entry>]) -> Option<Revision> {
    let last = facts.last?;
    let known = last.told.elapsed() < LAST_KNOWN_TTL;
    let was_there = |entry: &Option<Entry>| {
        entry
            .as_ref()
            .is_some_and(|entry| entry.revision.0 <= last.sequence && entry.written <= last.written)
    };
    (known && entries.iter().all(was_there)).then_some(Revision(last.sequence))
}

/// The last messages of several subjects.
#[derive(Debug, Default)]
struct Many {
    messages: HashMap<Box<str>, Stored>,
    /// The sequence at which all of them were the last ones, if that was one.
    revision: Option<Revision>,
    /// The lowest sequence up to which a page holds; `None` if one does not say.
    up_to: Option<u64>,
    /// It took several questions, and somebody wrote in between.
    torn: bool,
    /// Whether a mirror, or nobody knows who, may have answered.
    doubtful: bool,
}

/// How a page ended.
#[derive(Debug, Default)]
struct Answered {
    /// The sequence up to which it holds.
    up_to: Option<u64>,
    /// It was cut off behind this sequence.
    more_after: Option<u64>,
    /// Whether the stream itself answered.
    ours: bool,
}

impl NatsKv {
    pub(super) async fn read_many(
        &self,
        keys: &[Key],
        read: Read,
        call: &Call,
    ) -> Result<Snapshot> {
        let facts = self.bucket.facts(call).await?;
        let copies_will_do = match read {
            Read::Fresh | Read::MaybeStale => facts.copies.direct,
            Read::At(_) => false,
        };
        let denied = self.bucket.many_denied.load(Ordering::Relaxed);
        if facts.many && copies_will_do && !denied && !keys.is_empty() {
            match self.snapshot(&facts, keys, read, call).await {
                Err(error) if may_not_ask(&error) => {
                    self.bucket.many_denied.store(true, Ordering::Relaxed);
                }
                Ok(None) => {}
                Ok(Some(snapshot)) => return Ok(snapshot),
                Err(error) => return Err(error),
            }
        }
        let gets: Vec<_> = keys.iter().map(|key| self.read(key, read, call).boxed()).collect();
        let entries: Vec<_> = stream::iter(gets).buffered(GETS_MAX).try_collect().await?;
        let revision = if read == Read::Fresh { state_of(&facts, &entries) } else { None };
        Ok(Snapshot::new(entries, revision))
    }

    /// The keys by as few questions as can be; `None` if the answers will not do.
    async fn snapshot(
        &self,
        facts: &Facts,
        keys: &[Key],
        read: Read,
        call: &Call,
    ) -> Result<Option<Snapshot>> {
        let mut texts = Vec::with_capacity(keys.len());
        for key in keys {
            texts.push(self.names.text(key, call.operation)?);
        }
        let Some(mut found) = self.ask_until_fresh(facts, &texts, read, call).await? else {
            return Ok(None);
        };
        let mut entries: Vec<Option<Entry>> = Vec::with_capacity(keys.len());
        let mut places = HashMap::with_capacity(keys.len());
        for (key, text) in keys.iter().zip(&texts) {
            // A key may be asked for twice.
            if let Some(place) = places.insert(key, entries.len()) {
                entries.push(entries[place].clone());
                continue;
            }
            let newest = facts
                .keyspace
                .read(text)
                .filter_map(|subject| found.messages.remove(subject.as_str()))
                .max_by_key(|stored| stored.sequence);
            let record = newest.map(|stored| Record::new(key.clone(), stored));
            entries.push(record.and_then(|record| self.live(facts, record)));
        }
        Ok(Some(Snapshot::new(entries, found.revision)))
    }

    /// Asks until the answers are of one state, and, if they must be fresh, of one that is not
    /// older than the question: any copy will do that has come as far as the leader had.
    async fn ask_until_fresh(
        &self,
        facts: &Facts,
        texts: &[Box<str>],
        read: Read,
        call: &Call,
    ) -> Result<Option<Many>> {
        let fresh = read == Read::Fresh;
        let mut floor = None;
        if fresh && !facts.copies.is_only_one() {
            floor = Some(self.leaders_last(facts, call).await?);
        }
        let mut torn = None;
        let mut backoff = Backoff::contention();
        for _ in 0..SNAPSHOT_ATTEMPTS {
            let found = self.ask_for_many(facts, texts, call).await?;
            if fresh && floor.is_none() && found.doubtful && facts.copies.hides_mirrors {
                floor = Some(self.leaders_last(facts, call).await?);
                continue;
            }
            let late = floor.is_some_and(|floor| found.up_to < Some(floor));
            if late && found.up_to.is_none() {
                // Nothing was found, and nobody says up to where.
                return Ok(None);
            }
            if !late && !found.torn {
                return Ok(Some(found));
            }
            torn = (!late).then_some(found);
            backoff.wait().await;
        }
        Ok(torn)
    }

    /// The last sequence that the leader knows.
    async fn leaders_last(&self, facts: &Facts, call: &Call) -> Result<u64> {
        let (api, stream) = facts.copies.leader(&self.bucket.api);
        let info = api.stream(&stream, call).await?;
        Ok(info.ok_or_else(|| facts.copies.gone(call.operation))?.state.last_seq)
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
                let answered = self.ask_page(facts, (page, after), &mut many, call).await?;
                many.doubtful |= after == 0 && !answered.ours;
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
        many.torn = !same;
        many.up_to = states.into_iter().min().flatten();
        Ok(many)
    }

    async fn ask_page(
        &self,
        facts: &Facts,
        (subjects, after): (&[String], u64),
        many: &mut Many,
        call: &Call,
    ) -> Result<Answered> {
        let body = json!({ "multi_last": subjects, "seq": after + 1 });
        let body = if after == 0 { json!({ "multi_last": subjects }) } else { body };
        let mut answers = self.bucket.api.direct_many(&self.bucket.stream, &body, call).await?;
        let mut answered = Answered::default();
        let mut last = after;
        loop {
            let message = match answers.next().await {
                Ok(message) => message,
                Err(error) => {
                    return Err(facts.copies.explain_silence(&self.bucket.api, error, call).await);
                }
            };
            let status = message.status.map(|status| status.as_u16());
            match status {
                None => {
                    let stored = stored(message, call.operation)?;
                    last = last.max(stored.sequence);
                    answered.ours |= facts.copies.answered(&stored);
                    many.messages.insert(stored.subject.as_str().into(), stored);
                }
                Some(204) => {
                    let number = |name: &str| {
                        let headers = message.headers.as_ref()?;
                        headers.get(name)?.as_str().parse::<u64>().ok()
                    };
                    let pending = number(headers::PENDING).unwrap_or(0);
                    answered.up_to = number(headers::UP_TO_SEQUENCE);
                    answered.more_after = (pending > 0 && last > after).then_some(last);
                    return Ok(answered);
                }
                Some(404) => return Ok(answered),
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    let refused = ApiError { code: status, err_code: 0, description };
                    return Err(refused.into_error(call.operation));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use jetbridge_core::BucketName;
    use tokio::time::Instant;

    use super::*;
    use crate::facts::Last;

    fn written_at(revision: u64, second: u64) -> Option<Entry> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        Some(Entry::new(Key::parse("k").unwrap(), "v".into(), Revision(revision), at))
    }

    #[test]
    fn what_is_newer_by_number_or_time_proves_no_state() {
        let mut facts = Facts::unknown(&BucketName::parse("b").unwrap());
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(state_of(&facts, &[written_at(1, 1)]), None, "nothing is known");
        facts.last = Some(Last { sequence: 10, written, told: Instant::now() });
        let old = || written_at(9, 99);
        assert_eq!(state_of(&facts, &[old(), written_at(10, 100)]), Some(Revision(10)));
        for other in [None, written_at(11, 100), written_at(2, 101)] {
            assert_eq!(state_of(&facts, &[old(), other]), None);
        }
    }
}
