//! What a subscription holds for its reader: bounded, and honest about what did not fit.
//!
//! The writer never waits. The reader takes messages in batches, so that at a million messages
//! a second the two do not fight for the lock; what it has in hand still counts as held.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use jetbridge_core::{Message, Received, Result};

use super::frame::message_bytes;

/// Bytes a subscription holds at most, however many messages were asked for: half a million small
/// ones, and no more than the smallest machines we run on have to spare.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// Messages taken off the queue at once.
const BATCH_MAX: usize = 256;

/// The shared end.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    /// Messages the reader has taken but not handed out.
    in_hand: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Received>,
    messages: usize,
    bytes: usize,
    /// Dropped since the last item.
    dropped: u64,
    closed: bool,
    reader: Option<Waker>,
}

impl Queue {
    /// Holds at most `capacity` messages, and at least one.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        let in_hand = AtomicUsize::new(0);
        Arc::new(Self { capacity: capacity.max(1), in_hand, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, state: &State) -> bool {
        state.messages + self.in_hand.load(Ordering::Relaxed) >= self.capacity
            || state.bytes >= QUEUE_BYTES_MAX
    }

    /// True if the next message would be kept.
    pub(super) fn has_room(&self) -> bool {
        !self.is_full(&self.lock())
    }

    /// Keeps `message`, or counts it as dropped.
    pub(super) fn push(&self, message: &Message) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if self.is_full(&state) {
            state.dropped += 1;
            return;
        }
        state.settle_dropped();
        state.messages += 1;
        state.bytes += message_bytes(message);
        state.items.push_back(Received::Message(message.clone()));
        state.wake();
    }

    /// Notes that `count` messages did not reach this process.
    pub(super) fn report_dropped(&self, count: u64) {
        let mut state = self.lock();
        state.dropped += count;
        state.wake();
    }

    /// Ends the intake; what is held can still be read.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake();
    }
}

impl State {
    fn settle_dropped(&mut self) {
        if self.dropped > 0 {
            self.items.push_back(Received::Dropped(std::mem::take(&mut self.dropped)));
        }
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The reader's end of a [`Queue`].
#[derive(Debug)]
pub(super) struct Reader {
    queue: Arc<Queue>,
    batch: VecDeque<Received>,
}

impl Reader {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue, batch: VecDeque::new() }
    }

    fn hand_out(&mut self) -> Option<Received> {
        let item = self.batch.pop_front()?;
        if matches!(item, Received::Message(_)) {
            self.queue.in_hand.fetch_sub(1, Ordering::Relaxed);
        }
        Some(item)
    }
}

impl Stream for Reader {
    type Item = Result<Received>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(item) = this.hand_out() {
            return Poll::Ready(Some(Ok(item)));
        }
        let mut state = this.queue.lock();
        if state.items.is_empty() {
            state.settle_dropped();
        }
        if state.items.is_empty() {
            if state.closed {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = state.items.len().min(BATCH_MAX);
        this.batch.extend(state.items.drain(..count));
        for item in &this.batch {
            if let Received::Message(message) = item {
                state.messages -= 1;
                state.bytes -= message_bytes(message);
                this.queue.in_hand.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(state);
        Poll::Ready(this.hand_out().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use jetbridge_core::Subject;

    use super::*;

    fn message(text: &'static str) -> Message {
        Message::new(Subject::parse("s").unwrap(), text)
    }

    fn read(reader: &mut Reader) -> Option<Received> {
        reader.next().now_or_never().flatten().map(Result::unwrap)
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let queue = Queue::new(2);
        let mut reader = Reader::new(Arc::clone(&queue));
        for text in ["1", "2", "3", "4"] {
            queue.push(&message(text));
        }
        assert_eq!(read(&mut reader), Some(Received::Message(message("1"))));
        assert!(queue.has_room());
        queue.push(&message("5"));
        assert!(!queue.has_room(), "what the reader has in hand counts");
        assert_eq!(read(&mut reader), Some(Received::Message(message("2"))));
        assert_eq!(read(&mut reader), Some(Received::Dropped(2)));
        assert_eq!(read(&mut reader), Some(Received::Message(message("5"))));
        assert_eq!(read(&mut reader), None);
    }

    #[test]
    fn drops_at_the_end_are_told_too_and_closing_keeps_what_is_held() {
        let queue = Queue::new(1);
        let mut reader = Reader::new(Arc::clone(&queue));
        queue.push(&message("1"));
        queue.push(&message("2"));
        queue.close();
        queue.push(&message("3"));
        assert_eq!(read(&mut reader), Some(Received::Message(message("1"))));
        assert_eq!(read(&mut reader), Some(Received::Dropped(1)));
        assert!(matches!(reader.next().now_or_never(), Some(None)));
    }
}
