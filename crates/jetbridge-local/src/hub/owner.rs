//! The owner: knows every process's interest and routes by it.
//!
//! A message reaches each process at most once, with the subscriptions that are to have it; which
//! member of a queue group that is, the owner alone decides. What a member publishes it has
//! delivered to its own plain subscriptions already, so that only the others are served here.
//!
//! After a takeover the members of the last owner come back one by one. Until they have, or
//! [`SETTLE_WAIT`] is over, nothing is routed: publishers wait instead of missing them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jetbridge_core::{GroupName, Message, Pattern};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::frame::Frame;
use super::local::{Local, Sub};
use super::place::Ownership;
use super::trie::Trie;

/// How long a new owner waits for the members of the last one. They notice its end at once and
/// reconnect within milliseconds; who has not after this long died with it.
const SETTLE_WAIT: Duration = Duration::from_millis(500);

/// What the owner knows.
#[derive(Debug)]
pub(super) struct Owner {
    local: Arc<Local>,
    ownership: Ownership,
    remote: RwLock<Remote>,
    /// Members of the last owner that have not come back.
    awaited: Mutex<HashSet<u64>>,
    settled: watch::Sender<bool>,
    /// How many members are read from.
    reading: watch::Sender<usize>,
    leaving: CancellationToken,
    turn: AtomicU64,
}

#[derive(Debug, Default)]
struct Remote {
    trie: Trie<RemoteSub>,
    topics: HashMap<Box<str>, Vec<Arc<Connection>>>,
    /// Members that were told that nobody else waits for a topic.
    hushed: HashMap<Box<str>, Vec<Arc<Connection>>>,
    connections: HashMap<u64, Arc<Connection>>,
}

#[derive(Debug)]
struct RemoteSub {
    connection: Arc<Connection>,
    sid: u64,
    group: Option<GroupName>,
}

/// Where a message comes from, which decides who has it already.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// This process, just now: nobody has it.
    Here,
    /// This process, from before it was the owner: its plain subscriptions have it.
    Outbox,
    /// A member: its plain subscriptions have it.
    Member(&'a Arc<Connection>),
}

impl Owner {
    /// The owner for the process that `member` stands for; its interest is `local`.
    pub(super) fn new(member: u64, local: Arc<Local>, ownership: Ownership) -> Self {
        let awaited: HashSet<u64> =
            ownership.members().into_iter().filter(|other| *other != member).collect();
        let owner = Self {
            local,
            ownership,
            remote: RwLock::default(),
            settled: watch::Sender::new(awaited.is_empty()),
            awaited: Mutex::new(awaited),
            reading: watch::Sender::new(0),
            leaving: CancellationToken::new(),
            turn: AtomicU64::new(0),
        };
        owner.record();
        owner
    }

    fn awaited(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remote(&self) -> RwLockReadGuard<'_, Remote> {
        self.remote.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn remote_mut(&self) -> RwLockWriteGuard<'_, Remote> {
        self.remote.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the members of the last owner are back, or are not to be waited for.
    pub(super) async fn settled(&self) {
        if *self.settled.borrow() {
            return;
        }
        let mut settled = self.settled.subscribe();
        if tokio::time::timeout(SETTLE_WAIT, settled.wait_for(|settled| *settled)).await.is_err() {
            self.awaited().clear();
            self.settled.send_replace(true);
            self.record();
        }
    }

    /// Takes `connection` in.
    pub(super) fn enter(&self, connection: &Arc<Connection>) {
        let before =
            self.remote_mut().connections.insert(connection.member, Arc::clone(connection));
        // The same member on a new connection: the old one's end has not been noticed yet.
        if let Some(before) = before {
            before.close();
        }
        self.reading.send_modify(|reading| *reading += 1);
        self.record();
    }

    /// `connection` has announced all its interest.
    pub(super) fn arrived(&self, connection: &Connection) {
        let mut awaited = self.awaited();
        if awaited.remove(&connection.member) && awaited.is_empty() {
            self.settled.send_replace(true);
        }
    }

    /// Forgets `connection` and the interest it had.
    pub(super) fn leave(&self, connection: &Arc<Connection>, interest: Interest) {
        let gone = |other: &Arc<Connection>| Arc::ptr_eq(other, connection);
        let mut remote = self.remote_mut();
        for (sid, pattern) in interest.subs {
            remote.trie.remove(&pattern, |sub| sub.sid == sid && gone(&sub.connection));
        }
        for topic in interest.topics.into_keys() {
            remote.unwatch(&topic, connection);
        }
        remote.hushed.retain(|_, members| {
            members.retain(|other| !gone(other));
            !members.is_empty()
        });
        if remote.connections.get(&connection.member).is_some_and(gone) {
            remote.connections.remove(&connection.member);
        }
        drop(remote);
        self.record();
    }

    /// Notes who is connected or awaited. When the owner leaves, those it leaves behind stand.
    fn record(&self) {
        if self.leaving.is_cancelled() {
            return;
        }
        let mut members = self.awaited().clone();
        members.extend(self.remote().connections.keys());
        if let Err(error) = self.ownership.record(members.into_iter()) {
            tracing::warn!(%error, "a takeover will not wait for the processes connected now");
        }
    }

    /// Begins to leave: nothing more is read.
    pub(super) fn begin_leaving(&self) {
        self.ownership.remove_socket();
        self.leaving.cancel();
    }

    /// Resolves when leaving has begun.
    pub(super) async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// A member is no longer read from. Returns when none is, if that is because the owner
    /// leaves: only then has everybody got what others have sent.
    pub(super) async fn stopped_reading(&self) {
        let mut reading = self.reading.subscribe();
        self.reading.send_modify(|reading| *reading -= 1);
        if self.leaving.is_cancelled() {
            // It ends well: the sender is ours.
            drop(reading.wait_for(|reading| *reading == 0).await);
        }
    }

    /// Adds interest of a member.
    pub(super) fn subscribe(
        &self,
        connection: &Arc<Connection>,
        sid: u64,
        group: Option<GroupName>,
        pattern: &Pattern,
    ) {
        let sub = RemoteSub { connection: Arc::clone(connection), sid, group };
        self.remote_mut().trie.insert(pattern, sub);
    }

    /// Removes interest of a member.
    pub(super) fn unsubscribe(&self, connection: &Arc<Connection>, sid: u64, pattern: &Pattern) {
        self.remote_mut()
            .trie
            .remove(pattern, |sub| sub.sid == sid && Arc::ptr_eq(&sub.connection, connection));
    }

    /// Adds interest of a member in a topic, and wakes it once: what was committed before this
    /// must not be missed.
    pub(super) fn watch(&self, connection: &Arc<Connection>, topic: &str) {
        let mut remote = self.remote_mut();
        remote.topics.entry(topic.into()).or_default().push(Arc::clone(connection));
        remote.rouse(topic);
        drop(remote);
        connection.wake(topic);
    }

    /// This process has begun to wait for `topic`.
    pub(super) fn watched_here(&self, topic: &str) {
        self.remote_mut().rouse(topic);
    }

    /// Removes interest of a member in a topic.
    pub(super) fn unwatch(&self, connection: &Arc<Connection>, topic: &str) {
        self.remote_mut().unwatch(topic, connection);
    }

    /// Wakes the members that wait for `topic`: it happened here.
    pub(super) fn wake(&self, topic: &str) {
        for connection in self.remote().topics.get(topic).into_iter().flatten() {
            connection.wake(topic);
        }
    }

    /// Wakes all others who wait for `topic`: it happened at `from`. If nobody does, `from` need
    /// not tell again until somebody does.
    pub(super) fn wake_from(&self, from: &Arc<Connection>, topic: &str) {
        self.local.wake(topic);
        let mut others = 0;
        for connection in self.remote().topics.get(topic).into_iter().flatten() {
            if !Arc::ptr_eq(from, connection) {
                connection.wake(topic);
                others += 1;
            }
        }
        if others == 0 && !self.local.is_watched(topic) {
            self.hush(from, topic);
        }
    }

    /// This process may have begun to wait for anything.
    pub(super) fn rouse_all(&self) {
        let mut remote = self.remote_mut();
        let topics: Vec<Box<str>> = remote.hushed.keys().cloned().collect();
        topics.iter().for_each(|topic| remote.rouse(topic));
    }

    fn hush(&self, from: &Arc<Connection>, topic: &str) {
        let mut remote = self.remote_mut();
        // Looked at again under the lock under which those who begin to wait rouse.
        let others = remote.topics.get(topic).into_iter().flatten();
        let mut others = others.filter(|connection| !Arc::ptr_eq(from, connection));
        if others.next().is_none() && !self.local.is_watched(topic) {
            let hushed = remote.hushed.entry(topic.into()).or_default();
            if !hushed.iter().any(|connection| Arc::ptr_eq(from, connection)) {
                hushed.push(Arc::clone(from));
                from.tell(&Frame::Hush { topic: topic.into() });
            }
        }
    }

    /// Wakes everybody for everything: wake-ups may have been lost.
    pub(super) fn wake_all(&self) {
        self.local.wake_all();
        let remote = self.remote();
        for (topic, connections) in &remote.topics {
            connections.iter().for_each(|connection| connection.wake(topic));
        }
    }

    /// Routes `message`; returns how many processes and groups it reached.
    pub(super) fn route(&self, from: Origin<'_>, message: &Message) -> usize {
        let subject = message.subject.as_str();
        let remote = self.remote();
        let mut route = Route::default();
        self.local.each(subject, |sub| match &sub.group {
            Some(group) => route.candidate(group, Candidate::Here(Arc::clone(sub))),
            None if matches!(from, Origin::Outbox) => {}
            None => {
                sub.deliver(message);
                route.reached += 1;
            }
        });
        remote.trie.each(subject, |sub| match (&sub.group, from) {
            (Some(group), _) => route.candidate(group, Candidate::There(sub)),
            (None, Origin::Member(member)) if Arc::ptr_eq(member, &sub.connection) => {}
            (None, _) => route.plain(&sub.connection),
        });
        for candidates in std::mem::take(&mut route.groups) {
            match pick(&candidates.members, self.next_turn()) {
                Some(Candidate::Here(sub)) => sub.deliver(message),
                Some(Candidate::There(sub)) => route.pick(sub),
                None => {}
            }
        }
        for target in &route.targets {
            if !target.connection.deliver(target.plain, &target.picks, message) {
                remote.note_dropped(target, subject);
            }
        }
        route.reached
    }

    /// A number that spreads: neighbouring turns differ in all bits, so that groups served in
    /// turn do not fall into step.
    fn next_turn(&self) -> u64 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mixed = (turn ^ (turn >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }
}

impl Remote {
    fn unwatch(&mut self, topic: &str, connection: &Arc<Connection>) {
        let Some(connections) = self.topics.get_mut(topic) else { return };
        connections.retain(|other| !Arc::ptr_eq(other, connection));
        if connections.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// Somebody waits for `topic`: those who were told that nobody does must know.
    fn rouse(&mut self, topic: &str) {
        for connection in self.hushed.remove(topic).into_iter().flatten() {
            connection.tell(&Frame::Rouse { topic: topic.into() });
        }
    }

    /// Counts a message that `target` had no room for, for each subscription that misses it.
    fn note_dropped(&self, target: &Target<'_>, subject: &str) {
        target.picks.iter().for_each(|sid| target.connection.note_dropped(*sid));
        if !target.plain {
            return;
        }
        self.trie.each(subject, |sub| {
            if sub.group.is_none() && Arc::ptr_eq(&sub.connection, target.connection) {
                sub.connection.note_dropped(sub.sid);
            }
        });
    }
}

/// Where one message goes.
#[derive(Debug, Default)]
struct Route<'a> {
    targets: Vec<Target<'a>>,
    groups: Vec<Candidates<'a>>,
    reached: usize,
}

/// A member that is to have it.
#[derive(Debug)]
struct Target<'a> {
    connection: &'a Arc<Connection>,
    plain: bool,
    picks: Vec<u64>,
}

/// The members of one group.
#[derive(Debug)]
struct Candidates<'a> {
    group: GroupName,
    members: Vec<Candidate<'a>>,
}

#[derive(Debug)]
enum Candidate<'a> {
    Here(Arc<Sub>),
    There(&'a RemoteSub),
}

impl Candidate<'_> {
    fn has_room(&self) -> bool {
        match self {
            Self::Here(sub) => sub.has_room(),
            Self::There(sub) => sub.connection.has_room(),
        }
    }
}

impl<'a> Route<'a> {
    fn candidate(&mut self, group: &GroupName, candidate: Candidate<'a>) {
        match self.groups.iter_mut().find(|known| known.group == *group) {
            Some(known) => known.members.push(candidate),
            None => {
                self.reached += 1;
                self.groups.push(Candidates { group: group.clone(), members: vec![candidate] });
            }
        }
    }

    fn target(&mut self, connection: &'a Arc<Connection>) -> &mut Target<'a> {
        let known =
            self.targets.iter().position(|target| Arc::ptr_eq(target.connection, connection));
        let index = known.unwrap_or_else(|| {
            self.targets.push(Target { connection, plain: false, picks: Vec::new() });
            self.targets.len() - 1
        });
        &mut self.targets[index]
    }

    fn plain(&mut self, connection: &'a Arc<Connection>) {
        let target = self.target(connection);
        let first = !std::mem::replace(&mut target.plain, true);
        self.reached += usize::from(first);
    }

    fn pick(&mut self, sub: &'a RemoteSub) {
        self.target(&sub.connection).picks.push(sub.sid);
    }
}

/// The member whose turn it is, or the next one that has room; if none has, who drops does not
/// matter.
fn pick<'a, 'b>(members: &'b [Candidate<'a>], turn: u64) -> Option<&'b Candidate<'a>> {
    let count = u64::try_from(members.len()).unwrap_or(u64::MAX).max(1);
    let first = usize::try_from(turn % count).unwrap_or(0);
    let mut from_first = members.iter().cycle().skip(first).take(members.len());
    from_first.find(|member| member.has_room()).or(members.get(first))
}

/// What a connection has announced, to be taken back when it ends.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Patterns by subscription id.
    pub(super) subs: HashMap<u64, Pattern>,
    /// Ids of interest by topic.
    pub(super) topics: HashMap<Box<str>, u64>,
}

impl Interest {
    /// Applies a frame to it and to `owner`; the frame comes back if it is none about interest.
    pub(super) fn apply(
        &mut self,
        owner: &Owner,
        connection: &Arc<Connection>,
        frame: Frame,
    ) -> Option<Frame> {
        match frame {
            Frame::Subscribe { sid, group, pattern } => {
                // Announced again: it arose while everything was being announced.
                self.subs.entry(sid).or_insert_with(|| {
                    owner.subscribe(connection, sid, group, &pattern);
                    pattern
                });
            }
            Frame::Unsubscribe { sid } => {
                if let Some(pattern) = self.subs.remove(&sid) {
                    owner.unsubscribe(connection, sid, &pattern);
                }
            }
            Frame::Watch { id, topic } => {
                if self.topics.insert(topic.clone(), id).is_none() {
                    owner.watch(connection, &topic);
                }
            }
            Frame::Unwatch { id, topic } => {
                if self.topics.get(&topic) == Some(&id) {
                    self.topics.remove(&topic);
                    owner.unwatch(connection, &topic);
                }
            }
            other => return Some(other),
        }
        None
    }
}
