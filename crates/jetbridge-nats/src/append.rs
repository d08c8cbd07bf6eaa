//! Appending to a stream: at least once, at most once with an id, and under a condition.
//!
//! With an id the stream itself knows a message again, within its window. Under a condition on
//! the last message of the subject, an acknowledgement that is lost is settled by looking which
//! message came next: ours carries a mark that nobody else makes.

use async_nats::HeaderMap;
use tokio::time::Instant;

use jetbridge_core::{
    AppendOpts, Appended, Error, ErrorKind, Message, Outcome, Result, StreamName, random,
};

use crate::api::{Api, Stored, Which};
use crate::request::Outgoing;
use crate::wire::PubAck;
use crate::{headers, message};

const OPERATION: &str = "bus.append";

pub(crate) async fn append(api: &Api, message: &Message, opts: &AppendOpts) -> Result<Appended> {
    let mut store = HeaderMap::new();
    if let Some(id) = &opts.id {
        headers::insert(&mut store, headers::MESSAGE_ID, id, OPERATION)?;
    }
    if let Some(stream) = &opts.stream {
        store.insert(headers::EXPECTED_STREAM, stream.as_str());
    }
    if let Some(expected) = opts.expect_last_on_subject {
        let mark = random::name();
        store.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        store.insert(headers::WRITE, mark.as_str());
        let out = message::to_wire(message, Some(store), OPERATION)?;
        return Conditional { api, out, expected, mark }.append().await;
    }
    let out = message::to_wire(message, Some(store), OPERATION)?;
    let call = match opts.id {
        // The stream knows the id again: twice is once.
        Some(_) => api.link().repeatable(OPERATION),
        None => api.link().once(OPERATION),
    };
    match api.link().publish(&out, &call).await {
        Ok(Ok(ack)) => appended(&ack),
        Ok(Err(refused)) => Err(refused.into_error(OPERATION)),
        Err(error) => Err(Box::pin(explain(api, error)).await),
    }
}

/// Why nobody took it: there is no such stream, or there are none at all.
async fn explain(api: &Api, error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    match api.account(&api.link().repeatable(OPERATION)).await {
        Err(off) if off.kind() == ErrorKind::Unsupported => return off,
        // Whether there are others says nothing.
        Ok(_) | Err(_) => {}
    }
    error.hint("make a stream that keeps it: `jetbridge stream add NAME --subjects SUBJECT`")
}

fn appended(ack: &PubAck) -> Result<Appended> {
    Ok(Appended::new(StreamName::parse(&ack.stream)?, ack.seq, ack.duplicate))
}

/// An append that holds only if `expected` is the last sequence on the subject.
struct Conditional<'a> {
    api: &'a Api,
    out: Outgoing,
    expected: u64,
    /// Tells our message from everybody else's.
    mark: String,
}

impl Conditional<'_> {
    async fn append(&self) -> Result<Appended> {
        let deadline = self.api.link().once(OPERATION).deadline;
        loop {
            let call = self.api.link().once(OPERATION);
            let ended = match self.api.link().publish(&self.out, &call).await {
                Ok(Ok(ack)) => return appended(&ack),
                Ok(Err(refused)) if refused.is_wrong_last_sequence() => {
                    refused.into_error(OPERATION)
                }
                Ok(Err(refused)) => return Err(refused.into_error(OPERATION)),
                Err(error) if error.outcome() == Outcome::Unknown => error,
                Err(error) => return Err(Box::pin(explain(self.api, error)).await),
            };
            let lost_race = ended.kind() == ErrorKind::Conflict;
            match self.next().await {
                // An earlier try of this very append may have landed.
                Ok(Some((stream, next))) if next.header(headers::WRITE) == Some(&self.mark) => {
                    return Ok(Appended::new(stream, next.sequence, false));
                }
                Ok(Some((_, next))) => return Err(conflict(next.sequence)),
                Ok(None) if !lost_race && Instant::now() < deadline => {}
                Ok(None) | Err(_) => return Err(ended),
            }
        }
    }

    /// The first message on the subject behind the expected one, as the leader has it.
    async fn next(&self) -> Result<Option<(StreamName, Stored)>> {
        let call = self.api.link().repeatable(OPERATION);
        let subject = self.out.subject.as_str();
        let Some(stream) = self.api.stream_of(subject, &call).await? else { return Ok(None) };
        let which = Which {
            seq: Some(self.expected.saturating_add(1)),
            next_by_subj: Some(subject),
            ..Which::default()
        };
        let found = self.api.message(&stream, &which, &call).await?;
        let found = found.filter(|stored| stored.sequence > self.expected);
        found.map(|stored| Ok((StreamName::parse(&stream)?, stored))).transpose()
    }
}

fn conflict(present: u64) -> Error {
    Error::new(ErrorKind::Conflict, OPERATION)
        .because("another message came first on this subject")
        .with("revision", present)
}
