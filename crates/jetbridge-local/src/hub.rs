//! How the processes that share a directory reach each other: messages, requests and wake-ups.
//!
//! Every process is a member. One of them, whoever holds the lock file, is also the owner: the
//! others connect to its socket, tell it what they are interested in, and it routes. When it
//! ends, however it ends, the lock falls to one of the others, and everybody announces its
//! interest again. Nothing that passes through here touches the disk.
//!
//! What is promised over a takeover:
//! * publishes wait for the next owner; those on their way to the old one may be lost, which the
//!   next [`Hub::flush`] says;
//! * a request that may have been lost fails at once, with an unknown outcome;
//! * subscriptions stay, and [`Hub::subscribe`] returns when some owner knows;
//! * wake-ups are never lost: a takeover wakes everybody.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jetbridge_core::{
    Backoff, Error, ErrorKind, Message, Result, Subscribe, Subscription, Tasks, random,
};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::Instant;

use self::frame::Frame;
pub(crate) use self::frame::MESSAGE_BYTES_MAX;
use self::local::Local;
use self::member::{Ended, Session, Welcomed};
use self::outbox::Outbox;
use self::owner::{Origin, Owner};
use self::ping::Pings;
use self::place::Place;
use self::queue::{Queue, Reader};
use self::reply::Answer;
pub(crate) use self::reply::INBOX_PREFIX;
pub(crate) use self::trie::Trie;

mod connection;
mod frame;
mod local;
mod member;
mod outbox;
mod owner;
mod ping;
mod place;
mod queue;
mod reply;
mod serve;
mod trie;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

/// How long [`Hub::join`] tries: an owner that does not answer for this long is stopped or stuck.
const JOIN_WAIT: Duration = Duration::from_secs(5);
/// How long [`Hub::flush`] and [`Hub::subscribe`] wait for the owner, takeovers included.
const CONFIRM_WAIT: Duration = Duration::from_secs(10);
/// Between attempts to become owner or to reach it: a takeover takes about a millisecond.
const STANDING_WAIT_FIRST: Duration = Duration::from_micros(200);
/// The longest pause between attempts.
const STANDING_WAIT_MAX: Duration = Duration::from_millis(50);
/// After this long without an owner the log says so.
const STANDING_WAIT_LOGGED: Duration = Duration::from_secs(5);

/// This process's place among those that share a directory. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    member: u64,
    place: Place,
    local: Arc<Local>,
    outbox: Outbox,
    pings: Pings,
    role: RwLock<Role>,
    /// Publishes that may have been lost by takeovers since the last flush.
    lost: AtomicU64,
    tasks: Tasks,
}

#[derive(Debug)]
enum Role {
    /// What is published goes to the outbox: to the owner, or to wait for one.
    Member,
    /// What is published is routed here. Only closing follows.
    Owner(Arc<Owner>),
    /// Stopped.
    Closed,
}

/// What [`Inner::find_standing`] found.
#[derive(Debug)]
enum Standing {
    Owner(Arc<Owner>, UnixListener),
    Member(Welcomed),
}

impl Hub {
    /// Joins the processes that share `directory`, as the owner if nobody else is. The work is
    /// done by `tasks`, and stopping them leaves.
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if there is an owner that does not answer.
    pub(crate) async fn join(directory: &Path, tasks: Tasks) -> Result<Self> {
        let member = random::u64();
        let inner = Arc::new(Inner {
            member,
            place: Place::open(directory)?,
            local: Arc::new(Local::new(member)?),
            outbox: Outbox::default(),
            pings: Pings::default(),
            role: RwLock::new(Role::Member),
            lost: AtomicU64::new(0),
            tasks: tasks.clone(),
        });
        let standing = inner.find_standing(Some(Instant::now() + JOIN_WAIT)).await?;
        let working = Arc::clone(&inner);
        tasks.spawn(async move { working.work(standing).await });
        let hub = Self(inner);
        hub.confirm("hub.join").await?;
        Ok(hub)
    }

    /// Hands `message` to everybody interested. Waits while there is no owner, or while it does
    /// not keep up; never for a subscriber.
    pub(crate) async fn publish(&self, message: &Message) -> Result<()> {
        check_size(message)?;
        self.send(message, false).await?;
        // A publisher that never waits would keep its thread from those who read.
        tokio::task::consume_budget().await;
        Ok(())
    }

    /// Sends `message`; with `asks`, its reply subject is told if nobody gets it.
    async fn send(&self, message: &Message, asks: bool) -> Result<()> {
        let inner = &*self.0;
        let mut reached_here = None;
        loop {
            let room = inner.outbox.room();
            match &*inner.role() {
                Role::Owner(owner) => {
                    let origin = if reached_here.is_some() { Origin::Outbox } else { Origin::Here };
                    let reached = owner.route(origin, message) + reached_here.unwrap_or(0);
                    if let (true, 0, Some(reply)) = (asks, reached, &message.reply) {
                        inner.local.replies().nobody(reply);
                    }
                    return Ok(());
                }
                Role::Member => {
                    let here =
                        *reached_here.get_or_insert_with(|| inner.local.deliver_plain(message));
                    if let (true, 1.., Some(reply)) = (asks, here, &message.reply) {
                        inner.local.replies().reached_here(reply);
                    }
                    if inner.outbox.try_publish(message, asks && here == 0) {
                        return Ok(());
                    }
                }
                Role::Closed => return Err(closed("hub.publish")),
            }
            room.await;
        }
    }

    /// Returns when the owner has routed everything published before. An error if a takeover may
    /// have lost some of it, or if there is no owner in time.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.confirm("bus.flush").await?;
        match self.0.lost.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            lost => Err(Error::new(ErrorKind::Unavailable, "bus.flush")
                .because("the process that passed messages on ended with some on their way")
                .with("messages", lost)
                .hint("what must arrive belongs in a stream: append it")
                .outcome_unknown()),
        }
    }

    /// Returns when an owner has handled everything that was queued for it before.
    async fn confirm(&self, operation: &'static str) -> Result<()> {
        let inner = &*self.0;
        let mut ping = inner.pings.open();
        match &*inner.role() {
            Role::Owner(_) => return Ok(()),
            Role::Member => inner.outbox.tell(Frame::Ping { token: ping.token }),
            Role::Closed => return Err(closed(operation)),
        }
        match tokio::time::timeout(CONFIRM_WAIT, ping.answered()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(closed(operation)),
            Err(_elapsed) => Err(no_answer(operation, &inner.place).outcome_unknown()),
        }
    }

    /// Asks one responder; see [`Bus::request`](jetbridge_core::Bus::request).
    pub(crate) async fn request(&self, mut message: Message, timeout: Duration) -> Result<Message> {
        check_size(&message)?;
        let subject = message.subject.clone();
        let (mut request, reply) = self.0.local.replies().open()?;
        message.reply = Some(reply);
        let unanswered =
            || Error::new(ErrorKind::Unavailable, "bus.request").with("subject", &subject);
        let answer = async {
            self.send(&message, true).await?;
            Ok(request.answer().await)
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(Answer::Message(answer))) => Ok(answer),
            Ok(Ok(Answer::Nobody)) => Err(unanswered()
                .because("nobody listens on the subject")
                .hint("start the responder, or look for a typing error in the subject")),
            Ok(Ok(Answer::Lost)) => Err(unanswered()
                .because("the process that passes messages on ended before there was an answer")
                .outcome_unknown()),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(unanswered()
                .because("there was no answer in time")
                .with("timeout_ms", timeout.as_millis())
                .outcome_unknown()),
        }
    }

    /// Messages from now on; see [`Bus::subscribe`](jetbridge_core::Bus::subscribe).
    pub(crate) async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let queue = Queue::new(subscribe.capacity);
        let reader = Reader::new(Arc::clone(&queue));
        let (sid, announcement) = self.0.local.subscribe(subscribe.pattern, subscribe.group, queue);
        let interest = Subscribed { hub: self.clone(), sid };
        if matches!(&*self.0.role(), Role::Member) {
            self.0.outbox.tell(announcement);
        }
        self.confirm("bus.subscribe").await?;
        Ok(Subscription::new(Box::pin(reader), move || drop(interest)))
    }

    /// Wakes everybody who waits for `topic`, in this process and the others. To be called after
    /// the commit it tells of. Does not wait, and can be called from any thread.
    pub(crate) fn wake(&self, topic: &str) {
        self.0.local.wake(topic);
        match &*self.0.role() {
            Role::Owner(owner) => owner.wake(topic),
            Role::Member => self.0.outbox.wake(topic),
            Role::Closed => {}
        }
    }

    /// Wake-ups for `topic`. None is lost: what was committed before this returned can be read,
    /// and what is committed later wakes. There may be more wake-ups than commits, and fewer.
    pub(crate) fn wakes(&self, topic: &str) -> Wakes {
        let (receiver, announcement) = self.0.local.watch(topic);
        if let Some(announcement) = announcement {
            match &*self.0.role() {
                Role::Owner(owner) => owner.watched_here(topic),
                Role::Member => self.0.outbox.tell(announcement),
                Role::Closed => {}
            }
        }
        Wakes { hub: self.clone(), topic: topic.into(), receiver }
    }
}

/// Interest to be taken back when the subscription ends.
#[derive(Debug)]
struct Subscribed {
    hub: Hub,
    sid: u64,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.hub.0.local.unsubscribe(self.sid);
        if matches!(&*self.hub.0.role(), Role::Member) {
            self.hub.0.outbox.tell(Frame::Unsubscribe { sid: self.sid });
        }
    }
}

/// Wake-ups for one topic. They coalesce: several commits may be one wake-up.
#[derive(Debug)]
pub(crate) struct Wakes {
    hub: Hub,
    topic: Box<str>,
    receiver: watch::Receiver<()>,
}

impl Wakes {
    /// Resolves when there has been a wake-up since this was last called, or since the beginning;
    /// `false` when there will be no more, because the store is closed. Can be dropped and called
    /// again.
    pub(crate) async fn next(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let announcement = self.hub.0.local.unwatch(&self.topic);
        if let (Some(announcement), Role::Member) = (announcement, &*self.hub.0.role()) {
            self.hub.0.outbox.tell(announcement);
        }
    }
}

impl Inner {
    fn role(&self) -> RwLockReadGuard<'_, Role> {
        self.role.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is owner or member until the tasks stop.
    async fn work(&self, mut standing: Standing) {
        loop {
            match standing {
                Standing::Owner(owner, listener) => {
                    self.own(&owner, listener).await;
                    break;
                }
                Standing::Member(welcomed) => {
                    let Self { local, outbox, pings, tasks, .. } = self;
                    match (Session { local, outbox, pings, tasks }).run(welcomed).await {
                        Ended::Stopped => break,
                        Ended::Lost(publishes) => {
                            self.lost.fetch_add(publishes, Ordering::Relaxed);
                        }
                    }
                }
            }
            let found = tokio::select! {
                () = self.tasks.stopping() => break,
                found = self.find_standing(None) => found,
            };
            match found {
                Ok(found) => standing = found,
                // Without a deadline it does not give up.
                Err(_never) => break,
            }
        }
        self.close();
    }

    /// Becomes owner if nobody is, else a member; `deadline` is when to give up, `None` is never.
    async fn find_standing(&self, deadline: Option<Instant>) -> Result<Standing> {
        let rejoins = deadline.is_none();
        let mut backoff = Backoff::new(STANDING_WAIT_FIRST, STANDING_WAIT_MAX);
        let mut log_at = Instant::now() + STANDING_WAIT_LOGGED;
        loop {
            let failure = match self.place.try_own() {
                Ok(Some(ownership)) => match self.place.listen(&ownership) {
                    Ok(listener) => {
                        let owner = Owner::new(self.member, Arc::clone(&self.local), ownership);
                        return Ok(Standing::Owner(Arc::new(owner), listener));
                    }
                    Err(error) => error,
                },
                Ok(None) => match member::greet(&self.place, self.member, rejoins).await {
                    Ok(welcomed) => return Ok(Standing::Member(welcomed)),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        foreign_owner(&self.place).caused_by(error)
                    }
                    Err(error) => no_answer("hub.join", &self.place).caused_by(error),
                },
                Err(error) => error,
            };
            let waiting = failure.kind() == ErrorKind::Unavailable;
            if deadline.is_some_and(|deadline| !waiting || Instant::now() >= deadline) {
                return Err(failure);
            }
            if Instant::now() >= log_at {
                log_at = Instant::now() + STANDING_WAIT_LOGGED;
                tracing::warn!(error = %failure, "no process passes messages on");
            }
            backoff.wait().await;
        }
    }

    /// Is owner until the tasks stop.
    async fn own(&self, owner: &Arc<Owner>, listener: UnixListener) {
        tracing::debug!(directory = %self.place.path().display(), "owner of the directory");
        let accept = serve::accept(owner, listener, &self.tasks);
        let take_over = async {
            tokio::select! {
                () = owner.settled() => {}
                () = self.tasks.stopping() => {}
            }
            self.take_over(owner);
            self.tasks.stopping().await;
            self.close();
        };
        tokio::join!(accept, take_over);
    }

    /// From now on routes what this process publishes, first of all what has waited.
    fn take_over(&self, owner: &Arc<Owner>) {
        let mut role = self.role.write().unwrap_or_else(PoisonError::into_inner);
        for frame in self.outbox.drain() {
            match frame {
                Frame::Publish { asks, message } => {
                    let reached = owner.route(Origin::Outbox, &message);
                    if let (0, true, Some(reply)) = (reached, asks, &message.reply) {
                        self.local.replies().nobody(reply);
                    }
                }
                Frame::Wake { topic } => owner.wake(&topic),
                only_for_the_last_owner => drop(only_for_the_last_owner),
            }
        }
        *role = Role::Owner(Arc::clone(owner));
        drop(role);
        // Who began to wait before this process was the owner has not told it so.
        owner.rouse_all();
        owner.wake_all();
        self.pings.answer_all();
    }

    fn close(&self) {
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = Role::Closed;
        self.outbox.close();
        self.pings.fail_all();
        self.local.close();
    }
}

fn check_size(message: &Message) -> Result<()> {
    let bytes = message.payload.len() + message.headers.wire_bytes();
    if bytes <= MESSAGE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::LimitExceeded, "bus.publish")
        .because("the message is larger than the store takes")
        .with("subject", &message.subject)
        .with("bytes", bytes)
        .with("bytes_max", MESSAGE_BYTES_MAX)
        .hint("put large data into an object bucket and send its name"))
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because("the store is closed")
}

fn foreign_owner(place: &Place) -> Error {
    Error::new(ErrorKind::Unsupported, "hub.join")
        .because("the directory is in use by another version of this program")
        .with("directory", place.path().display())
        .hint("stop the processes that use the directory, or run the version they are")
}

fn no_answer(operation: &'static str, place: &Place) -> Error {
    Error::new(ErrorKind::Unavailable, operation)
        .because("the process that passes messages on does not answer")
        .with("directory", place.path().display())
        .hint("it holds the lock on hub.lock there: `fuser` or `lslocks` finds it; is it stopped?")
}
