//! Where a limiter's state is kept: one key, read and written within a deadline.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend, Entry, Error, ErrorKind, Expect, Key, Kv, PutOpts, Read, Result, Revision,
};
use tokio::time::timeout;

use crate::booth::Booth;
use crate::clock::{Moment, nanos};
use crate::decision::{Decision, Source};
use crate::policy::Policy;
use crate::record;
use crate::state::{State, Verdict};
use crate::tally::Tally;

/// When to ask again for a slot, at the latest: it can come back at any time.
const SLOT_RETRY: Duration = Duration::from_secs(1);

/// How much longer than it is of use a value is kept: more than any error of a clock, and long
/// enough for a limiter in use to be written anew rather than made anew.
const KEPT: Duration = Duration::from_secs(60);
/// A longer TTL is left out: the value is kept for good. No policy remembers for more than two
/// years, and stores refuse a TTL of more than a century.
const TTL_MAX: Duration = Duration::from_secs(50 * 365 * 24 * 3600);
/// How much longer than its writer reckoned a value lasts: a TTL counts from when the store takes
/// it, and is rounded up to the second.
const LATER: Duration = Duration::from_secs(2);

/// How many times the error of the store's time a lease lasts at least: a tenth of it is left to
/// the clocks, of which each may be off in its own direction.
const ERRORS_IN_LEASE: u32 = 20;

/// Where a limiter's state is kept and how.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) key: Key,
    pub(crate) policy: Policy,
    /// How long one operation of the store may take.
    pub(crate) deadline: Duration,
    /// The store lets keys expire.
    pub(crate) expires: bool,
    /// How long slots outlive their process.
    pub(crate) lease: Duration,
    /// Where its permits can be counted out.
    pub(crate) booth: Option<Arc<Booth>>,
    pub(crate) tally: Arc<Tally>,
}

/// What is known of the stored state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) revision: Option<Revision>,
    pub(crate) state: State,
    pub(crate) converted: bool,
    /// Until when the value must stay, in the store's nanoseconds, though this policy would let
    /// it go: those of another one may have more to remember. `u64::MAX` is for good.
    pub(crate) keep: u64,
}

impl Place {
    pub(crate) async fn read(&self) -> Result<Seen> {
        self.tally.request();
        let read = self.within("limit.read", self.kv.get(&self.key, Read::Fresh)).await?;
        read.map_or_else(|| Ok(Seen::default()), |entry| self.seen(&entry))
    }

    /// What is stored, with what was counted beside it.
    pub(crate) async fn look(&self) -> Result<Seen> {
        let seen = self.read().await?;
        let Some(tickets) = seen.state.tickets else { return Ok(seen) };
        let (count, now) = (tickets.count(self.sum().await?, 0), self.now().await?);
        let state = seen.state.without_tickets(&self.policy, now.store, count);
        Ok(Seen { state, ..seen })
    }

    /// What an entry says, under this policy.
    pub(crate) fn seen(&self, entry: &Entry) -> Result<Seen> {
        let decoded = record::decode(&self.policy, entry)?;
        let (state, converted) = (decoded.state, decoded.converted);
        let keep = self.keep(entry, &state);
        Ok(Seen { revision: Some(entry.revision), state, converted, keep })
    }

    /// Writes `state` over what was seen, and keeps it as long as that; the revision, or `None`
    /// if somebody was faster.
    pub(crate) async fn write(
        &self,
        (over, keep): (Option<Revision>, u64),
        (state, now): (State, u64),
    ) -> Result<Option<Revision>> {
        self.tally.request();
        let expect = over.map_or(Expect::Absent, Expect::Exactly);
        let mut opts = PutOpts::new().expect(expect);
        opts.ttl = self.ttl(&state, now, keep);
        let value = record::encode(&self.policy, state)?;
        let put = self.kv.put(&self.key, value, opts);
        match self.within("limit.write", put).await {
            Ok(written) => Ok(Some(written.revision)),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.tally.conflict();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How long the value of one user, address or tenant is of use. Whoever asks can make as many
    /// of them as it likes, so they do not stay; a limiter's own key does.
    fn ttl(&self, state: &State, now: u64, keep: u64) -> Option<Duration> {
        if !self.expires || !self.key.as_str().contains(':') {
            return None;
        }
        let of_use = state.full_at(&self.policy).max(state.held.last_end().unwrap_or_default());
        let own = Duration::from_nanos(of_use.saturating_sub(now)) + KEPT;
        let ttl = own.max(Duration::from_nanos(keep.saturating_sub(now)));
        (ttl <= TTL_MAX).then_some(ttl)
    }

    /// Until when an entry must stay for others than this policy: until it ends, unless this
    /// policy would have let it go then too.
    fn keep(&self, entry: &Entry, state: &State) -> u64 {
        let own = self.ttl(state, nanos(entry.written), 0);
        let own = own.and_then(|ttl| entry.written.checked_add(ttl + LATER));
        let own = own.map_or(u64::MAX, nanos);
        let ends = entry.expires.map_or(u64::MAX, nanos);
        if ends <= own { 0 } else { ends }
    }

    pub(crate) async fn now(&self) -> Result<Moment> {
        self.within("limit.now", Moment::now(&*self.backend)).await
    }

    /// [`InvalidInput`](ErrorKind::InvalidInput) if the store's time is not known well enough for
    /// the lease of slots: others would take them while they are held.
    pub(crate) fn check_lease(&self, now: Moment) -> Result<()> {
        let error = Duration::from_nanos(now.error);
        if self.policy.slots().is_none() || self.lease >= error.saturating_mul(ERRORS_IN_LEASE) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, "limit.slots")
            .because("the lease is too short for how well the store's time is known")
            .with("key", &self.key)
            .with("lease_ms", self.lease.as_millis())
            .with("clock_error_ms", error.as_millis())
            .hint("set a lease of at least twenty times that error"))
    }

    pub(crate) async fn within<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        timeout(self.deadline, work).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(ErrorKind::Unavailable, operation)
                .because("the store did not answer in time")
                .with("key", &self.key)
                .with("deadline_ms", self.deadline.as_millis())
                .outcome_unknown())
        })
    }

    /// The decision about `cost` permits, after it was made.
    pub(crate) fn decision(&self, now: u64, state: &State, verdict: Verdict) -> Decision {
        decision(&self.policy, now, state, verdict)
    }

    /// The denial of a call for which there is no slot.
    pub(crate) fn no_slot(&self, now: u64, state: &State) -> Decision {
        let free = state.held.next_end("").map_or(SLOT_RETRY, |end| {
            Duration::from_nanos(end.saturating_sub(now)).min(SLOT_RETRY)
        });
        let decision = self.decision(now, state, Verdict::Denied(now));
        Decision { retry_after: free, ..decision }
    }
}

/// What follows from a verdict.
pub(crate) fn decision(policy: &Policy, now: u64, state: &State, verdict: Verdict) -> Decision {
    let retry_at = match verdict {
        Verdict::Granted(_) => now,
        Verdict::Denied(at) => at,
    };
    Decision {
        allowed: matches!(verdict, Verdict::Granted(_)),
        limit: policy.limit(),
        remaining: state.remaining(policy, now),
        retry_after: Duration::from_nanos(retry_at.saturating_sub(now)),
        reset_after: Duration::from_nanos(state.full_at(policy).saturating_sub(now)),
        source: Source::Store,
    }
}
