//! Messages that wait for a client which reads slowly.
//!
//! What is heard is taken in at once, whoever reads it, so that this is the one place where it
//! waits: a bound of messages would let large ones take any room, a bound of bytes small ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt as _, stream};
use jetbridge_core::{Message, Received, Result, Tasks};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Messages held for a client, before some are dropped and it is told so.
pub(super) const HELD_MAX: usize = 1024;
/// Bytes of them, with subjects and headers: as many messages of 4 KiB. One that is larger is held
/// if it is alone. With 10,000 clients that read nothing, each number is what they cost at most.
const HELD_BYTES_MAX: usize = 4 << 20;

/// What comes by `received`, at most [`HELD_MAX`] messages and [`HELD_BYTES_MAX`] bytes behind.
/// It is heard until `tasks` stop, or what is returned is dropped.
pub(super) fn held<S>(
    received: S,
    tasks: &Tasks,
) -> impl Stream<Item = Result<Received>> + Send + use<S>
where
    S: Stream<Item = Result<Received>> + Send + 'static,
{
    let held = Arc::new(Held::default());
    let gone = CancellationToken::new();
    let listening = Listening { held: Arc::clone(&held), _gone: gone.clone().drop_guard() };
    tasks.spawn_until_stop(async move {
        tokio::select! {
            () = gone.cancelled() => {}
            () = received.for_each(async |it| held.push(it)) => {}
        }
        held.end();
    });
    stream::unfold(listening, async |listening| {
        let next = listening.held.next().await?;
        Some((next, listening))
    })
}

/// The reading end.
struct Listening {
    held: Arc<Held>,
    _gone: DropGuard,
}

#[derive(Debug, Default)]
struct Held {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Result<Received>>,
    messages: usize,
    bytes: usize,
    has_ended: bool,
}

impl Held {
    fn push(&self, received: Result<Received>) {
        self.lock().push(received);
        self.changed.notify_one();
    }

    fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_one();
    }

    async fn next(&self) -> Option<Result<Received>> {
        loop {
            let changed = self.changed.notified();
            {
                let mut queue = self.lock();
                if let Some(next) = queue.pop() {
                    return Some(next);
                }
                if queue.has_ended {
                    return None;
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, received: Result<Received>) {
        let dropped = match &received {
            Ok(Received::Message(message)) => {
                let bytes = self.bytes + bytes(message);
                let has_room = self.messages < HELD_MAX && bytes <= HELD_BYTES_MAX;
                if has_room || self.messages == 0 {
                    (self.messages, self.bytes) = (self.messages + 1, bytes);
                    self.waiting.push_back(received);
                    return;
                }
                1
            }
            Ok(Received::Dropped(messages)) => *messages,
            Err(_ended) => {
                self.waiting.push_back(received);
                return;
            }
        };
        // They are counted where they are missing.
        match self.waiting.back_mut() {
            Some(Ok(Received::Dropped(messages))) => *messages += dropped,
            _ => self.waiting.push_back(Ok(Received::Dropped(dropped))),
        }
    }

    fn pop(&mut self) -> Option<Result<Received>> {
        let next = self.waiting.pop_front()?;
        if let Ok(Received::Message(message)) = &next {
            (self.messages, self.bytes) = (self.messages - 1, self.bytes - bytes(message));
        }
        Some(next)
    }
}

fn bytes(message: &Message) -> usize {
    message.subject.as_str().len() + message.headers.wire_bytes() + message.payload.len()
}

#[cfg(test)]
mod tests {
    use jetbridge_core::Subject;
    use tokio::sync::oneshot;

    use super::*;

    /// What a client finds of messages of these sizes that came while it did not read.
    async fn found(sizes: &[usize]) -> Vec<String> {
        let subject = Subject::parse("a").unwrap();
        let messages: Vec<_> = sizes
            .iter()
            .map(|size| Ok(Received::Message(Message::new(subject.clone(), vec![0; *size]))))
            .collect();
        let (all, are_in) = oneshot::channel::<()>();
        let end = stream::once(async move {
            drop(all);
            Ok(Received::Dropped(0))
        });
        let tasks = Tasks::new();
        let held = held(stream::iter(messages).chain(end), &tasks);
        are_in.await.unwrap_err();
        let found = held.map(|it| match it.unwrap() {
            Received::Message(message) => message.payload.len().to_string(),
            Received::Dropped(messages) => format!("-{messages}"),
        });
        let found = found.collect().await;
        assert_eq!(tasks.stop(std::time::Duration::from_secs(5)).await, 0);
        found
    }

    #[tokio::test]
    async fn what_waits_for_a_client_has_bounds_of_bytes_and_messages() {
        let mib = 1 << 20;
        assert_eq!(found(&[5 * mib, 1]).await, ["5242880", "-1"], "one that is alone");
        let found_some = found(&[mib, mib, mib, mib, 1, mib]).await;
        assert_eq!(found_some, ["1048576", "1048576", "1048576", "-1", "1", "-1"]);
        let many = found(&[0; HELD_MAX + 3]).await;
        assert_eq!((many.len(), many.last().map(String::as_str)), (HELD_MAX + 1, Some("-3")));
    }

    #[tokio::test]
    async fn who_is_gone_is_not_listened_for() {
        let tasks = Tasks::new();
        drop(held(stream::pending(), &tasks));
        tasks.begin_stop();
        assert_eq!(tasks.stop(std::time::Duration::from_secs(5)).await, 0);
    }
}
