//! Asking, and what answers look like.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jetbridge_core::{self as core, Error, ErrorKind, Headers, Result, Subject};
use serde::Serialize;

use super::message::Message;
use super::publish::PublishCall;
use super::{Connector, Prefix};
use crate::worker::HandlerError;

/// How long an answer is waited for, unless set otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The headers by which NATS services say that they failed (NATS ADR-32).
const SERVICE_ERROR: &str = "Nats-Service-Error";
const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
const HANDLER_FAILED: &str = "500";

/// Asks when awaited, and returns the answer, which holds an `R`.
#[derive(Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct RequestCall<R> {
    publish: PublishCall,
    timeout: Duration,
    answer: PhantomData<fn() -> R>,
}

impl<R> RequestCall<R> {
    pub(super) fn new(publish: PublishCall) -> Self {
        Self { publish, timeout: REQUEST_TIMEOUT, answer: PhantomData }
    }

    /// Waits for the answer at most this long; by default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends `headers` too.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.publish = self.publish.headers(headers);
        self
    }

    /// Leaves the connector's topic prefix out.
    pub fn ignore_prefix(mut self) -> Self {
        self.publish = self.publish.ignore_prefix();
        self
    }
}

impl<R: 'static> IntoFuture for RequestCall<R> {
    type Output = Result<Message<R>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (connector, question) = self.publish.message()?;
            let subject = question.subject.clone();
            let answer = connector.bus().request(question, self.timeout).await?;
            if let Some(code) = answer.headers.get(SERVICE_ERROR_CODE) {
                let text = answer.headers.get(SERVICE_ERROR).unwrap_or("it does not say why");
                return Err(Error::new(ErrorKind::Internal, "bus.request")
                    .because(format!("the responder failed: {text}"))
                    .with("subject", subject)
                    .with("code", code));
            }
            Ok(Message::new(connector, answer, Prefix::Ignored))
        })
    }
}

/// Sends what a handler returned to whoever asked; also that its answer cannot be sent. Without
/// somebody who asked there is nothing to send, and the handler's result is all there is.
pub(super) async fn answer<T, R: Serialize>(
    question: &Message<T>,
    result: Result<R, HandlerError>,
) -> Result<(), HandlerError> {
    let Some(reply) = question.reply() else { return result.map(drop) };
    let error = match result {
        Ok(answer) => match question.respond(&answer).await {
            Ok(()) => return Ok(()),
            Err(error) => error.into(),
        },
        Err(error) => error,
    };
    refuse(question.connector(), reply.clone(), &error).await?;
    Err(error)
}

async fn refuse(connector: &Connector, reply: Subject, error: &HandlerError) -> Result<()> {
    let text: String =
        error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let headers =
        Headers::new().with(SERVICE_ERROR, &text)?.with(SERVICE_ERROR_CODE, HANDLER_FAILED)?;
    let message = core::Message::new(reply, Vec::new()).headers(headers);
    connector.bus().publish(message).await
}
