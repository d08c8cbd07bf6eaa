//! Durable consumers: who has which message, until when, for the how manieth time.
//!
//! All of it is in the stream's database, so that those who share a consumer, in whichever
//! process, share one state. A delivery is claimed in a write transaction at the moment somebody
//! asks for it; nothing is handed out ahead, so a process that is killed takes nothing with it
//! but what it was working on, and that comes again when its time is over. Who finds nothing to
//! claim sleeps until the next such time or until it is woken.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{
    Acker, Consume, ConsumeStart, Consumer, ConsumerName, Delivery, Error, ErrorKind, Pattern,
    Result, Retention, Settle, StreamMessage,
};
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use self::durable::Durable;
use crate::commit::Tx;
use crate::db::State;
use crate::fault::JobResult;
use crate::hub::Wakes;
use crate::stream::schema::{self, Scan};
use crate::stream::{Log, limits};

mod durable;

/// The filters of all consumers of a stream.
pub(crate) fn filters(sql: &Connection) -> JobResult<Vec<Option<Pattern>>> {
    Ok(Durable::all(sql)?.into_iter().map(|durable| durable.filter).collect())
}

impl Log {
    /// The deliveries of a durable consumer, which is made if missing.
    pub(crate) async fn consume(&self, consume: Consume) -> Result<Consumer> {
        check(&consume)?;
        let (log, wanted) = (self.clone(), consume.clone());
        let id = self.db().write("bus.consume", move |tx| join(&log, tx, &wanted)).await?;
        let stop = CancellationToken::new();
        let share = Share {
            // Before the first claim, so that no commit in between is missed.
            wakes: [self.wakes(), self.consumer_wakes(consume.durable.as_str())],
            log: self.clone(),
            name: consume.durable,
            id,
            stop: stop.clone(),
        };
        let deliveries = stream::unfold(Some(share), |share| async {
            let mut share = share?;
            let delivery = share.next().await.transpose()?;
            let share = delivery.is_ok().then_some(share);
            Some((delivery, share))
        });
        Ok(Consumer::new(deliveries.boxed(), move || stop.cancel()))
    }

    /// Forgets a durable consumer, and what was kept for it alone; `false` if there was none.
    pub(crate) async fn delete_consumer(&self, name: &ConsumerName) -> Result<bool> {
        let (log, gone) = (self.clone(), name.clone());
        let deleted = self.db().write("bus.delete_consumer", move |tx| {
            let Some(durable) = Durable::by_name(tx.sql(), &gone)? else { return Ok(false) };
            durable.delete(tx.sql())?;
            let settings = log.settings_at(tx.sql(), tx.state)?;
            if settings.spec.retention == Retention::Interest {
                release_unneeded(tx)?;
            }
            Ok(true)
        });
        let deleted = deleted.await?;
        self.wake_consumer(name.as_str());
        Ok(deleted)
    }

    fn no_consumer(&self, name: &ConsumerName) -> Error {
        Error::new(ErrorKind::NotFound, "bus.consume")
            .because("there is no such consumer any more")
            .with("stream", self.name())
            .with("durable", name)
    }
}

/// Refuses what can never deliver.
fn check(consume: &Consume) -> Result<()> {
    let zeros = [
        ("ack_wait", consume.ack_wait.is_zero()),
        ("deliver_max", consume.deliver_max == Some(0)),
        ("in_flight_max", consume.in_flight_max == 0),
    ];
    match zeros.into_iter().find(|(_, zero)| *zero) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(ErrorKind::InvalidInput, "bus.consume")
            .because(format!("{name} is zero: nothing would ever be delivered"))
            .with("stream", &consume.stream)
            .with("durable", &consume.durable)),
    }
}

/// Finds the consumer, or makes it; returns its id.
fn join(log: &Log, tx: &mut Tx<'_>, wanted: &Consume) -> JobResult<i64> {
    if let Some(present) = Durable::by_name(tx.sql(), &wanted.durable)? {
        present.check_same(wanted)?;
        return Ok(present.id);
    }
    let settings = log.settings_at(tx.sql(), tx.state)?;
    if settings.spec.retention == Retention::WorkQueue {
        check_work_queue(tx.sql(), wanted)?;
    }
    let behind = match wanted.start {
        ConsumeStart::First => 0,
        ConsumeStart::New => tx.state.sequence,
    };
    Durable::insert(tx.sql(), wanted, behind)
}

/// Every message of a work queue goes to exactly one consumer.
fn check_work_queue(sql: &Connection, wanted: &Consume) -> JobResult<()> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::InvalidInput, "bus.consume")
            .because(why)
            .with("stream", &wanted.stream)
            .with("durable", &wanted.durable)
    };
    if wanted.start == ConsumeStart::New {
        return Err(refuse("a consumer of a work queue begins with the first message").into());
    }
    if Durable::all(sql)?.iter().any(|present| present.overlaps(wanted)) {
        let why = "another consumer of this work queue takes some of these messages";
        return Err(refuse(why).into());
    }
    Ok(())
}

/// One of those who share a consumer.
struct Share {
    log: Log,
    name: ConsumerName,
    id: i64,
    wakes: [Wakes; 2],
    stop: CancellationToken,
}

/// What a look for the next delivery came to.
enum Claim {
    /// A message, for the how manieth time.
    Delivery(Box<StreamMessage>, u64),
    /// None among those looked at; there are more to look at.
    LookOn,
    /// None now; the next unsettled one is due then.
    Wait(Option<i64>),
}

impl Share {
    async fn next(&mut self) -> Result<Option<Delivery>> {
        while !self.stop.is_cancelled() {
            match self.claim().await? {
                Claim::Delivery(it, attempt) => return Ok(Some(self.delivery(*it, attempt))),
                Claim::LookOn => {}
                Claim::Wait(due) => self.wait_for_something(due).await?,
            }
        }
        Ok(None)
    }

    /// Waits until it is worth while to claim again. A wake-up comes to all who share the
    /// consumer, and to all other consumers of the stream: they look before they write.
    async fn wait_for_something(&mut self, mut due: Option<i64>) -> Result<()> {
        loop {
            self.wait(due).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            match self.look()? {
                None => return Ok(()),
                Some(later) => due = later,
            }
        }
    }

    /// When there may be something to claim at the earliest; the outer `None` is now.
    fn look(&self) -> Result<Option<Option<i64>>> {
        let now = self.log.now();
        self.log.db().snapshot("bus.consume", |sql| {
            let state = State::load(sql)?;
            // What is wrong, the claim will say.
            let Some(durable) = Durable::by_id(sql, self.id)?.filter(|_| !state.deleted) else {
                return Ok(None);
            };
            let room = durable.in_flight(sql)? < durable.in_flight_max;
            let due = durable.next_due(sql)?;
            let something =
                (room && state.sequence > durable.looked_at) || due.is_some_and(|due| due <= now);
            Ok((!something).then_some(due))
        })
    }

    async fn claim(&self) -> Result<Claim> {
        let (log, name, id) = (self.log.clone(), self.name.clone(), self.id);
        self.log.db().write("bus.consume", move |tx| claim(&log, tx, &name, id)).await
    }

    fn delivery(&self, it: StreamMessage, attempt: u64) -> Delivery {
        let sequence = it.sequence;
        let acker = LocalAcker {
            log: self.log.clone(),
            name: self.name.clone(),
            id: self.id,
            sequence,
            attempt,
        };
        Delivery::new(it.message, sequence, attempt, it.stored, Box::new(acker))
    }

    /// Waits until there may be something to claim.
    async fn wait(&mut self, due: Option<i64>) -> Result<()> {
        let now = self.log.now();
        let due = async {
            match due {
                Some(due) => tokio::time::sleep(wait_until(due, now)).await,
                None => std::future::pending().await,
            }
        };
        let [messages, deliveries] = &mut self.wakes;
        let open = tokio::select! {
            open = messages.next() => open,
            open = deliveries.next() => open,
            () = due => true,
            () = self.stop.cancelled() => true,
        };
        if open {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "bus.consume")
            .because("the store was closed")
            .with("stream", self.log.name())
            .with("durable", &self.name))
    }
}

/// Timers are as fine as a millisecond and never early, so a sleep ends when it is due.
fn wait_until(due: i64, now: i64) -> Duration {
    schema::duration(due.saturating_sub(now))
}

/// Takes the next delivery: what is due again first, then what is new.
fn claim(log: &Log, tx: &mut Tx<'_>, name: &ConsumerName, id: i64) -> JobResult<Claim> {
    let settings = log.settings_at(tx.sql(), tx.state)?;
    let now = log.now();
    let durable = Durable::by_id(tx.sql(), id)?.ok_or_else(|| log.no_consumer(name))?;
    limits::trim_aged(tx, &settings.spec, now)?;
    let cutoff = schema::cutoff(now, settings.spec.max_age);
    while let Some((sequence, attempts)) = durable.first_due(tx.sql(), now)? {
        if attempts >= durable.deliver_max {
            durable.give_up(tx.sql(), sequence)?;
            continue;
        }
        let one = Scan { after: sequence - 1, end: sequence, cutoff, filter: None, count: 1 };
        match schema::scan(tx.sql(), &one)?.messages.pop() {
            Some(message) => {
                durable.deliver_again(tx.sql(), sequence, now)?;
                return Ok(Claim::Delivery(Box::new(message), attempts + 1));
            }
            None => durable.forget(tx.sql(), sequence)?,
        }
    }
    if durable.in_flight(tx.sql())? < durable.in_flight_max
        && let Some(claim) = claim_new(tx, &durable, cutoff, now)?
    {
        return Ok(claim);
    }
    Ok(Claim::Wait(durable.next_due(tx.sql())?))
}

/// Looks for a message that has not been delivered yet; `None` if there is none.
fn claim_new(tx: &Tx<'_>, durable: &Durable, cutoff: i64, now: i64) -> JobResult<Option<Claim>> {
    let end = tx.state.sequence;
    let filter = durable.filter.as_ref();
    let scan = Scan { after: durable.looked_at, end, cutoff, filter, count: 1 };
    let mut found = schema::scan(tx.sql(), &scan)?;
    let Some(message) = found.messages.pop() else {
        let looked_at = if found.more { found.looked_at } else { end };
        durable.look_at(tx.sql(), looked_at)?;
        return Ok(found.more.then_some(Claim::LookOn));
    };
    durable.look_at(tx.sql(), message.sequence)?;
    durable.deliver(tx.sql(), message.sequence, now)?;
    Ok(Some(Claim::Delivery(Box::new(message), 1)))
}

struct LocalAcker {
    log: Log,
    name: ConsumerName,
    id: i64,
    sequence: u64,
    attempt: u64,
}

#[async_trait]
impl Acker for LocalAcker {
    async fn settle(&self, how: Settle) -> Result<()> {
        let (log, name, id) = (self.log.clone(), self.name.clone(), self.id);
        let (sequence, attempt) = (self.sequence, self.attempt);
        let settled = self.log.db().write("bus.settle", move |tx| {
            let durable = Durable::by_id(tx.sql(), id)?.ok_or_else(|| log.no_consumer(&name))?;
            let settled = Settled { durable, sequence, attempt };
            settled.apply(&log, tx, how)
        });
        if settled.await? {
            self.log.wake_consumer(self.name.as_str());
        }
        Ok(())
    }
}

struct Settled {
    durable: Durable,
    sequence: u64,
    attempt: u64,
}

impl Settled {
    /// Takes note; true if those who wait for deliveries have to look again.
    fn apply(&self, log: &Log, tx: &mut Tx<'_>, how: Settle) -> JobResult<bool> {
        let Self { durable, sequence, attempt } = self;
        let now = log.now();
        match how {
            Settle::Ack | Settle::Term => {
                let was_full = durable.in_flight(tx.sql())? >= durable.in_flight_max;
                durable.forget(tx.sql(), *sequence)?;
                let settings = log.settings_at(tx.sql(), tx.state)?;
                release(tx, settings.spec.retention, *sequence)?;
                Ok(was_full)
            }
            Settle::Nak(delay) => {
                let due = now.saturating_add(schema::span(delay));
                durable.postpone(tx.sql(), *sequence, *attempt, due)?;
                Ok(true)
            }
            Settle::InProgress => {
                let due = now.saturating_add(durable.ack_wait);
                durable.postpone(tx.sql(), *sequence, *attempt, due)?;
                Ok(false)
            }
        }
    }
}

/// Removes a message that a consumer has settled, if nobody needs it any more.
fn release(tx: &mut Tx<'_>, retention: Retention, sequence: u64) -> JobResult<()> {
    match retention {
        Retention::Limits => Ok(()),
        Retention::WorkQueue => limits::remove(tx, sequence),
        Retention::Interest => {
            let one = [sequence];
            release_each(tx, &one)
        }
    }
}

/// Removes every message that no consumer needs.
fn release_unneeded(tx: &mut Tx<'_>) -> JobResult<()> {
    let all = schema::sequences(tx.sql())?;
    release_each(tx, &all)
}

fn release_each(tx: &mut Tx<'_>, sequences: &[u64]) -> JobResult<()> {
    let durables = Durable::all(tx.sql())?;
    for sequence in sequences {
        let Some(subject) = schema::subject(tx.sql(), *sequence)? else { continue };
        let mut needed = false;
        for durable in &durables {
            needed |= durable.needs(tx.sql(), *sequence, &subject)?;
        }
        if !needed {
            limits::remove(tx, *sequence)?;
        }
    }
    Ok(())
}
