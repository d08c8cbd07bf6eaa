//! A reader's part in the tail: when it gives up its own consumer, and what it takes instead.
//!
//! A reader comes to the tail when its own consumer has nothing left and the tail has everything
//! behind that point. Where it was too slow and the tail has let go of what it needs, it reads
//! that by a consumer of its own and comes back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use jetbridge_core::{Pattern, Result};

use super::tail::{Member, Taken};
use super::{Event, Reader, ReaderSpec};
use crate::api::{Api, Stored};
use crate::consumers::Turn;
use crate::error::not_sent;
use crate::waiters::Phase;

/// Longest wait for a turn to have a consumer of one's own.
const QUEUE_MAX: Duration = Duration::from_secs(30);

/// What a reader has in common with others that follow the same stream.
#[derive(Debug)]
pub(super) struct Share {
    member: Member,
    /// What this one wants; none is everything.
    wanted: Vec<Pattern>,
    headers_only: bool,
}

impl Share {
    /// The part of a reader that may share; `None` if it may not.
    pub(super) fn of(api: &Api, spec: &ReaderSpec) -> Option<Self> {
        let wanted = spec.filters.iter().map(|filter| Pattern::parse(filter.as_str()));
        let wanted = wanted.collect::<Result<Vec<_>>>().ok()?;
        let member = api.link().tails().join(api, spec)?;
        Some(Self { member, wanted, headers_only: spec.headers_only })
    }

    /// Up to where the tail has everything; `None` while there is none.
    pub(super) fn reached(&self) -> Option<u64> {
        self.member.reached()
    }

    /// Waits for the turn to have a consumer, where there are many; none where there are not, or
    /// where it does not come.
    pub(super) async fn turn(&mut self) -> Option<Turn> {
        timeout(QUEUE_MAX, self.member.turn()).await.ok().flatten()
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
    /// Whether it has to know what the leader has, beyond what is delivered.
    pub(super) fn wants_target(&self) -> bool {
        !self.caught_up || self.share.is_some()
    }

    /// True if what comes next is to be taken from the tail; its own consumer is then given up.
    pub(super) fn comes_to_the_tail(&mut self) -> bool {
        let Some(share) = &self.share else { return false };
        let is_behind = self.behind_since.is_some() || self.target > self.reached();
        if !self.caught_up || is_behind {
            return false;
        }
        let own = self.consumer.as_ref();
        if own.is_some_and(|consumer| consumer.pending > 0) {
            return false;
        }
        let from = self.position.max(own.and_then(|consumer| consumer.joint));
        if share.member.has_all_behind(from.unwrap_or_default()) {
            self.position = from;
            self.consumer = None;
            return true;
        }
        if let Some(consumer) = &mut self.consumer {
            consumer.registered.gives_up_its_turn();
        }
        false
    }

    /// Takes what the tail has, or waits for it.
    pub(super) async fn take_shared(&mut self) -> Result<()> {
        let Some(share) = &mut self.share else { return Ok(()) };
        let position = self.position.unwrap_or_default();
        match share.member.take(position)? {
            Taken::Messages(messages) => {
                self.position = messages.last().map(|last| last.sequence).or(self.position);
                self.ready.extend(messages.iter().filter_map(|stored| share.event(stored)));
            }
            Taken::Missed => self.behind_since = Some(self.heard),
            Taken::Nothing => {
                self.heard = Instant::now();
                let closed = self.state.wait_for(|state| state.phase == Phase::Closed);
                tokio::select! {
                    biased;
                    () = share.member.news() => {}
                    _closed = closed => {
                        return Err(not_sent(self.spec.operation, "the connection is closed"));
                    }
                }
            }
        }
        Ok(())
    }
}
