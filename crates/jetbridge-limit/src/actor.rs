//! One task for each limiter in use: all its callers share one compare-and-set.
//!
//! While a write is under way, calls queue; the next write serves all of them. So how often
//! processes get into each other's way depends on how many they are, not on their callers.
//!
//! Nothing is given before the write that took it was acknowledged, on top of exactly the state
//! it was computed from. A write whose answer is lost is not counted on: the state is read anew,
//! and permits that it took after all are lost, never given twice.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend, Backoff, Error, ErrorKind, Expect, Key, Kv, Outcome, PutOpts, Read, Result, Revision,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::clock::Moment;
use crate::decision::{Decision, Source};
use crate::policy::Policy;
use crate::record;
use crate::state::{Ask, State, Verdict};

/// Most calls that one write serves: the caller at the end of it waits for all of them to be
/// computed, which takes well under a millisecond.
const BATCH_MAX: usize = 1_024;

/// Between two attempts at a store that does not answer, at first.
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// How many attempts fall at least into the time that a caller waits: whoever comes when the
/// store answers again must not sleep through it.
const ATTEMPTS: u32 = 4;

/// A call, or a permit that comes back.
#[derive(Debug)]
pub(crate) enum Message {
    Reserve(Request),
    /// Permits whose caller went away before their time came.
    GivenBack(Unused),
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) cost: u32,
    /// The caller would wait until then.
    pub(crate) until: Option<Instant>,
    pub(crate) reply: oneshot::Sender<Result<Answer, Arc<Error>>>,
}

/// Permits that were taken and not yet used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unused {
    cost: u32,
    ready: Instant,
    decision: Decision,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) decision: Decision,
    /// Permits to wait for, if there are any.
    pub(crate) reserved: Option<Reserved>,
}

/// Permits that go back to the limiter's other callers unless their time is waited for.
#[derive(Debug)]
pub(crate) struct Reserved {
    unused: Option<Unused>,
    home: mpsc::UnboundedSender<Message>,
}

impl Reserved {
    /// Waits until the permits may be used.
    pub(crate) async fn wait(mut self) {
        if let Some(unused) = self.unused {
            tokio::time::sleep_until(unused.ready).await;
        }
        self.unused = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(unused) = self.unused.take() {
            // Without its actor nobody waits for them, and they are forfeited.
            drop(self.home.send(Message::GivenBack(unused)));
        }
    }
}

/// Where a limiter's state is kept and how.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) key: Key,
    pub(crate) policy: Policy,
    /// How long one operation of the store may take.
    pub(crate) deadline: Duration,
}

/// What is known of the stored state.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) revision: Option<Revision>,
    pub(crate) state: State,
    pub(crate) converted: bool,
}

impl Place {
    pub(crate) async fn read(&self) -> Result<Seen> {
        let read = self.within("limit.read", self.kv.get(&self.key, Read::Fresh)).await?;
        let Some(entry) = read else {
            return Ok(Seen { revision: None, state: State::default(), converted: false });
        };
        let decoded = record::decode(&self.policy, &entry)?;
        let (state, converted) = (decoded.state, decoded.converted);
        Ok(Seen { revision: Some(entry.revision), state, converted })
    }

    /// Writes `state` over what was seen; the revision, or `None` if somebody was faster.
    async fn write(&self, over: Option<Revision>, state: State) -> Result<Option<Revision>> {
        let expect = over.map_or(Expect::Absent, Expect::Exactly);
        let value = record::encode(&self.policy, state)?;
        let put = self.kv.put(&self.key, value, PutOpts::new().expect(expect));
        match self.within("limit.write", put).await {
            Ok(written) => Ok(Some(written.revision)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn now(&self) -> Result<Moment> {
        self.within("limit.now", Moment::now(&*self.backend)).await
    }

    async fn within<T>(
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
        let retry_at = match verdict {
            Verdict::Granted(_) => now,
            Verdict::Denied(at) => at,
        };
        Decision {
            allowed: matches!(verdict, Verdict::Granted(_)),
            limit: self.policy.limit(),
            remaining: state.remaining(&self.policy, now),
            retry_after: Duration::from_nanos(retry_at.saturating_sub(now)),
            reset_after: Duration::from_nanos(state.full_at(&self.policy).saturating_sub(now)),
            source: Source::Store,
        }
    }
}

/// The task of one limiter.
#[derive(Debug)]
pub(crate) struct Actor {
    place: Place,
    home: mpsc::UnboundedSender<Message>,
    seen: Option<Seen>,
    waiting: Vec<Request>,
    given_back: Vec<Unused>,
    warned: bool,
}

impl Actor {
    pub(crate) fn new(place: Place, home: mpsc::UnboundedSender<Message>) -> Self {
        let (waiting, given_back) = (Vec::new(), Vec::new());
        Self { place, home, seen: None, waiting, given_back, warned: false }
    }

    /// Serves `first` and whatever has come meanwhile.
    pub(crate) async fn serve(
        &mut self,
        first: Message,
        inbox: &mut mpsc::UnboundedReceiver<Message>,
    ) {
        self.take_in(first);
        let mut conflicts = Backoff::contention();
        let mut outage = Backoff::new(RETRY_FIRST, self.place.deadline / ATTEMPTS);
        loop {
            while self.waiting.len() < BATCH_MAX {
                let Ok(message) = inbox.try_recv() else { break };
                self.take_in(message);
            }
            self.waiting.retain(|request| !request.reply.is_closed());
            self.hand_on();
            if self.waiting.is_empty() {
                return;
            }
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => conflicts.wait().await,
                Err(error) => {
                    self.seen = None;
                    let again = error.outcome() == Outcome::Unknown || error.is_retryable();
                    if !again {
                        return self.fail(error);
                    }
                    tracing::debug!(key = %self.place.key, %error, "the limiter tries again");
                    // Callers give up by themselves, each at its own deadline.
                    outage.wait().await;
                }
            }
        }
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Reserve(request) => self.waiting.push(request),
            Message::GivenBack(unused) => self.given_back.push(unused),
        }
    }

    /// Gives what came back to the first who asks for as much and can wait for it. Permits whose
    /// time has passed are forfeited: used later, they could add to a full burst.
    fn hand_on(&mut self) {
        let now = Instant::now();
        for unused in std::mem::take(&mut self.given_back) {
            if unused.ready < now {
                continue;
            }
            let fits = |request: &Request| {
                request.cost == unused.cost && request.until.is_none_or(|at| at >= unused.ready)
            };
            match self.waiting.iter().position(fits) {
                Some(index) => {
                    let request = self.waiting.remove(index);
                    self.reply(request, unused.decision, Some(unused.ready));
                }
                None => self.given_back.push(unused),
            }
        }
    }

    /// Decides about everybody who waits; `false` if another process was faster.
    async fn attempt(&mut self) -> Result<bool> {
        let now = self.place.now().await?;
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => self.place.read().await?,
        };
        self.report(&seen);
        let mut state = seen.state.clone();
        let decide = |request: &Request| {
            let wait = request.until.map_or(u64::MAX, |until| {
                let wait = until.saturating_duration_since(now.instant);
                u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
            });
            let ask = Ask { cost: request.cost, wait };
            let verdict = state.reserve(&self.place.policy, now.store, ask);
            (self.place.decision(now.store, &state, verdict), verdict)
        };
        let verdicts: Vec<_> = self.waiting.iter().map(decide).collect();
        if verdicts.iter().any(|(decision, _)| decision.allowed) {
            let Some(revision) = self.place.write(seen.revision, state.clone()).await? else {
                return Ok(false);
            };
            self.seen = Some(Seen { revision: Some(revision), state, converted: false });
        } else {
            // Others can only have taken more: a denial needs no look at the store.
            self.seen = Some(seen);
        }
        for (request, (decision, verdict)) in
            std::mem::take(&mut self.waiting).into_iter().zip(verdicts)
        {
            let ready = match verdict {
                Verdict::Granted(at) => Some(now.when(at)),
                Verdict::Denied(_) => None,
            };
            self.reply(request, decision, ready);
        }
        Ok(true)
    }

    fn reply(&self, request: Request, decision: Decision, ready: Option<Instant>) {
        let unused = ready.map(|ready| Unused { cost: request.cost, ready, decision });
        let reserved =
            unused.map(|unused| Reserved { unused: Some(unused), home: self.home.clone() });
        // An answer that nobody takes any more is dropped, and its permits come back.
        drop(request.reply.send(Ok(Answer { decision, reserved })));
    }

    fn fail(&mut self, error: Error) {
        let error = Arc::new(error);
        for request in self.waiting.drain(..) {
            drop(request.reply.send(Err(Arc::clone(&error))));
        }
    }

    fn report(&mut self, seen: &Seen) {
        if seen.converted && !self.warned {
            self.warned = true;
            let key = &self.place.key;
            tracing::warn!(%key, "the limiter was used under another policy, and is converted");
        }
    }
}
