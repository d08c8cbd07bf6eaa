//! Where tickets are counted: a bucket of counters beside the limiters' own, opened when it is
//! first needed.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Backend, BucketName, Capabilities, Counters, Error, ErrorKind, Key, Result, Support, Tasks,
};
use tokio::sync::Mutex;

use crate::place::Place;
use crate::tickets::{CLOSING, Tickets};

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
    /// Locked while they are opened.
    counters: Mutex<Option<Arc<dyn Counters>>>,
    tasks: Tasks,
}

impl Booth {
    /// Beside `bucket`; `None` if its name is too long to have something beside it.
    pub(crate) fn beside(bucket: &BucketName, makes: bool, tasks: Tasks) -> Option<Self> {
        let bucket = tickets_bucket(bucket)?;
        Some(Self { bucket, makes, counters: Mutex::default(), tasks })
    }

    /// True if this process may begin to give tickets.
    fn may_begin(&self, store: &Capabilities) -> bool {
        self.makes && store.shared && store.counters == Support::Native
    }

    async fn open(&self, backend: &dyn Backend) -> Result<Arc<dyn Counters>> {
        let mut counters = self.counters.lock().await;
        if let Some(open) = &*counters {
            return Ok(Arc::clone(open));
        }
        let open = backend.counters(&self.bucket).await?;
        Ok(Arc::clone(counters.insert(open)))
    }

    /// Adds to the counter `key`; the sum. Counters that were deleted are made again.
    async fn add(&self, backend: &dyn Backend, key: &Key, n: i64) -> Result<i64> {
        match self.open(backend).await?.fetch_add(key, n).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                *self.counters.lock().await = None;
                self.open(backend).await?.fetch_add(key, n).await
            }
            added => added,
        }
    }

    /// What the counter `key` has.
    async fn sum(&self, backend: &dyn Backend, key: &Key) -> Result<i64> {
        let sum = match self.open(backend).await?.value(key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                *self.counters.lock().await = None;
                self.open(backend).await?.value(key).await
            }
            read => read,
        };
        Ok(sum?.unwrap_or(0))
    }
}

/// Ends the tickets of `key`, whatever was taken: whoever would take more looks at the value.
pub(crate) async fn end_tickets(
    booth: Option<&Booth>,
    backend: &dyn Backend,
    key: &Key,
) -> Result<i64> {
    let booth = booth.ok_or_else(|| nowhere(key))?;
    booth.add(backend, key, CLOSING).await.map_err(|error| elsewhere(booth, key, error))
}

impl Place {
    /// True if tickets can be given for its limiter.
    pub(crate) fn has_tickets(&self) -> bool {
        let capabilities = self.backend.capabilities();
        // Of the keys of a limiter there may be any number, and nothing says when the counter of
        // one is of no use any more.
        Tickets::are_for(&self.policy)
            && !self.key.as_str().contains(':')
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
        let booth = self.booth()?;
        let added = self.within("limit.write", booth.add(&*self.backend, &self.key, n)).await;
        added.map_err(|error| elsewhere(booth, &self.key, error))
    }

    /// What its counter has.
    pub(crate) async fn sum(&self) -> Result<i64> {
        self.tally.request();
        let booth = self.booth()?;
        let sum = self.within("limit.read", booth.sum(&*self.backend, &self.key)).await;
        sum.map_err(|error| elsewhere(booth, &self.key, error))
    }

    fn booth(&self) -> Result<&Booth> {
        self.booth.as_deref().ok_or_else(|| nowhere(&self.key))
    }
}

/// A limiter that says it is counted there cannot be decided about without.
fn elsewhere(booth: &Booth, key: &Key, error: Error) -> Error {
    if error.kind() == ErrorKind::Unavailable {
        return error;
    }
    Error::new(error.kind(), "limit.count")
        .because("the permits of this limiter are counted where this process cannot count")
        .with("key", key)
        .with("counters", &booth.bucket)
        .caused_by(error)
}

fn nowhere(key: &Key) -> Error {
    Error::new(ErrorKind::Corrupt, "limit.read")
        .because("the value says that its permits are counted where nothing can be")
        .with("key", key)
}
