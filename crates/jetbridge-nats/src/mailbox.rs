//! A bounded buffer between what a server sends and a reader that may be slow.
//!
//! What does not fit is dropped and counted, and the reader finds the count where the gap is.
//! Both sides move everything there is in one turn of the lock, so that the buffer costs little
//! however many messages pass.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use jetbridge_core::{Message, Received, Result};

/// The writing and the reading side share it.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    messages: VecDeque<Received>,
    capacity: usize,
    /// Set once: nothing comes behind what is buffered but this.
    end: Option<Result<()>>,
    reader: Option<Waker>,
}

impl Mailbox {
    /// Holds `capacity` messages, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            messages: VecDeque::new(),
            capacity: capacity.max(1),
            end: None,
            reader: None,
        })))
    }

    /// Adds what fits of `messages`; the rest becomes a number.
    pub(crate) fn push(&self, messages: impl IntoIterator<Item = Message>) {
        let mut inner = self.lock();
        for message in messages {
            if inner.messages.len() < inner.capacity {
                inner.messages.push_back(Received::Message(message));
                continue;
            }
            match inner.messages.back_mut() {
                Some(Received::Dropped(number)) => *number += 1,
                // The count takes a place beyond the capacity, the one it stands for.
                _ => inner.messages.push_back(Received::Dropped(1)),
            }
        }
        inner.wake();
    }

    /// Says that nothing more comes, with an error if there was one.
    pub(crate) fn end(&self, how: Result<()>) {
        let mut inner = self.lock();
        inner.end.get_or_insert(how);
        inner.wake();
    }

    /// Moves everything buffered into `taken`; ready when there is something, or the end.
    pub(crate) fn poll(
        &self,
        taken: &mut VecDeque<Received>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<()>>> {
        let mut inner = self.lock();
        if !inner.messages.is_empty() {
            std::mem::swap(&mut inner.messages, taken);
            return Poll::Ready(None);
        }
        if let Some(end) = &mut inner.end {
            return Poll::Ready(Some(std::mem::replace(end, Ok(()))));
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use jetbridge_core::Subject;

    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let mailbox = Mailbox::new(2);
        let message = |n: u8| Message::new(Subject::parse("s").unwrap(), vec![n]);
        mailbox.push((0..5).map(message));
        let mut taken = VecDeque::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(mailbox.poll(&mut taken, &mut cx).is_ready());
        assert_eq!(taken.len(), 3);
        assert_eq!(taken.pop_back(), Some(Received::Dropped(3)));
        taken.clear();
        mailbox.push([message(5)]);
        mailbox.end(Ok(()));
        assert!(mailbox.poll(&mut taken, &mut cx).is_ready());
        assert_eq!(taken, [Received::Message(message(5))]);
        assert!(matches!(mailbox.poll(&mut taken, &mut cx), Poll::Ready(Some(Ok(())))));
    }
}
