//! Faults between a caller and its store, where and as often as a test wants them.
//!
//! [`Faults`] is a layer around any backend. It breaks operations without knowing what is inside:
//! a request that never leaves, an answer that never comes, a delay. What breaks on the wire is
//! the business of [`proxy`](crate::proxy).

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use jetbridge_core::wrap::{Answer, Call, Layer, Layered};
use jetbridge_core::{Backend, Body, Error, ErrorKind, Result};

use crate::dice::Dice;

/// Where in an operation the world breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "tests name them all")]
pub enum Fault {
    /// The operation happens, its answer is lost: `Unavailable`, and of a write nobody knows
    /// whether it was applied. Of a stream the first item comes.
    AckLost,
    /// The request never leaves: `Unavailable`, certainly not applied.
    BeforeApply,
    /// The operation waits this long first.
    Delay(Duration),
}

/// How often each fault happens, in a thousand operations.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "one number for each fault")]
pub struct Odds {
    /// Of [`Fault::AckLost`].
    pub ack_lost: u16,
    /// Of [`Fault::BeforeApply`].
    pub before_apply: u16,
    /// Of [`Fault::Delay`], up to [`Odds::delay_max`].
    pub delay: u16,
    /// The longest delay.
    pub delay_max: Duration,
}

/// A layer that breaks operations: those a script names, or as a seed has it. Clones share the
/// count, so one is kept to look at it.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use std::sync::Arc;
/// use jetbridge_core::{Backend as _, BucketName, BucketSpec, Key, MemoryBackend, Open, Outcome, PutOpts};
/// use jetbridge_testkit::{Fault, Faults};
///
/// let faults = Faults::script([(1, Fault::AckLost)]).only(&["kv.put"]);
/// let store = faults.around(Arc::new(MemoryBackend::new()));
/// let kv = store.kv(&BucketName::parse("b")?, Open::ensure(BucketSpec::default())).await?;
/// let key = Key::parse("k")?;
/// kv.put(&key, "1".into(), PutOpts::new()).await?;
/// let lost = kv.put(&key, "2".into(), PutOpts::new()).await.unwrap_err();
/// assert_eq!(lost.outcome(), Outcome::Unknown);
/// assert_eq!(faults.injected(), [("kv.put", Fault::AckLost)]);
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    only: Arc<[&'static str]>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug)]
struct Plan {
    source: Source,
    seen: usize,
    injected: Vec<(&'static str, Fault)>,
}

#[derive(Debug)]
enum Source {
    Script(Vec<(usize, Fault)>),
    Seed(Dice, Odds),
}

/// Operations that change nothing: a lost answer leaves nothing unknown.
const READS: [&str; 21] = [
    "bucket.info",
    "bucket.list",
    "bus.flush",
    "bus.subscribe",
    "counter.value",
    "kv.get",
    "kv.get_many",
    "kv.history",
    "kv.keys",
    "kv.page",
    "kv.watch",
    "object.get",
    "object.info",
    "object.list",
    "object.read",
    "object.watch",
    "store.now",
    "store.status",
    "stream.info",
    "stream.list",
    "stream.read",
];

impl Faults {
    /// Breaks the operations at these places, counted from zero.
    pub fn script(faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        Self::new(Source::Script(faults.into_iter().collect()))
    }

    /// Breaks operations at random, the same for the same seed and the same operations.
    pub fn seeded(seed: u64, odds: Odds) -> Self {
        Self::new(Source::Seed(Dice::new(seed), odds))
    }

    fn new(source: Source) -> Self {
        let plan = Plan { source, seen: 0, injected: Vec::new() };
        Self { only: Arc::from([]), plan: Arc::new(Mutex::new(plan)) }
    }

    /// Looks only at the operations of these names, such as `kv.put`; others pass uncounted.
    #[must_use]
    pub fn only(mut self, operations: &[&'static str]) -> Self {
        self.only = operations.into();
        self
    }

    /// A backend that breaks like this; what it hands out does too.
    pub fn around(&self, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(Layered::new(inner, self.clone()))
    }

    /// Breaks operations at random from now on, at these odds.
    pub fn change(&self, odds: Odds) {
        let mut plan = self.plan();
        let dice = Dice::new(plan.seen as u64);
        plan.source = Source::Seed(dice, odds);
    }

    /// How many operations were looked at.
    pub fn seen(&self) -> usize {
        self.plan().seen
    }

    /// What was broken so far, in order.
    pub fn injected(&self) -> Vec<(&'static str, Fault)> {
        self.plan().injected.clone()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, operation: &'static str) -> Option<Fault> {
        if !self.only.is_empty() && !self.only.contains(&operation) {
            return None;
        }
        let mut plan = self.plan();
        let at = plan.seen;
        plan.seen += 1;
        let fault = match &mut plan.source {
            Source::Script(faults) => {
                faults.iter().find(|(place, _)| *place == at).map(|(_, fault)| *fault)
            }
            Source::Seed(dice, odds) => odds.throw(dice),
        };
        plan.injected.extend(fault.map(|fault| (operation, fault)));
        fault
    }

    fn stream<T: Answer>(
        &self,
        call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let operation = call.operation;
        let broken = move || stream::once(async move { Err(never_left(operation)) });
        match self.next(operation) {
            None => stream,
            Some(Fault::BeforeApply) => broken().boxed(),
            Some(Fault::AckLost) => stream.take(1).chain(broken()).boxed(),
            Some(Fault::Delay(wait)) => {
                let waited = stream::once(tokio::time::sleep(wait)).filter_map(async |()| None);
                waited.chain(stream).boxed()
            }
        }
    }
}

impl Odds {
    fn throw(&self, dice: &mut Dice) -> Option<Fault> {
        if dice.hits(self.before_apply) {
            return Some(Fault::BeforeApply);
        }
        if dice.hits(self.ack_lost) {
            return Some(Fault::AckLost);
        }
        if dice.hits(self.delay) {
            let percent = u32::try_from(dice.below(100)).unwrap_or_default() + 1;
            return Some(Fault::Delay(self.delay_max * percent / 100));
        }
        None
    }
}

#[deny(clippy::missing_trait_methods)]
impl Layer for Faults {
    fn call<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        mut run: impl FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a {
        let fault = self.next(call.operation);
        async move {
            match fault {
                Some(Fault::BeforeApply) => return Err(never_left(call.operation)),
                Some(Fault::Delay(wait)) => tokio::time::sleep(wait).await,
                Some(Fault::AckLost) | None => {}
            }
            let answer = run().await;
            // A refusal is an answer, and is lost like any other.
            if fault == Some(Fault::AckLost) { Err(never_came(call.operation)) } else { answer }
        }
    }

    fn listing<T: Answer>(
        &self,
        call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        self.stream(call, stream)
    }

    fn body(&self, call: Call<'_>, body: Body) -> Body {
        self.stream(call, body)
    }

    fn watch<T: Answer>(
        &self,
        call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        self.stream(call, stream)
    }
}

fn never_left(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because("injected: the request never left")
}

fn never_came(operation: &'static str) -> Error {
    let lost =
        Error::new(ErrorKind::Unavailable, operation).because("injected: the answer never came");
    if READS.contains(&operation) { lost } else { lost.outcome_unknown() }
}
