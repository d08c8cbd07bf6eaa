//! One limiter as its callers have it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use jetbridge_core::{Error, ErrorKind, Key, Result};
use tokio::sync::oneshot;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::breaker::Breaker;
use crate::decision::{Admission, Decision, OnError, Source};
use crate::fallback::Local;
use crate::limits::Limits;
use crate::message::{Answer, Message, Replied, Reply, Request, Reserved};
use crate::permit::Permit;
use crate::policy::{LEASE_MAX, Policy};
use crate::state::Ask;
use crate::tally::{Metrics, Tally};

/// How long a caller waits for a store that does not answer, by default.
const DEADLINE_DEFAULT: Duration = Duration::from_millis(250);
/// So many deadlines a caller waits on while other processes are faster: 5 s by default. Whoever
/// has won nothing by then is not served by this store.
const RACES_MAX: u32 = 20;
/// How long slots outlive their process, by default.
const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// A shorter lease would be lost to a short stall of the process.
const LEASE_MIN: Duration = Duration::from_millis(100);

/// What a limiter does when things go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LimiterOpts {
    /// What happens while the store does not answer.
    pub on_error: OnError,
    /// After how long without an answer it happens; 250 ms by default. Waiting for a permit is
    /// not waiting for an answer.
    pub deadline: Duration,
    /// How long the slots of a process that died, or cannot reach the store, stay taken: 100 ms
    /// to an hour, 30 s by default.
    pub lease: Duration,
}

impl Default for LimiterOpts {
    fn default() -> Self {
        let (deadline, lease) = (DEADLINE_DEFAULT, LEASE_DEFAULT);
        Self { on_error: OnError::default(), deadline, lease }
    }
}

impl LimiterOpts {
    /// Sets what happens while the store does not answer.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Sets after how long without an answer it happens.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how long slots outlive their process.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// [`InvalidInput`](ErrorKind::InvalidInput) for options outside their bounds, as opening a
    /// limiter with them would be.
    pub fn check(&self) -> Result<()> {
        let invalid = |why| Error::new(ErrorKind::InvalidInput, "limit.open").because(why);
        if let OnError::Local { share } = self.on_error
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(invalid("a process's share is above 0 and at most 1").with("share", share));
        }
        if !(LEASE_MIN..=LEASE_MAX).contains(&self.lease) {
            return Err(invalid("a lease is between 100 ms and an hour")
                .with("lease_seconds", self.lease.as_secs_f64()));
        }
        Ok(())
    }
}

/// A limiter over all processes that use the same bucket and id. Cheap to clone; it holds no
/// task and no connection of its own.
///
/// Every method may fail as its bucket may; a denial is no failure but a [`Decision`] whose
/// `allowed` is false. A dropped call gives its permits to the next caller of this process, as
/// long as a rate could have saved them up; later they are forfeited. Its slot is free at once.
#[derive(Clone, Debug)]
pub struct Limiter {
    limits: Limits,
    key: Key,
    policy: Policy,
    opts: LimiterOpts,
    shared: Arc<Shared>,
}

/// What a limiter and its keys have in common in this process.
#[derive(Debug)]
struct Shared {
    /// Names the policy beside the key.
    hash: String,
    local: Arc<Local>,
    breaker: Breaker,
    tally: Arc<Tally>,
}

/// How a call was decided: by the store, or by nobody in time.
enum Decided {
    Store(Answer),
    Unavailable(Error),
}

impl Limiter {
    pub(crate) fn new(
        limits: Limits,
        key: Key,
        (policy, opts): (Policy, LimiterOpts),
        tally: Arc<Tally>,
    ) -> Result<Self> {
        opts.check()?;
        let (hash, local) = (policy.hash(), Local::new());
        let shared = Arc::new(Shared { hash, local, breaker: Breaker::default(), tally });
        Ok(Self { limits, key, policy, opts, shared })
    }

    /// The limiter of the same policy for one user, address or tenant: `ID:NAME` in the store.
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an empty name and one over a key's length.
    ///
    /// While the store does not answer, [`OnError::Local`] counts all keys together.
    pub fn key(&self, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(self.invalid("a key is not empty"));
        }
        let key = Key::parse(format!("{}:{name}", self.key))?;
        Ok(Self { key, ..self.clone() })
    }

    /// Its key in the bucket.
    pub fn id(&self) -> &Key {
        &self.key
    }

    /// What it allows.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What it does when things go wrong.
    pub fn opts(&self) -> &LimiterOpts {
        &self.opts
    }

    /// What it did in this process, all keys together.
    pub fn metrics(&self) -> Metrics {
        let circuit_breaker_state = self.shared.breaker.state(Instant::now());
        Metrics { circuit_breaker_state, ..self.shared.tally.metrics() }
    }

    /// Waits for a permit; denied only if that would take longer than [`Policy::wait_max`].
    pub async fn acquire(&self) -> Result<Admission> {
        self.acquire_n(1).await
    }

    /// As [`Limiter::acquire`], for `cost` permits at once.
    /// [`InvalidInput`](ErrorKind::InvalidInput) at once if `cost` is 0 or above
    /// [`Policy::limit`].
    pub async fn acquire_n(&self, cost: u32) -> Result<Admission> {
        self.admit(cost, None).await
    }

    /// Takes a permit if there is one now.
    pub async fn try_acquire(&self) -> Result<Admission> {
        self.acquire_n_timeout(1, Duration::ZERO).await
    }

    /// Waits at most `wait` for a permit. If it would take longer the denial comes at once, but
    /// for a slot: nobody knows when one comes back.
    pub async fn acquire_timeout(&self, wait: Duration) -> Result<Admission> {
        self.acquire_n_timeout(1, wait).await
    }

    /// As [`Limiter::acquire_timeout`], for `cost` permits at once; errors as in
    /// [`Limiter::acquire_n`].
    pub async fn acquire_n_timeout(&self, cost: u32, wait: Duration) -> Result<Admission> {
        self.admit(cost, Instant::now().checked_add(wait)).await
    }

    /// Waits for a permit however long it takes; the slot, if the limiter has any.
    pub async fn until_ready(&self) -> Result<Option<Permit>> {
        loop {
            let admission = self.acquire().await?;
            if admission.allowed {
                return Ok(admission.permit);
            }
            tokio::time::sleep(admission.retry_after).await;
        }
    }

    /// The items of `stream`, each with a permit of its own. One that cannot be decided about is
    /// an error in its place.
    pub fn throttle<S: Stream>(&self, stream: S) -> impl Stream<Item = Result<S::Item>> {
        stream.then(async move |item| self.until_ready().await.map(|_permit| item))
    }

    /// What [`Limiter::try_acquire`] would say, without taking anything: always reads the store,
    /// and fails if that does, whatever [`LimiterOpts::on_error`] says.
    pub async fn peek(&self) -> Result<Decision> {
        let place = self.place();
        let (seen, now) = (place.look().await?, place.now().await?);
        if seen.state.room(&self.policy, now.behind()) == Some(0) {
            return Ok(place.no_slot(now.store, &seen.state));
        }
        let mut after = seen.state.clone();
        let verdict = after.reserve(&self.policy, now.store, Ask { cost: 1, wait: 0 });
        Ok(place.decision(now.store, &seen.state, verdict))
    }

    /// What [`Limiter::acquire_n_timeout`] comes to while the store does not answer, for whoever
    /// knows that already; nobody is asked.
    /// [`Unavailable`](ErrorKind::Unavailable) under [`OnError::Closed`].
    pub async fn acquire_without_store(&self, cost: u32, wait: Duration) -> Result<Admission> {
        self.check(cost)?;
        let why = self.unavailable().because("the store is not there");
        self.fall_back(cost, Instant::now().checked_add(wait), why).await
    }

    /// As [`Limiter::peek`] while the store does not answer; nobody is asked. `None` under
    /// [`OnError::Closed`], where nobody passes then.
    pub fn peek_without_store(&self) -> Option<Decision> {
        match self.opts.on_error {
            OnError::Closed => None,
            OnError::Open => Some(self.open()),
            OnError::Local { share } => Some(self.shared.local.look(&self.policy.share(share))),
        }
    }

    async fn admit(&self, cost: u32, until: Option<Instant>) -> Result<Admission> {
        let begun = Instant::now();
        self.check(cost)?;
        if let Some(decision) = self.at_once(cost, begun, until).await {
            match decision.allowed {
                true => self.shared.tally.granted(begun.elapsed()),
                false => self.shared.tally.denied(),
            }
            return Ok(Admission { decision, permit: None });
        }
        let admission = match self.decide((cost, until), false).await? {
            Decided::Store(Answer { decision, reserved }) => {
                let permit = match reserved {
                    Some(reserved) => reserved.wait().await,
                    None => None,
                };
                Admission { decision, permit }
            }
            Decided::Unavailable(why) => self.fall_back(cost, until, why).await?,
        };
        match admission.allowed {
            true => self.shared.tally.granted(begun.elapsed()),
            false => self.shared.tally.denied(),
        }
        Ok(admission)
    }

    /// Takes permits that can still be refunded; nothing if the store does not answer, or denies.
    pub(crate) async fn reserve(
        &self,
        cost: u32,
        until: Option<Instant>,
    ) -> Result<(Decision, Option<Reserved>)> {
        self.check(cost)?;
        if let Some(decision) = self.standing_denial(cost, Instant::now(), until) {
            return Ok((decision, None));
        }
        match self.decide((cost, until), true).await? {
            Decided::Store(answer) => Ok((answer.decision, answer.reserved)),
            Decided::Unavailable(why) => Err(why),
        }
    }

    /// Asks the store, by way of the limiter's task; what comes of it may have to be put back.
    async fn decide(
        &self,
        (cost, until): (u32, Option<Instant>),
        may_return: bool,
    ) -> Result<Decided> {
        let begun = Instant::now();
        if !self.shared.breaker.admits(begun) {
            self.shared.tally.failed();
            let why = self.unavailable().because("the store has not answered for a while");
            return Ok(Decided::Unavailable(why));
        }
        let (reply, answer) = oneshot::channel();
        let request = Request { cost, until, may_return, reply, queued: false };
        let (key, hash) = (&self.key, self.shared.hash.as_str());
        self.limits.send((key, hash), || self.place(), Message::Reserve(request));
        let mut replied = self.reply(begun, answer).await;
        loop {
            let error = match replied {
                Ok(Ok(Ok(Reply::Settled(answer)))) => {
                    self.shared.breaker.answered();
                    return Ok(Decided::Store(answer));
                }
                Ok(Ok(Ok(Reply::Queued(offer)))) => {
                    self.shared.breaker.answered();
                    replied = Ok(offer.await);
                    continue;
                }
                Ok(Ok(Err(error))) if error.kind() == ErrorKind::Unavailable => {
                    self.unavailable().caused_by(error)
                }
                Ok(Ok(Err(error))) => {
                    return Err(Error::new(error.kind(), "limit.acquire")
                        .with("id", &self.key)
                        .caused_by(error));
                }
                Ok(Err(_closed)) => {
                    return Err(self.unavailable().because("the limiter was closed").for_good());
                }
                Err(_elapsed) => self.unavailable(),
            };
            self.shared.breaker.failed(begun, Instant::now());
            self.shared.tally.failed();
            return Ok(Decided::Unavailable(error));
        }
    }

    /// The reply, if it comes within the deadline. A lost race is an answer of the store: as long
    /// as other processes are only faster, the deadline begins anew.
    async fn reply(
        &self,
        begun: Instant,
        mut answer: oneshot::Receiver<Replied>,
    ) -> Result<Result<Replied, oneshot::error::RecvError>, Elapsed> {
        let mut deadline = begun + self.opts.deadline;
        let mut lost = self.shared.tally.conflicts();
        for _ in 1..RACES_MAX {
            let replied = timeout_at(deadline, &mut answer).await;
            let so_far = self.shared.tally.conflicts();
            if replied.is_ok() || so_far == lost {
                return replied;
            }
            lost = so_far;
            deadline += self.opts.deadline;
        }
        timeout_at(deadline, answer).await
    }

    /// Decides without the store.
    async fn fall_back(&self, cost: u32, until: Option<Instant>, why: Error) -> Result<Admission> {
        let share = match self.opts.on_error {
            OnError::Closed => return Err(why),
            OnError::Open => {
                self.shared.tally.fell_back();
                return Ok(Admission { decision: self.open(), permit: None });
            }
            OnError::Local { share } => share,
        };
        self.shared.tally.fell_back();
        let policy = self.policy.share(share);
        let (decision, ready, alone) = self.shared.local.decide(&policy, cost, until);
        if decision.allowed {
            tokio::time::sleep_until(ready).await;
        }
        Ok(Admission { decision, permit: alone.map(Permit::alone) })
    }

    fn open(&self) -> Decision {
        let limit = self.policy.limit();
        Decision {
            allowed: true,
            limit,
            remaining: limit,
            retry_after: Duration::ZERO,
            reset_after: Duration::ZERO,
            source: Source::Open,
        }
    }

    /// The answer that is there without asking anybody: a denial that stands, or a permit in
    /// stock.
    async fn at_once(&self, cost: u32, now: Instant, until: Option<Instant>) -> Option<Decision> {
        if cost != 1 {
            return None;
        }
        let name = (&self.key, self.shared.hash.as_str());
        let front = self.limits.front(name)?;
        if let Some(denial) = until.and_then(|until| front.standing.denial(now, until)) {
            return Some(denial);
        }
        let picked = front.stock.pick(now)?;
        if picked.runs_low {
            self.limits.send(name, || self.place(), Message::RunsLow);
        }
        // Whoever asks in a loop must not keep others from running.
        tokio::task::coop::consume_budget().await;
        Some(picked.decision)
    }

    /// The denial that is known without asking anybody.
    fn standing_denial(&self, cost: u32, now: Instant, until: Option<Instant>) -> Option<Decision> {
        let until = until.filter(|_| cost == 1)?;
        self.limits.front((&self.key, &self.shared.hash))?.standing.denial(now, until)
    }

    fn place(&self) -> crate::place::Place {
        self.limits.place(&self.key, self.policy, (self.opts, Arc::clone(&self.shared.tally)))
    }

    fn check(&self, cost: u32) -> Result<()> {
        if cost == 0 || cost > self.policy.limit() {
            return Err(self
                .invalid("a cost is between 1 and the limit")
                .with("cost", cost)
                .with("limit", self.policy.limit()));
        }
        Ok(())
    }

    fn unavailable(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "limit.acquire")
            .because("the store did not decide in time")
            .with("id", &self.key)
            .with("deadline_ms", self.opts.deadline.as_millis())
    }

    fn invalid(&self, why: &'static str) -> Error {
        Error::new(ErrorKind::InvalidInput, "limit.acquire").because(why).with("id", &self.key)
    }
}
