//! What other processes wrote: a limiter's key is followed while that matters.

use futures_util::FutureExt as _;
use jetbridge_core::{Backoff, Change};
use tokio::time::{Instant, timeout};

use super::Actor;
use crate::feed::Feed;
use crate::place::Seen;

impl Actor {
    /// Follows the key as long as somebody waits for a slot, others write it all the time, or
    /// tickets are given.
    pub(super) fn rest(&mut self) {
        if self.waiting.is_empty() {
            self.look_at = None;
        }
        if self.waiting.is_empty() && !self.contention.is_on() && self.tickets().is_none() {
            self.feed = Feed::off();
        } else if !self.feed.is_on() {
            self.follow();
        }
    }

    /// Whoever waits for slots must know of each that came back before it was followed. Of a rate
    /// others only take: who does not know loses a race, and reads.
    fn follow(&mut self) {
        let present = self.place.policy.slots().is_some();
        self.feed.follow(&*self.place.kv, &self.place.key, present);
        // It begins when it is first asked.
        self.catch_up();
    }

    /// Takes in what the feed has brought already.
    pub(super) fn catch_up(&mut self) {
        while let Some(change) = self.feed.next().now_or_never() {
            self.learn(change);
        }
    }

    /// Another process was faster: waits for what it wrote, which the feed brings. Without a feed,
    /// or without news in time, the store is read.
    pub(super) async fn await_news(&mut self, conflicts: &mut Backoff) {
        self.lost();
        let Some(known) = self.seen.as_ref().map(|seen| seen.revision) else {
            if self.contention.is_on() && !self.feed.is_on() {
                self.follow();
            }
            return conflicts.wait().await;
        };
        let patience = self.contention.patience();
        let news = async {
            while self.seen.as_ref().is_some_and(|seen| seen.revision == known) {
                let change = self.feed.next().await;
                self.learn(change);
            }
        };
        if timeout(patience, news).await.is_err() {
            self.seen = None;
        }
    }

    pub(super) fn lost(&mut self) {
        // Slots come back at any time: a look that lags behind would deny them.
        if self.place.policy.slots().is_none() {
            self.contention.lost();
        }
        self.prepare_tickets();
    }

    /// Takes in what the store tells; false if it is nothing new.
    pub(super) fn learn(&mut self, change: Option<Change>) -> bool {
        let Some(seen) = &self.seen else { return change.is_some() };
        let known = seen.revision;
        match change {
            None => {
                self.seen = None;
                false
            }
            Some(Change::Put(entry)) if known.is_none_or(|known| known < entry.revision) => {
                // What cannot be read is met again, and reported, by the next read.
                self.seen = self.place.seen(&entry).ok();
                self.told_at = Instant::now();
                if self.tickets().is_some() {
                    self.desk.forget_first();
                }
                true
            }
            Some(Change::Delete { revision, .. }) if known.is_some_and(|it| it < revision) => {
                self.seen = Some(Seen::default());
                self.told_at = Instant::now();
                true
            }
            Some(_) => false,
        }
    }
}
