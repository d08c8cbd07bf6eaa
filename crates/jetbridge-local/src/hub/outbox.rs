//! What a member has to tell the owner: a bounded queue that outlives owners.
//!
//! Publishes and wake-ups wait here when there is no owner; everything else is only good for the
//! connection it was meant for, because a new owner is told the whole interest anyway. Publishers
//! wait for room, and nobody else does: the other frames are few, and wake-ups coalesce.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jetbridge_core::Message;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::frame::{Frame, MESSAGE_BYTES_MAX, message_bytes};

/// Bytes of publishes that wait for the owner before publishers do: two of the largest messages,
/// or a tenth of a second at full speed.
const OUTBOX_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Bytes taken off at once: what one write hands to the kernel.
const TAKE_BYTES: usize = 256 << 10;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Topics of the wake-ups among the frames.
    wakes: HashSet<Box<str>>,
    /// Topics that nobody else waits for.
    hushed: HashSet<Box<str>>,
    connected: bool,
    closed: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a publish if there is room.
    pub(super) fn try_publish(&self, message: &Message, asks: bool) -> bool {
        let mut state = self.lock();
        if state.bytes >= OUTBOX_BYTES_MAX {
            return false;
        }
        state.bytes += message_bytes(message);
        state.frames.push_back(Frame::Publish { asks, message: message.clone() });
        drop(state);
        self.filled.notify_one();
        true
    }

    /// Resolves when room has been made since this was called.
    pub(super) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Queues a wake-up, unless one for this topic is queued or nobody waits for it.
    pub(super) fn wake(&self, topic: &str) {
        let mut state = self.lock();
        if state.hushed.contains(topic) || state.wakes.contains(topic) {
            return;
        }
        state.wakes.insert(topic.into());
        state.frames.push_back(Frame::Wake { topic: topic.into() });
        drop(state);
        self.filled.notify_one();
    }

    /// Nobody else waits for `topic`.
    pub(super) fn hush(&self, topic: Box<str>) {
        self.lock().hushed.insert(topic);
    }

    /// Somebody waits for `topic` again, who is to be woken for what was not told meanwhile.
    pub(super) fn rouse(&self, topic: &str) {
        self.lock().hushed.remove(topic);
        self.wake(topic);
    }

    #[cfg(test)]
    pub(super) fn is_hushed(&self, topic: &str) -> bool {
        self.lock().hushed.contains(topic)
    }

    /// Queues what only the present owner needs to know.
    pub(super) fn tell(&self, frame: Frame) {
        let mut state = self.lock();
        if state.connected {
            state.frames.push_back(frame);
            drop(state);
            self.filled.notify_one();
        }
    }

    /// A new owner: `announce` goes before what has waited. It is called under the lock, so that
    /// interest that arises meanwhile is either in it or queued behind it.
    pub(super) fn connect(&self, announce: impl FnOnce() -> Vec<Frame>) {
        let mut state = self.lock();
        state.connected = true;
        for frame in announce().into_iter().rev() {
            state.frames.push_front(frame);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// The owner is gone: keeps what the next one is to have, behind what it left unhandled.
    pub(super) fn disconnect(&self, unhandled: impl DoubleEndedIterator<Item = Frame>) {
        let mut state = self.lock();
        state.connected = false;
        state.hushed.clear();
        state.frames.retain(|frame| matches!(frame, Frame::Publish { .. } | Frame::Wake { .. }));
        for frame in unhandled.rev() {
            state.frames.push_front(frame);
        }
    }

    /// No more frames: what is queued can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.room.notify_waiters();
    }

    /// The next frames, when there are any; `None` when the outbox is closed and empty.
    pub(super) async fn take(&self) -> Option<Vec<Frame>> {
        loop {
            {
                let mut state = self.lock();
                if !state.frames.is_empty() {
                    let taken = state.take();
                    drop(state);
                    self.room.notify_waiters();
                    return Some(taken);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Everything queued, now.
    pub(super) fn drain(&self) -> Vec<Frame> {
        let mut state = self.lock();
        state.bytes = 0;
        state.wakes.clear();
        let frames = std::mem::take(&mut state.frames);
        drop(state);
        self.room.notify_waiters();
        frames.into()
    }
}

impl State {
    fn take(&mut self) -> Vec<Frame> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < TAKE_BYTES
            && let Some(frame) = self.frames.pop_front()
        {
            match &frame {
                Frame::Publish { message, .. } => bytes += message_bytes(message),
                Frame::Wake { topic } => {
                    self.wakes.remove(topic);
                }
                _ => {}
            }
            taken.push(frame);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }
}
