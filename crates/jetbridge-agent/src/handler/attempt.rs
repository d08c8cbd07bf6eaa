//! One attempt at one message, whatever it is done by.

use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::Message;

/// Bytes of an answer that are kept; more makes the attempt fail, as no reply could carry it.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What an attempt needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) handler: String,
    pub(crate) message: Message,
    /// Stream and sequence, if a stream keeps the message.
    pub(crate) stored: Option<(String, u64)>,
    /// Counted from 1.
    pub(crate) number: u64,
}

/// How an attempt came out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Done; the answer is for whoever asked, if somebody did.
    Done(Bytes),
    /// Not done.
    Failed {
        /// Why, in one line.
        reason: String,
        /// When to try again, if the other side said so.
        retry_after: Option<Duration>,
    },
}

impl Verdict {
    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), retry_after: None }
    }
}

impl Attempt {
    /// The facts that a process finds in its environment and a URL in its headers: names in
    /// words with `-`, values as text.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("Handler", self.handler.clone()),
            ("Subject", self.message.subject.to_string()),
            ("Attempt", self.number.to_string()),
        ];
        if let Some(reply) = &self.message.reply {
            facts.push(("Reply", reply.to_string()));
        }
        if let Some((stream, sequence)) = &self.stored {
            facts.push(("Stream", stream.clone()));
            facts.push(("Sequence", sequence.to_string()));
        }
        facts
    }
}
