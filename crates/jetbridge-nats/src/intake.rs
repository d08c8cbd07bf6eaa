//! The way from a subscription's connection to a reader that may be slow.
//!
//! A reader that keeps up takes messages from the connection itself, so that each moves no more
//! than it must. A guard looks after what it leaves there: messages that have waited for
//! [`ABSENCE`] go into a buffer that is bounded; what does not fit is dropped and counted, and the
//! reader finds the count where the gap is.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Notify, watch};
use tokio::task::coop::{consume_budget, unconstrained};

use jetbridge_core::{Error, Message, Received, Result};

use crate::error::not_sent;
use crate::link::Feed;
use crate::message;
use crate::request::denied;

const OPERATION: &str = "bus.subscribe";
/// Messages that a reader takes in one turn.
const TURN_MAX: usize = 512;
/// How long messages may wait at the connection: what comes in this time is the most that a
/// subscription holds beyond its capacity.
const ABSENCE: Duration = Duration::from_millis(5);

/// What the reader and the guard of one subscription share.
#[derive(Debug)]
pub(crate) struct Intake {
    inner: Mutex<Inner>,
    bell: Arc<Bell>,
    /// Whether the reader has come since the guard looked.
    visited: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    /// `None` while the guard ends the intake, and behind the end.
    feed: Option<Feed>,
    draining: bool,
    buffer: Buffer,
    /// Set once: nothing comes behind what is buffered but this.
    end: Option<Result<()>>,
}

/// Rung by the connection when there is something to take.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    reader: AtomicWaker,
    guard: Notify,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring_for_the_guard();
        self.reader.wake();
    }
}

impl Bell {
    fn ring_for_the_guard(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.guard.notify_one();
        }
    }
}

impl Intake {
    /// Holds `capacity` messages of `feed`, at least one.
    pub(crate) fn new(feed: Feed, capacity: usize) -> Arc<Self> {
        let buffer = Buffer { messages: VecDeque::new(), capacity: capacity.max(1) };
        let inner = Inner { feed: Some(feed), draining: false, buffer, end: None };
        let visited = AtomicBool::new(false);
        let intake = Self { inner: Mutex::new(inner), bell: Arc::default(), visited };
        // From here on the connection rings.
        intake.lock().take_in(&intake.bell, 1);
        Arc::new(intake)
    }

    /// What arrives, for the one reader.
    pub(crate) fn read(self: Arc<Self>) -> BoxStream<'static, Result<Received>> {
        let mut taken = VecDeque::new();
        let mut over = false;
        Box::pin(futures_util::stream::poll_fn(move |cx| {
            loop {
                if let Some(received) = taken.pop_front() {
                    return Poll::Ready(Some(Ok(received)));
                }
                if over {
                    return Poll::Ready(None);
                }
                match ready!(self.poll(&mut taken, cx)) {
                    None => {}
                    Some(Ok(())) => over = true,
                    Some(Err(error)) => {
                        over = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }))
    }

    /// Moves what has arrived into `taken`, which is empty; ready when there is something, or the
    /// end.
    fn poll(
        &self,
        taken: &mut VecDeque<Received>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<()>>> {
        // So that a reader who always finds something lets others run too.
        ready!(pin!(consume_budget()).poll(cx));
        self.visited.store(true, Ordering::Relaxed);
        self.bell.reader.register(cx.waker());
        let mut inner = self.lock();
        if inner.buffer.messages.is_empty() {
            inner.take_in(&self.bell, TURN_MAX);
        }
        if !inner.buffer.messages.is_empty() {
            std::mem::swap(&mut inner.buffer.messages, taken);
        } else if let Some(end) = &mut inner.end {
            return Poll::Ready(Some(std::mem::replace(end, Ok(()))));
        } else {
            return Poll::Pending;
        }
        Poll::Ready(None)
    }

    /// Runs until the end: keeps what waits within bounds, and ends the intake when `stopping` is
    /// set, or gone.
    pub(crate) async fn guard(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let closes = Closes(self);
        let intake = &closes.0;
        let mut stop = pin!(async move { drop(stopping.wait_for(|stop| *stop).await) });
        let mut draining = false;
        while !intake.lock().is_over() {
            tokio::select! {
                biased;
                () = &mut stop, if !draining => {
                    draining = true;
                    intake.drain().await;
                }
                // Never ending under constant traffic, so that the stop must be able to cut it off.
                () = intake.look_after() => {}
            }
        }
    }

    /// Waits for something to arrive, and takes it in unless the reader does, until nothing waits.
    async fn look_after(&self) {
        self.bell.guard.notified().await;

        self.visited.store(false, Ordering::Relaxed);
        while self.bell.rung.load(Ordering::Acquire) {
            tokio::time::sleep(ABSENCE).await;
            if !self.visited.swap(false, Ordering::Relaxed) {
                self.lock().take_in(&self.bell, usize::MAX);
            }
        }
    }

    /// Ends the intake: what has arrived can still be read, then comes the end.
    async fn drain(&self) {
        let feed = self.lock().feed.take();
        if let Some(mut feed) = feed {
            feed.drain().await;
            let mut inner = self.lock();
            (inner.feed, inner.draining) = (Some(feed), true);
            inner.take_in(&self.bell, usize::MAX);
        }
        self.bell.reader.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the intake of a guard that is stopped with the connection.
struct Closes(Arc<Intake>);

impl Drop for Closes {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.take_in(&self.0.bell, usize::MAX);
        inner.finish(Err(closed()));
        drop(inner);
        self.0.bell.reader.wake();
    }
}

impl Inner {
    fn is_over(&self) -> bool {
        self.feed.is_none() && self.end.is_some()
    }

    fn finish(&mut self, how: Result<()>) {
        self.end.get_or_insert(how);
        self.feed = None;
    }

    /// Takes from the connection what is there, but no more than `most` messages while there is
    /// room; the bell is rung when more comes, or for what is left.
    fn take_in(&mut self, bell: &Arc<Bell>, most: usize) {
        let waker = Waker::from(Arc::clone(bell));
        bell.rung.store(false, Ordering::Release);
        // The turn bounds it, not what is left of the budget of the task that takes it.
        let mut turn = unconstrained(poll_fn(|cx| self.take(cx, most)));
        match turn.poll_unpin(&mut Context::from_waker(&waker)) {
            Poll::Pending => {}
            Poll::Ready(Some(end)) => self.finish(end),
            Poll::Ready(None) => bell.ring_for_the_guard(),
        }
    }

    /// `None` if more may be there, else the end.
    fn take(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Option<Result<()>>> {
        let Some(feed) = &mut self.feed else { return Poll::Pending };
        for taken in 0_usize.. {
            // What is too much is counted at once, so that a gap has one number.
            if taken >= most && !self.buffer.is_full() {
                break;
            }
            let end = match ready!(feed.poll_next_unpin(cx)) {
                Some(Ok(message)) => match message::from_wire(message) {
                    Ok(message) => {
                        self.buffer.push(message);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Some(Err(denial)) => Err(denied(OPERATION, &denial)),
                None if self.draining => Ok(()),
                None => Err(closed()),
            };
            return Poll::Ready(Some(end));
        }
        Poll::Ready(None)
    }
}

fn closed() -> Error {
    not_sent(OPERATION, "the connection is closed")
}

/// Messages that wait for the reader.
#[derive(Debug)]
struct Buffer {
    messages: VecDeque<Received>,
    capacity: usize,
}

impl Buffer {
    fn is_full(&self) -> bool {
        self.messages.len() >= self.capacity
    }

    /// Adds a message, or its number where there is no room.
    fn push(&mut self, message: Message) {
        if !self.is_full() {
            self.messages.push_back(Received::Message(message));
            return;
        }
        match self.messages.back_mut() {
            Some(Received::Dropped(number)) => *number += 1,
            // The count takes a place beyond the capacity, the one it stands for.
            _ => self.messages.push_back(Received::Dropped(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use jetbridge_core::Subject;

    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let mut buffer = Buffer { messages: VecDeque::new(), capacity: 2 };
        let message = |n: u8| Message::new(Subject::parse("s").unwrap(), vec![n]);
        (0..5).for_each(|n| buffer.push(message(n)));
        let mut taken = std::mem::take(&mut buffer.messages);
        assert_eq!(taken.len(), 3);
        assert_eq!(taken.pop_back(), Some(Received::Dropped(3)));
        buffer.push(message(5));
        assert_eq!(buffer.messages, [Received::Message(message(5))]);
    }

    /// Set when it is woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn the_guard_of_a_busy_reader_hears_the_stop() {
        let buffer = Buffer { messages: VecDeque::new(), capacity: 1 };
        let inner = Inner { feed: None, draining: false, buffer, end: None };
        let visited = AtomicBool::new(false);
        let intake = Arc::new(Intake { inner: Mutex::new(inner), bell: Arc::default(), visited });
        let (stop, stopping) = watch::channel(false);
        let woken = Arc::new(Woken::default());
        intake.bell.reader.register(&Waker::from(Arc::clone(&woken)));
        // Messages come, and the reader takes them, all the time.
        let busy = async {
            for turn in 0..200 {
                if turn == 100 {
                    stop.send_replace(true);
                }
                intake.visited.store(true, Ordering::Relaxed);
                intake.bell.ring_for_the_guard();
                tokio::time::sleep(ABSENCE / 5).await;
            }
            // Before the guard is dropped, which ends the intake too.
            woken.0.load(Ordering::Relaxed)
        };
        tokio::select! {
            () = Arc::clone(&intake).guard(stopping) => unreachable!("there is nothing to end"),
            heard = busy => assert!(heard, "the end begins with waking the reader"),
        }
    }

    #[test]
    fn the_guard_is_called_once_for_all_that_comes_before_somebody_takes_it() {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut called = pin!(bell.guard.notified());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(called.as_mut().poll(&mut cx).is_pending());
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert!(called.as_mut().poll(&mut cx).is_ready());
        assert!(pin!(bell.guard.notified()).poll(&mut cx).is_pending());
    }
}
