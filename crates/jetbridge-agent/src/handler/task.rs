//! One message from its arrival to its settlement.
//!
//! What a stream keeps is tried once for each delivery: a failed attempt hands it back with a
//! wait, so that the wait outlives this process. A plain message exists only here, so its
//! attempts are made here, one after the other.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{Delivery, Message, Result};
use tokio::time::Instant;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::attempt::{Attempt, Verdict};
use super::spec::{HandlerSpec, Order, Target};
use super::url::HttpClient;
use super::{dead, run};
use crate::board::State;
use crate::metrics::Ended;
use crate::supervise::Context;
use crate::traces::{TRACEPARENT, follow};

/// How often a delivery that is being worked on asks for more time: thrice in its ack wait.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// What the tasks of one handler share.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) spec: HandlerSpec,
    pub(crate) context: Context,
    /// There if the target is a URL.
    pub(crate) client: Option<HttpClient>,
}

impl Work {
    /// Makes an attempt at a delivery and settles it. Where messages must not overtake each other,
    /// a failed one is not handed back, behind those that came later: it is tried again here.
    pub(crate) async fn delivery(&self, stream: &str, delivery: Delivery) {
        let mut attempt = Attempt {
            handler: self.spec.name.clone(),
            message: delivery.message.clone(),
            stored: Some((stream.to_owned(), delivery.sequence)),
            number: delivery.attempt,
        };
        let settled = loop {
            let verdict = self.in_progress(&delivery, self.attempt(&attempt)).await;
            let (reason, retry_after) = match verdict {
                Verdict::Done(answer) => {
                    self.answer(&attempt, answer).await;
                    break delivery.ack().await;
                }
                Verdict::Failed { reason, retry_after } => (reason, retry_after),
            };
            if attempt.number >= u64::from(self.spec.attempts) {
                break self.bury(&attempt, &reason, delivery).await;
            }
            let wait = retry_after.unwrap_or_else(|| self.wait_after(attempt.number));
            if self.spec.order == Order::Free {
                break delivery.nak(wait).await;
            }
            tokio::select! {
                () = self.in_progress(&delivery, tokio::time::sleep(wait)) => attempt.number += 1,
                _deadline = self.context.stop.begins() => break delivery.nak(wait).await,
            }
        };
        if let Err(error) = settled {
            // The message comes again by itself; that is what at least once means.
            tracing::warn!(handler = self.spec.name, %error, "a delivery could not be settled");
        }
    }

    /// Makes the attempts at a plain message. Stops trying when stopping has begun.
    pub(crate) async fn message(&self, message: Message) {
        let handler = self.spec.name.clone();
        let mut attempt = Attempt { handler, message, stored: None, number: 1 };
        loop {
            let (reason, retry_after) = match self.attempt(&attempt).await {
                Verdict::Done(answer) => return self.answer(&attempt, answer).await,
                Verdict::Failed { reason, retry_after } => (reason, retry_after),
            };
            let last = attempt.number >= u64::from(self.spec.attempts);
            if last || self.context.stop.has_begun() {
                return self.bury_plain(&attempt, &reason).await;
            }
            let wait = retry_after.unwrap_or_else(|| self.wait_after(attempt.number));
            tokio::select! {
                () = tokio::time::sleep(wait) => attempt.number += 1,
                _deadline = self.context.stop.begins() => {
                    return self.bury_plain(&attempt, &reason).await;
                }
            }
        }
    }

    /// Waits for `work`, during which the delivery is kept from coming again.
    async fn in_progress<T>(&self, delivery: &Delivery, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    if let Err(error) = delivery.in_progress().await {
                        tracing::debug!(handler = self.spec.name, %error, "no progress noted");
                    }
                }
            }
        }
    }

    async fn attempt(&self, attempt: &Attempt) -> Verdict {
        let (stream, sequence) = attempt.stored.as_ref().map(|(s, n)| (s.as_str(), *n)).unzip();
        let span = tracing::debug_span!(
            "attempt",
            otel.name = format_args!("attempt {}", self.spec.name),
            otel.kind = "consumer",
            otel.status_code = Empty,
            handler = self.spec.name,
            subject = attempt.message.subject.as_str(),
            stream,
            sequence,
            attempt = attempt.number,
            outcome = Empty,
        );
        follow(&span, attempt.message.headers.get(TRACEPARENT));
        let verdict = self.try_once(attempt).instrument(span.clone()).await;
        match &verdict {
            Verdict::Done(_answer) => span.record("outcome", "done"),
            Verdict::Failed { .. } => {
                span.record("outcome", "failed").record("otel.status_code", "ERROR")
            }
        };
        verdict
    }

    async fn try_once(&self, attempt: &Attempt) -> Verdict {
        let _in_flight = self.context.metrics.attempt(&self.spec.name);
        let started = Instant::now();
        let timeout = self.spec.timeout;
        let verdict = match &self.spec.target {
            Target::Run { command, directory } => {
                run::run(command, directory, attempt, timeout).await
            }
            Target::Url(url) => match &self.client {
                Some(client) => client.post(url.expose(), attempt, timeout).await,
                None => Verdict::failed("there is no HTTP client"),
            },
        };
        let ended = match &verdict {
            Verdict::Done(_answer) => Ended::Done,
            Verdict::Failed { reason, .. } => {
                let subject = &attempt.message.subject;
                let (handler, number) = (&self.spec.name, attempt.number);
                tracing::warn!(handler, %subject, attempt = number, reason, "an attempt failed");
                Ended::Failed
            }
        };
        self.context.metrics.ended(&self.spec.name, ended, started.elapsed());
        verdict
    }

    /// Sends the answer to whoever asked.
    async fn answer(&self, attempt: &Attempt, answer: Bytes) {
        // A delivery of a stream has no asker: its reply subject is the stream's own business.
        let Some(reply) = attempt.message.reply.clone().filter(|_| attempt.stored.is_none()) else {
            return;
        };
        let answer = Message::new(reply, answer);
        if let Err(error) = self.context.backend.bus().publish(answer).await {
            tracing::warn!(handler = self.spec.name, %error, "an answer could not be sent");
        }
    }

    /// Keeps the dead letter, then settles; if it cannot be kept, the message comes again.
    async fn bury(&self, attempt: &Attempt, reason: &str, delivery: Delivery) -> Result<()> {
        match self.keep_dead(attempt, reason).await {
            Ok(()) => delivery.term().await,
            Err(error) => {
                self.context.reporter.failed(&error);
                delivery.nak(self.spec.backoff.1).await
            }
        }
    }

    async fn bury_plain(&self, attempt: &Attempt, reason: &str) {
        if let Err(error) = self.keep_dead(attempt, reason).await {
            let subject = &attempt.message.subject;
            tracing::error!(handler = self.spec.name, %subject, %error, "a message is lost");
            self.context.reporter.failed(&error);
        }
    }

    async fn keep_dead(&self, attempt: &Attempt, reason: &str) -> Result<()> {
        dead::keep(&*self.context.backend, &self.spec, attempt, reason).await?;
        self.context.metrics.died(&self.spec.name);
        // If the last letter could not be kept, that is over.
        self.context.reporter.set(State::Running);
        Ok(())
    }

    /// The wait after attempt `number`: doubling, up to the most.
    fn wait_after(&self, number: u64) -> Duration {
        let (first, most) = self.spec.backoff;
        let doublings = u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
        first.saturating_mul(1 << doublings).min(most)
    }
}
