//! One call: what to do, where, and the options that every call has.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jetbridge_core::{Backend, BucketName, ErrorKind, Key, Kv, Result, Scope};

use super::Memo;
use super::buckets::OpenBucket;
use crate::codec::Codecs;

/// A call that does its work when awaited.
#[derive(Debug)]
#[must_use = "nothing happens before it is awaited"]
pub struct Call<O> {
    memo: Memo,
    bucket: Option<String>,
    ignore_prefix: bool,
    /// Or why its arguments will not do, which whoever awaits it is told.
    operation: Result<O>,
}

impl<O> Call<O> {
    pub(super) fn new(memo: Memo, operation: Result<O>) -> Self {
        Self { memo, bucket: None, ignore_prefix: false, operation }
    }

    /// Works on this bucket instead of the default one. It is made if it is not there, with one
    /// revision of history, without expiry, in one copy on disk.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.bucket = Some(name.into());
        self
    }

    /// Leaves the connector's key prefix out.
    pub fn ignore_prefix(mut self) -> Self {
        self.ignore_prefix = true;
        self
    }

    /// The same call with one of its operation's options set.
    pub(super) fn with(mut self, set: impl FnOnce(&mut O)) -> Self {
        if let Ok(operation) = &mut self.operation {
            set(operation);
        }
        self
    }

    /// The same call, doing something else.
    pub(super) fn map<P>(self, other: impl FnOnce(O) -> P) -> Call<P> {
        Call {
            memo: self.memo,
            bucket: self.bucket,
            ignore_prefix: self.ignore_prefix,
            operation: self.operation.map(other),
        }
    }
}

/// What a call does once its bucket is open. Run again if the bucket turned out to be gone, which
/// means that nothing had happened.
pub trait Operation: Send + Sync + 'static {
    /// What awaiting the call yields.
    type Output: Send + 'static;

    /// Does it.
    fn run(&self, target: &Target<'_>) -> impl Future<Output = Result<Self::Output>> + Send;
}

impl<O: Operation> IntoFuture for Call<O> {
    type Output = Result<O::Output>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (inner, operation) = (&*self.memo.0, self.operation?);
            let name = BucketName::parse(self.bucket.as_ref().unwrap_or(&inner.default_bucket))?;
            let prefix = if self.ignore_prefix { "" } else { &*inner.prefix };
            let target =
                |bucket| Target { bucket, prefix, codecs: &inner.codecs, memo: &self.memo };
            let bucket = inner.buckets.open(&name).await?;
            match operation.run(&target(Arc::clone(&bucket))).await {
                Err(gone) if gone.kind() == ErrorKind::NotFound => {
                    inner.buckets.forget(&name, &bucket);
                    operation.run(&target(inner.buckets.open(&name).await?)).await
                }
                settled => settled,
            }
        })
    }
}

/// Where an operation works. Public only in name: it is made and used in this module.
pub struct Target<'a> {
    pub(super) bucket: Arc<OpenBucket>,
    pub(super) codecs: &'a Codecs,
    prefix: &'a str,
    memo: &'a Memo,
}

impl Target<'_> {
    pub(super) fn kv(&self) -> &dyn Kv {
        &*self.bucket.kv
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &**self.memo.0.buckets.backend()
    }

    /// `key` behind the prefix.
    pub(super) fn key(&self, key: &str) -> Result<Key> {
        if self.prefix.is_empty() {
            Key::parse(key)
        } else {
            Key::parse(format!("{}{key}", self.prefix))
        }
    }

    pub(super) fn prefix(&self) -> &str {
        self.prefix
    }

    /// All keys behind the prefix.
    pub(super) fn scope(&self) -> Scope {
        Scope::prefix(self.prefix)
    }
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("kv", &self.bucket.kv)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
