//! One limiter as its callers have it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Key, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::actor::{Message, Request};
use crate::decision::{Decision, OnError, Source};
use crate::limits::Limits;
use crate::policy::Policy;
use crate::state::{Ask, State, Verdict};

/// How long a caller waits for a store that does not answer, by default.
const DEADLINE_DEFAULT: Duration = Duration::from_millis(250);

/// What a limiter does when things go wrong.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LimiterOpts {
    /// What happens while the store does not answer.
    pub on_error: OnError,
    /// After how long without an answer it happens; 250 ms by default. Waiting for a permit is
    /// not waiting for an answer.
    pub deadline: Duration,
}

impl Default for LimiterOpts {
    fn default() -> Self {
        Self { on_error: OnError::default(), deadline: DEADLINE_DEFAULT }
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
}

/// A limiter over all processes that use the same bucket and id. Cheap to clone; it holds no
/// task and no connection of its own.
///
/// Every method may fail as its bucket may; a denial is no failure but a [`Decision`] whose
/// `allowed` is false. A dropped call gives its permits to the next caller of this process as
/// long as their time has not come; later they are forfeited.
#[derive(Clone, Debug)]
pub struct Limiter {
    limits: Limits,
    key: Key,
    policy: Policy,
    /// Names the policy beside the key.
    hash: Arc<str>,
    opts: LimiterOpts,
    /// What this process gave on its own, for all keys together.
    fallback: Arc<Mutex<State>>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits, key: Key, policy: Policy, opts: LimiterOpts) -> Result<Self> {
        if let OnError::Local { share } = opts.on_error
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(Error::new(ErrorKind::InvalidInput, "limit.open")
                .because("a process's share is above 0 and at most 1")
                .with("share", share));
        }
        let (hash, fallback) = (policy.hash().into(), Arc::default());
        Ok(Self { limits, key, policy, hash, opts, fallback })
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

    /// Waits for a permit; denied only if that would take longer than [`Policy::wait_max`].
    pub async fn acquire(&self) -> Result<Decision> {
        self.acquire_n(1).await
    }

    /// As [`Limiter::acquire`], for `cost` permits at once.
    /// [`InvalidInput`](ErrorKind::InvalidInput) at once if `cost` is 0 or above
    /// [`Policy::limit`].
    pub async fn acquire_n(&self, cost: u32) -> Result<Decision> {
        self.decide(cost, None).await
    }

    /// Takes a permit if there is one now.
    pub async fn try_acquire(&self) -> Result<Decision> {
        self.acquire_n_timeout(1, Duration::ZERO).await
    }

    /// Waits at most `wait` for a permit. If it would take longer the denial comes at once.
    pub async fn acquire_timeout(&self, wait: Duration) -> Result<Decision> {
        self.acquire_n_timeout(1, wait).await
    }

    /// As [`Limiter::acquire_timeout`], for `cost` permits at once; errors as in
    /// [`Limiter::acquire_n`].
    pub async fn acquire_n_timeout(&self, cost: u32, wait: Duration) -> Result<Decision> {
        self.decide(cost, Instant::now().checked_add(wait)).await
    }

    /// What [`Limiter::try_acquire`] would say, without taking anything: always reads the store,
    /// and fails if that does, whatever [`LimiterOpts::on_error`] says.
    pub async fn peek(&self) -> Result<Decision> {
        let place = self.limits.place(&self.key, self.policy, self.opts.deadline);
        let (seen, now) = (place.read().await?, place.now().await?);
        let mut after = seen.state.clone();
        let verdict = after.reserve(&self.policy, now.store, Ask { cost: 1, wait: 0 });
        Ok(place.decision(now.store, &seen.state, verdict))
    }

    async fn decide(&self, cost: u32, until: Option<Instant>) -> Result<Decision> {
        if cost == 0 || cost > self.policy.limit() {
            return Err(self
                .invalid("a cost is between 1 and the limit")
                .with("cost", cost)
                .with("limit", self.policy.limit()));
        }
        let (reply, answer) = oneshot::channel();
        let name = (self.key.clone(), self.hash.to_string());
        let place = || self.limits.place(&self.key, self.policy, self.opts.deadline);
        self.limits.send(place, name, Message::Reserve(Request { cost, until, reply }));
        let answer = match timeout(self.opts.deadline, answer).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(error))) if error.kind() == ErrorKind::Unavailable => {
                return self.fall_back(cost, until, self.unavailable().caused_by(error)).await;
            }
            Ok(Ok(Err(error))) => {
                return Err(Error::new(error.kind(), "limit.acquire")
                    .with("id", &self.key)
                    .caused_by(error));
            }
            Ok(Err(_closed)) => {
                return Err(self.unavailable().because("the limiter was closed").for_good());
            }
            Err(_elapsed) => return self.fall_back(cost, until, self.unavailable()).await,
        };
        if let Some(reserved) = answer.reserved {
            reserved.wait().await;
        }
        Ok(answer.decision)
    }

    /// Decides without the store.
    async fn fall_back(&self, cost: u32, until: Option<Instant>, why: Error) -> Result<Decision> {
        let share = match self.opts.on_error {
            OnError::Closed => return Err(why),
            OnError::Open => {
                let limit = self.policy.limit();
                return Ok(Decision {
                    allowed: true,
                    limit,
                    remaining: limit,
                    retry_after: Duration::ZERO,
                    reset_after: Duration::ZERO,
                    source: Source::Open,
                });
            }
            OnError::Local { share } => share,
        };
        let (decision, ready) = self.decide_alone(self.policy.share(share), cost, until);
        if decision.allowed {
            tokio::time::sleep_until(ready).await;
        }
        Ok(decision)
    }

    fn decide_alone(
        &self,
        policy: Policy,
        cost: u32,
        until: Option<Instant>,
    ) -> (Decision, Instant) {
        let (now, instant) = (self.limits.uptime(), Instant::now());
        let wait = until.map_or(u64::MAX, |until| {
            let wait = until.saturating_duration_since(instant);
            u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
        });
        let mut state = self.fallback.lock().unwrap_or_else(PoisonError::into_inner);
        // A cost that the whole limit has, but this share has not, takes all of the share.
        let ask = Ask { cost: cost.min(policy.limit()), wait };
        let verdict = state.reserve(&policy, now, ask);
        let (Verdict::Granted(at) | Verdict::Denied(at)) = verdict;
        let place = self.limits.place(&self.key, policy, self.opts.deadline);
        let decision = Decision { source: Source::Local, ..place.decision(now, &state, verdict) };
        (decision, instant + Duration::from_nanos(at.saturating_sub(now)))
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
