//! A handle on a bucket by its name, as the seam's traits want it.
//!
//! The bucket behind it may be deleted and made anew by any process; the handle finds that out by
//! what the old database answers, and goes on with the new one.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jetbridge_core::{BucketName, ErrorKind, Result};

use super::Bucket;
use super::catalog::Catalog;
use super::writer::Writer;
use crate::fault::JobResult;

/// A bucket by its name. Clones share it.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Inner>);

struct Inner {
    catalog: Catalog,
    name: BucketName,
    current: RwLock<Arc<Bucket>>,
}

impl Handle {
    pub(crate) fn new(catalog: Catalog, bucket: Arc<Bucket>) -> Self {
        let name = bucket.name.clone();
        Self(Arc::new(Inner { catalog, name, current: RwLock::new(bucket) }))
    }

    pub(crate) fn name(&self) -> &BucketName {
        &self.0.name
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// The bucket, as this handle last knew it.
    pub(crate) fn bucket(&self) -> Arc<Bucket> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bucket that has the name now.
    pub(crate) async fn renew(&self, operation: &'static str) -> Result<Arc<Bucket>> {
        let bucket = self.0.catalog.find(&self.0.name, operation).await?;
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&bucket);
        Ok(bucket)
    }

    /// Does `read` on the bucket.
    pub(crate) async fn read<T>(
        &self,
        operation: &'static str,
        read: impl Fn(&Bucket) -> Result<T>,
    ) -> Result<T> {
        // A reader that never waits would keep its thread, and its task's other halves, from work.
        tokio::task::consume_budget().await;
        match read(&self.bucket()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                read(&*self.renew(operation).await?)
            }
            done => done,
        }
    }

    /// Runs `job` in a transaction of the bucket. It may run more than once.
    pub(crate) async fn write<T, F>(&self, operation: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Bucket, &mut Writer<'_, '_>) -> JobResult<T> + Send + Sync + 'static,
    {
        let job = Arc::new(job);
        match write_to(self.bucket(), operation, Arc::clone(&job)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_to(self.renew(operation).await?, operation, job).await
            }
            done => done,
        }
    }
}

async fn write_to<T, F>(bucket: Arc<Bucket>, operation: &'static str, job: Arc<F>) -> Result<T>
where
    T: Send + 'static,
    F: Fn(&Bucket, &mut Writer<'_, '_>) -> JobResult<T> + Send + Sync + 'static,
{
    let within = Arc::clone(&bucket);
    bucket.write(operation, move |writer| job(&within, writer)).await
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.name).finish()
    }
}
