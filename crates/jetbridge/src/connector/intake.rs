//! Subscriptions and consumers as one kind of source: a stream whose intake ends when a token
//! says so, after which it delivers what had arrived and ends. That the connection closes
//! meanwhile is part of the end, not an error.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use jetbridge_core::{self as core, Received, Result};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What can stop taking in.
pub(super) trait Source:
    Stream<Item = Result<Self::Taken>> + Unpin + Send + 'static
{
    type Taken;

    fn stop_intake(&mut self);
}

impl Source for core::Subscription {
    type Taken = Received;

    fn stop_intake(&mut self) {
        self.drain();
    }
}

impl Source for core::Consumer {
    type Taken = core::Delivery;

    fn stop_intake(&mut self) {
        self.drain();
    }
}

/// A source that drains when its token is cancelled.
pub(super) struct Intake<S> {
    source: S,
    token: CancellationToken,
    /// `None` once the intake has been stopped.
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ended: bool,
}

impl<S: Source> Intake<S> {
    pub(super) fn new(source: S, token: CancellationToken) -> Self {
        let stop = Some(Box::pin(token.clone().cancelled_owned()));
        Self { source, token, stop, ended: false }
    }

    /// What ends the intake.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl<S: Source> Stream for Intake<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(cx).is_ready()) {
            this.stop = None;
            this.source.stop_intake();
        }
        let mut item = ready!(Pin::new(&mut this.source).poll_next(cx));
        if this.stop.is_none() && matches!(item, Some(Err(_))) {
            item = None;
        }
        this.ended = item.is_none();
        Poll::Ready(item)
    }
}
