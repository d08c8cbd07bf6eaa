//! A reader's part in the tail: when it gives up its own consumer, and what it takes instead.
//!
//! A reader comes to the tail when its own consumer has nothing left and the tail has everything
//! behind that point. Where it was too slow and the tail has let go of what it needs, it reads
//! that by a consumer of its own and comes back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use jetbridge_core::{Pattern, Result};

use super::tail::{Member, Taken};
use super::{Event, Reader, ReaderSpec};
use crate::api::{Api, Stored};
use crate::consumers::Turn;
use crate::error::not_sent;
use crate::waiters::Phase;

/// Longest wait for a turn to have a consumer of one's own.
const QUEUE_MAX: Duration = Duration::from_secs(30);
/// How often one who waits looks at how far the tail is, where nothing says how often it should.
const LOOK_AFTER: Duration = Duration::from_secs(300);
/// Of more patterns than this nothing is shared: each would be looked at for every message.
const WANTED_MAX: usize = 16;
/// How often in a row a reader that cannot come to the tail because that has moved on tries again.
const TRIES_MAX: u32 = 3;

/// What a reader has in common with others that follow the same stream.
#[derive(Debug)]
pub(super) struct Share {
    member: Member,
    /// What this one wants; none is everything.
    wanted: Vec<Pattern>,
    headers_only: bool,
    /// How often in a row it was too late.
    tries: u32,
    /// Whether what came last came from the tail.
    is_with_it: bool,
}

impl Share {
    /// The part of a reader that may share; `None` if it may not.
    pub(super) fn of(api: &Api, spec: &ReaderSpec) -> Option<Self> {
        if spec.filters.len() > WANTED_MAX {
            return None;
        }
        let wanted = spec.filters.iter().map(|filter| Pattern::parse(filter.as_str()));
        let wanted = wanted.collect::<Result<Vec<_>>>().ok()?;
        let member = api.link().tails().join(api, spec)?;
        Some(Self { member, wanted, headers_only: spec.headers_only, tries: 0, is_with_it: false })
    }

    /// Up to where the tail of the stream that was made then has everything; `None` while there is
    /// none.
    pub(super) fn reached(&self, created: Option<&String>) -> Option<u64> {
        self.member.reached(created)
    }

    fn is_wanted(&self, stored: &Stored) -> bool {
        self.wanted.is_empty()
            || self.wanted.iter().any(|wanted| wanted.matches(stored.subject.as_str()))
    }

    fn event(&self, stored: &Arc<Stored>) -> Option<Event> {
        self.is_wanted(stored).then(|| {
            let mut stored = Stored::clone(stored);
            if self.headers_only {
                stored.payload = bytes::Bytes::new();
            }
            Event::Message(stored)
        })
    }
}

impl Reader {
    /// Waits for the turn to have a consumer, where there are many; none where there are not, or
    /// where it does not come.
    pub(super) async fn turn(&mut self) -> Option<Turn> {
        if !self.share.as_ref()?.member.is_crowded() {
            return None;
        }
        if self.spec.created.is_none() {
            let call = self.api.link().repeatable(self.spec.operation);
            let info = self.api.stream(&self.spec.stream, &call).await;
            self.spec.created = info.ok().flatten().map(|info| info.created);
        }
        // Where nobody says which stream it is, the tail may be of one that was there before.
        self.spec.created.as_ref()?;
        let share = self.share.as_mut()?;
        let closed = self.state.wait_for(|state| state.phase == Phase::Closed);
        tokio::select! {
            biased;
            _closed = closed => None,
            turn = timeout(QUEUE_MAX, share.member.turn(&self.spec)) => turn.ok().flatten(),
        }
    }

    /// True if it reads for many, or beside many.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.leads.is_some() || self.share.as_ref().is_some_and(|it| it.member.is_crowded())
    }

    /// Whether it has to know what the leader has, beyond what is delivered.
    pub(super) fn wants_target(&self) -> bool {
        !self.caught_up || self.consumer.as_ref().is_some_and(|own| own.joint.is_some())
    }

    /// True if what comes next is to be taken from the tail; its own consumer is then given up.
    pub(super) fn comes_to_the_tail(&mut self) -> bool {
        let has_all = self.target <= self.reached();
        let Some(share) = &mut self.share else { return false };
        if !self.caught_up || self.behind_since.is_some() {
            return false;
        }
        let own = self.consumer.as_ref();
        if own.is_some_and(|own| own.pending > 0) {
            return false;
        }
        let joint = own.and_then(|own| own.joint).filter(|_| has_all);
        let from = self.position.max(joint);
        if share.member.has_all_behind(from.unwrap_or_default(), self.spec.created.as_ref()) {
            (self.position, self.consumer) = (from, None);
            (share.tries, share.is_with_it) = (0, true);
            return true;
        }
        // Without a consumer it was with the tail, which says why it is not any more.
        self.consumer.is_none() && share.is_with_it
    }

    /// True if another consumer would let it come to the tail: this one was made before there was
    /// one, or the tail has let go of what was written while it caught up.
    pub(super) fn would_come(&mut self) -> bool {
        let reached = self.reached();
        let Some((share, own)) = self.share.as_mut().zip(self.consumer.as_mut()) else {
            return false;
        };
        if !self.caught_up || self.behind_since.is_some() || own.pending > 0 {
            return false;
        }
        if own.joint.is_some() && self.target > reached {
            // The copy lags: what it lacks is to be waited for.
            return false;
        }
        let is_on = share.reached(self.spec.created.as_ref()).is_some();
        if is_on && share.tries < TRIES_MAX && share.member.has_room() {
            return true;
        }
        own.registered.gives_up_its_turn();
        false
    }

    /// Gives up its consumer, of which nothing is left to hear, for another. It has it until there
    /// is the other: the stream may be full.
    pub(super) fn tries_to_come(&mut self) {
        if let Some(share) = &mut self.share {
            share.tries += 1;
        }
        self.spare = self.consumer.take();
    }

    /// Takes what the tail has, or waits for it.
    pub(super) async fn take_shared(&mut self) -> Result<()> {
        let look_after = self.spec.away_max.map_or(LOOK_AFTER, |max| max / 2);
        let Some(share) = &mut self.share else { return Ok(()) };
        let position = self.position.unwrap_or_default();
        match share.member.take(position, self.spec.created.as_ref())? {
            Taken::Messages(messages) => {
                self.position = messages.last().map(|last| last.sequence).or(self.position);
                self.ready.extend(messages.iter().filter_map(|stored| share.event(stored)));
            }
            Taken::Missed(heard) => {
                share.is_with_it = false;
                self.behind_since = Some(heard.map_or(self.heard, |heard| heard.max(self.heard)));
            }
            Taken::Nothing(heard) => {
                self.heard = heard;
                let closed = self.state.wait_for(|state| state.phase == Phase::Closed);
                tokio::select! {
                    biased;
                    () = share.member.news() => {}
                    _closed = closed => {
                        return Err(not_sent(self.spec.operation, "the connection is closed"));
                    }
                    // How long it may have been behind is counted from the last look.
                    () = tokio::time::sleep(look_after) => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F>(_operation: impl Fn(&'static mut Reader) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn ten_thousand_readers_are_small() {
        let waiting = size(Reader::next);
        assert!(waiting + size_of::<Reader>() <= 1536, "{waiting} + {}", size_of::<Reader>());
    }
}
