//! One durable consumer: what it has delivered, what is unsettled, what comes next.
//!
//! Pure state, like the stream that owns it. Those who share the consumer ask it in turn, so that
//! nothing is handed out ahead and nothing has to be taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::log::Messages;
use crate::bus::{Consume, Settle};
use crate::error::{Error, ErrorKind, Result};
use crate::stream::StreamMessage;

/// A durable consumer.
#[derive(Debug)]
pub(super) struct Durable {
    wants: Consume,
    /// The newest sequence that was looked at for a first delivery.
    looked_at: u64,
    unsettled: BTreeMap<u64, Unsettled>,
    /// Delivered as often as allowed, and never acknowledged.
    given_up: BTreeSet<u64>,
}

#[derive(Debug)]
struct Unsettled {
    attempt: u64,
    /// When it is delivered again.
    due: SystemTime,
}

impl Durable {
    /// A consumer of the messages behind `sequence`.
    pub(super) fn new(wants: Consume, sequence: u64) -> Self {
        Self { wants, looked_at: sequence, unsettled: BTreeMap::new(), given_up: BTreeSet::new() }
    }

    /// The next delivery at `now` and which attempt it is; redeliveries come first.
    pub(super) fn next<'a>(
        &mut self,
        messages: &'a Messages,
        now: SystemTime,
    ) -> Option<(&'a StreamMessage, u64)> {
        self.unsettled.retain(|sequence, _| messages.contains_key(sequence));
        self.redelivery(messages, now).or_else(|| self.delivery(messages, now))
    }

    /// When the next redelivery is due.
    pub(super) fn next_due(&self) -> Option<SystemTime> {
        self.unsettled.values().map(|it| it.due).min()
    }

    /// Settles an attempt at `sequence`; true if the consumer is done with the message.
    pub(super) fn settle(
        &mut self,
        sequence: u64,
        attempt: u64,
        how: Settle,
        now: SystemTime,
    ) -> bool {
        let wait = match how {
            Settle::Ack | Settle::Term => {
                self.unsettled.remove(&sequence);
                self.given_up.remove(&sequence);
                return true;
            }
            Settle::Nak(delay) => delay,
            Settle::InProgress => self.wants.ack_wait,
        };
        // A word about an attempt that has been overtaken by the next one changes nothing.
        if let Some(it) = self.unsettled.get_mut(&sequence).filter(|it| it.attempt == attempt) {
            it.due = now + wait;
        }
        false
    }

    /// True if the consumer still has to be done with the message.
    pub(super) fn needs(&self, sequence: u64, subject: &str) -> bool {
        let open = sequence > self.looked_at
            || self.unsettled.contains_key(&sequence)
            || self.given_up.contains(&sequence);
        open && self.wants(subject)
    }

    pub(super) fn wants(&self, subject: &str) -> bool {
        self.wants.filter.as_ref().is_none_or(|filter| filter.matches(subject))
    }

    /// True if some message is wanted by both.
    pub(super) fn overlaps(&self, other: &Consume) -> bool {
        match (&self.wants.filter, &other.filter) {
            (Some(mine), Some(theirs)) => mine.overlaps(theirs),
            _ => true,
        }
    }

    /// Those who share a consumer must want the same.
    pub(super) fn check_same(&self, other: &Consume) -> Result<()> {
        let mine = &self.wants;
        let fields = [
            ("filter", mine.filter != other.filter),
            ("ack_wait", mine.ack_wait != other.ack_wait),
            ("deliver_max", mine.deliver_max != other.deliver_max),
            ("in_flight_max", mine.in_flight_max != other.in_flight_max),
        ];
        let differing: Vec<_> =
            fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, "bus.consume")
            .because("the consumer is there with other settings")
            .with("stream", &mine.stream)
            .with("durable", &mine.durable)
            .with("differs", differing.join(","))
            .hint("use the same settings, another name, or delete the consumer"))
    }

    fn redelivery<'a>(
        &mut self,
        messages: &'a Messages,
        now: SystemTime,
    ) -> Option<(&'a StreamMessage, u64)> {
        let attempts_max = self.wants.deliver_max.map_or(u64::MAX, u64::from);
        let due = |it: &Unsettled| it.due <= now;
        let spent = |it: &Unsettled| due(it) && it.attempt >= attempts_max;
        self.given_up.extend(self.unsettled.extract_if(.., |_, it| spent(it)).map(|(at, _)| at));
        let (sequence, it) = self.unsettled.iter_mut().find(|(_, it)| due(it))?;
        it.attempt += 1;
        it.due = now + self.wants.ack_wait;
        Some((messages.get(sequence)?, it.attempt))
    }

    fn delivery<'a>(
        &mut self,
        messages: &'a Messages,
        now: SystemTime,
    ) -> Option<(&'a StreamMessage, u64)> {
        if self.unsettled.len() >= usize::try_from(self.wants.in_flight_max).unwrap_or(usize::MAX) {
            return None;
        }
        let mut new = messages.range(self.looked_at.saturating_add(1)..);
        let (sequence, message) = new.find(|(_, it)| self.wants(it.message.subject.as_str()))?;
        self.looked_at = *sequence;
        let due = now + self.wants.ack_wait;
        self.unsettled.insert(*sequence, Unsettled { attempt: 1, due });
        Some((message, 1))
    }
}
