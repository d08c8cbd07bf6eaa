//! Exact increments over compare-and-set.
//!
//! An increment whose acknowledgement is lost may or may not have landed, and sending it again
//! may count twice. Message ids do not settle it: a restarted server rebuilds them from what it
//! still stores, and an overwritten message is not stored. So each counter value carries a table
//! of its last writers in a header: one writer is one process and bucket, and its entry names the
//! last operation of that writer that the value includes. After an unclear write that expected
//! revision R, whatever is read next decides:
//!
//! * the table holds our operation: it landed;
//! * the revision is still R (or the key still absent): it has not *yet*, and the same condition
//!   makes sending again safe; should the first one land after all, the second conflicts and the
//!   next read tells;
//! * the revision moved and the table lacks our operation: it can never land, start over;
//! * a foreign writer replaced the value and with it the table, or a key that was there is gone:
//!   nobody can tell, and the error says so.
//!
//! `docs/formats/counters.md` has the bytes.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::state::{Operation, State};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::kv::{IncrementOpts, Kv, PutOpts, Read, Revision};
use crate::name::Key;

/// How long an increment competes by default before it gives up with nothing written. A cluster
/// that lost its leader elects another in less, also on busy machines.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// How long past its deadline an increment by default finds out what became of a write whose
/// answer is lost: a late answer is worth more than one that does not tell.
const SETTLING_DEFAULT: Duration = Duration::from_secs(60);

/// [`Kv::increment`] for backends that have nothing better than compare-and-set. `now` is the
/// store's time, to carry a key's expiry over.
pub async fn increment(
    kv: &dyn Kv,
    now: &(dyn Fn() -> SystemTime + Send + Sync),
    key: &Key,
    delta: i64,
    opts: IncrementOpts,
) -> Result<i64> {
    let deadline = Instant::now() + opts.deadline.unwrap_or(DEADLINE_DEFAULT);
    let shared = kv.shared().clone();
    let slot = shared.slot(key);
    let Ok(mut seen) = tokio::time::timeout_at(deadline, slot.lock()).await else {
        return Err(gave_up(key, deadline));
    };
    let operation = Operation { writer: shared.writer(), number: shared.next_operation() };
    let call = Call { kv, now, key, delta, opts, operation };
    let mut attempts = Attempts { call, deadline, unclear: None, obstacle: None };
    let sum = attempts.run(&mut seen).await;
    if sum.is_err() {
        *seen = None;
    }
    sum
}

/// What is to be done.
#[derive(Clone, Copy)]
struct Call<'a> {
    kv: &'a dyn Kv,
    now: &'a (dyn Fn() -> SystemTime + Send + Sync),
    key: &'a Key,
    delta: i64,
    opts: IncrementOpts,
    operation: Operation<'a>,
}

/// Doing it, until it is done or the deadline has passed.
struct Attempts<'a> {
    call: Call<'a>,
    deadline: Instant,
    unclear: Option<Unclear>,
    /// Why the last attempt did not write.
    obstacle: Option<Error>,
}

/// A write whose answer was lost.
struct Unclear {
    /// What it expected.
    revision: Option<Revision>,
    /// The sum, if it landed.
    sum: i64,
    error: Error,
}

/// What a later state says about an unclear write.
enum Verdict {
    Landed(i64),
    Never,
    Open(Unclear),
    Unknowable(Error),
}

impl Attempts<'_> {
    /// Adds; `seen` is the counter's state as far as it is known, before and after.
    async fn run(&mut self, seen: &mut Option<State>) -> Result<i64> {
        let mut backoff = Backoff::contention();
        loop {
            if let Some(sum) = self.step(seen).await? {
                return Ok(sum);
            }
            if self.is_over() {
                let gave_up = gave_up(self.call.key, self.deadline);
                return Err(match (self.unclear.take(), self.obstacle.take()) {
                    (Some(unclear), _) => unclear.error,
                    (None, Some(obstacle)) => gave_up.caused_by(obstacle),
                    (None, None) => gave_up,
                });
            }
            backoff.wait().await;
        }
    }

    /// True if nothing is to be tried any more.
    fn is_over(&self) -> bool {
        let settling = self.call.opts.settling.unwrap_or(SETTLING_DEFAULT);
        let more = if self.unclear.is_some() { settling } else { Duration::ZERO };
        self.deadline.checked_add(more).is_some_and(|end| Instant::now() >= end)
    }

    /// Reads if nothing is known, settles what is unclear, and writes. `None` if that has to be
    /// done again.
    async fn step(&mut self, seen: &mut Option<State>) -> Result<Option<i64>> {
        let known = seen.take().filter(|state| state.is_read_as(self.call.opts.encoding));
        let remembered = known.is_some();
        let state = match known {
            Some(state) => state,
            None => match self.call.read().await {
                Ok(state) => state,
                Err(error) => return self.unread(error),
            },
        };
        if let Some(unclear) = self.unclear.take() {
            match unclear.verdict(&state, self.call.operation) {
                Verdict::Landed(sum) => {
                    *seen = Some(state);
                    return Ok(Some(sum));
                }
                Verdict::Never => {}
                Verdict::Open(unclear) => self.unclear = Some(unclear),
                Verdict::Unknowable(error) => return Err(error),
            }
        }
        let Call { key, delta, opts, operation, .. } = self.call;
        let next = match state.plus(key, delta, opts, operation) {
            Ok(next) => next,
            // Others may have written since: what is remembered is no reason to refuse.
            Err(_outdated) if remembered => return Ok(None),
            Err(refused) => return Err(refused),
        };
        match self.call.write(&state, &next).await {
            Ok(revision) => {
                let sum = next.number;
                *seen = Some(next.at(revision));
                return Ok(Some(sum));
            }
            Err(error) if error.kind() == ErrorKind::Conflict => self.obstacle = Some(error),
            Err(error) if error.outcome() == Outcome::Unknown => {
                let (revision, sum) = (state.revision, next.number);
                self.unclear = Some(Unclear { revision, sum, error });
            }
            Err(error) if error.is_retryable() => {
                self.obstacle = Some(error);
                *seen = Some(state);
            }
            Err(error) => return Err(self.unclear.take().map_or(error, |it| it.error)),
        }
        Ok(None)
    }

    /// A store that does not answer is asked again; what else a read fails with is the caller's
    /// affair, unless a write is still unclear: what cannot be found out stays unclear.
    fn unread(&mut self, error: Error) -> Result<Option<i64>> {
        if error.is_retryable() {
            self.obstacle = Some(error);
            return Ok(None);
        }
        Err(self.unclear.take().map_or(error, |unclear| unclear.error))
    }
}

impl Call<'_> {
    async fn read(&self) -> Result<State> {
        let entry = self.kv.get(self.key, Read::Fresh).await?;
        State::read(self.opts.encoding, entry.as_ref())
    }

    async fn write(&self, state: &State, next: &State) -> Result<Revision> {
        let mut put = state.revision.map_or_else(PutOpts::create, PutOpts::over);
        put.headers = next.headers.clone();
        put.ttl = match next.expires.map(|at| at.duration_since((self.now)())) {
            None => None,
            Some(Ok(left)) if !left.is_zero() => Some(left),
            // It expired just now: to the store the key is absent, which a fresh read will tell.
            Some(_past) => return Err(Error::new(ErrorKind::Conflict, "kv.increment")),
        };
        let value = self.opts.encoding.encode(next.number);
        self.kv.put(self.key, value, put).await.map(|written| written.revision)
    }
}

impl Unclear {
    fn verdict(self, now: &State, operation: Operation<'_>) -> Verdict {
        if now.includes(operation) {
            return Verdict::Landed(self.sum);
        }
        if now.revision == self.revision {
            return Verdict::Open(self);
        }
        if now.names_its_writer() { Verdict::Never } else { Verdict::Unknowable(self.error) }
    }
}

fn gave_up(key: &Key, deadline: Instant) -> Error {
    Error::new(ErrorKind::Unavailable, "kv.increment")
        .because(
            "the deadline passed with nothing written: the store, or other writers, got in between",
        )
        .with("key", key)
        .with("late_ms", deadline.elapsed().as_millis())
}
