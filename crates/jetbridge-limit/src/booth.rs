//! Where tickets are counted: a bucket of counters beside the limiters' own, opened when it is
//! first needed.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend, BucketName, Capabilities, Counters, Error, ErrorKind, Key, Result, Support, Tasks,
    random,
};
use tokio::sync::OnceCell;

use crate::place::Place;
use crate::tickets::{CLOSING, FIRST_MAX, FIRST_MIN, JUMPS_MAX};

/// Behind the name of the limiters' bucket.
const SUFFIX: &str = "_tickets";
/// How long tickets are done without after they could not be had.
pub(crate) const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The bucket of counters in which the limiters of `bucket` count permits out while processes compete
/// for them, where the store counts by itself; `None` if there can be none, for the name is too long.
/// Whoever uses the limiters needs permission to count there.
pub fn tickets_bucket(bucket: &BucketName) -> Option<BucketName> {
    BucketName::parse(format!("{bucket}{SUFFIX}")).ok()
}

/// The counters of one bucket of limiters.
#[derive(Debug)]
pub(crate) struct Booth {
    bucket: BucketName,
    /// Whoever opened the limiters would have made their bucket, too.
    makes: bool,
    counters: OnceCell<Arc<dyn Counters>>,
    tasks: Tasks,
}

impl Booth {
    /// Beside `bucket`; `None` if its name is too long to have something beside it.
    pub(crate) fn beside(bucket: &BucketName, makes: bool, tasks: Tasks) -> Option<Self> {
        let bucket = tickets_bucket(bucket)?;
        Some(Self { bucket, makes, counters: OnceCell::new(), tasks })
    }

    /// True if this process may begin to give tickets.
    fn may_begin(&self, store: &Capabilities) -> bool {
        self.makes && store.shared && store.counters == Support::Native
    }

    async fn open(&self, backend: &dyn Backend) -> Result<&Arc<dyn Counters>> {
        self.counters.get_or_try_init(|| backend.counters(&self.bucket)).await
    }
}

impl Place {
    /// True if tickets can be given for its limiter.
    pub(crate) fn has_tickets(&self) -> bool {
        let capabilities = self.backend.capabilities();
        self.policy.is_plain_rate()
            && self.booth.as_ref().is_some_and(|booth| booth.may_begin(&capabilities))
    }

    /// Does `work` beside everything else, unless the limiters are closed.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(booth) = &self.booth {
            booth.tasks.spawn_until_stop(work);
        }
    }

    /// Adds to its counter; the sum.
    pub(crate) async fn add(&self, n: i64) -> Result<i64> {
        self.tally.request();
        let add = async { self.counters().await?.fetch_add(&self.key, n).await };
        self.within("limit.write", add).await
    }

    /// What its counter has.
    pub(crate) async fn sum(&self) -> Result<i64> {
        self.tally.request();
        let sum = async { self.counters().await?.value(&self.key).await };
        Ok(self.within("limit.read", sum).await?.unwrap_or(0))
    }

    /// Forgets its counter, which is of no use any more.
    pub(crate) async fn forget_sum(&self) -> Result<bool> {
        self.tally.request();
        let remove = async { self.counters().await?.remove(&self.key).await };
        self.within("limit.write", remove).await
    }

    /// What the counter has, where tickets can begin from; `None` if it is being brought there.
    pub(crate) async fn first_ticket(&self) -> Result<Option<i64>> {
        let sum = self.sum().await?;
        if sum > FIRST_MAX {
            self.forget_sum().await?;
            return Ok(None);
        }
        // Without a counter that may be deleted and begin anew, any number is as good.
        if sum >= FIRST_MIN || !self.value_expires() {
            return Ok(Some(sum));
        }
        let jumps = i64::try_from(1 + random::u64() % JUMPS_MAX).unwrap_or(1);
        self.add(CLOSING * jumps).await?;
        // Others who saw the same have added as much by then, as a rule.
        Ok(Some(self.sum().await?).filter(|sum| *sum <= FIRST_MAX))
    }

    async fn counters(&self) -> Result<&Arc<dyn Counters>> {
        counters(self.booth.as_deref(), &*self.backend, &self.key).await
    }
}

/// The counters; a limiter that says it is counted there cannot be decided about without.
pub(crate) async fn counters<'a>(
    booth: Option<&'a Booth>,
    backend: &dyn Backend,
    key: &Key,
) -> Result<&'a Arc<dyn Counters>> {
    match booth {
        Some(booth) => booth.open(backend).await.map_err(|error| {
            Error::new(error.kind(), "limit.open")
                .because("other processes count this limiter's permits where this one cannot")
                .with("key", key)
                .with("counters", &booth.bucket)
                .caused_by(error)
        }),
        None => Err(Error::new(ErrorKind::Corrupt, "limit.read")
            .because("the value says that its permits are counted where nothing can be")
            .with("key", key)),
    }
}
