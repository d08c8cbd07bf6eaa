//! What a layer is: something that happens around every operation.

use std::fmt::Debug;
use std::future::Future;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

use crate::backend::{BucketInfo, StoreStatus};
use crate::bus::{Appended, Consumer, Message, Subscription};
use crate::clock::StoreTime;
use crate::error::Result;
use crate::kv::{Change, Entry, Page, Revision, Snapshot, Written};
use crate::object::{Body, Object, ObjectChange, ObjectInfo};
use crate::stream::{StreamInfo, StreamMessage};

/// Something that happens around every operation of a backend. Put around one by
/// [`Layered::new`](super::Layered::new).
pub trait Layer: Debug + Send + Sync + 'static {
    /// Runs the operation that `call` describes: `run` starts it, once for each time it is
    /// called. More than once is allowed only if [`Call::repeatable`].
    fn call<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        run: impl FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a;

    /// Passes on a listing, which ends by itself; as it is, unless the layer has something to say.
    fn listing<T: Answer>(
        &self,
        _call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        stream
    }

    /// Passes on the body of an object that is being read.
    fn body(&self, _call: Call<'_>, body: Body) -> Body {
        body
    }

    /// Passes on a stream that goes on: a watch, or a stream being read.
    fn watch<T: Answer>(
        &self,
        _call: Call<'_>,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        stream
    }
}

/// Which operation, and on what.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The operation as `noun.verb`, as errors name it.
    pub operation: &'static str,
    /// The bucket or stream.
    pub bucket: Option<&'a str>,
    /// The key, object, subject or pattern.
    pub name: Option<&'a str>,
    /// False if the operation cannot be started twice (its input is a stream), or must not (its
    /// caller wants the first answer).
    pub repeatable: bool,
    /// True if it waits for somebody else who uses the store, as a request for its answer.
    pub waits: bool,
}

impl<'a> Call<'a> {
    pub(super) const fn new(operation: &'static str) -> Self {
        Self { operation, bucket: None, name: None, repeatable: true, waits: false }
    }

    pub(super) fn bucket(mut self, bucket: &'a (impl AsRef<str> + ?Sized)) -> Self {
        self.bucket = Some(bucket.as_ref());
        self
    }

    pub(super) fn name(mut self, name: &'a (impl AsRef<str> + ?Sized)) -> Self {
        self.name = Some(name.as_ref());
        self
    }

    pub(super) const fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    pub(super) const fn waits(mut self) -> Self {
        self.waits = true;
        self
    }
}

/// What an operation may answer with.
pub trait Answer: Send + 'static {
    /// The revision or sequence in the answer, if there is one.
    fn revision(&self) -> Option<u64> {
        None
    }
}

macro_rules! plain_answers {
    ($($type:ty),* $(,)?) => { $(impl Answer for $type {})* };
}

plain_answers!(
    (),
    bool,
    i64,
    u64,
    bytes::Bytes,
    crate::name::Key,
    BucketInfo,
    Consumer,
    Message,
    Page,
    StoreStatus,
    StoreTime,
    StreamInfo,
    Subscription,
    std::sync::Arc<dyn crate::kv::Kv>,
    std::sync::Arc<dyn crate::object::Objects>,
    std::sync::Arc<dyn crate::counter::Counters>,
);

impl<T: Send + 'static> Answer for Vec<T> {}

impl<T: Answer> Answer for Option<T> {
    fn revision(&self) -> Option<u64> {
        self.as_ref().and_then(Answer::revision)
    }
}

impl Answer for Appended {
    fn revision(&self) -> Option<u64> {
        Some(self.sequence)
    }
}

impl Answer for Change {
    fn revision(&self) -> Option<u64> {
        self.revision().map(|revision| revision.0)
    }
}

impl Answer for Entry {
    fn revision(&self) -> Option<u64> {
        Some(self.revision.0)
    }
}

impl Answer for Object {
    fn revision(&self) -> Option<u64> {
        Some(self.info.revision.0)
    }
}

impl Answer for ObjectChange {
    fn revision(&self) -> Option<u64> {
        match self {
            Self::Put(info) => Some(info.revision.0),
            Self::Delete { revision, .. } => Some(revision.0),
            Self::CaughtUp => None,
        }
    }
}

impl Answer for ObjectInfo {
    fn revision(&self) -> Option<u64> {
        Some(self.revision.0)
    }
}

impl Answer for Revision {
    fn revision(&self) -> Option<u64> {
        Some(self.0)
    }
}

impl Answer for Snapshot {
    fn revision(&self) -> Option<u64> {
        self.revision.map(|revision| revision.0)
    }
}

impl Answer for StreamMessage {
    fn revision(&self) -> Option<u64> {
        Some(self.sequence)
    }
}

impl Answer for Written {
    fn revision(&self) -> Option<u64> {
        Some(self.revision.0)
    }
}
