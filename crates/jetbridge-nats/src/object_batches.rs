//! The chunks of an object by direct gets of several each, asked for ahead of the reader.
//!
//! Where they stand together in the stream, because nobody else wrote while the object was put,
//! the first one tells where all others are. Then several questions are under way at once, and
//! the reader does not wait for a round trip in between. Else a question begins where the answers
//! to the one before ended. Whoever does not read does not ask.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use serde_json::json;

use jetbridge_core::{Backoff, Error, ErrorKind, Result};

use crate::api::stored;
use crate::object_get::{Chunks, OPERATION};
use crate::request::{Answers, Call};

/// Bytes of chunks that one question asks for.
const QUESTION_BYTES: u64 = 512 << 10;
/// Chunks that one question asks for at least: one alone is answered without an end.
const QUESTION_CHUNKS_MIN: u64 = 2;
/// Chunks that one question asks for at most.
const QUESTION_CHUNKS_MAX: u64 = 512;
/// Questions under way at once: together they are a window of 3.5 MiB, for which the client's read
/// buffers take up to four times as much.
const QUESTIONS_MAX: usize = 7;

/// The `wanted` chunks of `chunks` from number `skip` on; that one is at `sequence` or behind it,
/// with none of the object in between.
pub(crate) fn ask(
    chunks: Chunks,
    (skip, wanted): (u64, u64),
    sequence: u64,
) -> BoxStream<'static, Result<Bytes>> {
    let state = Some(Questions::new(chunks, (skip, wanted), sequence));
    let payloads = futures_util::stream::unfold(state, |state| async move {
        let mut questions = state?;
        match questions.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(questions))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    payloads.boxed()
}

/// Questions under way, oldest first.
struct Questions {
    chunks: Chunks,
    subject: String,
    asked: VecDeque<Question>,
    /// Where the chunk is that comes next, or behind it.
    at: u64,
    /// The sequence that the next question begins at.
    next: u64,
    /// Chunks that no question asks for yet.
    left: u64,
    placing: Placing,
    /// The number of the chunk that comes first.
    skip: u64,
    /// The call since which nothing has come.
    silent: Option<Call>,
    backoff: Backoff,
}

/// What is known of where the chunks are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Placing {
    /// Nothing before the first has come.
    Unknown,
    /// One directly behind the other.
    Together,
    /// Among other messages.
    Scattered,
}

struct Question {
    answers: Answers,
    /// Chunks that it asks for, and that have come.
    wanted: u64,
    came: u64,
}

impl Questions {
    fn new(chunks: Chunks, (skip, wanted): (u64, u64), sequence: u64) -> Self {
        Self {
            subject: chunks.shelf.chunk_subject(&chunks.placed.meta.nuid),
            chunks,
            asked: VecDeque::with_capacity(QUESTIONS_MAX),
            at: sequence,
            next: sequence,
            left: wanted,
            placing: Placing::Unknown,
            skip,
            silent: None,
            backoff: Backoff::outage(),
        }
    }

    /// The next chunk; `None` if there is none, whatever was wanted.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            self.ask_ahead().await?;
            let Some(question) = self.asked.front_mut() else { return Ok(None) };
            let message = question.answers.next().await?;
            match message.status.map(|status| status.as_u16()) {
                None => {
                    let chunk = stored(message, OPERATION)?;
                    question.came += 1;
                    self.place(chunk.sequence)?;
                    return Ok(Some(chunk.payload));
                }
                // The end of the answers; or there is nothing more on the subject.
                Some(204 | 404) => {
                    if !self.answered().await? {
                        return Ok(None);
                    }
                }
                Some(status) => {
                    let words = message.description.unwrap_or_default();
                    return Err(Error::new(ErrorKind::Unavailable, OPERATION)
                        .because(words)
                        .with("status", status)
                        .with("object", &self.chunks.placed.meta.name));
                }
            }
        }
    }

    /// Asks as far ahead as it is known where to ask.
    async fn ask_ahead(&mut self) -> Result<()> {
        let most = if self.placing == Placing::Together { QUESTIONS_MAX } else { 1 };
        while self.asked.len() < most && self.left > 0 {
            let call = self.chunks.shelf.api.link().repeatable(OPERATION);
            let wanted = self.per_question().min(self.left);
            let batch = wanted.max(QUESTION_CHUNKS_MIN);
            let body = json!({ "seq": self.next, "next_by_subj": self.subject, "batch": batch });
            let (api, stream) = (&self.chunks.shelf.api, &self.chunks.shelf.stream);
            let answers = api.direct_many(stream, &body, &call).await?;
            self.asked.push_back(Question { answers, wanted, came: 0 });
            self.next += wanted;
            self.left -= wanted;
        }
        Ok(())
    }

    fn per_question(&self) -> u64 {
        let meta = &self.chunks.placed.meta;
        let chunk = (meta.size / meta.chunks.max(1)).max(1);
        (QUESTION_BYTES / chunk).clamp(QUESTION_CHUNKS_MIN, QUESTION_CHUNKS_MAX)
    }

    /// Takes note of where a chunk was.
    fn place(&mut self, sequence: u64) -> Result<()> {
        let placed = &self.chunks.placed;
        match self.placing {
            Placing::Unknown => {
                let end = sequence.checked_add(placed.meta.chunks.saturating_sub(self.skip));
                // Then the meta follows the last chunk directly.
                let together = end == Some(placed.sequence);
                self.placing = if together { Placing::Together } else { Placing::Scattered };
                self.next += sequence - self.at.min(sequence);
            }
            Placing::Together if sequence != self.at => return Err(self.chunks.gone()),
            Placing::Together | Placing::Scattered => {}
        }
        self.at = sequence + 1;
        self.silent = None;
        Ok(())
    }

    /// The oldest question is answered; `false` if there is nothing more to ask.
    ///
    /// A copy that lags has nothing yet where another has more, so as long as the object is still
    /// there, too little is no answer.
    async fn answered(&mut self) -> Result<bool> {
        let Some(question) = self.asked.pop_front() else { return Ok(false) };
        let missing = question.wanted - question.came.min(question.wanted);
        if missing == 0 {
            if self.placing == Placing::Scattered {
                self.next = self.at;
            }
            return Ok(true);
        }
        // Whatever was asked for behind it comes too early.
        self.left += missing + self.asked.drain(..).map(|later| later.wanted).sum::<u64>();
        self.next = self.at;
        if question.came > 0 {
            return Ok(true);
        }
        let link = self.chunks.shelf.api.link();
        let silent = *self.silent.get_or_insert_with(|| link.repeatable(OPERATION));
        let copies = &self.chunks.shelf.copies;
        if copies.is_only_one() || silent.is_over() || !self.chunks.is_still_there().await? {
            return Ok(false);
        }
        self.backoff.wait().await;
        Ok(true)
    }
}
