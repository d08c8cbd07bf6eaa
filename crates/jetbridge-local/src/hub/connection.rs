//! The owner's side of one connection: what is on its way to a member.
//!
//! A member that does not read must not hold up anybody, so the buffer is bounded: a message that
//! does not fit is dropped and counted for each subscription that misses it, and the counts go
//! out in its place. Wake-ups coalesce and answers are few; they always fit.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use jetbridge_core::Message;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;

use super::frame::{Frame, MESSAGE_BYTES_MAX, encode_deliver};

/// Bytes on their way to one member at most: eight of the largest messages, or half a second at
/// full speed.
const CONNECTION_BYTES_MAX: usize = 8 * MESSAGE_BYTES_MAX;
/// A buffer that grew beyond this is given back once it is written.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// One connected member.
#[derive(Debug)]
pub(super) struct Connection {
    /// Who it is.
    pub(super) member: u64,
    out: Mutex<Out>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Out {
    buffer: BytesMut,
    /// Messages dropped since the buffer was full, by subscription.
    dropped: BTreeMap<u64, u64>,
    /// Topics of the wake-ups in the buffer.
    wakes: HashSet<Box<str>>,
    closed: bool,
}

impl Connection {
    pub(super) fn new(member: u64) -> Self {
        Self { member, out: Mutex::default(), filled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message; `false` if it does not fit.
    pub(super) fn deliver(&self, plain: bool, picks: &[u64], message: &Message) -> bool {
        let mut out = self.lock();
        if !out.has_room() {
            return false;
        }
        out.settle_dropped();
        encode_deliver(&mut out.buffer, plain, picks, message);
        drop(out);
        self.filled.notify_one();
        true
    }

    /// True if [`Connection::deliver`] would not drop.
    pub(super) fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Counts a message that this subscription missed.
    pub(super) fn note_dropped(&self, sid: u64) {
        *self.lock().dropped.entry(sid).or_default() += 1;
    }

    /// Queues a wake-up, unless one for this topic is queued.
    pub(super) fn wake(&self, topic: &str) {
        let mut out = self.lock();
        if out.wakes.contains(topic) {
            return;
        }
        out.wakes.insert(topic.into());
        Frame::Wake { topic: topic.into() }.encode(&mut out.buffer);
        drop(out);
        self.filled.notify_one();
    }

    /// Queues an answer.
    pub(super) fn tell(&self, frame: &Frame) {
        frame.encode(&mut self.lock().buffer);
        self.filled.notify_one();
    }

    /// Ends the intake; what is queued is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Writes what is queued until closed and empty, or until the member is gone.
    pub(super) async fn write_to(&self, mut half: OwnedWriteHalf) -> io::Result<()> {
        let mut batch = BytesMut::new();
        loop {
            while self.swap(&mut batch) {
                half.write_all(&batch).await?;
                batch.clear();
                if batch.capacity() > BUFFER_BYTES_KEPT {
                    batch = BytesMut::new();
                }
            }
            if self.lock().closed {
                return half.shutdown().await;
            }
            self.filled.notified().await;
        }
    }

    /// Swaps the filled buffer for the empty `batch`; `false` if there is nothing to write.
    fn swap(&self, batch: &mut BytesMut) -> bool {
        let mut out = self.lock();
        out.settle_dropped();
        std::mem::swap(&mut out.buffer, batch);
        out.wakes.clear();
        !batch.is_empty()
    }
}

impl Out {
    fn has_room(&self) -> bool {
        !self.closed && self.buffer.len() < CONNECTION_BYTES_MAX
    }

    fn settle_dropped(&mut self) {
        while let Some((sid, count)) = self.dropped.pop_first() {
            Frame::Dropped { sid, count }.encode(&mut self.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use jetbridge_core::Subject;

    use super::super::frame::Decoder;
    use super::*;

    fn written(connection: &Connection) -> Vec<Frame> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        connection.swap(&mut decoder.buffer);
        while let Some(frame) = decoder.next().unwrap() {
            frames.push(frame);
        }
        frames
    }

    #[test]
    fn a_full_buffer_drops_and_tells() {
        let connection = Connection::new(1);
        let message = Message::new(Subject::parse("s").unwrap(), vec![0; MESSAGE_BYTES_MAX]);
        let mut kept = 0;
        while connection.deliver(true, &[], &message) {
            kept += 1;
        }
        assert!(!connection.has_room());
        for sid in [3, 3, 4] {
            connection.note_dropped(sid);
        }
        let frames = written(&connection);
        assert_eq!(frames.len(), kept + 2);
        assert_eq!(
            frames[kept..],
            [Frame::Dropped { sid: 3, count: 2 }, Frame::Dropped { sid: 4, count: 1 }]
        );
        assert!(connection.has_room());
    }

    #[test]
    fn wake_ups_coalesce_until_they_are_written() {
        let connection = Connection::new(1);
        let wake = |topic: &str| Frame::Wake { topic: topic.into() };
        for topic in ["a", "b", "a"] {
            connection.wake(topic);
        }
        assert_eq!(written(&connection), [wake("a"), wake("b")]);
        connection.wake("a");
        assert_eq!(written(&connection), [wake("a")]);
    }
}
