//! What this process is interested in: its subscriptions, the answers it waits for, and the
//! topics it wants to be woken for.
//!
//! This is the truth that is announced to every new owner; owners come and go, it stays. It
//! knows nothing of sockets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jetbridge_core::{GroupName, Message, Pattern, Result};
use tokio::sync::watch;

use super::frame::Frame;
use super::queue::Queue;
use super::reply::Replies;
use super::trie::Trie;

/// The interest of one process.
#[derive(Debug)]
pub(super) struct Local {
    subs: RwLock<Subs>,
    /// Ids of subscriptions, and of interest in topics.
    ids: AtomicU64,
    /// `None` once closed.
    topics: Mutex<Option<Topics>>,
    replies: Arc<Replies>,
}

type Topics = HashMap<Box<str>, Topic>;

/// A topic that somebody waits for.
#[derive(Debug)]
struct Topic {
    id: u64,
    sender: watch::Sender<()>,
}

impl Topic {
    fn announcement(&self, topic: &str) -> Frame {
        Frame::Watch { id: self.id, topic: topic.into() }
    }
}

#[derive(Debug, Default)]
struct Subs {
    trie: Trie<Arc<Sub>>,
    by_sid: HashMap<u64, Arc<Sub>>,
}

/// One subscription of this process.
#[derive(Debug)]
pub(super) struct Sub {
    /// Its id, unique in this process.
    pub(super) sid: u64,
    pattern: Pattern,
    /// The group it shares with.
    pub(super) group: Option<GroupName>,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Queue(Arc<Queue>),
    Replies(Arc<Replies>),
}

impl Sub {
    /// Hands `message` to the reader, or drops and counts it.
    pub(super) fn deliver(&self, message: &Message) {
        match &self.sink {
            Sink::Queue(queue) => queue.push(message),
            Sink::Replies(replies) => replies.deliver(message),
        }
    }

    /// True if [`Sub::deliver`] would not drop.
    pub(super) fn has_room(&self) -> bool {
        match &self.sink {
            Sink::Queue(queue) => queue.has_room(),
            Sink::Replies(_) => true,
        }
    }

    fn announcement(&self) -> Frame {
        Frame::Subscribe { sid: self.sid, group: self.group.clone(), pattern: self.pattern.clone() }
    }
}

impl Local {
    /// The interest of the process `member`: at first, answers.
    pub(super) fn new(member: u64) -> Result<Self> {
        let replies = Arc::new(Replies::new(member));
        let local = Self {
            subs: RwLock::default(),
            ids: AtomicU64::new(0),
            topics: Mutex::new(Some(Topics::new())),
            replies: Arc::clone(&replies),
        };
        local.add(Pattern::parse(replies.pattern())?, None, Sink::Replies(replies));
        Ok(local)
    }

    /// The answers this process waits for.
    pub(super) fn replies(&self) -> &Replies {
        &self.replies
    }

    /// Adds a subscription that delivers to `queue`; returns how it is announced.
    pub(super) fn subscribe(
        &self,
        pattern: Pattern,
        group: Option<GroupName>,
        queue: Arc<Queue>,
    ) -> (u64, Frame) {
        let sub = self.add(pattern, group, Sink::Queue(queue));
        (sub.sid, sub.announcement())
    }

    fn add(&self, pattern: Pattern, group: Option<GroupName>, sink: Sink) -> Arc<Sub> {
        let sid = self.ids.fetch_add(1, Ordering::Relaxed);
        let sub = Arc::new(Sub { sid, pattern, group, sink });
        let mut subs = self.subs.write().unwrap_or_else(PoisonError::into_inner);
        subs.trie.insert(&sub.pattern, Arc::clone(&sub));
        subs.by_sid.insert(sid, Arc::clone(&sub));
        sub
    }

    /// Ends a subscription; what it holds can still be read.
    pub(super) fn unsubscribe(&self, sid: u64) {
        let mut subs = self.subs.write().unwrap_or_else(PoisonError::into_inner);
        let Some(sub) = subs.by_sid.remove(&sid) else { return };
        subs.trie.remove(&sub.pattern, |other| other.sid == sid);
        if let Sink::Queue(queue) = &sub.sink {
            queue.close();
        }
    }

    /// Shows `visit` every subscription that matches `subject`.
    pub(super) fn each(&self, subject: &str, visit: impl FnMut(&Arc<Sub>)) {
        self.subs.read().unwrap_or_else(PoisonError::into_inner).trie.each(subject, visit);
    }

    /// Delivers to the subscriptions without a group; returns to how many.
    pub(super) fn deliver_plain(&self, message: &Message) -> usize {
        let mut reached = 0;
        self.each(message.subject.as_str(), |sub| {
            if sub.group.is_none() {
                sub.deliver(message);
                reached += 1;
            }
        });
        reached
    }

    /// Delivers to one subscription, if it is still there.
    pub(super) fn deliver_to(&self, sid: u64, message: &Message) {
        let subs = self.subs.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sub) = subs.by_sid.get(&sid) {
            sub.deliver(message);
        }
    }

    /// Reports messages that were dropped on the way to one subscription.
    pub(super) fn report_dropped(&self, sid: u64, count: u64) {
        let subs = self.subs.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Sink::Queue(queue)) = subs.by_sid.get(&sid).map(|sub| &sub.sink) {
            queue.report_dropped(count);
        }
    }

    /// Everything a new owner must know.
    pub(super) fn announcements(&self) -> Vec<Frame> {
        let subs = self.subs.read().unwrap_or_else(PoisonError::into_inner);
        let mut frames: Vec<Frame> = subs.by_sid.values().map(|sub| sub.announcement()).collect();
        drop(subs);
        let topics = self.topics();
        let topics = topics.iter().flatten();
        frames.extend(topics.map(|(name, topic)| topic.announcement(name)));
        frames
    }

    fn topics(&self) -> MutexGuard<'_, Option<Topics>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver of wake-ups; the first one for a topic comes with what is to be announced.
    pub(super) fn watch(&self, name: &str) -> (watch::Receiver<()>, Option<Frame>) {
        let mut topics = self.topics();
        let (sender, receiver) = watch::channel(());
        // Once closed, the receiver finds that nobody will ever wake it.
        let Some(topics) = topics.as_mut() else { return (receiver, None) };
        if let Some(topic) = topics.get(name) {
            return (topic.sender.subscribe(), None);
        }
        let topic = Topic { id: self.ids.fetch_add(1, Ordering::Relaxed), sender };
        let announcement = topic.announcement(name);
        topics.insert(name.into(), topic);
        (receiver, Some(announcement))
    }

    /// True if somebody waits for `topic`.
    pub(super) fn is_watched(&self, topic: &str) -> bool {
        self.topics().as_ref().is_some_and(|topics| topics.contains_key(topic))
    }

    /// To be called before a receiver is dropped; the last one for a topic leaves what is to be
    /// announced.
    pub(super) fn unwatch(&self, name: &str) -> Option<Frame> {
        let mut topics = self.topics();
        let topics = topics.as_mut()?;
        topics.get(name).filter(|topic| topic.sender.receiver_count() == 1)?;
        let (topic, Topic { id, .. }) = topics.remove_entry(name)?;
        Some(Frame::Unwatch { id, topic })
    }

    /// Wakes who waits for `topic`.
    pub(super) fn wake(&self, topic: &str) {
        if let Some(topic) = self.topics().as_ref().and_then(|topics| topics.get(topic)) {
            topic.sender.send_replace(());
        }
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        for topic in self.topics().iter().flat_map(HashMap::values) {
            topic.sender.send_replace(());
        }
    }

    /// Ends every subscription, request and wait.
    pub(super) fn close(&self) {
        *self.topics() = None;
        self.replies.fail_all();
        let sids: Vec<u64> = {
            let subs = self.subs.read().unwrap_or_else(PoisonError::into_inner);
            subs.by_sid.keys().copied().collect()
        };
        sids.into_iter().for_each(|sid| self.unsubscribe(sid));
    }
}
