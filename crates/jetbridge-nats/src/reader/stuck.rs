//! A message that the client cannot read, and that ends the connection again and again.

use jetbridge_core::{Error, ErrorKind, Result};

use super::Reader;
use crate::api::Which;
use crate::request::{Call, may_not_ask};

/// A connection that ends this often in a row without bringing the next message ends because of it.
const STUCK_MAX: u32 = 3;
/// How many messages are looked at for the one that the client cannot read.
const SUSPECTS_MAX: usize = 256;
/// What a server writes in JSON for bytes that are no text.
const NO_TEXT: char = char::REPLACEMENT_CHARACTER;

/// How often in a row the connection ended behind the same message.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    at: Option<u64>,
    times: u32,
}

impl Reader {
    /// A subject that is no text makes the client end the connection, again and again. Whoever
    /// reads is told instead of waiting for ever.
    pub(super) async fn is_not_stuck(&mut self) -> Result<()> {
        let times = if self.stuck.at == self.position { self.stuck.times + 1 } else { 1 };
        self.stuck = Stuck { at: self.position, times };
        if times < STUCK_MAX {
            return Ok(());
        }
        self.stuck.times = 0;
        let call = self.api.link().repeatable(self.spec.operation);
        match self.unreadable(&call).await {
            Ok(None) => Ok(()),
            Ok(Some(sequence)) => Err(Error::new(ErrorKind::Corrupt, self.spec.operation)
                .because("the subject of a message is no text")
                .with("stream", &self.spec.stream)
                .with("sequence", sequence)
                .hint("remove that message, or read on behind it")),
            Err(error) if may_not_ask(&error) || error.kind() == ErrorKind::Unavailable => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The first of the next messages whose subject is no text.
    async fn unreadable(&self, call: &Call) -> Result<Option<u64>> {
        let mut first = self.reached().unwrap_or_default() + 1;
        for _ in 0..SUSPECTS_MAX {
            let which = Which { seq: Some(first), next_by_subj: Some(">"), ..Which::default() };
            match self.api.message(&self.spec.stream, &which, call).await? {
                None => return Ok(None),
                Some(suspect) if suspect.subject.contains(NO_TEXT) => {
                    return Ok(Some(suspect.sequence));
                }
                Some(suspect) => first = suspect.sequence + 1,
            }
        }
        Ok(None)
    }
}
