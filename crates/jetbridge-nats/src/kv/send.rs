//! Sending a draft until it is settled: acknowledged, refused, or found out about.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backoff, Error, ErrorKind, Outcome, Result};

use super::NatsKv;
use super::draft::Draft;
use crate::api::{Stored, Which};
use crate::error::{ApiError, code};
use crate::facts::Facts;
use crate::headers;
use crate::publish::is_no_stream;
use crate::request::{Call, Repeat, may_not_ask};
use crate::settle::{Judgement, Last, Unclear, judge, judge_history};
use crate::wire::PubAck;

/// A name is worth having the stream remember it only if it does so until the write is settled.
const REMEMBERED_MIN: Duration = Duration::from_secs(30);
/// Revisions of one key that a history has at most, and some.
const HISTORY_STEPS_MAX: usize = 66;

/// A stream's acknowledgement or refusal.
type Answered = std::result::Result<PubAck, ApiError>;

/// How a write ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is stored at this sequence.
    Landed(u64),
    /// The last sequence is another; 0 is "none", `None` is not told.
    Lost(Option<u64>),
}

impl NatsKv {
    /// Sends a draft, over `expected` if that is set, until it is settled.
    pub(super) async fn send(
        &self,
        facts: &Facts,
        draft: &mut Draft,
        expected: Option<u64>,
        call: &Call,
    ) -> Result<Verdict> {
        if call.repeat != Repeat::Never {
            let call = call.never_repeated();
            return Box::pin(self.send(facts, draft, expected, &call)).await;
        }
        draft.expected = expected;
        self.name(facts, draft, call);
        let server = self.bucket.api.link().server_id();
        let link = self.bucket.api.link();
        match link.publish_made(|| draft.outgoing(expected), call).await {
            Ok(Ok(ack)) => Ok(Verdict::Landed(ack.seq)),
            Ok(Err(refused)) if refused.is_wrong_last_sequence() => {
                Ok(Verdict::Lost(refused.present_sequence()))
            }
            // Rare, so its room is not that of every write.
            answered => Box::pin(self.send_on(facts, draft, (answered, server), call)).await,
        }
    }

    /// Goes on with a draft that was `answered` otherwise than usual; `server` was the one at the
    /// other end before it was sent.
    async fn send_on(
        &self,
        facts: &Facts,
        draft: &mut Draft,
        (mut answered, server): (Result<Answered>, Arc<str>),
        call: &Call,
    ) -> Result<Verdict> {
        // The error of the last attempt that nobody answered.
        let mut unclear = None;
        let mut over = draft.expected;
        let mut backoff = Backoff::outage();
        loop {
            let settled = match answered {
                Ok(Ok(ack)) => return Ok(Verdict::Landed(ack.seq)),
                Ok(Err(refused)) if refused.is_wrong_last_sequence() && unclear.is_none() => {
                    return Ok(Verdict::Lost(refused.present_sequence()));
                }
                // A copy was refused: perhaps because the first one landed after all.
                Ok(Err(refused)) if refused.is_wrong_last_sequence() => false,
                Ok(Err(refused)) => {
                    self.after_refusal(facts, draft, refused, call, &mut backoff).await?;
                    true
                }
                Err(error) if error.outcome() == Outcome::Unknown => {
                    unclear = Some(error);
                    false
                }
                Err(error) if unclear.is_none() => {
                    let silent = is_no_stream(&error);
                    let error = facts.copies.explain_silence(&self.bucket.api, error, call).await;
                    if !silent || !error.is_retryable() || call.is_over() {
                        return Err(error);
                    }
                    backoff.wait().await;
                    true
                }
                Err(_later) => false,
            };
            if !settled {
                match self.settle(facts, draft, &server, call).await {
                    Ok(Judgement::Landed(sequence)) => return Ok(Verdict::Landed(sequence)),
                    Ok(Judgement::Lost) => return Ok(Verdict::Lost(None)),
                    Ok(Judgement::Again(sequence)) if !call.is_over() => over = Some(sequence),
                    Ok(Judgement::Again(_) | Judgement::Unknown) | Err(_) => {
                        return Err(nobody_knows(unclear, call));
                    }
                }
            }
            let link = self.bucket.api.link();
            answered = link.publish_made(|| draft.outgoing(over), call).await;
        }
    }

    /// Gives the write a name, if it has room for one. A condition keeps a late copy out by
    /// itself; an unconditional write needs the stream's memory for that. One of a burst, without
    /// any other header, goes without: a header costs the server more than it is worth there.
    fn name(&self, facts: &Facts, draft: &mut Draft, call: &Call) {
        if draft.id.is_some() {
            return;
        }
        let unconditional = draft.expected.is_none();
        if unconditional && draft.headers.is_empty() && self.bucket.is_burst() {
            return;
        }
        draft.fenced =
            unconditional && facts.remembers >= REMEMBERED_MIN && self.bucket.may_fence(call.began);
        draft.id = Some(self.bucket.next_write());
        if let Some(max) = facts.message_bytes_max
            && draft.outgoing(draft.expected).bytes() > max
        {
            (draft.id, draft.fenced) = (None, false);
        }
    }

    /// A refusal that is no lost race: what can be done about it is done, else it is the error.
    async fn after_refusal(
        &self,
        facts: &Facts,
        draft: &mut Draft,
        refused: ApiError,
        call: &Call,
        backoff: &mut Backoff,
    ) -> Result<()> {
        let unsuspected = refused.err_code == code::TTL_DISABLED && !facts.known;
        if unsuspected && draft.without_server_expiry() {
            return Ok(());
        }
        if refused.kind() == ErrorKind::Unavailable && !call.is_over() {
            backoff.wait().await;
            return Ok(());
        }
        Err(refused.into_error(call.operation))
    }

    /// Finds out what became of a write.
    async fn settle(
        &self,
        facts: &Facts,
        draft: &Draft,
        server: &str,
        call: &Call,
    ) -> Result<Judgement> {
        if draft.leaves_no_trace() {
            return Ok(Judgement::Unknown);
        }
        let call = call.repeatable();
        let last = self.written_message(facts, draft, &call).await?;
        let link = self.bucket.api.link();
        let now = link.clock().now().and_then(|now| now.now.checked_sub(now.error));
        let write = Unclear {
            id: draft.id.as_deref(),
            expected: draft.expected,
            fenced: draft.fenced,
            began: now.and_then(|now| now.checked_sub(call.began.elapsed())),
            restarted: *link.server_id() != *server,
        };
        let judged = judge(&write, last.as_ref().map(Last::of).as_ref());
        match (judged, write.expected, write.id) {
            (Judgement::Unknown, Some(expected), Some(id)) if facts.keeps_history() => {
                self.search(facts, draft, (expected, id), &call).await
            }
            _ => Ok(judged),
        }
    }

    /// The last message where the draft goes, as the leader has it.
    async fn written_message(
        &self,
        facts: &Facts,
        draft: &Draft,
        call: &Call,
    ) -> Result<Option<Stored>> {
        let (api, stream) = facts.copies.leader(&self.bucket.api);
        let which = Which { last_by_subj: Some(&draft.stored_under), ..Which::default() };
        match api.message(&stream, &which, call).await {
            Err(denied) if may_not_ask(&denied) && facts.copies.is_only_one() => {
                let (stream, subject) = (&self.bucket.stream, &draft.stored_under);
                self.bucket.api.direct_last(stream, subject, call).await
            }
            answered => answered,
        }
    }

    /// Looks for a write among the messages between the one it expected and the last.
    async fn search(
        &self,
        facts: &Facts,
        draft: &Draft,
        (expected, id): (u64, &str),
        call: &Call,
    ) -> Result<Judgement> {
        let (api, stream) = facts.copies.leader(&self.bucket.api);
        let expected_is_stored = expected > 0
            && api
                .message(&stream, &Which::at(expected), call)
                .await?
                .is_some_and(|stored| stored.subject.as_str() == draft.stored_under);
        let mut found = Vec::new();
        let mut from = expected + 1;
        while found.len() < HISTORY_STEPS_MAX {
            let subject = Some(draft.stored_under.as_str());
            let which = Which { seq: Some(from), next_by_subj: subject, ..Which::default() };
            let Some(stored) = api.message(&stream, &which, call).await? else { break };
            from = stored.sequence + 1;
            found.push((stored.sequence, write_id(&stored).map(str::to_owned)));
        }
        Ok(judge_history(id, &found, expected_is_stored))
    }
}

fn nobody_knows(unclear: Option<Error>, call: &Call) -> Error {
    let unclear = unclear
        .unwrap_or_else(|| Error::new(ErrorKind::Unavailable, call.operation).outcome_unknown());
    unclear.hint("read the key: whether this write was applied cannot be told for certain")
}

impl<'a> Last<'a> {
    fn of(stored: &'a Stored) -> Self {
        let expected = stored.header(headers::EXPECTED_LAST_SUBJECT_SEQUENCE);
        Self {
            sequence: stored.sequence,
            id: write_id(stored),
            expected: expected.and_then(|text| text.parse().ok()),
            time: stored.time,
        }
    }
}

fn write_id(stored: &Stored) -> Option<&str> {
    stored.header(headers::WRITE).or_else(|| stored.header(headers::MESSAGE_ID))
}
