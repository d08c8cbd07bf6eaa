//! Subscriptions: who gets a message, and the bounded buffer in which it waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;

use super::Store;
use crate::bus::{Message, Received, Subscribe};
use crate::error::Result;
use crate::name::GroupName;

/// Everybody who listens.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    next: u64,
    all: BTreeMap<u64, Arc<Subscriber>>,
}

/// One who listens.
#[derive(Debug)]
pub(super) struct Subscriber {
    wants: Subscribe,
    inbox: Mutex<Inbox>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    queue: VecDeque<Received>,
    /// Messages in the queue, reports of dropped ones not counted.
    messages: usize,
    closed: bool,
}

impl Subscribers {
    /// Adds one; the number removes it again.
    pub(super) fn add(&mut self, wants: Subscribe) -> (u64, Arc<Subscriber>) {
        let subscriber =
            Arc::new(Subscriber { wants, inbox: Mutex::default(), arrived: Notify::new() });
        self.next += 1;
        self.all.insert(self.next, Arc::clone(&subscriber));
        (self.next, subscriber)
    }

    pub(super) fn remove(&mut self, number: u64) {
        if let Some(subscriber) = self.all.remove(&number) {
            subscriber.close();
        }
    }

    /// Hands `message` to everyone who wants it, and to one of each group; returns to how many.
    pub(super) fn deliver(&self, message: &Message) -> usize {
        let mut groups: BTreeMap<&GroupName, Vec<&Arc<Subscriber>>> = BTreeMap::new();
        let mut chosen = Vec::new();
        for subscriber in self.all.values() {
            if subscriber.wants.pattern.matches(message.subject.as_str()) {
                match &subscriber.wants.group {
                    Some(group) => groups.entry(group).or_default().push(subscriber),
                    None => chosen.push(subscriber),
                }
            }
        }
        chosen.extend(groups.values().map(|members| pick(members)));
        for subscriber in &chosen {
            subscriber.receive(message.clone());
        }
        chosen.len()
    }
}

fn pick<'a>(members: &[&'a Arc<Subscriber>]) -> &'a Arc<Subscriber> {
    let turn = crate::random::u64() % members.len() as u64;
    members[usize::try_from(turn).unwrap_or(0)]
}

impl Subscriber {
    /// What arrives, until closed and empty, or until the store closes.
    pub(super) fn stream(
        self: &Arc<Self>,
        store: &Arc<Store>,
    ) -> BoxStream<'static, Result<Received>> {
        let ends = (Arc::clone(self), Arc::clone(store));
        stream::unfold(ends, |(this, store)| async {
            let received = this.next(&store).await?;
            Some((Ok(received), (this, store)))
        })
        .boxed()
    }

    async fn next(&self, store: &Store) -> Option<Received> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut inbox = self.lock();
                if let Some(received) = inbox.queue.pop_front() {
                    if matches!(received, Received::Message(_)) {
                        inbox.messages -= 1;
                    }
                    return Some(received);
                }
                if inbox.closed || store.is_closed() {
                    return None;
                }
            }
            store.wait(arrived, None).await;
        }
    }

    fn receive(&self, message: Message) {
        let mut inbox = self.lock();
        if inbox.messages < self.wants.capacity {
            inbox.messages += 1;
            inbox.queue.push_back(Received::Message(message));
        } else if let Some(Received::Dropped(count)) = inbox.queue.back_mut() {
            *count += 1;
        } else {
            inbox.queue.push_back(Received::Dropped(1));
        }
        drop(inbox);
        self.arrived.notify_waiters();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
